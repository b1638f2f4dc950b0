//! Exit codes: what a script can tell from the end of a command.

use std::process::ExitCode;

use crate::client::{Failure, Problem};

/// How the command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Done.
    Ok,
    /// Failed in a way that has no code of its own.
    Other,
    /// The command, or what was given to it, cannot be used. clap ends with it, too.
    Usage,
    /// Nobody known, or not permitted, here or at the provider.
    Denied,
    /// No such object.
    NotFound,
    /// The object's state does not allow it.
    Conflict,
    /// The wrapped key does not open.
    Rejected,
    /// Not now: the same command can succeed later.
    Unavailable,
}

/// The codes as `--help` shows them.
pub(super) const HELP: &str = "\
Exit codes:
  0  done
  1  failed otherwise
  2  the command or its input cannot be used
  3  not authenticated, or not permitted (here or at the provider)
  4  not found
  5  the object's state does not allow it, or it exists already
  6  the wrapped key is rejected
  7  unavailable, throttled or too late: can succeed later

The token is read from --token-file or the variable CLAVIGER_TOKEN, never from an argument.";

impl Exit {
    /// The number.
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

    /// How a failure ends the command.
    pub fn of(failure: &Failure) -> Self {
        match failure {
            Failure::Usage(_) => Self::Usage,
            Failure::Local(_) | Failure::Protocol(_) => Self::Other,
            Failure::Unreachable(_) => Self::Unavailable,
            Failure::Problem(problem) => Self::of_problem(problem),
        }
    }

    fn of_problem(problem: &Problem) -> Self {
        match (problem.status, problem.code.as_str()) {
            (400, "invalid_envelope" | "envelope_version_unsupported") | (422, _) => Self::Rejected,
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
