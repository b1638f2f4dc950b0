//! State of background jobs: when each last ran, and what it last failed with. `/readyz` and the
//! metrics report it.

use std::time::Duration;

use chrono::{DateTime, Utc};
use metrics::{counter, describe_counter, describe_gauge, gauge};
use parking_lot::Mutex;

const RUNS: &str = "claviger_job_runs_total";
const LAST_RUN: &str = "claviger_job_last_run_seconds";

/// State of one background job.
#[derive(Debug)]
pub struct JobState {
    name: &'static str,
    period: Duration,
    runs: Mutex<Runs>,
}

/// The runs of a job so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Runs {
    /// End of the last run. None before the first run has ended.
    pub last: Option<DateTime<Utc>>,
    /// Whether the last run failed.
    pub failing: bool,
    /// End and error of the last run that failed. The error is a code or a fixed text.
    pub last_error: Option<(DateTime<Utc>, &'static str)>,
}

impl JobState {
    /// A job that has not run yet.
    pub fn new(name: &'static str, period: Duration) -> Self {
        Self {
            name,
            period,
            runs: Mutex::new(Runs::default()),
        }
    }

    /// Name of the job, also in the labels of metrics.
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// Time between two runs.
    pub const fn period(&self) -> Duration {
        self.period
    }

    /// The runs so far.
    pub fn runs(&self) -> Runs {
        *self.runs.lock()
    }

    /// Notes that a run ended. Returns whether the job began to fail, fails with another error,
    /// or works again.
    pub fn ended(&self, result: Result<(), &'static str>) -> bool {
        let now = Utc::now();
        counter!(RUNS, "job" => self.name, "result" => if result.is_ok() { "ok" } else { "failed" }).increment(1);
        gauge!(LAST_RUN, "job" => self.name).set(now.timestamp() as f64);
        let mut runs = self.runs.lock();
        let before = runs.last_error.filter(|_| runs.failing).map(|(_, error)| error);
        runs.last = Some(now);
        runs.failing = result.is_err();
        if let Err(error) = result {
            runs.last_error = Some((now, error));
        }
        before != result.err()
    }
}

/// Describes the metrics of jobs.
pub(super) fn describe() {
    describe_counter!(RUNS, "Runs of background jobs, by result: ok or failed");
    describe_gauge!(LAST_RUN, "When the last run of a background job ended, in seconds since 1970");
}
