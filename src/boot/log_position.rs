//! Keeps the place of the log's last record in the store, so that the next start notices a log that was
//! put back to an older state; and in the same transaction, how many bytes of records tenants have today.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::audit::{DailyBytes, LastRecord, LastRecordWatch, Position};
use crate::store::{self, LogBytes, Store, StoreError};

/// The last record of the log, and what the store has of it.
pub(super) struct LogPosition {
    store: Arc<dyn Store>,
    watch: LastRecordWatch,
    bytes: DailyBytes,
    kept: Mutex<Option<LastRecord>>,
}

impl LogPosition {
    /// For a log whose records `watch` and `bytes` see.
    pub(super) fn new(store: Arc<dyn Store>, watch: LastRecordWatch, bytes: DailyBytes) -> Self {
        Self {
            store,
            watch,
            bytes,
            kept: Mutex::new(None),
        }
    }

    /// Forgets the record of an earlier run that the operator has accepted as lost: its place may be
    /// another record's from now on.
    ///
    /// # Errors
    /// The store's.
    pub(super) async fn forget(&self) -> Result<(), StoreError> {
        self.store.keep_last_record(None, &LogBytes::default()).await?;
        *self.kept.lock() = None;
        Ok(())
    }

    /// Writes the place of the last record, and closes the store. Comes after the log's close.
    pub(super) async fn close(&self) {
        if let Err(error) = self.keep().await {
            tracing::warn!(%error, "the store does not know the log's last records: the next start does not miss them if they are lost");
        }
        self.store.close().await;
    }

    /// Writes the place of the last record to the store, if there is a new one and the store's files are at
    /// their paths.
    ///
    /// # Errors
    /// The store's: the next call tries again.
    pub(super) async fn keep(&self) -> Result<(), StoreError> {
        if !self.store.has_its_files() {
            return Err(StoreError::FilesLost);
        }
        // In this order: what is counted has a last record, and the stored one is never forgotten for it.
        let unkept = self.bytes.unkept();
        let last = self.watch.get();
        if last == *self.kept.lock() && unkept.tenants.is_empty() {
            return Ok(());
        }
        let bytes = LogBytes {
            day: unkept.day,
            tenants: unkept.tenants.clone(),
        };
        self.store.keep_last_record(last.map(to_store), &bytes).await?;
        self.bytes.note_kept(&unkept);
        *self.kept.lock() = last;
        Ok(())
    }
}

fn to_store(last: LastRecord) -> store::LastRecord {
    store::LastRecord {
        position: last.position.0,
        crc: last.crc,
    }
}

/// What the store says of the log, in the log's terms.
pub(super) fn from_store(last: store::LastRecord) -> LastRecord {
    LastRecord {
        position: Position(last.position),
        crc: last.crc,
    }
}
