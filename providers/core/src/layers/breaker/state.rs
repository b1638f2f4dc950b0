//! The breaker's state machine, without any input or output of its own: time is handed in.

use std::time::Duration;

use tokio::time::Instant;

use super::{BreakerConfig, BreakerState};

/// What one attempt says about the provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is there.
    Answered,
    /// It is not there, or makes no sense.
    Failed,
    /// Nothing.
    Unknown,
}

/// Whether a call may pass.
pub(super) enum Admission {
    /// It may; `generation` goes back to [`Machine::settle`].
    Pass { generation: u64, entered: Option<BreakerState> },
    /// It may not, and asking again makes sense after this long.
    Refuse { wait: Duration },
}

/// How long a caller is told to wait while one call finds out: its answer is due soon.
const WAIT_FOR_PROBE: Duration = Duration::from_secs(1);

enum State {
    Closed { failures_in_a_row: u32 },
    Open { until: Instant },
    HalfOpen { under_way: bool },
}

/// Closed, open, half open, and the ways between them.
pub(super) struct Machine {
    config: BreakerConfig,
    state: State,
    /// What is counted while closed.
    window: Window,
    /// Rises with every change of state: what was let through before says nothing after.
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
            State::Open { .. } => entered = Some(self.enter(State::HalfOpen { under_way: true }, BreakerState::HalfOpen)),
            State::HalfOpen { under_way: true } => return Admission::Refuse { wait: WAIT_FOR_PROBE },
            State::HalfOpen { under_way } => *under_way = true,
        }
        Admission::Pass {
            generation: self.generation,
            entered,
        }
    }

    /// Takes in what an attempt found; tells the state that was entered by it, if one was.
    pub(super) fn settle(&mut self, generation: u64, verdict: Verdict, now: Instant) -> Option<BreakerState> {
        if generation != self.generation {
            return None;
        }
        let opens = match (&mut self.state, verdict) {
            (State::Closed { failures_in_a_row }, Verdict::Answered) => {
                *failures_in_a_row = 0;
                self.window.record(now, false);
                // Successes alone never open, but they can bring the number of calls over
                // the least while half of them had failed before.
                self.window.tripped(now, &self.config)
            }
            (State::Closed { failures_in_a_row }, Verdict::Failed) => {
                *failures_in_a_row = failures_in_a_row.saturating_add(1);
                self.window.record(now, true);
                *failures_in_a_row >= self.config.consecutive_failures || self.window.tripped(now, &self.config)
            }
            (State::HalfOpen { .. }, Verdict::Answered) => {
                self.window = Window::new(self.config.window, now);
                return Some(self.enter(State::Closed { failures_in_a_row: 0 }, BreakerState::Closed));
            }
            (State::HalfOpen { .. }, Verdict::Failed) => true,
            (State::HalfOpen { under_way }, Verdict::Unknown) => {
                *under_way = false;
                false
            }
            (State::Closed { .. }, Verdict::Unknown) | (State::Open { .. }, Verdict::Answered | Verdict::Failed | Verdict::Unknown) => {
                false
            }
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

/// Calls and failures of the last while, in ten steps.
struct Window {
    start: Instant,
    step: Duration,
    buckets: [Bucket; BUCKETS],
}

#[derive(Clone, Copy, Default)]
struct Bucket {
    /// Which step since `start` the numbers belong to.
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
