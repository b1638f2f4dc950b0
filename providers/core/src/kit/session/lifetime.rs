//! How long a credential is valid, and when it is renewed.

use std::time::{Duration, SystemTime};

use reqwest::header::HeaderValue;
use tokio::time::Instant;
use zeroize::Zeroizing;

use crate::jitter::jitter;
use crate::kit::call_error::CallError;
use crate::secret::Secret;

/// How long before its end a credential is renewed: longer than any call takes, and than the
/// clocks of two machines differ. A credential of less than twice this time is renewed at its half.
pub const RENEWAL_MARGIN: Duration = Duration::from_secs(120);

/// The life of a credential, from the moment when it was fetched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Term(Option<Ends>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Ends {
    due: Instant,
    end: Instant,
}

impl Term {
    /// Ends at no known time.
    pub const ENDLESS: Self = Self(None);

    /// Ends at this time by the system's clock.
    pub fn until(end: SystemTime) -> Self {
        Self::lasting(end.duration_since(SystemTime::now()).unwrap_or_default())
    }

    /// Ends after this time.
    pub fn lasting(life: Duration) -> Self {
        Self::renewed_after(life, life.saturating_sub(RENEWAL_MARGIN).max(life / 2))
    }

    /// Ends after this time, and is renewed after `due`: up to a third of the rest earlier, drawn at random, so
    /// that connections whose logins began together do not renew together.
    pub fn renewed_after(life: Duration, due: Duration) -> Self {
        let now = Instant::now();
        let due = due.min(life);
        let earlier = jitter((life - due) / 3);
        Self(Some(Ends {
            due: now + due.saturating_sub(earlier),
            end: now + life,
        }))
    }

    /// The time until it is to be renewed, zero if it is due; `None` for never.
    pub fn until_due(self) -> Option<Duration> {
        self.0.map(|ends| ends.due.saturating_duration_since(Instant::now()))
    }

    /// The time until its end, zero if it has ended; `None` for an endless one.
    pub fn left(self) -> Option<Duration> {
        self.0.map(|ends| ends.end.saturating_duration_since(Instant::now()))
    }

    pub(super) fn is_due(self) -> bool {
        self.until_due().is_some_and(|left| left.is_zero())
    }

    pub(super) fn has_ended(self) -> bool {
        self.left().is_some_and(|left| left.is_zero())
    }
}

/// What a session can hold.
pub trait Lifetime: Send + Sync + 'static {
    /// The credential's life. One that has ended when it is fetched serves the calls that wait for it and no
    /// others: its source keeps its own.
    fn term(&self) -> Term;
}

/// A credential with its life.
pub struct Expiring<C> {
    /// The credential.
    pub credential: C,
    /// Its life.
    pub term: Term,
}

impl<C: Send + Sync + 'static> Lifetime for Expiring<C> {
    fn term(&self) -> Term {
        self.term
    }
}

/// A bearer token (RFC 6750).
pub type BearerToken = Expiring<Secret>;

impl BearerToken {
    /// The value of the `Authorization` header, marked as sensitive.
    ///
    /// # Errors
    /// `MalformedResponse` for a token that cannot be a header's value.
    pub fn header<R>(&self) -> Result<HeaderValue, CallError<R>> {
        let text = Zeroizing::new([b"Bearer ", self.credential.expose()].concat());
        let mut value = HeaderValue::from_bytes(&text).map_err(|_| CallError::MalformedResponse("access token"))?;
        value.set_sensitive(true);
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test stops where an expectation fails")]

    use std::time::{Duration, SystemTime};

    use super::{RENEWAL_MARGIN, Term};

    #[tokio::test(start_paused = true)]
    async fn a_credential_is_due_a_margin_before_its_end() {
        let hour = Duration::from_secs(3600);
        let terms: Vec<Term> = (0..64).map(|_| Term::lasting(hour)).collect();
        for term in &terms {
            let due = term.until_due().unwrap();
            assert!(due <= hour - RENEWAL_MARGIN && due >= hour - RENEWAL_MARGIN * 4 / 3, "{due:?}");
            assert_eq!(term.left(), Some(hour));
        }
        assert!(terms.iter().any(|term| *term != terms[0]), "all are due together");
        tokio::time::advance(hour - RENEWAL_MARGIN).await;
        assert!(terms.iter().all(|term| term.is_due() && !term.has_ended()));
        tokio::time::advance(RENEWAL_MARGIN).await;
        assert!(terms.iter().all(|term| term.has_ended()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_short_one_is_due_at_its_half_and_an_endless_one_never() {
        let due = Term::lasting(Duration::from_secs(60)).until_due().unwrap();
        assert!((20..=30).contains(&due.as_secs()), "{due:?}");
        assert!(Term::until(SystemTime::UNIX_EPOCH).has_ended());
        assert_eq!((Term::ENDLESS.until_due(), Term::ENDLESS.left()), (None, None));
    }
}
