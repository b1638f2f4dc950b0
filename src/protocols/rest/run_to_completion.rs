//! Work that a caller's going away does not cancel.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::runtime::Handle;
use tracing::{Instrument, Span};

/// The work panicked; what it said may hold anything and is not kept.
pub struct Panicked;

/// Runs its work where it is polled, which costs no task and no wake-up of another. Dropped
/// half way (the connection is gone), it makes a task of the rest, which runs to its end.
pub struct RunToCompletion<T: Send + 'static> {
    /// `None` once it ended.
    work: Option<Pin<Box<dyn Future<Output = T> + Send>>>,
    span: Span,
}

impl<T: Send + 'static> RunToCompletion<T> {
    /// Of this work, in the span that is current now.
    pub fn new(work: impl Future<Output = T> + Send + 'static) -> Self {
        Self {
            work: Some(Box::pin(work)),
            span: Span::current(),
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
        let Some(work) = self.work.take() else { return };
        // Outside of a runtime there is none to go on in: the process is ending.
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(work.instrument(self.span.clone()));
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, reason = "a test stops where an expectation fails")]
mod tests {
    use std::time::Duration;

    use tokio::sync::oneshot;

    use super::RunToCompletion;

    #[tokio::test]
    async fn its_value_comes_from_where_it_is_polled() {
        let task = tokio::spawn(async {
            let there = RunToCompletion::new(async { tokio::task::id() });
            (tokio::task::id(), there.await.ok())
        });
        let (here, there) = task.await.unwrap();
        assert_eq!(there, Some(here));
    }

    #[tokio::test]
    async fn dropped_half_way_it_runs_to_its_end() {
        let (go, gone) = oneshot::channel::<()>();
        let (ended, end) = oneshot::channel();
        let work = RunToCompletion::new(async move {
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
        drop(RunToCompletion::new(async move { ended.send(()).unwrap() }));
        end.await.unwrap();
    }

    #[tokio::test]
    async fn a_panic_ends_it() {
        assert!(RunToCompletion::new(async { panic!("as if by mistake") }).await.is_err());
    }
}
