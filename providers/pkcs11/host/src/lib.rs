//! The helper process of one PKCS#11 connection: `claviger pkcs11-host`.
//!
//! A PKCS#11 module is a vendor's code with full access to the memory of the process that loads it, and it may
//! hang or crash. So the gateway loads none. It starts this program once for each connection, over a socket pair
//! that the program inherits as its standard input; no path in the file system leads to it. The helper ends with
//! the socket, and the gateway starts another one when it has ended.
//!
//! - [`messages`]: what gateway and helper say to each other.
//! - [`packets`]: how they are sent.
//! - [`run`]: the helper.
//!
//! `claviger-provider-pkcs11` is the other side. The helper keeps nothing but sessions: the PIN is dropped after
//! the login, and a token that has to be logged in to again gets another helper.

mod hardening;
pub mod messages;
mod operations;
pub mod packets;
mod refusals;
mod serving;
mod sessions;
mod shared;
mod token;

pub use serving::run;
