//! The circuits of one connection: its own, and one for each key that fails.
//!
//! A failure counts for what it concerns. What keeps every call from the provider (no connection, no
//! credential) counts for the connection. Every other failure counts for the key that the call names
//! alone, whatever the reason: the provider may fail for that key, or for all. Only when as many different keys failed as it takes failures to open a
//! circuit, and nothing succeeded through the connection for a while, does that concern the
//! connection, too. So the owner of a bad key cannot stop the others of a connection that is in use.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::last_failure::CallFailure;
use super::state::{Admitted, BreakerConfig, BreakerState, Chance, Machine, Trial, Verdict};
use crate::Op;

/// The most keys of a connection that are known to fail. One more replaces the one that failed
/// first; it loses its count and costs the provider some calls.
const MAX_KEYS: usize = 256;

/// The fewest keys whose failures make the connection itself suspect.
const LEAST_SUSPECTS: usize = 3;

/// What a call's result says about the provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::layers) enum Outcome {
    /// The provider responds.
    Available,
    /// The provider is not reached.
    ConnectionFailed,
    /// The provider does not respond to this call, or fails.
    CallFailed,
    /// Nothing.
    Unknown,
}

/// Whose circuit changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::layers) enum Whose {
    /// The connection's.
    Connection,
    /// That of the call's key.
    Key,
}

/// A circuit that entered another state.
pub(in crate::layers) type Entered = (Whose, BreakerState);

/// A call that was admitted.
pub(in crate::layers) struct Ticket {
    key: Option<u64>,
    /// Whether it counts for the key's circuit.
    counts: bool,
    connection: Trial,
    /// `None` if the key had no circuit then.
    of_key: Option<Trial>,
}

/// Why a call is refused: whose circuit is open, and when to try again.
pub(in crate::layers) struct Refusal {
    pub(in crate::layers) whose: Whose,
    pub(in crate::layers) wait: Duration,
}

/// The circuits of one connection, shared by the layers that ask them.
pub(in crate::layers) struct Circuits {
    state: Mutex<State>,
    last_failure: Mutex<Option<CallFailure>>,
    hasher: RandomState,
    config: Arc<BreakerConfig>,
}

struct State {
    connection: Machine,
    /// The circuits of keys whose last call failed, by the hash of the provider key id: 64 bits of a
    /// secret hash, because ids are long and chosen by others.
    keys: HashMap<u64, KeyCircuit>,
    /// Different keys that failed while nothing succeeded.
    suspects: Vec<u64>,
    /// The last success of the connection, or its begin.
    last_success: Instant,
}

struct KeyCircuit {
    machine: Machine,
    first_failure: Instant,
}

impl Circuits {
    /// Which key's failure a call may show, and whether the call counts for that key's circuit and is
    /// refused by it.
    fn key_of(&self, op: Op<'_>) -> (Option<u64>, bool) {
        let key = || op.provider_key().map(|id| self.hasher.hash_one(id));
        match op {
            Op::WrapKey { .. } | Op::UnwrapKey { .. } | Op::GenerateDataKey { .. } => (key(), true),
            // With two keys, nobody knows which of them fails.
            Op::RewrapKey { wrapped, to, .. } => (key().filter(|_| to.key.id == wrapped.key.id), true),
            // A creation may fail for what is wanted: a slow kind of key, a name.
            Op::CreateKey { request } | Op::FindMade { request } => (key().or_else(|| Some(self.hasher.hash_one(request.made_as))), false),
            // Rare calls that find out about a key, or mend it.
            Op::Rotate { .. } | Op::Describe { .. } | Op::SetState { .. } | Op::ScheduleDeletion { .. } | Op::Import { .. } => {
                (key(), false)
            }
            Op::Probe { .. } => (None, false),
        }
    }

    /// All closed.
    pub(in crate::layers) fn new(config: BreakerConfig) -> Arc<Self> {
        let config = Arc::new(config);
        let now = Instant::now();
        Arc::new(Self {
            state: Mutex::new(State {
                connection: Machine::of_connection(&config, now),
                keys: HashMap::new(),
                suspects: Vec::new(),
                last_success: now,
            }),
            last_failure: Mutex::new(None),
            hasher: RandomState::new(),
            config,
        })
    }

    /// The state of the connection's circuit.
    pub(in crate::layers) fn connection(&self) -> BreakerState {
        self.state.lock().connection.state(Instant::now())
    }

    /// Notes why a call failed.
    pub(super) fn note(&self, failure: CallFailure) {
        *self.last_failure.lock() = Some(failure);
    }

    /// Why the last call failed that did, while the connection's circuit is not closed.
    pub(in crate::layers) fn last_failure(&self) -> Option<CallFailure> {
        let shown = self.connection() != BreakerState::Closed;
        self.last_failure.lock().clone().filter(|_| shown)
    }

    /// The number of keys whose circuit is open.
    pub(in crate::layers) fn open_keys(&self) -> usize {
        let now = Instant::now();
        let state = self.state.lock();
        let open = state.keys.values().filter(|key| key.machine.state(now) == BreakerState::Open);
        open.count()
    }

    /// Admits a call, or refuses it. Pass the ticket to [`Circuits::record`].
    ///
    /// # Errors
    /// Whose circuit is open.
    pub(in crate::layers) fn admit(&self, op: Op<'_>, chance: Chance) -> Result<(Ticket, Vec<Entered>), Refusal> {
        let (key, counts) = self.key_of(op);
        let now = Instant::now();
        let mut state = self.state.lock();
        let state = &mut *state;
        if let Some(wait) = state.connection.refuses(chance, now) {
            let whose = Whose::Connection;
            return Err(Refusal { whose, wait });
        }
        let mut entered = Vec::new();
        let mut of_key = None;
        if counts
            && !state.keys.is_empty()
            && let Some(circuit) = key.and_then(|key| state.keys.get_mut(&key))
        {
            if let Some(wait) = circuit.machine.refuses(chance, now) {
                return Err(Refusal { whose: Whose::Key, wait });
            }
            let admitted = circuit.machine.admit(chance);
            of_key = Some(admitted.trial);
            entered.extend(admitted.entered.map(|state| (Whose::Key, state)));
        }
        let Admitted {
            trial: connection,
            entered: of_connection,
        } = state.connection.admit(chance);
        entered.extend(of_connection.map(|state| (Whose::Connection, state)));
        let ticket = Ticket {
            key,
            counts,
            connection,
            of_key,
        };
        Ok((ticket, entered))
    }

    /// Whether a call that was admitted may be tried once more.
    pub(in crate::layers) fn permits_retry(&self, op: Op<'_>) -> bool {
        let now = Instant::now();
        let state = self.state.lock();
        if state.connection.state(now) == BreakerState::Open {
            return false;
        }
        let key = if state.keys.is_empty() { None } else { self.key_of(op).0 };
        let circuit = key.and_then(|key| state.keys.get(&key));
        circuit.is_none_or(|circuit| circuit.machine.state(now) != BreakerState::Open)
    }

    /// Records the outcome of an admitted call; returns what changed by it.
    pub(in crate::layers) fn record(&self, ticket: &Ticket, outcome: Outcome) -> Vec<Entered> {
        let now = Instant::now();
        let mut state = self.state.lock();
        let (of_connection, of_key) = match (outcome, ticket.key) {
            (Outcome::Available, _) => (Verdict::Available, Verdict::Available),
            (Outcome::ConnectionFailed, _) | (Outcome::CallFailed, None) => (Verdict::Unavailable, Verdict::Unknown),
            (Outcome::CallFailed, Some(_)) => (Verdict::Unknown, Verdict::Unavailable),
            (Outcome::Unknown, _) => (Verdict::Unknown, Verdict::Unknown),
        };
        let mut entered = Vec::new();
        if let Some(key) = ticket.key.filter(|_| ticket.counts) {
            let changed = state.record_key(key, ticket.of_key, of_key, &self.config, now);
            entered.extend(changed.map(|state| (Whose::Key, state)));
        }
        let changed = state.connection.record(ticket.connection, of_connection, now);
        entered.extend(changed.map(|state| (Whose::Connection, state)));
        match (of_connection, of_key, ticket.key) {
            (Verdict::Available, _, _) => {
                state.last_success = now;
                state.suspects.clear();
            }
            (_, Verdict::Unavailable, Some(key)) if state.suspects(key, &self.config, now) => {
                entered.push((Whose::Connection, state.connection.open(now)));
            }
            (_, _, _) => {}
        }
        entered
    }
}

impl State {
    /// Records what a call says about its key. A key whose calls succeed takes no memory.
    fn record_key(
        &mut self,
        key: u64,
        trial: Option<Trial>,
        verdict: Verdict,
        config: &Arc<BreakerConfig>,
        now: Instant,
    ) -> Option<BreakerState> {
        match self.keys.get_mut(&key) {
            None if verdict == Verdict::Unavailable => {
                self.make_room();
                let mut machine = Machine::of_key(config);
                let trial = machine.admit(Chance::Fair).trial;
                let entered = machine.record(trial, verdict, now);
                let first_failure = now;
                self.keys.insert(key, KeyCircuit { machine, first_failure });
                entered
            }
            None => None,
            Some(circuit) => {
                let closed = circuit.machine.state(now) == BreakerState::Closed;
                // A call from before the circuit was made counts as long as it is closed.
                let trial = trial.or_else(|| closed.then(|| circuit.machine.admit(Chance::Fair).trial))?;
                let entered = circuit.machine.record(trial, verdict, now);
                if verdict == Verdict::Available && circuit.machine.state(now) == BreakerState::Closed {
                    self.keys.remove(&key);
                }
                entered
            }
        }
    }

    fn make_room(&mut self) {
        if self.keys.len() < MAX_KEYS {
            return;
        }
        let oldest = self
            .keys
            .iter()
            .min_by_key(|(_, circuit)| circuit.first_failure)
            .map(|(key, _)| *key);
        if let Some(oldest) = oldest {
            self.keys.remove(&oldest);
        }
    }

    /// Notes a key that failed. Returns whether that makes the connection itself suspect.
    fn suspects(&mut self, key: u64, config: &BreakerConfig, now: Instant) -> bool {
        let quiet = now.saturating_duration_since(self.last_success) >= config.open_for;
        if !quiet || self.connection.state(now) != BreakerState::Closed {
            return false;
        }
        let enough = usize::try_from(config.consecutive_failures).unwrap_or(usize::MAX);
        if !self.suspects.contains(&key) {
            self.suspects.push(key);
        }
        self.suspects.len() >= enough.clamp(LEAST_SUSPECTS, MAX_KEYS)
    }
}
