//! When the open connections to a host are given up.
//!
//! A load balancer that fails over silently leaves open sockets that swallow what is sent: nothing
//! closes them, and each request that is sent on one ends in a timeout. A pool has dozens, and
//! hands out one after another. So after a timeout on a pooled connection the whole pool is given up.
//! At most once in [`LEAST_TIME`], because a service that is merely slow must not meet a storm of
//! handshakes; a timeout within that time gives the next attempt alone a connection of its own.
//!
//! A server that says that it cannot serve may be one of several behind a load balancer, which leads new connections
//! to another one already: the pool is given up, too, at most once in that time. The call by which an open circuit
//! finds out whether the provider responds again always has a new connection, and so has the first call of a check:
//! for them the pool is given up, too, at most once in that time, because tenants that make checks may share it. And no pool is older than
//! [`GREATEST_AGE`], so that a name that has another address by now is looked up again under any traffic.
//!
//! Where calls have less than [`SHORT`], a timeout may be no more than one slow answer, and a handshake takes most of the
//! time. So two in a row, without a response between them, are the least: then the third attempt of an operation, the
//! last, still gets a connection of its own.

use std::sync::Arc;
use std::time::Duration;

use metrics::{counter, describe_counter};
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::{ProviderKind, SeverSwitch};

/// The least time between two pools that are given up.
pub const LEAST_TIME: Duration = Duration::from_secs(10);
/// How long an idle connection stays open. Its buffers may still hold what was last sent and
/// received, data keys included, so it is no longer than the default time for which the DEK cache
/// keeps an unused key.
pub const POOL_IDLE: Duration = Duration::from_secs(15);
/// How long connections of one pool are opened and used.
pub const GREATEST_AGE: Duration = Duration::from_secs(300);
/// An attempt that its caller abandons after this time counts as a timeout: the pipeline ends an
/// attempt by dropping it. A caller may also shorten its deadline to a moment, which says nothing
/// about the connection.
const PATIENCE: Duration = Duration::from_millis(250);
/// A time of calls in which a slow answer is likelier than a dead connection.
const SHORT: Duration = Duration::from_secs(1);
/// The timeouts in a row by which such calls show that connections are dead.
const MANY: u32 = 2;
/// The most attempts at once that are owed a connection of their own.
const MAX_OWED: u32 = 64;

const RENEWED: &str = "claviger_provider_pools_renewed_total";

/// Describes the metric to the installed recorder.
pub(crate) fn describe() {
    describe_counter!(
        RENEWED,
        "Pools of connections to a provider that were given up after a timeout, because the server could not serve, or for a check or the trial of an open circuit"
    );
}

/// The connections that an attempt may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Connections {
    /// Those of the pool of this generation.
    Pooled(u64),
    /// A new one, which no other attempt uses.
    New,
}

struct State {
    generation: u64,
    renewed: Option<Instant>,
    born: Instant,
    last_use: Instant,
    /// Attempts that get a connection of their own.
    owed: u32,
    /// The timeouts since the last response.
    timeouts: u32,
    /// The last check that gave the pool up ([`SeverSwitch`]).
    checked: u64,
}

/// Decides which connections each attempt at one host uses.
pub struct PoolHealth {
    provider: ProviderKind,
    /// The pool is given up when it was not used for this time; `None` where the client closes idle
    /// connections by itself.
    idle: Option<Duration>,
    /// The timeouts in a row that say that connections are dead.
    telling: u32,
    state: Mutex<State>,
}

impl PoolHealth {
    /// For a client that closes idle connections by itself, whose calls have this time.
    pub fn new(provider: ProviderKind, timeout: Duration) -> Arc<Self> {
        Self::with(provider, None, if timeout < SHORT { MANY } else { 1 })
    }

    /// For a vendor's client without an idle limit, or with a longer one: a pool that was idle for
    /// [`POOL_IDLE`] is given up.
    pub fn with_idle_limit(provider: ProviderKind) -> Arc<Self> {
        Self::with(provider, Some(POOL_IDLE), 1)
    }

    fn with(provider: ProviderKind, idle: Option<Duration>, telling: u32) -> Arc<Self> {
        let state = State {
            generation: 0,
            renewed: None,
            born: Instant::now(),
            last_use: Instant::now(),
            owed: 0,
            timeouts: 0,
            checked: 0,
        };
        Arc::new(Self {
            provider,
            idle,
            telling,
            state: Mutex::new(state),
        })
    }

    /// Begins an attempt of a connection with this switch: the first one after a check began has a new connection.
    pub fn attempt(self: &Arc<Self>, switch: &SeverSwitch) -> Attempt {
        let now = Instant::now();
        let mut state = self.state.lock();
        let (is_old, checked) = (now - state.born >= GREATEST_AGE, switch.dialed_anew());
        let is_checked = checked > state.checked;
        state.checked = state.checked.max(checked);
        if is_old || self.idle.is_some_and(|idle| now - state.last_use >= idle) {
            state.generation += 1;
            state.born = now;
        }
        state.last_use = now;
        let wants_new = switch.take_renewal() || is_checked;
        let is_renewed = wants_new && state.renew(now);
        if wants_new && !is_renewed {
            state.owed = (state.owed + 1).min(MAX_OWED);
        }
        let connections = match state.owed.checked_sub(1) {
            Some(left) => {
                state.owed = left;
                Connections::New
            }
            None => Connections::Pooled(state.generation),
        };
        drop(state);
        if is_renewed {
            self.count("a check, or the trial of an open circuit, wants a new connection, so the open ones to its host are given up");
        }
        Attempt {
            health: Arc::clone(self),
            connections,
            begun: now,
            open: true,
        }
    }

    fn timed_out(&self, connections: Connections) {
        let now = Instant::now();
        let mut state = self.state.lock();
        // The pool of an earlier generation is given up already.
        if connections != Connections::Pooled(state.generation) {
            return;
        }
        state.timeouts += 1;
        if state.timeouts < self.telling {
            return;
        }
        if !state.renew(now) {
            state.owed = (state.owed + 1).min(MAX_OWED);
            return;
        }
        drop(state);
        self.count("a call timed out, so the open connections to its host are given up");
    }

    fn unavailable(&self, connections: Connections) {
        let mut state = self.state.lock();
        state.timeouts = 0;
        if connections == Connections::Pooled(state.generation) && state.renew(Instant::now()) {
            drop(state);
            self.count("a server cannot serve, so the open connections to its host are given up");
        }
    }

    fn count(&self, why: &'static str) {
        counter!(RENEWED, "provider" => self.provider.as_str()).increment(1);
        tracing::info!(provider = %self.provider, "{why}");
    }
}

impl State {
    /// Gives the pool up, unless another one was a moment ago. Returns whether it did.
    fn renew(&mut self, now: Instant) -> bool {
        if self.renewed.is_some_and(|renewed| now - renewed < LEAST_TIME) {
            return false;
        }
        self.generation += 1;
        self.renewed = Some(now);
        self.born = now;
        self.owed = 0;
        self.timeouts = 0;
        true
    }
}

/// An attempt in progress. Dropped without a result after [`PATIENCE`], it counts as a timeout.
pub struct Attempt {
    health: Arc<PoolHealth>,
    connections: Connections,
    begun: Instant,
    open: bool,
}

impl Attempt {
    /// The connections to use.
    pub const fn connections(&self) -> Connections {
        self.connections
    }

    /// Ends it, with a response or another error than a timeout.
    pub fn end(mut self) {
        self.open = false;
        self.health.state.lock().timeouts = 0;
    }

    /// Ends it without a request, which says nothing of the connections.
    pub fn withdraw(mut self) {
        self.open = false;
    }

    /// Ends it with a response by which the server cannot serve any request now.
    pub fn unavailable(mut self) {
        self.open = false;
        self.health.unavailable(self.connections);
    }

    /// Ends it with a timeout.
    pub fn time_out(mut self) {
        self.open = false;
        self.health.timed_out(self.connections);
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        if self.open && self.begun.elapsed() >= PATIENCE {
            self.health.timed_out(self.connections);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::advance;

    use super::{Connections, GREATEST_AGE, LEAST_TIME, PATIENCE, POOL_IDLE, PoolHealth};
    use crate::{ProviderKind, SeverSwitch};

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn the_first_timeout_renews_the_pool_and_the_others_of_the_old_one_do_not() {
        let health = PoolHealth::new(ProviderKind::Vault, 3 * SECOND);
        let attempts: Vec<_> = (0..24).map(|_| health.attempt(&SeverSwitch::default())).collect();
        assert!(attempts.iter().all(|attempt| attempt.connections() == Connections::Pooled(0)));
        for attempt in attempts {
            attempt.time_out();
            assert_eq!(health.attempt(&SeverSwitch::default()).connections(), Connections::Pooled(1));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn within_ten_seconds_each_timeout_gives_one_attempt_a_connection_of_its_own() {
        let health = PoolHealth::new(ProviderKind::Vault, 3 * SECOND);
        health.attempt(&SeverSwitch::default()).time_out();
        advance(SECOND).await;
        health.attempt(&SeverSwitch::default()).time_out();
        let own = health.attempt(&SeverSwitch::default());
        assert_eq!(own.connections(), Connections::New);
        assert_eq!(health.attempt(&SeverSwitch::default()).connections(), Connections::Pooled(1));
        own.time_out();
        assert_eq!(
            health.attempt(&SeverSwitch::default()).connections(),
            Connections::Pooled(1),
            "a new one says nothing of the pool"
        );
        advance(LEAST_TIME).await;
        health.attempt(&SeverSwitch::default()).time_out();
        assert_eq!(health.attempt(&SeverSwitch::default()).connections(), Connections::Pooled(2));
    }

    #[tokio::test(start_paused = true)]
    async fn one_slow_answer_gives_no_pool_up_where_calls_have_little_time() {
        let health = PoolHealth::new(ProviderKind::Xks, Duration::from_millis(250));
        for _ in 0..5 {
            health.attempt(&SeverSwitch::default()).time_out();
            health.attempt(&SeverSwitch::default()).end();
        }
        assert_eq!(health.attempt(&SeverSwitch::default()).connections(), Connections::Pooled(0));
        health.attempt(&SeverSwitch::default()).time_out();
        health.attempt(&SeverSwitch::default()).time_out();
        assert_eq!(
            health.attempt(&SeverSwitch::default()).connections(),
            Connections::Pooled(1),
            "none was answered"
        );
        health.attempt(&SeverSwitch::default()).time_out();
        assert_eq!(
            health.attempt(&SeverSwitch::default()).connections(),
            Connections::Pooled(1),
            "nor is the next attempt owed a new one"
        );
        let usual = PoolHealth::new(ProviderKind::Xks, SECOND);
        usual.attempt(&SeverSwitch::default()).time_out();
        assert_eq!(usual.attempt(&SeverSwitch::default()).connections(), Connections::Pooled(1));
    }

    #[tokio::test(start_paused = true)]
    async fn an_abandoned_attempt_is_a_timeout_unless_it_was_for_a_moment() {
        let health = PoolHealth::new(ProviderKind::Vault, 3 * SECOND);
        drop(health.attempt(&SeverSwitch::default()));
        health.attempt(&SeverSwitch::default()).end();
        assert_eq!(health.attempt(&SeverSwitch::default()).connections(), Connections::Pooled(0));
        let abandoned = health.attempt(&SeverSwitch::default());
        advance(PATIENCE).await;
        drop(abandoned);
        assert_eq!(health.attempt(&SeverSwitch::default()).connections(), Connections::Pooled(1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_cannot_serve_costs_one_pool_in_ten_seconds() {
        let (health, switch) = (PoolHealth::new(ProviderKind::Vault, 3 * SECOND), SeverSwitch::default());
        for _ in 0..3 {
            health.attempt(&switch).unavailable();
            assert_eq!(health.attempt(&switch).connections(), Connections::Pooled(1));
        }
        advance(LEAST_TIME).await;
        health.attempt(&switch).unavailable();
        assert_eq!(health.attempt(&switch).connections(), Connections::Pooled(2));
    }

    #[tokio::test(start_paused = true)]
    async fn a_trial_has_a_new_connection_and_no_pool_grows_old() {
        let (health, switch) = (PoolHealth::new(ProviderKind::Vault, 3 * SECOND), SeverSwitch::default());
        switch.renew();
        assert_eq!(health.attempt(&switch).connections(), Connections::Pooled(1));
        switch.renew();
        assert_eq!(
            health.attempt(&switch).connections(),
            Connections::New,
            "the pool was given up a moment ago"
        );
        assert_eq!(health.attempt(&switch).connections(), Connections::Pooled(1));
        let mut age = Duration::ZERO;
        while age < GREATEST_AGE {
            assert_eq!(health.attempt(&switch).connections(), Connections::Pooled(1));
            advance(SECOND).await;
            age += SECOND;
        }
        assert_eq!(health.attempt(&switch).connections(), Connections::Pooled(2));
    }

    #[tokio::test(start_paused = true)]
    async fn checks_give_the_pool_up_at_most_once_in_ten_seconds() {
        let health = PoolHealth::new(ProviderKind::Vault, SECOND);
        let (ours, other) = (SeverSwitch::default(), SeverSwitch::default());
        ours.dial_anew();
        for _ in 0..2 {
            assert_eq!(health.attempt(&ours).connections(), Connections::Pooled(1));
            assert_eq!(health.attempt(&other).connections(), Connections::Pooled(1));
        }
        for _ in 0..2 {
            other.dial_anew();
            assert_eq!(
                health.attempt(&other).connections(),
                Connections::New,
                "the pool was given up a moment ago"
            );
            assert_eq!(health.attempt(&ours).connections(), Connections::Pooled(1));
        }
        advance(LEAST_TIME).await;
        other.dial_anew();
        for _ in 0..2 {
            assert_eq!(health.attempt(&other).connections(), Connections::Pooled(2));
            assert_eq!(health.attempt(&ours).connections(), Connections::Pooled(2));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_pool_is_renewed_where_the_client_does_not_do_it() {
        let (own, vendors) = (
            PoolHealth::new(ProviderKind::Vault, 3 * SECOND),
            PoolHealth::with_idle_limit(ProviderKind::Gcp),
        );
        advance(POOL_IDLE - SECOND).await;
        assert_eq!(vendors.attempt(&SeverSwitch::default()).connections(), Connections::Pooled(0));
        advance(POOL_IDLE).await;
        assert_eq!(vendors.attempt(&SeverSwitch::default()).connections(), Connections::Pooled(1));
        assert_eq!(own.attempt(&SeverSwitch::default()).connections(), Connections::Pooled(0));
    }
}
