//! A copy of a store that may be in use.

use std::path::Path;

use claviger_provider::{InstallationId, Node, TenantId};
use sqlx::sqlite::{SqliteJournalMode, SqlitePoolOptions};
use sqlx::{ConnectOptions, Connection, SqliteConnection, query};

use super::open::{OpenError, options};
use super::row::{Columns, bytes};
use super::{SqliteStore, positions, run};
use crate::store::{LastRecord, StoreError};

/// What a copy of a store knows of one node's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreCopy {
    /// The installation.
    pub installation: InstallationId,
    /// The largest position of the log that was applied.
    pub last_applied: Option<u64>,
    /// The last record of the log that was kept.
    pub last_record: Option<LastRecord>,
}

impl SqliteStore {
    /// Name of the file beside a database that belongs to it, and to a copy of it.
    pub const RUN_FILE: &str = run::FILE;

    /// The last record of a node's log, from a store that may be in use.
    ///
    /// # Errors
    /// [`OpenError`]; of the schema, if this release has not opened the store yet.
    pub async fn last_record_beside(path: &Path, node: &Node) -> Result<Option<LastRecord>, OpenError> {
        let read = async {
            let mut connection = options(path).read_only(true).connect().await?;
            let last = positions::last_record(&mut connection, node).await;
            connection.close().await?;
            last
        };
        Self::is_whole(path)?;
        read.await.map_err(|error| OpenError::Store(path.to_owned(), error))
    }

    /// Copies a store that may be in use: its state at one moment, without a log beside it. Changes go on
    /// meanwhile. `to` must be an empty file. The copy is on stable storage when this returns.
    ///
    /// # Errors
    /// [`OpenError`].
    pub async fn copy(path: &Path, to: &Path, node: &Node) -> Result<StoreCopy, OpenError> {
        Self::is_whole(path)?;
        let copied = async {
            let mut connection = options(path).read_only(true).connect().await?;
            let into = to.to_str().ok_or(StoreError::Damaged("a path that is not UTF-8"))?;
            query("VACUUM INTO ?1").bind(into).execute(&mut connection).await?;
            connection.close().await?;
            finish(to, node).await
        };
        copied.await.map_err(|error| OpenError::Store(path.to_owned(), error))
    }

    /// Refuses a store whose log is not its own: reading it would merge them.
    fn is_whole(path: &Path) -> Result<(), OpenError> {
        Ok(run::check(path).map_err(|error| OpenError::Io(path.to_owned(), error))??)
    }
}

/// Makes the copy a store of its own, and reads what it knows.
async fn finish(copy: &Path, node: &Node) -> Result<StoreCopy, StoreError> {
    let options = options(copy).journal_mode(SqliteJournalMode::Delete);
    let pool = SqlitePoolOptions::new().max_connections(1).connect_with(options).await?;
    let run = run::renumber(copy, &pool).await?;
    let known = known(&mut *pool.acquire().await?, node).await;
    pool.close().await;
    std::fs::File::open(copy)
        .and_then(|file| file.sync_all())
        .map_err(|error| StoreError::Database(Box::new(error)))?;
    run.close();
    known
}

async fn known(connection: &mut SqliteConnection, node: &Node) -> Result<StoreCopy, StoreError> {
    let row = query("SELECT id FROM installation WHERE tenant = ?1")
        .bind(bytes(&TenantId::INSTALLATION))
        .fetch_one(&mut *connection)
        .await?;
    Ok(StoreCopy {
        installation: row.id("id")?,
        last_applied: positions::last_applied(connection, node).await?,
        last_record: positions::last_record(connection, node).await?,
    })
}
