//! The store in one SQLite file, for a single node: SQL, and nothing of what a change means. Made
//! by `boot`; everything else knows the traits only.
//!
//! One connection writes, a few read. The log is written ahead (WAL) and synced at each commit.
//! The schema is in `src/store/migrations`. [`reads`] and [`transaction`] implement the traits;
//! the files beside them have the statements of one table each.

#[macro_use]
mod columns;
mod connections;
mod keys;
mod open;
mod principals;
mod reads;
mod row;
mod sealed;
mod tenants;
mod tokens;
mod transaction;
mod versions;

use std::sync::Arc;

use async_trait::async_trait;
use claviger_provider::{Error, SealedName, SealedStore, Secret, TenantId};
use sqlx::{Sqlite, SqlitePool, Transaction};

use super::Installation;
use super::StoreError;
use super::sealing::Sealer;

pub use open::OpenError;

/// SQLite's write lock is taken at once, not at the first write.
const BEGIN: &str = "BEGIN IMMEDIATE";

/// A store in one SQLite file.
pub struct SqliteStore {
    /// One connection, so that changes queue here and not inside SQLite.
    writer: SqlitePool,
    /// Connections that cannot write.
    readers: SqlitePool,
    sealer: Arc<Sealer>,
    installation: Installation,
}

impl SqliteStore {
    /// Takes the writer and SQLite's write lock, so that what is read inside the transaction
    /// stays true until its end.
    async fn begin_writing(&self) -> Result<Transaction<'static, Sqlite>, StoreError> {
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

#[async_trait]
impl SealedStore for SqliteStore {
    async fn get(&self, name: &SealedName) -> Result<Option<Secret>, Error> {
        sealed::get(self, name).await.map_err(sealed::provider_error)
    }

    async fn columns(&self, tenant: TenantId, row: &str) -> Result<Vec<String>, Error> {
        sealed::columns(self, tenant, row).await.map_err(sealed::provider_error)
    }

    async fn insert(&self, values: Vec<(SealedName, Secret)>) -> Result<(), Error> {
        sealed::insert(self, &values).await.map_err(sealed::provider_error)
    }

    async fn remove_row(&self, tenant: TenantId, row: &str) -> Result<(), Error> {
        sealed::remove_row(self, tenant, row).await.map_err(sealed::provider_error)
    }
}
