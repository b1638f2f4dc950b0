//! What a provider's codes mean to the gateway, as tables.

use std::time::Duration;

use crate::error::{Error, ErrorKind, Retry};
use crate::ids::ProviderKind;

/// What a refusal means: the kind of error, whether another attempt can help, and what to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Meaning {
    /// The kind of error.
    pub kind: ErrorKind,
    /// Whether another attempt can help.
    pub retry: Retry,
    /// How the caller can correct the error.
    pub advice: Option<&'static str>,
}

impl Meaning {
    /// An error that no retry mends, without advice.
    pub const fn of(kind: ErrorKind) -> Self {
        Self {
            kind,
            retry: Retry::Never,
            advice: None,
        }
    }

    /// Another attempt after a pause can help.
    #[must_use]
    pub const fn retryable(mut self) -> Self {
        self.retry = Retry::Backoff;
        self
    }

    /// The provider asks for this pause. Without effect where no attempt can help.
    #[must_use]
    pub const fn after(mut self, pause: Option<Duration>) -> Self {
        match (self.retry, pause) {
            (Retry::Backoff | Retry::After(_), Some(pause)) => self.retry = Retry::After(pause),
            (Retry::Never | Retry::Backoff | Retry::After(_), _) => {}
        }
        self
    }

    /// Says what to do.
    #[must_use]
    pub const fn advice(mut self, advice: &'static str) -> Self {
        self.advice = Some(advice);
        self
    }

    /// The provider rejects a value in the request: too long, of a wrong form, or not of the key's kind.
    pub const REJECTED_VALUE: Self = Self::of(ErrorKind::InvalidInput);

    /// What an HTTP status of a refusal means where no code says more.
    pub const fn of_status(status: u16) -> Self {
        match status {
            429 => Self::of(ErrorKind::RateLimited).retryable(),
            500..=599 => Self::of(ErrorKind::UpstreamUnavailable).retryable(),
            _ => Self::of(ErrorKind::UpstreamProtocol),
        }
    }

    /// Converts it to the error that an adapter returns. `operation` says what was attempted, for
    /// the log.
    pub fn into_error(self, provider: ProviderKind, operation: &'static str) -> Error {
        let error = Error::new(self.kind, operation).provider(provider).retry(self.retry);
        match self.advice {
            Some(advice) => error.advice(advice),
            None => error,
        }
    }
}

/// A service's error codes. Each row contains the codes with one meaning. A code must not be repeated;
/// a test checks that with [`CodeTable::repeated`].
#[derive(Debug, Clone, Copy)]
pub struct CodeTable(&'static [(&'static [&'static str], Meaning)]);

impl CodeTable {
    /// Creates a table.
    pub const fn new(rows: &'static [(&'static [&'static str], Meaning)]) -> Self {
        Self(rows)
    }

    /// The meaning of a code; `None` for a code that is not in the table.
    pub fn meaning(&self, code: &str) -> Option<Meaning> {
        let row = self.0.iter().find(|(codes, _)| codes.contains(&code));
        row.map(|(_, meaning)| *meaning)
    }

    /// The first repeated code; `None` if there is none.
    pub fn repeated(&self) -> Option<&'static str> {
        let codes: Vec<&'static str> = self.0.iter().flat_map(|(codes, _)| codes.iter().copied()).collect();
        let (_, repeated) = codes.iter().enumerate().find(|(at, code)| codes[..*at].contains(code))?;
        Some(*repeated)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{CodeTable, Meaning};
    use crate::{ErrorKind, Retry};

    #[test]
    fn a_code_is_found_in_its_row() {
        const STATE: Meaning = Meaning::of(ErrorKind::KeyState).advice("Enable it.");
        const TABLE: CodeTable = CodeTable::new(&[(&["Disabled", "Off"], STATE), (&["Slow"], Meaning::of_status(429))]);
        assert_eq!(TABLE.meaning("Off"), Some(STATE));
        assert_eq!(TABLE.meaning("off"), None);
        assert_eq!(TABLE.repeated(), None);
        assert_eq!(CodeTable::new(&[(&["A"], STATE), (&["B", "A"], STATE)]).repeated(), Some("A"));
    }

    #[test]
    fn a_pause_is_kept_only_where_another_attempt_can_help() {
        let pause = Some(Duration::from_secs(7));
        assert_eq!(Meaning::of_status(503).after(pause).retry, Retry::After(Duration::from_secs(7)));
        assert_eq!(Meaning::of_status(503).after(None).retry, Retry::Backoff);
        assert_eq!(Meaning::of_status(418).after(pause).retry, Retry::Never);
    }
}
