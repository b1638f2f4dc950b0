//! Memory, process hardening, the environment and one question about sockets: the only crate of the workspace with unsafe code, kept
//! small so that it can be read in one sitting. Every crate may use it; it uses none.
//!
//! - [`Arena`]: locked memory for secrets that stay for a while (the cache's data keys).
//! - [`ZeroOnFree`]: a global allocator that zeroes what is freed, for what libraries leave
//!   behind in their buffers.
//! - [`harden_process`]: no core dumps, no reading by other processes of the same user.
//! - [`remove_variables`]: from the process's environment, while it has one thread.
//! - [`unacknowledged`]: how much of what was written to a socket the peer does not have.
//!
//! Nothing here fails the start: what the system refuses is reported as [`Hardening`] and
//! is for the caller to log. Runs on Unix; what only Linux has is reported elsewhere as
//! not available.
#![deny(unsafe_op_in_unsafe_fn)]

mod arena;
mod environment;
mod heap;
mod process;
mod region;
mod socket;

use std::fmt;

pub use arena::{Arena, ArenaConfig, ArenaError, LockedBytes, MAX_LEN};
pub use environment::remove_variables;
pub use heap::ZeroOnFree;
pub use process::harden_process;
pub use socket::unacknowledged;

/// One measure and whether the system granted it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hardening {
    /// Name of the measure, for logs and readiness. It never changes.
    pub name: &'static str,
    /// Whether it holds.
    pub result: Result<(), NotHardened>,
}

/// Why a measure does not hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotHardened {
    /// The system refused with this error number.
    Refused(i32),
    /// This system has no such measure.
    NotAvailable,
}

impl NotHardened {
    /// The calling thread's last error of the C library.
    #[cfg(not(miri))]
    fn last() -> Self {
        std::io::Error::last_os_error()
            .raw_os_error()
            .map_or(Self::NotAvailable, Self::Refused)
    }
}

impl fmt::Display for NotHardened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(code) => fmt::Display::fmt(&std::io::Error::from_raw_os_error(*code), f),
            Self::NotAvailable => f.write_str("not available on this system"),
        }
    }
}

impl std::error::Error for NotHardened {}
