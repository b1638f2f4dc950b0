//! The file's connections: one that writes, a few that read.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::Duration;

use claviger_provider::{InstallationId, Node, TenantId};
use metrics::{Counter, counter};
use sqlx::pool::PoolConnection;
use sqlx::query::Query;
use sqlx::sqlite::SqliteArguments;
use sqlx::{Sqlite, SqliteConnection, SqlitePool, Transaction};
use tokio::time::Instant;

use super::files::Files;
use super::run::Run;
use super::token_ids::TokenIds;
use super::turns::{Turn, Turns};
use crate::store::sealing::Sealer;
use crate::store::transaction::Priority;
use crate::store::{StoreError, urgent};

/// Takes SQLite's write lock at once, not at the first write.
const BEGIN: &str = "BEGIN IMMEDIATE";

/// How long a read waits for an open connection while the files are lost.
const GIVEN_BACK_WITHIN: Duration = Duration::from_secs(1);
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// Rows that are deleted in one turn, so that no deletion keeps the writer long.
pub(super) const PRUNED: u32 = 512;

/// A store in one SQLite file.
pub struct SqliteStore {
    /// One connection, so that changes queue here and not inside SQLite.
    pub(super) writer: SqlitePool,
    /// The turns at it.
    pub(super) writing: Arc<Turns>,
    pub(super) readers: Readers,
    pub(super) token_ids: Arc<TokenIds>,
    pub(super) sealer: Arc<Sealer>,
    pub(super) installation: InstallationId,
    pub(super) files: Arc<Files>,
    /// Of the process, until it closes the store.
    pub(super) run: Run,
    /// The node whose log positions this store marks and reads.
    pub(super) node: Node,
}

/// Connections that cannot write. What one kind of read waits for keeps no other waiting.
pub(super) struct Readers {
    /// Of revocations, and of the gateway's own reads.
    pub(super) revocations: ReaderPool,
    /// Of what authenticates a caller of anything else.
    pub(super) credentials: ReaderPool,
    /// Of pages of lists.
    pub(super) lists: ReaderPool,
    /// Of all else.
    pub(super) others: ReaderPool,
}

/// The connections for one kind of read.
pub(super) struct ReaderPool {
    pub(super) pool: SqlitePool,
    turns: Arc<Turns>,
    files: Arc<Files>,
    reads: Counter,
}

/// A connection for one read.
pub(super) struct Reader {
    connection: PoolConnection<Sqlite>,
    _turn: Turn,
}

impl Readers {
    pub(super) async fn close(&self) {
        for readers in [&self.revocations, &self.credentials, &self.lists, &self.others] {
            readers.pool.close().await;
        }
    }
}

impl ReaderPool {
    /// A pool with these turns; `name` is its label in the metrics.
    pub(super) fn new(pool: SqlitePool, turns: Arc<Turns>, files: Arc<Files>, name: &'static str) -> Self {
        Self {
            pool,
            turns,
            files,
            reads: counter!("claviger_store_reads_total", "reader" => name),
        }
    }

    async fn take(&self, tenant: TenantId) -> Result<Reader, StoreError> {
        let turn = self.turns.take(tenant, Priority::Ordinary).await?;
        let connection = match self.pool.try_acquire() {
            Some(connection) => connection,
            // A new connection would read other files.
            None => match self.files.check() {
                Ok(()) => self.pool.acquire().await?,
                Err(lost) => self.given_back().await.ok_or(lost)?,
            },
        };
        self.reads.increment(1);
        Ok(Reader { connection, _turn: turn })
    }

    /// Waits for a connection that an earlier read still has: sqlx gives one back in a task of its own.
    async fn given_back(&self) -> Option<PoolConnection<Sqlite>> {
        let end = Instant::now() + GIVEN_BACK_WITHIN;
        while self.pool.size() > 0 && Instant::now() < end {
            tokio::time::sleep(LOOK_AGAIN).await;
            if let Some(connection) = self.pool.try_acquire() {
                return Some(connection);
            }
        }
        None
    }
}

impl Deref for Reader {
    type Target = SqliteConnection;

    fn deref(&self) -> &SqliteConnection {
        &self.connection
    }
}

impl DerefMut for Reader {
    fn deref_mut(&mut self) -> &mut SqliteConnection {
        &mut self.connection
    }
}

impl SqliteStore {
    /// A connection for a read of this tenant.
    ///
    /// # Errors
    /// [`StoreError::Busy`].
    pub(super) async fn reader(&self, tenant: TenantId) -> Result<Reader, StoreError> {
        match urgent::priority() {
            Priority::Revocation => self.readers.revocations.take(tenant).await,
            Priority::Ordinary => self.readers.others.take(tenant).await,
        }
    }

    /// A connection for a page of this tenant's.
    ///
    /// # Errors
    /// [`StoreError::Busy`].
    pub(super) async fn list_reader(&self, tenant: TenantId) -> Result<Reader, StoreError> {
        self.readers.lists.take(tenant).await
    }

    /// A connection for a read that authenticates a caller, whose tenant and request are not known yet.
    ///
    /// # Errors
    /// [`StoreError::Busy`].
    pub(super) async fn credential_reader(&self) -> Result<Reader, StoreError> {
        let readers = match urgent::priority() {
            Priority::Revocation => &self.readers.revocations,
            Priority::Ordinary => &self.readers.credentials,
        };
        readers.take(TenantId::INSTALLATION).await
    }

    /// A connection for the gateway's own reads, such as that of its readiness.
    ///
    /// # Errors
    /// [`StoreError::Busy`].
    pub(super) async fn own_reader(&self) -> Result<Reader, StoreError> {
        self.readers.revocations.take(TenantId::INSTALLATION).await
    }

    /// Takes the writer and SQLite's write lock, so that what is read inside the transaction
    /// stays true until its end. The transaction ends before the turn does.
    ///
    /// # Errors
    /// [`StoreError::FilesLost`], [`StoreError::Busy`], the database's.
    pub(super) async fn begin_writing(
        &self,
        tenant: TenantId,
        priority: Priority,
    ) -> Result<(Turn, Transaction<'static, Sqlite>), StoreError> {
        let turn = self.writing.take(tenant, priority).await?;
        self.files.check()?;
        Ok((turn, self.begin_transaction().await?))
    }

    /// Runs a statement that deletes [`PRUNED`] rows at most until it deletes fewer, each time in a turn, so
    /// that it never keeps the writer long.
    ///
    /// # Errors
    /// The database's.
    pub(super) async fn prune<'q>(&self, delete: impl Fn() -> Query<'q, Sqlite, SqliteArguments> + Send) -> Result<(), StoreError> {
        loop {
            let turn = self.writing.take(TenantId::INSTALLATION, Priority::Ordinary).await?;
            let deleted = delete().execute(&self.writer).await?;
            drop(turn);
            if deleted.rows_affected() < u64::from(PRUNED) {
                return Ok(());
            }
        }
    }

    async fn begin_transaction(&self) -> Result<Transaction<'static, Sqlite>, StoreError> {
        match self.writer.begin_with(BEGIN).await {
            // Where the disk is full or fails, SQLite ends a transaction by itself. sqlx still
            // counts it as open and would refuse every later one on this connection.
            Err(sqlx::Error::InvalidSavePointStatement | sqlx::Error::WorkerCrashed) => {
                tracing::warn!("the store's writing connection is opened again after a failed change");
                if let Err(error) = self.writer.acquire().await?.close().await {
                    tracing::warn!(%error, "the old connection did not close cleanly");
                }
                let begun = self.writer.begin_with(BEGIN).await?;
                self.files.note_log().map_err(|error| StoreError::Database(Box::new(error)))?;
                Ok(begun)
            }
            begun => Ok(begun?),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, reason = "a test stops where an expectation fails")]
mod tests {
    use std::pin::pin;

    use super::*;
    use crate::store::sealing::RootKey;

    #[tokio::test]
    async fn a_read_waits_for_an_open_connection_while_the_files_are_lost() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("claviger.db");
        let root = RootKey::generate_to_file(&folder.path().join("root-key")).unwrap();
        let store = SqliteStore::create(&file, root, &Node::random()).await.unwrap();
        let reader = store.reader(TenantId::INSTALLATION).await.unwrap();
        std::fs::rename(&file, folder.path().join("away")).unwrap();
        let mut next = pin!(store.reader(TenantId::INSTALLATION));
        tokio::select! {
            biased;
            _ = &mut next => panic!("it did not wait"),
            () = std::future::ready(()) => drop(reader),
        }
        next.await.unwrap();
    }
}
