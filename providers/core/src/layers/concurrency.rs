//! Limits the concurrent operations of one connection.

use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::Semaphore;

use crate::{Call, Capabilities, Error, ErrorKind, Op, OpContext, Output, ProviderKind, Retry};

/// The concurrency limit. Operations wait for a slot in the order of arrival, at most until their own
/// deadline. The listener limits how many requests can wait.
pub(super) struct ConcurrencyLimit {
    inner: Arc<dyn Call>,
    slots: Semaphore,
}

impl ConcurrencyLimit {
    pub(super) fn new(inner: Arc<dyn Call>, limit: usize) -> Self {
        Self {
            inner,
            slots: Semaphore::new(limit.clamp(1, Semaphore::MAX_PERMITS)),
        }
    }
}

#[async_trait]
impl Call for ConcurrencyLimit {
    fn kind(&self) -> ProviderKind {
        self.inner.kind()
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    async fn call(&self, cx: &OpContext, op: Op<'_>) -> Result<Output, Error> {
        let _slot = match tokio::time::timeout(cx.remaining(), self.slots.acquire()).await {
            Ok(Ok(slot)) => slot,
            Ok(Err(closed)) => return Err(Error::new(ErrorKind::Internal, op.name()).source(closed)),
            Err(_) => {
                return Err(
                    Error::new(ErrorKind::UpstreamTimeout, format!("{}: no slot became free in time", op.name()))
                        .retry(Retry::Backoff)
                        .provider(self.kind()),
                );
            }
        };
        self.inner.call(cx, op).await
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test stops where an expectation fails")]

    use std::sync::Arc;
    use std::time::Duration;

    use tokio::time::Instant;

    use super::ConcurrencyLimit;
    use crate::layers::scripted::{Scripted, Step, cx};
    use crate::{Call, ErrorKind, Op};

    #[tokio::test(start_paused = true)]
    async fn the_next_waits_for_a_slot() {
        let second = Duration::from_secs(1);
        let scripted = Arc::new(Scripted::new([Step::Take(second), Step::Take(second), Step::Take(second)]));
        let limit = ConcurrencyLimit::new(Arc::clone(&scripted) as Arc<dyn Call>, 2);
        let (cx, start) = (cx(Duration::from_secs(9)), Instant::now());
        let (a, b, c) = tokio::join!(
            limit.call(&cx, Op::Probe { keks: &[] }),
            limit.call(&cx, Op::Probe { keks: &[] }),
            limit.call(&cx, Op::Probe { keks: &[] })
        );
        assert!(a.is_ok() && b.is_ok() && c.is_ok());
        assert_eq!(start.elapsed().as_secs(), 2);
        assert_eq!(scripted.most_at_once(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_beyond_the_deadline() {
        let scripted = Arc::new(Scripted::new([Step::Hang]));
        let limit = Arc::new(ConcurrencyLimit::new(Arc::clone(&scripted) as Arc<dyn Call>, 1));
        let holder = tokio::spawn({
            let limit = Arc::clone(&limit);
            async move { limit.call(&cx(Duration::from_secs(60)), Op::Probe { keks: &[] }).await.map(drop) }
        });
        scripted.arrived(1).await;
        let start = Instant::now();
        let error = limit.call(&cx(Duration::from_secs(4)), Op::Probe { keks: &[] }).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::UpstreamTimeout);
        assert_eq!(start.elapsed().as_secs(), 4);
        assert_eq!(scripted.calls(), 1);
        // A dropped operation frees its slot.
        holder.abort();
        assert!(holder.await.unwrap_err().is_cancelled());
        limit.call(&cx(Duration::from_secs(1)), Op::Probe { keks: &[] }).await.unwrap();
    }
}
