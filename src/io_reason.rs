//! What the operating system answered about a file or a socket, in words for an operator.

use std::fmt;
use std::io::ErrorKind;

/// A kind of I/O error. Displays the words for it: the standard library calls a missing file an "entity".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IoReason(pub ErrorKind);

impl fmt::Display for IoReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            ErrorKind::NotFound => f.write_str("no such file"),
            ErrorKind::AlreadyExists => f.write_str("it exists already"),
            ErrorKind::IsADirectory => f.write_str("it is a folder"),
            // The enum is non-exhaustive, and its other words fit.
            other => other.fmt(f),
        }
    }
}
