//! The breaker's configuration and the state machine of one circuit. It does no I/O and reads no
//! clock: callers pass the time.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

/// When a circuit opens, and for how long. Calls count, each with its retries as one.
#[derive(Debug, Clone, PartialEq)]
pub struct BreakerConfig {
    /// A circuit opens after this many failures without a success between them; at least 1. Failures
    /// of as many different keys open the connection's, if nothing succeeded for `open_for`.
    pub consecutive_failures: u32,
    /// The connection's also opens when `failure_percent` of at least `least_calls` calls failed
    /// within this time.
    pub window: Duration,
    /// The fewest calls within `window` for which `failure_percent` applies.
    pub least_calls: u32,
    /// The share of failed calls, in percent, at which the circuit opens.
    pub failure_percent: u32,
    /// How long an open circuit refuses calls before it admits one.
    pub open_for: Duration,
    /// A timeout counts as a failure only if the call had at least the time of an attempt, or this if it is less. A
    /// caller may shorten its deadline to less than the provider takes on a good day, and a timeout then says nothing
    /// about the provider.
    pub fair_chance: Duration,
}

impl Default for BreakerConfig {
    /// 5 failures in a row, or half of at least 20 calls within 30 s; open for 5 s; a fair
    /// chance is at most 7.5 s, three quarters of the default deadline of a request.
    fn default() -> Self {
        Self {
            consecutive_failures: 5,
            window: Duration::from_secs(30),
            least_calls: 20,
            failure_percent: 50,
            open_for: Duration::from_secs(5),
            fair_chance: Duration::from_millis(7500),
        }
    }
}

/// What the breaker does with the next call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BreakerState {
    /// Admits it.
    Closed,
    /// Refuses it with `CircuitOpen`.
    Open,
    /// Admits one as a trial, and refuses the others until its result is known. Beside it, admits one whose caller
    /// grants it less time than an attempt takes.
    HalfOpen,
}

impl BreakerState {
    /// The word used in readiness and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half_open",
        }
    }
}

/// What one call's result says about a circuit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The provider responds.
    Available,
    /// The provider does not respond, or its response is malformed.
    Unavailable,
    /// The result says nothing about it.
    Unknown,
}

/// The time that a call has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::layers) enum Chance {
    /// At least that of an attempt.
    Fair,
    /// Less. Its failure may be its caller's. So it must not take the trial of a half-open circuit from the others,
    /// who would wait until no such call comes any more.
    Short,
}

/// A call's part in the state of a circuit.
#[derive(Debug, Clone, Copy)]
pub(super) struct Trial {
    generation: u64,
    chance: Chance,
}

/// An admitted call. Pass `trial` to [`Machine::record`].
pub(super) struct Admitted {
    pub(super) trial: Trial,
    /// The state that the circuit entered by the admission.
    pub(super) entered: Option<BreakerState>,
}

/// How long a caller has to wait while the trial of a half-open circuit runs.
const WAIT_FOR_TRIAL: Duration = Duration::from_secs(1);

enum State {
    Closed {
        failures_in_a_row: u32,
    },
    Open {
        until: Instant,
    },
    /// Whether a trial of each [`Chance`] runs.
    HalfOpen {
        fair: bool,
        short: bool,
    },
}

/// The states of one circuit and the transitions between them.
pub(super) struct Machine {
    config: Arc<BreakerConfig>,
    state: State,
    /// The calls that count while the circuit is closed; `None` where only failures in a row do.
    window: Option<Box<Window>>,
    /// Increases with every change of state. The result of a call that was admitted before the last
    /// change is ignored.
    generation: u64,
}

impl Machine {
    /// The circuit of a connection.
    pub(super) fn of_connection(config: &Arc<BreakerConfig>, now: Instant) -> Self {
        Self {
            window: Some(Box::new(Window::new(config.window, now))),
            ..Self::of_key(config)
        }
    }

    /// The circuit of a key. It takes little memory, because a connection may have many bad keys.
    pub(super) fn of_key(config: &Arc<BreakerConfig>) -> Self {
        Self {
            state: State::Closed { failures_in_a_row: 0 },
            window: None,
            config: Arc::clone(config),
            generation: 0,
        }
    }

    pub(super) fn state(&self, now: Instant) -> BreakerState {
        match self.state {
            State::Closed { .. } => BreakerState::Closed,
            State::Open { until } if now < until => BreakerState::Open,
            State::Open { .. } | State::HalfOpen { .. } => BreakerState::HalfOpen,
        }
    }

    /// How long a call that comes now has to wait; `None` if it would be admitted.
    pub(super) fn refuses(&self, chance: Chance, now: Instant) -> Option<Duration> {
        match (&self.state, chance) {
            (State::Open { until }, _) if now < *until => Some(*until - now),
            (State::HalfOpen { fair: true, .. }, _) | (State::HalfOpen { short: true, .. }, Chance::Short) => Some(WAIT_FOR_TRIAL),
            (State::Closed { .. } | State::Open { .. } | State::HalfOpen { .. }, _) => None,
        }
    }

    /// Admits a call that [`Machine::refuses`] does not refuse.
    pub(super) fn admit(&mut self, chance: Chance) -> Admitted {
        let mut entered = None;
        match (&mut self.state, chance) {
            (State::Closed { .. }, _) => {}
            (State::Open { .. }, _) => {
                let trials = State::HalfOpen {
                    fair: chance == Chance::Fair,
                    short: chance == Chance::Short,
                };
                entered = Some(self.enter(trials, BreakerState::HalfOpen));
            }
            (State::HalfOpen { fair, .. }, Chance::Fair) => *fair = true,
            (State::HalfOpen { short, .. }, Chance::Short) => *short = true,
        }
        Admitted {
            trial: Trial {
                generation: self.generation,
                chance,
            },
            entered,
        }
    }

    /// Records the verdict of a call; returns the state that the circuit entered by it, if any.
    pub(super) fn record(&mut self, trial: Trial, verdict: Verdict, now: Instant) -> Option<BreakerState> {
        if trial.generation != self.generation {
            return None;
        }
        let opens = match (&mut self.state, verdict) {
            (State::Closed { failures_in_a_row }, Verdict::Available) => {
                *failures_in_a_row = 0;
                // Successes alone never open the circuit, but one can bring the number of calls to
                // `least_calls` after half of the earlier ones failed.
                self.window.as_mut().is_some_and(|window| window.record(now, false, &self.config))
            }
            (State::Closed { failures_in_a_row }, Verdict::Unavailable) => {
                *failures_in_a_row = failures_in_a_row.saturating_add(1);
                let in_a_row = *failures_in_a_row >= self.config.consecutive_failures;
                self.window.as_mut().is_some_and(|window| window.record(now, true, &self.config)) || in_a_row
            }
            (State::HalfOpen { .. }, Verdict::Available) => {
                if let Some(window) = &mut self.window {
                    **window = Window::new(self.config.window, now);
                }
                return Some(self.enter(State::Closed { failures_in_a_row: 0 }, BreakerState::Closed));
            }
            (State::HalfOpen { .. }, Verdict::Unavailable) => true,
            (State::HalfOpen { fair, short }, Verdict::Unknown) => {
                match trial.chance {
                    Chance::Fair => *fair = false,
                    Chance::Short => *short = false,
                }
                false
            }
            (State::Closed { .. }, Verdict::Unknown)
            | (State::Open { .. }, Verdict::Available | Verdict::Unavailable | Verdict::Unknown) => false,
        };
        opens.then(|| self.open(now))
    }

    /// Opens the circuit.
    pub(super) fn open(&mut self, now: Instant) -> BreakerState {
        let until = now + self.config.open_for;
        self.enter(State::Open { until }, BreakerState::Open)
    }

    fn enter(&mut self, state: State, name: BreakerState) -> BreakerState {
        self.state = state;
        self.generation += 1;
        name
    }
}

const BUCKETS: usize = 10;

/// Calls and failures within the last window, in ten buckets.
struct Window {
    start: Instant,
    step: Duration,
    buckets: [Bucket; BUCKETS],
}

#[derive(Clone, Copy, Default)]
struct Bucket {
    /// The step since `start` that the numbers belong to.
    step: u128,
    calls: u32,
    failures: u32,
}

impl Window {
    fn new(span: Duration, start: Instant) -> Self {
        Self {
            start,
            step: (span / BUCKETS as u32).max(Duration::from_nanos(1)),
            buckets: [Bucket::default(); BUCKETS],
        }
    }

    fn step_at(&self, now: Instant) -> u128 {
        now.saturating_duration_since(self.start).as_nanos() / self.step.as_nanos()
    }

    /// Records a call. Returns whether the share of failures opens the circuit.
    fn record(&mut self, now: Instant, failed: bool, config: &BreakerConfig) -> bool {
        let step = self.step_at(now);
        let bucket = &mut self.buckets[(step % BUCKETS as u128) as usize];
        if bucket.step != step {
            *bucket = Bucket { step, ..Bucket::default() };
        }
        bucket.calls = bucket.calls.saturating_add(1);
        bucket.failures = bucket.failures.saturating_add(failed.into());
        let recent = self.buckets.iter().filter(|bucket| step - bucket.step < BUCKETS as u128);
        let (calls, failures) = recent.fold((0_u64, 0_u64), |(calls, failures), bucket| {
            (calls + u64::from(bucket.calls), failures + u64::from(bucket.failures))
        });
        calls >= u64::from(config.least_calls) && failures > 0 && failures * 100 >= calls * u64::from(config.failure_percent)
    }
}
