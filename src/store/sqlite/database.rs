//! The file's connections: one that writes, a few that read.

use std::sync::Arc;

use claviger_provider::{InstallationId, Node};
use sqlx::{Sqlite, SqlitePool, Transaction};

use crate::store::StoreError;
use crate::store::sealing::Sealer;

/// Takes SQLite's write lock at once, not at the first write.
const BEGIN: &str = "BEGIN IMMEDIATE";

/// A store in one SQLite file.
pub struct SqliteStore {
    /// One connection, so that changes queue here and not inside SQLite.
    pub(super) writer: SqlitePool,
    /// Connections that cannot write.
    pub(super) readers: SqlitePool,
    pub(super) sealer: Arc<Sealer>,
    pub(super) installation: InstallationId,
    /// The node whose log positions this store marks and reads.
    pub(super) node: Node,
}

impl SqliteStore {
    /// Takes the writer and SQLite's write lock, so that what is read inside the transaction
    /// stays true until its end.
    pub(super) async fn begin_writing(&self) -> Result<Transaction<'static, Sqlite>, StoreError> {
        match self.writer.begin_with(BEGIN).await {
            // Where the disk is full or fails, SQLite ends a transaction by itself. sqlx still
            // counts it as open and would refuse every later one on this connection.
            Err(sqlx::Error::InvalidSavePointStatement | sqlx::Error::WorkerCrashed) => {
                tracing::warn!("the store's writing connection is opened again after a failed change");
                if let Err(error) = self.writer.acquire().await?.close().await {
                    tracing::warn!(%error, "the old connection did not close cleanly");
                }
                Ok(self.writer.begin_with(BEGIN).await?)
            }
            begun => Ok(begun?),
        }
    }
}
