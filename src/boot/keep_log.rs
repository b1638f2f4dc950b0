//! Keeps the audit log as short as `audit.keep` says.

use std::sync::Arc;

use parking_lot::Mutex;

use super::errors::with_cause;
use crate::audit::{Keep, KeepError, Keeper};
use crate::broker::{Broker, RecoverError};

/// Whether the binary is one for tests, whose limits are small.
const SMALL: bool = cfg!(feature = "testkit");

/// The most files of one run: a stop waits for its end.
const PARTS: usize = 8;

/// Removes or archives the oldest files of the log.
pub(super) struct LogKeeper {
    broker: Arc<Broker>,
    keeper: Keeper,
    /// What the log of the gateway said last, until a run succeeds.
    told: Mutex<Option<String>>,
}

/// Why the oldest files are not removed.
#[derive(Debug, thiserror::Error)]
enum ShortenError {
    #[error(transparent)]
    Keep(#[from] KeepError),
    #[error(transparent)]
    Compare(#[from] RecoverError),
}

impl ShortenError {
    const fn as_str(&self) -> &'static str {
        match self {
            Self::Keep(error) => error.as_str(),
            Self::Compare(_) => "store and audit log cannot be compared",
        }
    }
}

impl LogKeeper {
    /// For the broker's log, which is in that folder.
    pub(super) fn new(broker: Arc<Broker>, folder: &std::path::Path, keep: Keep) -> Self {
        let keeper = Keeper::new(folder, broker.log().origin(), keep, Keep::least_bytes(SMALL));
        Self {
            broker,
            keeper,
            told: Mutex::default(),
        }
    }

    /// Removes or archives what is due.
    ///
    /// # Errors
    /// The reason in one phrase; the log of the gateway has more, once for each reason. The next run goes on.
    pub(super) async fn run(&self) -> Result<(), &'static str> {
        let done = self.remove_due().await;
        let reason = done.as_ref().err().map(|failed| with_cause(failed));
        let mut told = self.told.lock();
        if let Some(error) = reason.as_deref().filter(|_| *told != reason) {
            tracing::warn!(error, "the audit log cannot be shortened");
        }
        *told = reason;
        done.map_err(|failed| failed.as_str())
    }

    async fn remove_due(&self) -> Result<(), ShortenError> {
        for _ in 0..PARTS {
            let Some(survey) = self.broker.log().survey().await.map(Arc::new) else {
                return Ok(());
            };
            let (keeper, seen) = (self.keeper.clone(), Arc::clone(&survey));
            let next = tokio::task::spawn_blocking(move || keeper.next_part(&seen))
                .await
                .map_err(KeepError::from)?;
            let Some(part) = next? else { return Ok(()) };
            let Some(settled) = self.broker.settle_log(&survey, part.end()).await? else {
                return Ok(());
            };
            self.keeper.remove(self.broker.log(), part, settled.changed).await?;
        }
        Ok(())
    }
}
