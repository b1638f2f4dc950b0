//! Limits the time of one attempt.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::{Call, Capabilities, Error, ErrorKind, Kek, Op, OpContext, Output, ProviderKind, Retry, Rotation};

/// The timeout of an attempt: the time until the deadline, at most `attempt`. The time for which it waits for
/// the connection's login does not count: that is shared, and may take longer than one call. A check has
/// all the time until the deadline, because it makes many calls, each with a limit of its own. The creation of
/// a key, a rotation that creates one, and the search for what a creation has made, have `creation`: a creation is not
/// repeated, so one that is ended early is lost. An adoption creates nothing, and has the time of any attempt.
pub(super) struct AttemptTimeout {
    inner: Arc<dyn Call>,
    attempt: Duration,
    creation: Duration,
}

impl AttemptTimeout {
    pub(super) fn new(inner: Arc<dyn Call>, attempt: Duration, creation: Duration) -> Self {
        Self { inner, attempt, creation }
    }

    /// Whether a rotation of a key makes another one.
    fn rotates_by_creation(&self, kek: &Kek) -> bool {
        let capabilities = self.inner.capabilities();
        capabilities.of(kek.spec).is_some_and(|can| can.rotation == Some(Rotation::NewKey))
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
            Op::CreateKey { request } if request.adopt.is_some() => self.attempt.min(cx.remaining()),
            Op::CreateKey { .. } | Op::FindMade { .. } => self.creation.min(cx.remaining()),
            Op::Rotate { kek } if self.rotates_by_creation(kek) => self.creation.min(cx.remaining()),
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
        let call = self.inner.call(cx, op);
        cx.within(limit, Duration::MAX, Duration::ZERO, call)
            .await
            .unwrap_or_else(|| Err(timeout()))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test stops where an expectation fails")]

    use std::sync::Arc;
    use std::time::Duration;

    use async_trait::async_trait;
    use tokio::time::Instant;

    use super::AttemptTimeout;

    const CREATION: Duration = Duration::from_secs(30);
    use crate::layers::scripted::{OwnedOp, Scripted, Step, all_ops, cx, kek};
    use crate::{Call, Capabilities, Error, ErrorKind, KeyId, KeyRequest, KeySpec, Op, OpContext, Output, ProviderKind, Rotation};

    #[tokio::test(start_paused = true)]
    async fn an_attempt_ends_at_its_limit_or_at_the_deadline() {
        for (deadline, expected) in [(10, 3), (2, 2)] {
            let scripted = Arc::new(Scripted::new([Step::Hang]));
            let layer = AttemptTimeout::new(scripted, Duration::from_secs(3), CREATION);
            let start = Instant::now();
            let error = layer
                .call(&cx(Duration::from_secs(deadline)), Op::Describe { kek: &kek() })
                .await
                .unwrap_err();
            assert_eq!(error.kind, ErrorKind::UpstreamTimeout);
            assert_eq!(start.elapsed().as_secs(), expected);
        }
    }

    /// A call that waits for a login, and then for its response.
    struct Waits(Duration, Duration);

    #[async_trait]
    impl Call for Waits {
        fn kind(&self) -> ProviderKind {
            ProviderKind::Vault
        }

        fn capabilities(&self) -> Capabilities {
            Scripted::new([]).capabilities()
        }

        async fn call(&self, cx: &OpContext, _: Op<'_>) -> Result<Output, Error> {
            cx.login().during(tokio::time::sleep(self.0)).await;
            tokio::time::sleep(self.1).await;
            Ok(Output::Done)
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_wait_for_a_login_ends_at_the_deadline_only() {
        let seconds = Duration::from_secs;
        for (login, response, ends) in [(5, 2, Ok(7)), (5, 4, Err(8)), (20, 0, Err(10))] {
            let layer = AttemptTimeout::new(Arc::new(Waits(seconds(login), seconds(response))), seconds(3), CREATION);
            let start = Instant::now();
            let result = layer.call(&cx(seconds(10)), Op::Describe { kek: &kek() }).await;
            let took = start.elapsed().as_secs();
            assert_eq!(result.map(|_| took).map_err(|_| took), ends, "{login} and {response}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_check_has_all_the_time_until_the_deadline() {
        let scripted = Arc::new(Scripted::new([Step::Take(Duration::from_secs(8))]));
        let layer = AttemptTimeout::new(scripted, Duration::from_secs(3), CREATION);
        layer.call(&cx(Duration::from_secs(9)), Op::Probe { keks: &[] }).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_creation_has_a_time_of_its_own() {
        let all = all_ops();
        for op in all.iter().map(OwnedOp::op) {
            if !matches!(op, Op::CreateKey { .. } | Op::FindMade { .. }) {
                continue;
            }
            for (deadline, expected) in [(60, 30), (10, 10)] {
                let scripted = Arc::new(Scripted::new([Step::Hang]));
                let layer = AttemptTimeout::new(scripted, Duration::from_secs(3), CREATION);
                let start = Instant::now();
                let error = layer.call(&cx(Duration::from_secs(deadline)), op).await.unwrap_err();
                assert_eq!((error.kind, start.elapsed().as_secs()), (ErrorKind::UpstreamTimeout, expected));
            }
        }
    }

    /// A provider that rotates keys in this way, and never answers.
    struct Rotates(Rotation);

    #[async_trait]
    impl Call for Rotates {
        fn kind(&self) -> ProviderKind {
            ProviderKind::Kmip
        }

        fn capabilities(&self) -> Capabilities {
            let mut capabilities = Scripted::new([]).capabilities();
            capabilities.keys.iter_mut().for_each(|keys| keys.rotation = Some(self.0));
            capabilities
        }

        async fn call(&self, _: &OpContext, _: Op<'_>) -> Result<Output, Error> {
            std::future::pending().await
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_rotation_that_makes_a_key_has_the_time_of_a_creation() {
        for (rotation, expected) in [(Rotation::InPlace, 3), (Rotation::InPlaceUnnamed, 3), (Rotation::NewKey, 30)] {
            let layer = AttemptTimeout::new(Arc::new(Rotates(rotation)), Duration::from_secs(3), CREATION);
            let start = Instant::now();
            let op = Op::Rotate { kek: &kek() };
            let error = layer.call(&cx(Duration::from_secs(60)), op).await.unwrap_err();
            assert_eq!((error.kind, start.elapsed().as_secs()), (ErrorKind::UpstreamTimeout, expected));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_adoption_ends_as_any_attempt() {
        let request = KeyRequest {
            key_id: KeyId::random(),
            made_as: KeyId::random(),
            repeated: false,
            spec: KeySpec::Aes256,
            adopt: Some("theirs".to_owned()),
            taken: false,
        };
        let layer = AttemptTimeout::new(Arc::new(Scripted::new([Step::Hang])), Duration::from_secs(3), CREATION);
        let start = Instant::now();
        let op = Op::CreateKey { request: &request };
        let error = layer.call(&cx(Duration::from_secs(60)), op).await.unwrap_err();
        assert_eq!((error.kind, start.elapsed().as_secs()), (ErrorKind::UpstreamTimeout, 3));
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_sent_after_the_deadline() {
        let scripted = Arc::new(Scripted::new([]));
        let layer = AttemptTimeout::new(Arc::clone(&scripted) as Arc<dyn Call>, Duration::from_secs(3), CREATION);
        let error = layer.call(&cx(Duration::ZERO), Op::Probe { keks: &[] }).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::UpstreamTimeout);
        assert_eq!(scripted.calls(), 0);
    }
}
