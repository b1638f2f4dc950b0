//! The store in one SQLite file, for a single node: SQL, and nothing of what a change means. Made
//! by `boot`; everything else knows the traits only.
//!
//! One connection writes, a few read; [`turns`] says whose turn it is. The log is written ahead (WAL) and synced at each commit.
//! The schema is in `src/store/migrations`. [`reads`] and [`transaction`] implement the traits;
//! the files beside them have the statements of one table each.

#[macro_use]
mod columns;
mod canaries;
mod claims;
mod commit;
mod connections;
mod copy;
mod creations;
mod database;
mod declared;
mod files;
mod keys;
mod open;
mod positions;
mod principals;
mod reads;
mod row;
mod run;
mod sealed;
mod tenants;
mod token_ids;
mod tokens;
mod transaction;
mod turns;
mod usage;
mod versions;

pub use copy::StoreCopy;
pub use database::SqliteStore;
pub use open::OpenError;
