//! Work that continues after the client disconnects.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::runtime::Handle;

use crate::telemetry::request::RequestLabel;

/// The work panicked. The panic's payload may contain a secret, so it is dropped.
pub struct Panicked;

/// Work that is polled in place. If this is dropped before the work has ended, a new task runs the rest:
/// hyper drops a request's future when its connection closes.
///
/// The work is boxed because a future that has been polled can move to a task only in a box.
pub struct RunToCompletion<T: Send + 'static> {
    /// `None` once it has ended.
    work: Option<Pin<Box<dyn Future<Output = T> + Send>>>,
    label: RequestLabel,
}

impl<T: Send + 'static> RunToCompletion<T> {
    /// Runs this work. Its events in the log carry the label.
    pub fn new(label: RequestLabel, work: impl Future<Output = T> + Send + 'static) -> Self {
        Self {
            work: Some(Box::pin(work)),
            label,
        }
    }
}

impl<T: Send + 'static> Future for RunToCompletion<T> {
    type Output = Result<T, Panicked>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(work) = &mut self.work else {
            return Poll::Ready(Err(Panicked));
        };
        // Work that panicked is dropped and never polled again.
        let ended = match catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(cx))) {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(value)) => Ok(value),
            Err(_) => Err(Panicked),
        };
        self.work = None;
        Poll::Ready(ended)
    }
}

impl<T: Send + 'static> Drop for RunToCompletion<T> {
    fn drop(&mut self) {
        let Some(mut work) = self.work.take() else { return };
        let mut label = std::mem::take(&mut self.label);
        // Without a runtime the process is ending, and nothing can run the rest.
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(std::future::poll_fn(move |cx| label.scope(|| work.as_mut().poll(cx))));
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, reason = "a test stops where an expectation fails")]
mod tests {
    use std::time::Duration;

    use tokio::sync::oneshot;

    use super::RunToCompletion;
    use crate::telemetry::request::RequestLabel;

    #[tokio::test]
    async fn its_value_comes_from_where_it_is_polled() {
        let task = tokio::spawn(async {
            let there = RunToCompletion::new(RequestLabel::default(), async { tokio::task::id() });
            (tokio::task::id(), there.await.ok())
        });
        let (here, there) = task.await.unwrap();
        assert_eq!(there, Some(here));
    }

    #[tokio::test]
    async fn dropped_half_way_it_runs_to_its_end() {
        let (go, gone) = oneshot::channel::<()>();
        let (ended, end) = oneshot::channel();
        let work = RunToCompletion::new(RequestLabel::default(), async move {
            gone.await.unwrap();
            ended.send(()).unwrap();
        });
        assert!(tokio::time::timeout(Duration::from_millis(10), work).await.is_err());
        go.send(()).unwrap();
        end.await.unwrap();
    }

    #[tokio::test]
    async fn dropped_before_it_began_it_runs_all_the_same() {
        let (ended, end) = oneshot::channel();
        drop(RunToCompletion::new(
            RequestLabel::default(),
            async move { ended.send(()).unwrap() },
        ));
        end.await.unwrap();
    }

    #[tokio::test]
    async fn a_panic_ends_it() {
        assert!(
            RunToCompletion::new(RequestLabel::default(), async { panic!("as if by mistake") })
                .await
                .is_err()
        );
    }
}
