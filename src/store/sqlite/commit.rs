//! Commits, and what a failed one leaves in the write-ahead log.
//!
//! SQLite writes a transaction to the log and then syncs it. If the sync fails, the commit fails, but
//! the log's file contains the whole transaction, and the next process that opens it after a crash
//! takes it for committed (<https://www.sqlite.org/walformat.html>). The next commit is written to the
//! same place, so a commit that changes nothing overwrites it.

use std::time::Duration;

use sqlx::{Executor, Sqlite, SqlitePool, Transaction};

use super::files::Files;
use super::open::APPLICATION_ID;
use crate::store::StoreError;
use crate::store::transaction::Priority;

/// How often a failed commit is overwritten before the gateway stops.
const ATTEMPTS: u32 = 3;
/// The pause before another attempt.
const PAUSE: Duration = Duration::from_millis(100);
/// SQLite's codes of failed syncs, of a file and of its folder (<https://www.sqlite.org/rescode.html#ioerr_fsync>).
/// After a failed write, the log's file does not have the whole transaction.
const NOT_SYNCED: [&str; 2] = ["1034", "1290"];

/// Commits a transaction of the writer. The caller has the turn at the writer.
///
/// Ends the process where the log's file may keep a change that failed: it is answered by nobody, and
/// the next start finds out whether it was committed. A revocation is in force whatever became of its
/// commit, so it is answered.
///
/// # Errors
/// [`StoreError::CommitFailed`] where a crash before the return could have kept the change, and where the files
/// were removed or replaced meanwhile; the database's other errors.
pub(super) async fn commit(
    writer: &SqlitePool,
    files: &Files,
    transaction: Transaction<'_, Sqlite>,
    priority: Priority,
) -> Result<(), StoreError> {
    let Err(error) = transaction.commit().await else {
        // What was committed to other files than those at the paths, the next start does not find.
        return files.check().map_err(|lost| StoreError::CommitFailed(Box::new(lost)));
    };
    if !is_not_synced(&error) {
        return Err(error.into());
    }
    tracing::error!(%error, "the store could not sync a change");
    let overwritten = overwrite(writer).await;
    match (priority, overwritten) {
        (_, Ok(())) | (Priority::Revocation, Err(_)) => Err(StoreError::CommitFailed(Box::new(error))),
        (Priority::Ordinary, Err(error)) => {
            tracing::error!(
                %error,
                "the gateway stops: the store's file may keep a change that failed. Check the disk of the data folder, then start again"
            );
            std::process::abort()
        }
    }
}

fn is_not_synced(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
    code.is_some_and(|code| NOT_SYNCED.contains(&&*code))
}

/// Commits a change that changes nothing: the file's header is written as it is.
async fn overwrite(writer: &SqlitePool) -> Result<(), sqlx::Error> {
    let mut attempt = 1;
    loop {
        let statement = sqlx::AssertSqlSafe(format!("PRAGMA application_id = {APPLICATION_ID}"));
        // SQLite has ended the failed transaction, so the statement is a transaction of its own.
        let written = match writer.acquire().await {
            Ok(mut connection) => connection.execute(sqlx::raw_sql(statement)).await.map(drop),
            Err(error) => Err(error),
        };
        match written {
            Err(error) if attempt < ATTEMPTS => tracing::error!(%error, "the store could not overwrite a change that failed"),
            written => return written,
        }
        attempt += 1;
        tokio::time::sleep(PAUSE).await;
    }
}
