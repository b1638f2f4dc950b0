//! Limits the time of one attempt.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::{Call, Capabilities, Error, ErrorKind, Op, OpContext, Output, ProviderKind, Retry};

/// The timeout of an attempt: the time until the deadline, at most `attempt`. A check has all the time
/// until the deadline, because it makes many calls, each with a limit of its own.
pub(super) struct AttemptTimeout {
    inner: Arc<dyn Call>,
    attempt: Duration,
}

impl AttemptTimeout {
    pub(super) fn new(inner: Arc<dyn Call>, attempt: Duration) -> Self {
        Self { inner, attempt }
    }
}

#[async_trait]
impl Call for AttemptTimeout {
    fn kind(&self) -> ProviderKind {
        self.inner.kind()
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    async fn call(&self, cx: &OpContext, op: Op<'_>) -> Result<Output, Error> {
        let limit = match op {
            Op::Probe { .. } => cx.remaining(),
            _ => self.attempt.min(cx.remaining()),
        };
        let timeout = || {
            Error::new(ErrorKind::UpstreamTimeout, format!("{}: no response in {limit:?}", op.name()))
                .retry(Retry::Backoff)
                .provider(self.kind())
        };
        if limit.is_zero() {
            // Return here, because `tokio::time::timeout` would still poll the call once, and so
            // send the request.
            return Err(timeout());
        }
        tokio::time::timeout(limit, self.inner.call(cx, op))
            .await
            .unwrap_or_else(|_| Err(timeout()))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test stops where an expectation fails")]

    use std::sync::Arc;
    use std::time::Duration;

    use tokio::time::Instant;

    use super::AttemptTimeout;
    use crate::layers::scripted::{Scripted, Step, cx, kek};
    use crate::{Call, ErrorKind, Op};

    #[tokio::test(start_paused = true)]
    async fn an_attempt_ends_at_its_limit_or_at_the_deadline() {
        for (deadline, expected) in [(10, 3), (2, 2)] {
            let scripted = Arc::new(Scripted::new([Step::Hang]));
            let layer = AttemptTimeout::new(scripted, Duration::from_secs(3));
            let start = Instant::now();
            let error = layer
                .call(&cx(Duration::from_secs(deadline)), Op::Describe { kek: &kek() })
                .await
                .unwrap_err();
            assert_eq!(error.kind, ErrorKind::UpstreamTimeout);
            assert_eq!(start.elapsed().as_secs(), expected);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_check_has_all_the_time_until_the_deadline() {
        let scripted = Arc::new(Scripted::new([Step::Take(Duration::from_secs(8))]));
        let layer = AttemptTimeout::new(scripted, Duration::from_secs(3));
        layer.call(&cx(Duration::from_secs(9)), Op::Probe { keks: &[] }).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_sent_after_the_deadline() {
        let scripted = Arc::new(Scripted::new([]));
        let layer = AttemptTimeout::new(Arc::clone(&scripted) as Arc<dyn Call>, Duration::from_secs(3));
        let error = layer.call(&cx(Duration::ZERO), Op::Probe { keks: &[] }).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::UpstreamTimeout);
        assert_eq!(scripted.calls(), 0);
    }
}
