//! The credential of one connection: fetched when it is first needed, replaced before it ends, and
//! replaced once when the provider refuses it.
//!
//! One caller at a time fetches a credential; the others wait for its result. If a fetch fails, the old
//! credential stays in use until it ends. If the provider refuses even a new credential, something else
//! is the cause, so further refusals fetch no credential for a while ([`Pauses::refusal`]).

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use reqwest::header::HeaderValue;
use tokio::sync::Mutex;
use tokio::time::Instant;
use zeroize::Zeroizing;

use super::call_error::CallError;
use crate::secret::Secret;

/// How long before its end a credential is replaced: longer than any call takes, and than the
/// clocks of two machines differ.
pub const RENEWAL_MARGIN: Duration = Duration::from_secs(120);

/// When a credential has to be replaced.
pub trait Lifetime: Send + Sync {
    /// Whether it is time to fetch the next one, while this one may still be accepted.
    fn is_due(&self) -> bool;

    /// Whether the provider accepts it no more.
    fn has_ended(&self) -> bool;
}

/// The end of a credential by the system's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expiry(Option<SystemTime>);

impl Expiry {
    /// Ends at this time.
    pub const fn at(end: SystemTime) -> Self {
        Self(Some(end))
    }

    /// Ends at no known time.
    pub const fn never() -> Self {
        Self(None)
    }

    fn within(self, margin: Duration) -> bool {
        self.0.is_some_and(|end| end <= SystemTime::now() + margin)
    }
}

impl Lifetime for Expiry {
    /// Due [`RENEWAL_MARGIN`] before the end.
    fn is_due(&self) -> bool {
        self.within(RENEWAL_MARGIN)
    }

    fn has_ended(&self) -> bool {
        self.within(Duration::ZERO)
    }
}

/// A credential that ends at a time which is known when it is fetched, or never.
pub struct Expiring<C> {
    /// The credential.
    pub credential: C,
    /// When the credential ends.
    pub expiry: Expiry,
}

impl<C: Send + Sync> Lifetime for Expiring<C> {
    fn is_due(&self) -> bool {
        self.expiry.is_due()
    }

    fn has_ended(&self) -> bool {
        self.expiry.has_ended()
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

/// Where a connection's credentials come from: what an adapter implements.
pub trait CredentialSource: Send + Sync {
    /// The credential. It is shared by calls that run at the same time.
    type Credential: Lifetime;
    /// Why no credential could be fetched.
    type Error: Send;

    /// Fetches a credential. `previous` is the old credential, which is due or has ended, for a
    /// source that can renew credentials. It is `None` at the first fetch and after a refusal.
    ///
    /// # Errors
    /// Why no credential could be fetched.
    fn fetch(&self, previous: Option<&Self::Credential>) -> impl Future<Output = Result<Self::Credential, Self::Error>> + Send;

    /// Whether another credential may be accepted where the provider refused this one. `false`
    /// where there is no other, or where the refusal was not about the credential.
    ///
    /// # Errors
    /// When that cannot be found out.
    fn replaceable(&self, refused: &Self::Credential) -> impl Future<Output = Result<bool, Self::Error>> + Send;
}

/// How long a session waits after a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pauses {
    /// After a fetch that failed while the old credential has not ended, until the next one.
    pub fetch: Duration,
    /// After a new credential was refused too: the time without fetches after refusals.
    pub refusal: Duration,
}

struct State<C> {
    current: Option<Arc<C>>,
    /// No fetch before this time while `current` has not ended.
    fetch_after: Option<Instant>,
    /// Refusals fetch no other credential before this time.
    hold_off_until: Option<Instant>,
}

/// The credential of one connection, shared by all its calls.
pub struct Session<S: CredentialSource> {
    source: S,
    pauses: Pauses,
    state: Mutex<State<S::Credential>>,
}

impl<S: CredentialSource> Session<S> {
    /// Creates a session without a credential. This sends no request.
    pub fn new(source: S, pauses: Pauses) -> Self {
        let state = Mutex::new(State {
            current: None,
            fetch_after: None,
            hold_off_until: None,
        });
        Self { source, pauses, state }
    }

    /// The source of its credentials.
    pub const fn source(&self) -> &S {
        &self.source
    }

    /// The credential to use now; fetches one where there is none or it is due.
    ///
    /// # Errors
    /// Why no credential could be fetched.
    pub async fn current(&self) -> Result<Arc<S::Credential>, S::Error> {
        self.current_or_fetched(&mut *self.state.lock().await).await
    }

    /// Makes one call, and once more with another credential where the first was refused for its
    /// credential. A refusal changes nothing at a provider, so a second call is safe for every
    /// operation. `refused` says whether an error is such a refusal.
    ///
    /// # Errors
    /// The call's, or why there is no credential.
    pub async fn call<T, E, F>(&self, refused: fn(&E) -> bool, send: impl Fn(Arc<S::Credential>) -> F) -> Result<T, E>
    where
        E: From<S::Error>,
        F: Future<Output = Result<T, E>>,
    {
        let first = self.current().await?;
        match send(Arc::clone(&first)).await {
            Err(error) if refused(&error) => {
                let Some(other) = self.replace(&first).await? else {
                    return Err(error);
                };
                let result = send(other).await;
                if result.as_ref().is_err_and(refused) {
                    self.hold_off().await;
                }
                result
            }
            result => result,
        }
    }

    /// When the next fetch may take place after one that failed; `None` where none did.
    pub async fn fetch_after(&self) -> Option<Instant> {
        self.state.lock().await.fetch_after
    }

    /// The credential that is held, whether or not it is due. Fetches none.
    pub async fn held(&self) -> Option<Arc<S::Credential>> {
        self.state.lock().await.current.clone()
    }

    /// The credential that takes the place of a refused one; `None` where a second call is of no use.
    async fn replace(&self, refused: &Arc<S::Credential>) -> Result<Option<Arc<S::Credential>>, S::Error> {
        let mut state = self.state.lock().await;
        if let Some(current) = &state.current
            && !Arc::ptr_eq(current, refused)
        {
            // Another call replaced it already.
            return Ok(Some(Arc::clone(current)));
        }
        let held_off = state.hold_off_until.is_some_and(|until| until > Instant::now());
        if held_off || !self.source.replaceable(refused).await? {
            return Ok(None);
        }
        state.current = None;
        self.current_or_fetched(&mut state).await.map(Some)
    }

    async fn hold_off(&self) {
        self.state.lock().await.hold_off_until = Some(Instant::now() + self.pauses.refusal);
    }

    async fn current_or_fetched(&self, state: &mut State<S::Credential>) -> Result<Arc<S::Credential>, S::Error> {
        let previous = state.current.clone();
        if let Some(current) = &previous {
            let waiting = state.fetch_after.is_some_and(|at| at > Instant::now());
            if !current.is_due() || (waiting && !current.has_ended()) {
                return Ok(Arc::clone(current));
            }
        }
        match self.source.fetch(previous.as_deref()).await {
            Ok(fetched) => {
                let fetched = Arc::new(fetched);
                state.current = Some(Arc::clone(&fetched));
                state.fetch_after = None;
                Ok(fetched)
            }
            Err(error) => match previous.filter(|previous| !previous.has_ended()) {
                Some(previous) => {
                    state.fetch_after = Some(Instant::now() + self.pauses.fetch);
                    Ok(previous)
                }
                None => {
                    state.current = None;
                    Err(error)
                }
            },
        }
    }
}

impl<S: CredentialSource> std::fmt::Debug for Session<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Session")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test stops where an expectation fails")]

    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
    use std::time::{Duration, SystemTime};

    use tokio::time::{Instant, advance};

    use super::{CredentialSource, Expiry, Lifetime, Pauses, RENEWAL_MARGIN, Session};

    const MINUTE: Duration = Duration::from_secs(60);
    const PAUSES: Pauses = Pauses {
        fetch: Duration::from_secs(30),
        refusal: Duration::from_secs(30),
    };

    /// Credentials of ten minutes, numbered from 1, replaced after eight.
    #[derive(Default)]
    struct Numbered {
        fetched: AtomicU32,
        failing: AtomicBool,
        final_one: AtomicBool,
    }

    struct Number {
        number: u32,
        made: Instant,
    }

    impl Lifetime for Number {
        fn is_due(&self) -> bool {
            self.made.elapsed() >= 8 * MINUTE
        }

        fn has_ended(&self) -> bool {
            self.made.elapsed() >= 10 * MINUTE
        }
    }

    impl CredentialSource for Numbered {
        type Credential = Number;
        type Error = &'static str;

        async fn fetch(&self, _: Option<&Number>) -> Result<Number, &'static str> {
            tokio::time::sleep(Duration::from_millis(1)).await;
            if self.failing.load(Ordering::Relaxed) {
                return Err("no credential");
            }
            Ok(Number {
                number: self.fetched.fetch_add(1, Ordering::Relaxed) + 1,
                made: Instant::now(),
            })
        }

        async fn replaceable(&self, _: &Number) -> Result<bool, &'static str> {
            Ok(!self.final_one.load(Ordering::Relaxed))
        }
    }

    fn session() -> Session<Numbered> {
        Session::new(Numbered::default(), PAUSES)
    }

    async fn number(session: &Session<Numbered>) -> u32 {
        session.current().await.unwrap().number
    }

    /// Makes a call that is refused while the credential's number is below `accepted`; returns how
    /// often it was sent, and with which number at last.
    async fn called(session: &Session<Numbered>, accepted: u32) -> (u32, Result<u32, &'static str>) {
        let sent = Arc::new(AtomicU32::new(0));
        let result = session.call(
            |error| *error == "refused",
            |credential| {
                let sent = Arc::clone(&sent);
                async move {
                    tokio::task::yield_now().await;
                    sent.fetch_add(1, Ordering::Relaxed);
                    if credential.number < accepted {
                        Err("refused")
                    } else {
                        Ok(credential.number)
                    }
                }
            },
        );
        let result = result.await;
        (sent.load(Ordering::Relaxed), result)
    }

    #[tokio::test(start_paused = true)]
    async fn one_caller_fetches_for_all() {
        let session = session();
        let (a, b, c) = tokio::join!(number(&session), number(&session), number(&session));
        assert_eq!((a, b, c), (1, 1, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn is_replaced_when_due_and_kept_while_that_fails() {
        let session = session();
        assert_eq!(number(&session).await, 1);
        advance(7 * MINUTE).await;
        assert_eq!(number(&session).await, 1);
        advance(MINUTE).await;
        session.source().failing.store(true, Ordering::Relaxed);
        assert_eq!(number(&session).await, 1, "the old one has not ended");
        session.source().failing.store(false, Ordering::Relaxed);
        assert_eq!(number(&session).await, 1, "no second fetch within the pause");
        advance(PAUSES.fetch).await;
        assert_eq!(number(&session).await, 2);
        session.source().failing.store(true, Ordering::Relaxed);
        advance(10 * MINUTE).await;
        assert!(session.current().await.is_err(), "an ended one is not used");
    }

    #[tokio::test(start_paused = true)]
    async fn a_refused_credential_is_replaced_once() {
        let session = session();
        assert_eq!(called(&session, 2).await, (2, Ok(2)));
        assert_eq!(called(&session, 2).await, (1, Ok(2)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_credential_that_others_replaced_is_not_fetched_again() {
        let session = session();
        assert_eq!(number(&session).await, 1);
        let (a, b) = tokio::join!(called(&session, 2), called(&session, 2));
        assert_eq!((a, b), ((2, Ok(2)), (2, Ok(2))));
        assert_eq!(session.source().fetched.load(Ordering::Relaxed), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn refusals_of_new_credentials_hold_off() {
        let session = session();
        assert_eq!(called(&session, 9).await, (2, Err("refused")));
        assert_eq!(called(&session, 9).await, (1, Err("refused")), "held off");
        advance(PAUSES.refusal).await;
        assert_eq!(called(&session, 3).await, (2, Ok(3)));
    }

    #[tokio::test(start_paused = true)]
    async fn the_only_credential_is_not_replaced() {
        let session = session();
        session.source().final_one.store(true, Ordering::Relaxed);
        assert_eq!(called(&session, 2).await, (1, Err("refused")));
    }

    #[test]
    fn an_expiry_is_due_a_margin_before() {
        let ends_in = |seconds| Expiry::at(SystemTime::now() + Duration::from_secs(seconds));
        let margin = RENEWAL_MARGIN.as_secs();
        assert!(!ends_in(margin + 60).is_due());
        assert!(ends_in(margin - 60).is_due() && !ends_in(margin - 60).has_ended());
        assert!(ends_in(0).has_ended());
        assert!(!Expiry::never().is_due() && !Expiry::never().has_ended());
    }
}
