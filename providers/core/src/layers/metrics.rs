//! Counts and times every operation, and defines the metrics of all layers.
//!
//! Labels are the kind of provider, the operation and the outcome: closed lists. No tenant, key or
//! principal is a label.

use std::sync::Arc;

use async_trait::async_trait;
use metrics::{counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};
use tokio::time::Instant;

use crate::{Call, Capabilities, Error, Op, OpContext, Output, ProviderKind};

const CALLS: &str = "claviger_provider_calls_total";
const SECONDS: &str = "claviger_provider_call_seconds";
const IN_FLIGHT: &str = "claviger_provider_calls_in_flight";
const RETRIES: &str = "claviger_provider_retries_total";
const BREAKER: &str = "claviger_provider_breaker_transitions_total";

/// Describes the layers' metrics to the installed recorder. Called once at start.
pub fn describe() {
    describe_counter!(
        CALLS,
        "Provider operations by outcome: ok, abandoned (the caller no longer waits) or the error's kind"
    );
    describe_histogram!(
        SECONDS,
        metrics::Unit::Seconds,
        "Duration of provider operations, including waiting and retries"
    );
    describe_gauge!(IN_FLIGHT, "Provider operations in progress or waiting");
    describe_counter!(RETRIES, "Attempts after the first");
    describe_counter!(
        BREAKER,
        "Circuit breaker transitions by whose circuit it is (connection, key) and the new state"
    );
    crate::login_report::describe();
    crate::egress::pool::describe();
}

/// Counts a retry.
pub(super) fn count_retry(provider: ProviderKind, op: &'static str) {
    counter!(RETRIES, "provider" => provider.as_str(), "op" => op).increment(1);
}

/// Counts a transition of a circuit `of` a connection or of a key.
pub(super) fn count_breaker(provider: ProviderKind, of: &'static str, to: &'static str) {
    counter!(BREAKER, "provider" => provider.as_str(), "of" => of, "to" => to).increment(1);
}

/// The outermost layer.
pub(super) struct Metrics {
    inner: Arc<dyn Call>,
}

impl Metrics {
    pub(super) fn new(inner: Arc<dyn Call>) -> Self {
        Self { inner }
    }
}

/// One operation in progress. Its drop counts it, so that an operation whose caller went away is
/// counted too.
struct Measured {
    provider: &'static str,
    op: &'static str,
    start: Instant,
    outcome: &'static str,
}

impl Measured {
    fn start(provider: ProviderKind, op: &'static str) -> Self {
        let provider = provider.as_str();
        gauge!(IN_FLIGHT, "provider" => provider).increment(1);
        Self {
            provider,
            op,
            start: Instant::now(),
            outcome: "abandoned",
        }
    }
}

impl Drop for Measured {
    fn drop(&mut self) {
        gauge!(IN_FLIGHT, "provider" => self.provider).decrement(1);
        counter!(CALLS, "provider" => self.provider, "op" => self.op, "outcome" => self.outcome).increment(1);
        histogram!(SECONDS, "provider" => self.provider, "op" => self.op, "outcome" => self.outcome).record(self.start.elapsed());
    }
}

#[async_trait]
impl Call for Metrics {
    fn kind(&self) -> ProviderKind {
        self.inner.kind()
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    async fn call(&self, cx: &OpContext, op: Op<'_>) -> Result<Output, Error> {
        let mut measured = Measured::start(self.kind(), op.name());
        let result = self.inner.call(cx, op).await;
        measured.outcome = match &result {
            // A check that found the connection unusable returns a report, and failed.
            Ok(Output::Probed(probe)) => probe.problem.as_ref().map_or("ok", |problem| problem.kind.as_str()),
            Ok(_) => "ok",
            Err(error) => error.kind.as_str(),
        };
        result
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops where an expectation fails")]

    use std::sync::Arc;
    use std::time::Duration;

    use metrics_util::debugging::{DebugValue, DebuggingRecorder};

    use super::Metrics;
    use crate::layers::scripted::{Scripted, Step, cx};
    use crate::{Call, Error, ErrorKind, Op, Output, Probe, Retry};

    #[tokio::test(start_paused = true)]
    async fn counts_outcomes_and_what_was_abandoned() {
        let recorder = DebuggingRecorder::new();
        let snapshotter = recorder.snapshotter();
        let _installed = metrics::set_default_local_recorder(&recorder);
        let failed = Probe {
            detail: String::new(),
            problem: Some(Arc::new(Error::new(ErrorKind::UpstreamUnavailable, "sealed"))),
            rights: Vec::new(),
            policy: None,
        };
        let scripted = Scripted::new([
            Step::Succeed,
            Step::Fail(ErrorKind::ProviderDenied, Retry::Never),
            Step::Output(Output::Probed(failed)),
            Step::Hang,
        ]);
        let layer = Metrics::new(Arc::new(scripted));
        let cx = cx(Duration::from_secs(9));

        layer.call(&cx, Op::Probe { keks: &[] }).await.unwrap();
        layer.call(&cx, Op::Probe { keks: &[] }).await.unwrap_err();
        layer.call(&cx, Op::Probe { keks: &[] }).await.unwrap();
        tokio::time::timeout(Duration::from_secs(2), layer.call(&cx, Op::Probe { keks: &[] }))
            .await
            .unwrap_err();

        let all = snapshotter.snapshot().into_vec();
        let value = |name: &str, labels: &[(&str, &str)]| {
            all.iter().find_map(|(key, _, _, value)| {
                let found: Vec<_> = key.key().labels().map(|label| (label.key(), label.value())).collect();
                (key.key().name() == name && found == labels).then_some(value)
            })
        };
        for (outcome, seconds) in [
            ("ok", 0.0),
            ("provider_denied", 0.0),
            ("upstream_unavailable", 0.0),
            ("abandoned", 2.0),
        ] {
            let labels = [("provider", "vault"), ("op", "probe"), ("outcome", outcome)];
            assert_eq!(value(super::CALLS, &labels), Some(&DebugValue::Counter(1)), "{outcome}");
            let Some(DebugValue::Histogram(times)) = value(super::SECONDS, &labels) else {
                panic!("no time for {outcome}");
            };
            assert_eq!(times.iter().map(|time| time.round()).collect::<Vec<_>>(), [seconds], "{outcome}");
        }
        let none = DebugValue::Gauge(0.0.into());
        assert_eq!(value(super::IN_FLIGHT, &[("provider", "vault")]), Some(&none));
    }
}
