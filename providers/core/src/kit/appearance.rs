//! Waiting until a provider shows what it has just made. Cloud key services are eventually consistent: for some
//! seconds, a server that did not take part in a creation answers that there is no such key.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::pauses::Pauses;
use crate::{Error, ErrorKind, OpContext, Retry};

/// The longest that a creation waits for its key to be found.
const PATIENCE: Duration = Duration::from_secs(5);

/// The time within which what was just made has to show: 5 s, and at most half of the time that the operation has
/// left.
pub struct Patience {
    end: Instant,
    is_whole: bool,
    pauses: Pauses,
}

impl Patience {
    /// It begins now.
    pub fn of(cx: &OpContext) -> Self {
        let most = cx.remaining() / 2;
        Self {
            end: Instant::now() + PATIENCE.min(most),
            is_whole: PATIENCE <= most,
            pauses: Pauses::new(),
        }
    }

    /// Whether it is all that a provider may need: the operation's deadline leaves less otherwise.
    pub const fn is_whole(&self) -> bool {
        self.is_whole
    }

    /// Waits until the provider may be asked once more. `false` if that would be too late: it did not wait then.
    pub async fn pause(&mut self) -> bool {
        let pause = self.pauses.draw();
        if Instant::now() + pause >= self.end {
            return false;
        }
        sleep(pause).await;
        true
    }
}

/// Repeats a read of something that was just made while it answers `KeyNotFound`, within a [`Patience`].
///
/// # Errors
/// The read's own. `UpstreamUnavailable` if it still answers `KeyNotFound`: the key is there, and cannot be used
/// yet.
pub async fn until_found<T, F>(cx: &OpContext, read: impl Fn() -> F) -> Result<T, Error>
where
    F: Future<Output = Result<T, Error>>,
{
    let mut patience = Patience::of(cx);
    loop {
        match read().await {
            Err(error) if error.kind == ErrorKind::KeyNotFound => {
                if !patience.pause().await {
                    let unavailable = Error::new(ErrorKind::UpstreamUnavailable, "the new key is not found yet");
                    return Err(Error {
                        provider: error.provider,
                        upstream_code: error.upstream_code,
                        ..unavailable.retry(Retry::Backoff)
                    });
                }
            }
            read => return read,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test stops where an expectation fails")]
mod tests {
    use std::cell::Cell;
    use std::time::Duration;

    use tokio::time::Instant;

    use super::until_found;
    use crate::{Error, ErrorKind, OpContext, TenantId};

    /// A read that finds the key at the call of this number, with the number of calls so far.
    async fn read(found_at: u32, seconds: u64) -> (Result<u32, ErrorKind>, u32, u64) {
        let cx = OpContext::for_system("test", TenantId::random(), Duration::from_secs(seconds));
        let (calls, start) = (Cell::new(0), Instant::now());
        let read = || {
            calls.set(calls.get() + 1);
            let call = calls.get();
            async move {
                match call >= found_at {
                    true => Ok(call),
                    false => Err(Error::new(ErrorKind::KeyNotFound, "read")),
                }
            }
        };
        let found = until_found(&cx, read).await.map_err(|error| error.kind);
        (found, calls.get(), start.elapsed().as_secs())
    }

    #[tokio::test(start_paused = true)]
    async fn what_shows_after_a_moment_is_found() {
        for found_at in [1, 3, 6] {
            let (found, calls, seconds) = read(found_at, 30).await;
            assert_eq!((found, calls), (Ok(found_at), found_at));
            assert!(seconds < 2, "{found_at}: {seconds} s");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_does_not_show_is_unavailable_and_not_gone() {
        let (found, calls, seconds) = read(u32::MAX, 30).await;
        assert!(
            found == Err(ErrorKind::UpstreamUnavailable) && calls > 5 && (3..=5).contains(&seconds),
            "{found:?} {calls} {seconds}"
        );
        // Half of the time is left for what follows.
        assert!(read(u32::MAX, 4).await.2 < 2);
    }

    #[tokio::test]
    async fn another_error_ends_it() {
        let cx = OpContext::for_system("test", TenantId::random(), Duration::from_secs(30));
        let denied = || async { Err::<(), _>(Error::new(ErrorKind::ProviderDenied, "read")) };
        assert_eq!(until_found(&cx, denied).await.unwrap_err().kind, ErrorKind::ProviderDenied);
    }
}
