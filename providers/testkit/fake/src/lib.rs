//! The common parts of the fakes of cloud key services, each of which is a crate of its own: a
//! [`Journal`] of received requests, injected [`Faults`], an adjustable [`Clock`], and a server
//! on loopback over HTTP or HTTPS. For tests only; nothing here protects a secret. The crate's
//! `README.md` describes the control endpoints.

mod appearance;
mod clock;
mod faults;
mod journal;
mod middleware;
mod program;
mod server;
mod switches;
mod tls;

pub use appearance::{Appearance, Hidden};
pub use clock::Clock;
pub use faults::{Act, Fault, Faults};
pub use journal::{Caller, Journal, RecordedRequest};
pub use middleware::Dialect;
pub use program::{Arguments, Program, run};
pub use server::{Running, serve};
pub use switches::Switches;
pub use tls::Tls;
