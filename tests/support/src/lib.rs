//! What the integration tests share: a real gateway process on loopback, a client that
//! shows whole answers, and a reader of the write-ahead log. For tests alone: everything
//! here stops the test when something is not as it should be.

mod client;
mod log;
mod process;

pub use client::{Answer, Client};
pub use log::{last_log_file, log_end, log_files, records, records_from, records_of};
pub use process::{Gateway, Started, Tune};
