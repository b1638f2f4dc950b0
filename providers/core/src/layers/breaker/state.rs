//! The breaker's configuration and state machine. It does no I/O and reads no clock: callers pass
//! the time.

use std::time::Duration;

use tokio::time::Instant;

/// When the circuit opens, and for how long.
#[derive(Debug, Clone, PartialEq)]
pub struct BreakerConfig {
    /// The circuit opens after this many failures without a success between them; at least 1.
    pub consecutive_failures: u32,
    /// It also opens when `failure_percent` of at least `least_calls` calls failed within this time.
    pub window: Duration,
    /// The fewest calls within `window` for which `failure_percent` applies.
    pub least_calls: u32,
    /// The share of failed calls, in percent, at which the circuit opens.
    pub failure_percent: u32,
    /// How long an open circuit refuses calls before it admits one.
    pub open_for: Duration,
    /// A timeout counts as a failure only if the attempt had at least this much time. A caller may
    /// shorten its deadline to a millisecond, and a timeout then says nothing about the provider.
    pub fair_chance: Duration,
}

impl Default for BreakerConfig {
    /// 5 failures in a row, or half of at least 20 calls within 30 s; open for 5 s; a fair
    /// chance is 1 s.
    fn default() -> Self {
        Self {
            consecutive_failures: 5,
            window: Duration::from_secs(30),
            least_calls: 20,
            failure_percent: 50,
            open_for: Duration::from_secs(5),
            fair_chance: Duration::from_secs(1),
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
    /// Admits one as a trial, and refuses the others until its result is known.
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

/// The conclusion about the provider's health from one attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The provider responds.
    Available,
    /// The provider does not respond, or its response is malformed.
    Unavailable,
    /// The result says nothing about the provider's health.
    Unknown,
}

/// Whether a call is admitted.
pub(super) enum Admission {
    /// It is admitted. Pass `generation` to [`Machine::record`].
    Pass { generation: u64, entered: Option<BreakerState> },
    /// It is rejected. The caller may try again after this time.
    Refuse { wait: Duration },
}

/// How long a caller has to wait while the trial of a half-open circuit runs.
const WAIT_FOR_TRIAL: Duration = Duration::from_secs(1);

enum State {
    Closed { failures_in_a_row: u32 },
    Open { until: Instant },
    HalfOpen { on_trial: bool },
}

/// The states of the circuit and the transitions between them.
pub(super) struct Machine {
    config: BreakerConfig,
    state: State,
    /// The calls that count while the circuit is closed.
    window: Window,
    /// Increases with every change of state. The result of a call that was admitted before the last
    /// change is ignored.
    generation: u64,
}

impl Machine {
    pub(super) fn new(config: BreakerConfig, now: Instant) -> Self {
        Self {
            state: State::Closed { failures_in_a_row: 0 },
            window: Window::new(config.window, now),
            config,
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

    pub(super) fn admit(&mut self, now: Instant) -> Admission {
        let mut entered = None;
        match &mut self.state {
            State::Closed { .. } => {}
            State::Open { until } if now < *until => return Admission::Refuse { wait: *until - now },
            State::Open { .. } => entered = Some(self.enter(State::HalfOpen { on_trial: true }, BreakerState::HalfOpen)),
            State::HalfOpen { on_trial: true } => return Admission::Refuse { wait: WAIT_FOR_TRIAL },
            State::HalfOpen { on_trial } => *on_trial = true,
        }
        Admission::Pass {
            generation: self.generation,
            entered,
        }
    }

    /// Records the verdict of an attempt; returns the state that the circuit entered by it, if any.
    pub(super) fn record(&mut self, generation: u64, verdict: Verdict, now: Instant) -> Option<BreakerState> {
        if generation != self.generation {
            return None;
        }
        let opens = match (&mut self.state, verdict) {
            (State::Closed { failures_in_a_row }, Verdict::Available) => {
                *failures_in_a_row = 0;
                self.window.record(now, false);
                // Successes alone never open the circuit, but one can bring the number of calls to
                // `least_calls` after half of the earlier ones failed.
                self.window.tripped(now, &self.config)
            }
            (State::Closed { failures_in_a_row }, Verdict::Unavailable) => {
                *failures_in_a_row = failures_in_a_row.saturating_add(1);
                self.window.record(now, true);
                *failures_in_a_row >= self.config.consecutive_failures || self.window.tripped(now, &self.config)
            }
            (State::HalfOpen { .. }, Verdict::Available) => {
                self.window = Window::new(self.config.window, now);
                return Some(self.enter(State::Closed { failures_in_a_row: 0 }, BreakerState::Closed));
            }
            (State::HalfOpen { .. }, Verdict::Unavailable) => true,
            (State::HalfOpen { on_trial }, Verdict::Unknown) => {
                *on_trial = false;
                false
            }
            (State::Closed { .. }, Verdict::Unknown)
            | (State::Open { .. }, Verdict::Available | Verdict::Unavailable | Verdict::Unknown) => false,
        };
        opens.then(|| {
            let until = now + self.config.open_for;
            self.enter(State::Open { until }, BreakerState::Open)
        })
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

    fn record(&mut self, now: Instant, failed: bool) {
        let step = self.step_at(now);
        let bucket = &mut self.buckets[(step % BUCKETS as u128) as usize];
        if bucket.step != step {
            *bucket = Bucket { step, ..Bucket::default() };
        }
        bucket.calls = bucket.calls.saturating_add(1);
        bucket.failures = bucket.failures.saturating_add(failed.into());
    }

    fn tripped(&self, now: Instant, config: &BreakerConfig) -> bool {
        let step = self.step_at(now);
        let recent = self.buckets.iter().filter(|bucket| step - bucket.step < BUCKETS as u128);
        let (calls, failures) = recent.fold((0_u64, 0_u64), |(calls, failures), bucket| {
            (calls + u64::from(bucket.calls), failures + u64::from(bucket.failures))
        });
        calls >= u64::from(config.least_calls) && failures > 0 && failures * 100 >= calls * u64::from(config.failure_percent)
    }
}
