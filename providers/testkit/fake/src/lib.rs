//! What the fakes of cloud key services share, each of which is a crate beside this one: a
//! [`Journal`] of what was asked, [`Faults`] by a switch, a [`Clock`] that can be put forward,
//! and a server on loopback over HTTP or HTTPS. `README.md` beside this crate says how they
//! are controlled. For tests alone: nothing here keeps a secret.

mod clock;
mod faults;
mod journal;
mod layer;
mod program;
mod server;
mod tls;

pub use clock::Clock;
pub use faults::{Act, Fault, Faults};
pub use journal::{Asked, Caller, Journal};
pub use layer::Dialect;
pub use program::{Arguments, Program, run};
pub use server::{Running, Switches, serve};
pub use tls::Tls;
