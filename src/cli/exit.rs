//! Exit codes of commands, for scripts.

use std::process::ExitCode;

use crate::client::{Failure, Problem};

/// Exit code of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Success.
    Ok,
    /// Any failure without a specific code.
    Other,
    /// The command or its input is invalid. clap uses this code, too.
    Usage,
    /// Not authenticated or not permitted, by Claviger or at the provider.
    Denied,
    /// The object does not exist.
    NotFound,
    /// The object's state does not allow the operation, or it exists already.
    Conflict,
    /// The wrapped key or the encrypted file is rejected.
    Rejected,
    /// Temporary: the same command may succeed later.
    Unavailable,
}

/// The codes, as shown by `--help`.
pub(super) const HELP: &str = "\
Exit codes:
  0  success
  1  any other failure
  2  the command or its input is invalid
  3  not authenticated, or not permitted (by Claviger or at the provider)
  4  not found
  5  the object's state does not allow the operation, or it exists already
  6  the wrapped key or the encrypted file is rejected
  7  unavailable, throttled or timed out: may succeed later

The token is read from --token-file or the variable CLAVIGER_TOKEN, never from an argument.";

impl Exit {
    /// The process's exit code.
    pub const fn code(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Other => 1,
            Self::Usage => 2,
            Self::Denied => 3,
            Self::NotFound => 4,
            Self::Conflict => 5,
            Self::Rejected => 6,
            Self::Unavailable => 7,
        }
    }

    /// The exit code for a failure.
    pub fn of(failure: &Failure) -> Self {
        match failure {
            Failure::Usage(_) => Self::Usage,
            Failure::Local(_) | Failure::Protocol(_) => Self::Other,
            Failure::Rejected(_) => Self::Rejected,
            Failure::Unreachable(_) => Self::Unavailable,
            Failure::Problem(problem) => Self::of_problem(problem),
            Failure::Partly { result, .. } => match result.as_str() {
                "denied" => Self::Denied,
                "pending" | "unavailable" => Self::Unavailable,
                _ => Self::Other,
            },
        }
    }

    fn of_problem(problem: &Problem) -> Self {
        match (problem.status, problem.code.as_str()) {
            (400, "invalid_envelope" | "envelope_version_unsupported") | (422, _) => Self::Rejected,
            // Neither Claviger nor the provider denies anything: a setting is wrong.
            (424, "connection_misconfigured") => Self::Other,
            (401 | 403 | 424, _) => Self::Denied,
            (404, _) => Self::NotFound,
            (409 | 412, _) => Self::Conflict,
            (429 | 503 | 504, _) => Self::Unavailable,
            (400 | 405 | 413 | 414 | 415 | 431, _) => Self::Usage,
            (_, _) => Self::Other,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}
