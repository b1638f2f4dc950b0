//! Why the last call of a connection failed, for who asks why its circuit is open.

use std::time::SystemTime;

use crate::kit::probe::word_without_message;
use crate::{Error, ErrorKind};

/// Why a call failed, without any secret and without the provider's own message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallFailure {
    /// The kind of error.
    pub kind: ErrorKind,
    /// Whether the provider responded.
    pub responded: bool,
    /// What it says, as a check would: at most 240 printable ASCII characters.
    pub word: String,
    /// What to do about it, where the adapter says that.
    pub advice: Option<&'static str>,
    /// When it failed.
    pub at: SystemTime,
}

impl CallFailure {
    pub(super) fn of(error: &Error) -> Self {
        Self {
            kind: error.kind,
            responded: error.upstream_code.is_some(),
            word: word_without_message(error),
            advice: error.advice,
            at: SystemTime::now(),
        }
    }
}
