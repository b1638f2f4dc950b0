//! The switch that stops all traffic of one connection.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::share::Share;

/// How often a check of any connection asked for new connections. Of the process, because connections may share a pool.
static CHECKS: AtomicU64 = AtomicU64::new(0);

/// The connection is severed: nothing is sent any more, and what was under way was dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the connection is severed")]
pub struct Severed;

/// Stops all traffic of one connection: the pipeline's operations, and each request of the adapter's
/// HTTP clients, so that logins, renewals and background tasks stop, too. It also tells the clients' pools when a check
/// wants new connections.
///
/// It stops for good. A connection that is restored is made anew, with another switch, so what still
/// holds this one can never send again. Clones are the same switch.
///
/// All traffic passes it, so it also has the tenant's share of sockets, which each request takes a place of.
#[derive(Debug, Clone, Default)]
pub struct SeverSwitch {
    severed: CancellationToken,
    calls: TaskTracker,
    /// The count of [`CHECKS`] at the connection's last one.
    dialed_anew: Arc<AtomicU64>,
    share: Share,
    /// Whether the next request must not use a connection that is open already.
    renew: Arc<AtomicBool>,
}

impl SeverSwitch {
    /// The same switch, for the traffic of a connection whose tenant has this share.
    #[must_use]
    pub fn with_share(self, share: Share) -> Self {
        Self { share, ..self }
    }

    /// The share of the connection's tenant.
    pub const fn share(&self) -> &Share {
        &self.share
    }

    /// Has the next request use a new connection: what is open may lead to a server that is gone.
    pub fn renew(&self) {
        self.renew.store(true, Ordering::Relaxed);
    }

    /// Whether [`SeverSwitch::renew`] was called since the last time.
    pub(crate) fn take_renewal(&self) -> bool {
        self.renew.swap(false, Ordering::Relaxed)
    }

    /// Stops the traffic. Calls under way are dropped when they are polled next;
    /// [`SeverSwitch::stopped`] waits for that.
    pub fn sever(&self) {
        self.severed.cancel();
        self.calls.close();
    }

    /// Whether the traffic is stopped.
    pub fn is_severed(&self) -> bool {
        self.severed.is_cancelled()
    }

    /// Has the calls that begin from now on use no TCP or TLS connection that is open by now.
    pub(crate) fn dial_anew(&self) {
        self.dialed_anew
            .store(CHECKS.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
    }

    /// Grows with each [`SeverSwitch::dial_anew`], of whichever connection.
    pub(crate) fn dialed_anew(&self) -> u64 {
        self.dialed_anew.load(Ordering::Relaxed)
    }

    /// Runs a future that sends.
    ///
    /// # Errors
    /// [`Severed`]; the future was dropped, or never polled.
    pub async fn pass<F: Future>(&self, sending: F) -> Result<F::Output, Severed> {
        let _under_way = self.calls.token();
        // Biased: once severed, the future must not be polled again.
        tokio::select! {
            biased;
            () = self.severed.cancelled() => Err(Severed),
            output = sending => Ok(output),
        }
    }

    /// Waits until the traffic is stopped and all calls under way have been dropped.
    pub async fn stopped(&self) {
        self.severed.cancelled().await;
        self.calls.wait().await;
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test stops where an expectation fails")]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::{SeverSwitch, Severed};

    #[tokio::test]
    async fn what_is_under_way_is_dropped_and_nothing_more_is_polled() {
        let (switch, alive) = (SeverSwitch::default(), Arc::new(()));
        let held = Arc::clone(&alive);
        let call = switch.pass(async move {
            let _held = held;
            std::future::pending::<()>().await;
        });
        let cut = async {
            assert_eq!(Arc::strong_count(&alive), 2);
            switch.clone().sever();
            switch.stopped().await;
            assert_eq!(Arc::strong_count(&alive), 1, "the call is still there");
        };
        assert_eq!(tokio::join!(call, cut).0, Err(Severed));

        let polled = AtomicUsize::new(0);
        let late = switch.pass(async { polled.fetch_add(1, Ordering::Relaxed) });
        assert_eq!((late.await, polled.load(Ordering::Relaxed)), (Err(Severed), 0));
        assert!(switch.is_severed());
    }

    #[tokio::test]
    async fn another_switch_is_not_touched() {
        let (severed, other) = (SeverSwitch::default(), SeverSwitch::default());
        severed.sever();
        assert_eq!(other.pass(async { 7 }).await, Ok(7));
        assert!(!other.is_severed());
    }
}
