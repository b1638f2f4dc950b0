//! What a session knows, and the task that fetches credentials, one at a time.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use super::attempts::attempts;
use super::credential_source::{CredentialSource, Standing};
use super::identity::{Membership, refusal_pause};
use super::lifetime::Lifetime;
use crate::ErrorKind;
use crate::jitter::jitter;
use crate::kit::call_error::{CallError, Refusal};
use crate::kit::secrets::Stamp;
use crate::login_report::LoginReport;
use crate::op_context::LoginWait;
use crate::sever_switch::SeverSwitch;

/// After a new credential was refused too: the time for which refusals fetch no other one.
const HOLD_OFF: Duration = Duration::from_secs(30);
/// The longest pause after a renewal that failed. It is shorter where the credential's end is near.
const RENEWAL_PAUSE: Duration = Duration::from_secs(30);
/// The shortest one.
const SHORTEST_RENEWAL_PAUSE: Duration = Duration::from_secs(1);
/// The least time between two renewals while the tenant is suspended. A server decides how long a credential lives, and
/// must not decide how often it is called for a tenant that is to cause no calls.
const SUSPENDED_PAUSE: Duration = Duration::from_secs(30);
/// How often the files of secrets are looked at, and whether a suspended tenant was resumed.
const WATCH: Duration = Duration::from_secs(1);

/// What became of a login; `None` where another credential is of no use.
type Outcome<S> = Result<Option<Arc<<S as CredentialSource>::Credential>>, CallError<<S as CredentialSource>::Refusal>>;

/// Why a credential is fetched.
enum Why<S: CredentialSource> {
    /// There is no live one, its secret has changed, or a check tries.
    Anew,
    /// This live one is due.
    Due(Arc<S::Credential>),
    /// The provider refused this one.
    Refused(Arc<S::Credential>),
}

/// A login under way.
pub(super) struct Attempt<S: CredentialSource> {
    renewal: bool,
    told: watch::Receiver<Option<Outcome<S>>>,
}

impl<S: CredentialSource> Attempt<S> {
    /// Whether a live credential serves meanwhile.
    pub(super) const fn is_renewal(&self) -> bool {
        self.renewal
    }

    /// Waits for its end; `None` if its task died.
    pub(super) async fn outcome(&self) -> Option<Outcome<S>> {
        let mut told = self.told.clone();
        let outcome = told.wait_for(Option::is_some).await.ok()?;
        outcome.clone()
    }

    fn shared(&self) -> Self {
        Self {
            renewal: self.renewal,
            told: self.told.clone(),
        }
    }
}

/// What a call finds.
pub(super) enum Look<S: CredentialSource> {
    /// A live credential.
    Ready(Arc<S::Credential>),
    /// A refusal that is remembered.
    Refused(CallError<S::Refusal>),
    /// A login to wait for.
    Wait(Attempt<S>),
}

struct State<S: CredentialSource> {
    current: Option<Arc<S::Credential>>,
    attempt: Option<Attempt<S>>,
    /// The refusal that calls get until this time.
    refused: Option<(CallError<S::Refusal>, Instant)>,
    /// How often logins with the same secret were refused in a row.
    refusals: u32,
    /// After a failure: no renewal before this time.
    renew_after: Option<Instant>,
    /// When the provider was asked for a credential last.
    asked: Option<Instant>,
    /// Refusals fetch no other credential before this time.
    hold_off_until: Option<Instant>,
    /// The files as they were when they were read last for a login that the provider answered.
    read: Stamp,
    /// The files as they were when they were read last.
    tried: Stamp,
    /// Whether a task watches the files.
    watched: bool,
    /// Whether a task keeps the credential alive.
    kept: bool,
}

impl<S: CredentialSource> State<S> {
    fn live(&self) -> Option<&Arc<S::Credential>> {
        self.current.as_ref().filter(|current| !current.term().has_ended())
    }

    /// The refusal that is remembered, unless another connection of the same identity logged in since.
    fn remembered(&self, source: &S) -> Option<CallError<S::Refusal>> {
        let (error, until) = self.refused.as_ref()?;
        let is_over = *until <= Instant::now() || source.membership().is_some_and(Membership::is_over);
        (!is_over).then(|| error.clone().repeated())
    }
}

/// A session's source and state.
pub(super) struct Inner<S: CredentialSource> {
    pub(super) source: S,
    files: Vec<PathBuf>,
    report: LoginReport,
    switch: SeverSwitch,
    /// Whether no call shows yet that the provider accepts the credential.
    unproven: AtomicBool,
    state: Mutex<State<S>>,
}

/// What the task that keeps a credential alive waits for.
enum Next<S: CredentialSource> {
    Pause(Duration),
    Attempt(Attempt<S>),
}

/// Forgets the login under way when its task ends, however that happens.
struct UnderWay<S: CredentialSource>(Arc<Inner<S>>);

impl<S: CredentialSource> Drop for UnderWay<S> {
    fn drop(&mut self) {
        self.0.state.lock().attempt = None;
    }
}

impl<S: CredentialSource> Inner<S> {
    pub(super) fn new(source: S, report: LoginReport, switch: SeverSwitch) -> Self {
        Self {
            files: source.files(),
            source,
            report,
            switch,
            unproven: AtomicBool::new(false),
            state: Mutex::new(State {
                current: None,
                attempt: None,
                refused: None,
                refusals: 0,
                renew_after: None,
                asked: None,
                hold_off_until: None,
                read: Stamp::default(),
                tried: Stamp::default(),
                watched: false,
                kept: false,
            }),
        }
    }

    /// The credential that is held and has not ended.
    pub(super) fn live(&self) -> Option<Arc<S::Credential>> {
        self.state.lock().live().cloned()
    }

    /// What a call finds. Begins a login or renewal where one is needed.
    pub(super) fn look(self: &Arc<Self>, wait: &LoginWait) -> Look<S> {
        let mut state = self.state.lock();
        let live = state.live().cloned();
        let failing = state.renew_after.is_some();
        let tries = failing && wait.take_trial();
        if let Some(live) = &live
            && !tries
        {
            let waiting = state.renew_after.is_some_and(|at| at > Instant::now());
            if live.term().is_due() && !waiting && state.attempt.is_none() {
                self.begin(&mut state, Why::Due(Arc::clone(live)), false);
            }
            return Look::Ready(Arc::clone(live));
        }
        if let Some(attempt) = &state.attempt {
            return Look::Wait(attempt.shared());
        }
        match state.remembered(&self.source) {
            Some(error) if !tries => Look::Refused(error),
            // A check's first login is its trial, too.
            Some(_) | None => {
                let tries = tries || wait.take_trial();
                Look::Wait(self.begin(&mut state, live.map_or(Why::Anew, Why::Due), tries))
            }
        }
    }

    /// What a call finds whose credential the provider refused; `None` where another is of no use.
    pub(super) fn look_for_other(self: &Arc<Self>, refused: &Arc<S::Credential>, wait: &LoginWait) -> Option<Look<S>> {
        let mut state = self.state.lock();
        if let Some(current) = &state.current
            && !Arc::ptr_eq(current, refused)
        {
            // Another call replaced it already.
            return Some(Look::Ready(Arc::clone(current)));
        }
        if let Some(attempt) = &state.attempt {
            return Some(Look::Wait(attempt.shared()));
        }
        if state.hold_off_until.is_some_and(|until| until > Instant::now()) {
            return None;
        }
        let remembered = state.remembered(&self.source);
        let tries = wait.take_trial();
        match remembered {
            Some(error) if !tries => Some(Look::Refused(error)),
            Some(_) | None => Some(Look::Wait(self.begin(&mut state, Why::Refused(Arc::clone(refused)), tries))),
        }
    }

    /// The provider refused a call with the credential that took the place of a refused one, too: no other one is
    /// fetched for a while. Of credentials that the connection was given, that is all that is known.
    pub(super) fn both_refused(&self, other: &Arc<S::Credential>) {
        let mut state = self.state.lock();
        state.hold_off_until = Some(Instant::now() + HOLD_OFF);
        if state.current.as_ref().is_some_and(|current| Arc::ptr_eq(current, other)) && self.unproven.load(Ordering::Relaxed) {
            self.report.rejected();
        }
    }

    /// Learns from the first calls with a credential whether the provider accepts it.
    pub(super) fn learn<T>(
        &self,
        used: &Arc<S::Credential>,
        result: &Result<T, CallError<S::Refusal>>,
        refused: fn(&CallError<S::Refusal>) -> bool,
    ) {
        if !self.unproven.load(Ordering::Relaxed) {
            return;
        }
        let accepted = match result {
            Ok(_) => true,
            Err(error) => error.refusal().is_some() && !refused(error) && about_a_key(error.kind()),
        };
        let state = self.state.lock();
        if accepted && state.current.as_ref().is_some_and(|current| Arc::ptr_eq(current, used)) {
            self.unproven.store(false, Ordering::Relaxed);
            self.report.accepted(used.term().left());
        }
    }

    /// Begins to fetch a credential, in a task of its own. With `tries`, also where a refusal is remembered.
    fn begin(self: &Arc<Self>, state: &mut State<S>, why: Why<S>, tries: bool) -> Attempt<S> {
        let (tell, told) = watch::channel(None);
        let attempt = Attempt {
            renewal: matches!(why, Why::Due(_)),
            told,
        };
        state.attempt = Some(attempt.shared());
        state.asked = Some(Instant::now());
        if !self.files.is_empty() && !state.watched {
            state.watched = true;
            tokio::spawn(watch_files(Arc::downgrade(self)));
        }
        let under_way = UnderWay(Arc::clone(self));
        tokio::spawn(async move {
            let inner = &under_way.0;
            let outcome = match inner.switch.pass(inner.fetch(&why, tries)).await {
                Ok(outcome) => outcome,
                Err(severed) => Err(severed.into()),
            };
            // Whoever sees the outcome must not find this login under way.
            drop(under_way);
            tell.send_replace(Some(outcome));
        });
        attempt
    }

    async fn fetch(self: &Arc<Self>, why: &Why<S>, tries: bool) -> Outcome<S> {
        let previous = match why {
            Why::Anew => None,
            Why::Due(due) => Some(&**due),
            Why::Refused(refused) => match attempts(None, || self.source.standing(refused)).await? {
                Standing::Replaceable => {
                    self.lose(refused);
                    None
                }
                Standing::Accepted => return Ok(None),
                Standing::Only { accepted } => {
                    self.keep_refused(refused, accepted);
                    return Ok(None);
                }
            },
        };
        // Before the files are read, so that no change is missed.
        let stamp = Stamp::of(&self.files).await;
        let membership = self.source.membership();
        if let Some(membership) = membership {
            membership.set_trial(tries);
        }
        match attempts(membership, || self.source.fetch(previous)).await {
            Ok(fetched) => Ok(Some(self.succeeded(fetched, stamp))),
            Err(error) => {
                self.failed(&error, stamp);
                Err(error)
            }
        }
    }

    /// Forgets a credential that the provider refuses.
    fn lose(&self, refused: &Arc<S::Credential>) {
        let mut state = self.state.lock();
        if state.current.as_ref().is_some_and(|current| Arc::ptr_eq(current, refused)) {
            state.current = None;
            self.report.lost();
        }
    }

    /// Keeps the only credential, which the provider refuses: it may be accepted again. It is not asked about for a
    /// while.
    fn keep_refused(&self, refused: &Arc<S::Credential>, accepted: Option<bool>) {
        let mut state = self.state.lock();
        state.hold_off_until = Some(Instant::now() + HOLD_OFF);
        if !state.current.as_ref().is_some_and(|current| Arc::ptr_eq(current, refused)) {
            return;
        }
        if accepted.map_or_else(|| self.unproven.load(Ordering::Relaxed), |accepted| !accepted) {
            self.unproven.store(true, Ordering::Relaxed);
            self.report.rejected();
        }
    }

    fn succeeded(self: &Arc<Self>, fetched: S::Credential, stamp: Stamp) -> Arc<S::Credential> {
        let fetched = Arc::new(fetched);
        let mut state = self.state.lock();
        state.current = Some(Arc::clone(&fetched));
        state.refused = None;
        state.refusals = 0;
        let was_failing = state.renew_after.take().is_some();
        state.tried = stamp.clone();
        state.read = stamp;
        let left = fetched.term().left();
        // One that has ended already is no login: its source keeps its own.
        let is_proven = self.source.is_proven(&fetched);
        self.unproven.store(!is_proven, Ordering::Relaxed);
        if was_failing || left.is_none_or(|left| !left.is_zero()) {
            if is_proven {
                self.report.succeeded(left);
            } else {
                self.report.given(left);
            }
        }
        if self.source.is_kept(&fetched) && left.is_some() && !state.kept {
            state.kept = true;
            tokio::spawn(keep(Arc::downgrade(self)));
        }
        fetched
    }

    fn failed(&self, error: &CallError<S::Refusal>, stamp: Stamp) {
        let mut state = self.state.lock();
        state.tried = stamp.clone();
        let now = Instant::now();
        let left = state.live().map(|live| live.term().left());
        // Also of a login without a response, if the service may have counted it as refused.
        let mut remembered = self.source.membership().and_then(Membership::pause);
        if error.is_refused_login() {
            if state.read != stamp {
                state.refusals = 0;
                state.read = stamp;
            }
            state.refusals += 1;
            remembered = Some(remembered.unwrap_or_else(|| refusal_pause(state.refusals)));
        }
        state.refused = remembered.map(|pause| (error.clone(), now + pause));
        let pause = remembered.or_else(|| left.map(|left| renewal_pause(left.unwrap_or(RENEWAL_PAUSE))));
        state.renew_after = Some(now + pause.unwrap_or_default());
        let left = left.map(|left| left.unwrap_or(Duration::MAX));
        let shown = error.clone().into_error(<S::Refusal as Refusal>::LOGIN);
        self.report.failed(&shown, error.is_refused_login(), left, pause);
    }

    /// Renews the credential if it is due, without a call; returns what to wait for then. `None` if there is
    /// nothing to renew. Goes on while the tenant is suspended, because nothing could replace a credential that ended.
    fn renew_if_due(self: &Arc<Self>) -> Option<Next<S>> {
        let mut state = self.state.lock();
        let live = state.live().cloned();
        let Some((live, until_due)) = live.and_then(|live| live.term().until_due().map(|left| (live, left))) else {
            state.kept = false;
            return None;
        };
        let suspended = state.asked.filter(|_| self.switch.share().is_suspended());
        let pauses = [state.renew_after, suspended.map(|asked| asked + SUSPENDED_PAUSE)];
        let paused = pauses.into_iter().flatten().max();
        let pause = until_due.max(paused.map_or(Duration::ZERO, |at| at.saturating_duration_since(Instant::now())));
        if !pause.is_zero() {
            // After the resume the server's pace counts again.
            return Some(Next::Pause(if suspended.is_some() { pause.min(WATCH) } else { pause }));
        }
        let under_way = state.attempt.as_ref().map(Attempt::shared);
        Some(Next::Attempt(
            under_way.unwrap_or_else(|| self.begin(&mut state, Why::Due(live), false)),
        ))
    }

    /// Fetches another credential if the files have changed since they were read.
    pub(super) async fn fetch_if_changed(self: &Arc<Self>) -> Option<Attempt<S>> {
        if self.files.is_empty() {
            return None;
        }
        let now = Stamp::of(&self.files).await;
        let mut state = self.state.lock();
        // Files that were read already, for a login that failed for another reason, wait for their turn.
        let waiting = state.renew_after.is_some_and(|at| at > Instant::now());
        if state.read == now || (state.tried == now && waiting) {
            return None;
        }
        let under_way = state.attempt.as_ref().map(Attempt::shared);
        Some(under_way.unwrap_or_else(|| self.begin(&mut state, Why::Anew, false)))
    }
}

/// Whether only a caller whose credential is accepted gets such a refusal.
const fn about_a_key(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::KeyNotFound | ErrorKind::KeyState | ErrorKind::CiphertextRejected | ErrorKind::ProviderDenied
    )
}

/// The pause after a renewal that failed, drawn at random from its upper half.
fn renewal_pause(left: Duration) -> Duration {
    let pause = (left / 4).clamp(SHORTEST_RENEWAL_PAUSE, RENEWAL_PAUSE);
    pause / 2 + jitter(pause / 2)
}

/// Looks at the files of secrets until the session is dropped or the connection severed. Those of a suspended tenant wait
/// for the resume.
async fn watch_files<S: CredentialSource>(session: Weak<Inner<S>>) {
    loop {
        sleep(WATCH).await;
        let Some(inner) = session.upgrade().filter(|inner| !inner.switch.is_severed()) else {
            return;
        };
        if !inner.switch.share().is_suspended() {
            drop(inner.fetch_if_changed().await);
        }
    }
}

/// Renews a credential also while no call is made, until it has ended, the session is dropped or the
/// connection severed.
async fn keep<S: CredentialSource>(session: Weak<Inner<S>>) {
    loop {
        let inner = session.upgrade().filter(|inner| !inner.switch.is_severed());
        match inner.and_then(|inner| inner.renew_if_due()) {
            None => return,
            Some(Next::Pause(pause)) => sleep(pause).await,
            Some(Next::Attempt(attempt)) => drop(attempt.outcome().await),
        }
    }
}
