//! What the integration tests share: a real gateway process on loopback, clients that show whole
//! answers or send as little as they like, the attacks of a hostile tenant, a reader of the
//! write-ahead log, and a proxy with faults before a key service. For tests alone: everything here
//! stops the test when something is not as it should be.

pub mod attack;
mod client;
mod endpoint;
pub mod fault_battery;
pub mod faulty;
mod guard;
mod honest;
mod log;
mod objects;
mod port;
mod process;
pub mod proxy;
pub mod raw;
pub mod softhsm;
mod tunnel;

pub use client::{Answer, Client};
pub use endpoint::{Endpoint, Stream, Version};
pub use guard::Guard;
pub use honest::{HONEST, Honest, p99, percentile};
pub use log::{last_log_file, log_end, log_files, records, records_from, records_of};
pub use objects::{issue_tokens, make_key, make_labelled_keys, text_of, token};
pub use port::{free_address, listen_on};
pub use process::{Gateway, Memory, Started, Tune};
pub use tunnel::tunnels_to;
