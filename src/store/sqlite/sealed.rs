//! Sealed values: the embedded provider's keys, and the secrets of other objects.

use async_trait::async_trait;
use claviger_provider::{Error, ErrorKind, SealedName, SealedStore, Secret, TenantId};
use sqlx::{SqliteConnection, query};

use super::SqliteStore;
use super::commit::commit;
use super::row::{Columns, bytes};
use crate::store::StoreError;
use crate::store::sealing::{Place, SealError, Sealer};
use crate::store::transaction::{Existing, Priority};

#[async_trait]
impl SealedStore for SqliteStore {
    async fn get(&self, name: &SealedName) -> Result<Option<Secret>, Error> {
        get(self, name).await.map_err(provider_error)
    }

    async fn columns(&self, tenant: TenantId, row: &str) -> Result<Vec<String>, Error> {
        columns(self, tenant, row).await.map_err(provider_error)
    }

    async fn insert(&self, values: Vec<(SealedName, Secret)>) -> Result<(), Error> {
        insert(self, &values).await.map_err(provider_error)
    }

    async fn remove_row(&self, tenant: TenantId, row: &str) -> Result<(), Error> {
        remove_row(self, tenant, row).await.map_err(provider_error)
    }
}

impl From<SealError> for StoreError {
    fn from(SealError: SealError) -> Self {
        Self::Damaged("a sealed value")
    }
}

fn place(name: &SealedName) -> Place<'_> {
    Place {
        table: "sealed_values",
        tenant: name.tenant,
        row: &name.row,
        column: &name.column,
    }
}

/// Seals and writes values.
pub(super) async fn put(
    connection: &mut SqliteConnection,
    sealer: &Sealer,
    values: &[(SealedName, Secret)],
    existing: Existing,
) -> Result<(), StoreError> {
    let statement = match existing {
        Existing::Refuse => "INSERT INTO sealed_values (tenant, row_id, column_name, value) VALUES (?1, ?2, ?3, ?4)",
        Existing::Replace => {
            "INSERT INTO sealed_values (tenant, row_id, column_name, value) VALUES (?1, ?2, ?3, ?4) \
             ON CONFLICT (tenant, row_id, column_name) DO UPDATE SET value = excluded.value"
        }
    };
    for (name, secret) in values {
        query(statement)
            .bind(bytes(&name.tenant))
            .bind(&name.row)
            .bind(&name.column)
            .bind(sealer.seal(place(name), secret)?)
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}

/// Deletes every value of a row.
pub(super) async fn remove(connection: &mut SqliteConnection, tenant: TenantId, row: &str) -> Result<(), StoreError> {
    query("DELETE FROM sealed_values WHERE tenant = ?1 AND row_id = ?2")
        .bind(bytes(&tenant))
        .bind(row)
        .execute(connection)
        .await?;
    Ok(())
}

async fn get(store: &SqliteStore, name: &SealedName) -> Result<Option<Secret>, StoreError> {
    let row = query("SELECT value FROM sealed_values WHERE tenant = ?1 AND row_id = ?2 AND column_name = ?3")
        .bind(bytes(&name.tenant))
        .bind(&name.row)
        .bind(&name.column)
        .fetch_optional(&mut *store.reader(name.tenant).await?)
        .await?;
    row.map(|row| Ok(store.sealer.open(place(name), row.value("value")?)?)).transpose()
}

/// Opens one value that was read with its column.
pub(super) fn open(store: &SqliteStore, tenant: TenantId, row: &str, column: &str, value: &[u8]) -> Result<Secret, StoreError> {
    let place = Place {
        table: "sealed_values",
        tenant,
        row,
        column,
    };
    Ok(store.sealer.open(place, value)?)
}

pub(super) async fn row(store: &SqliteStore, tenant: TenantId, row: &str) -> Result<Vec<(String, Secret)>, StoreError> {
    query("SELECT column_name, value FROM sealed_values WHERE tenant = ?1 AND row_id = ?2 ORDER BY column_name")
        .bind(bytes(&tenant))
        .bind(row)
        .fetch_all(&mut *store.reader(tenant).await?)
        .await?
        .iter()
        .map(|read| {
            let column: String = read.value("column_name")?;
            let secret = open(store, tenant, row, &column, read.value("value")?)?;
            Ok((column, secret))
        })
        .collect()
}

async fn columns(store: &SqliteStore, tenant: TenantId, row: &str) -> Result<Vec<String>, StoreError> {
    query("SELECT column_name FROM sealed_values WHERE tenant = ?1 AND row_id = ?2 ORDER BY column_name")
        .bind(bytes(&tenant))
        .bind(row)
        .fetch_all(&mut *store.reader(tenant).await?)
        .await?
        .iter()
        .map(|row| row.value("column_name"))
        .collect()
}

async fn insert(store: &SqliteStore, values: &[(SealedName, Secret)]) -> Result<(), StoreError> {
    let Some(tenant) = values.first().map(|(name, _)| name.tenant) else {
        return Ok(());
    };
    let (_turn, mut transaction) = store.begin_writing(tenant, Priority::Ordinary).await?;
    put(&mut transaction, &store.sealer, values, Existing::Refuse).await?;
    commit(&store.writer, &store.files, transaction, Priority::Ordinary).await
}

async fn remove_row(store: &SqliteStore, tenant: TenantId, row: &str) -> Result<(), StoreError> {
    let (_turn, mut transaction) = store.begin_writing(tenant, Priority::Ordinary).await?;
    remove(&mut transaction, tenant, row).await?;
    commit(&store.writer, &store.files, transaction, Priority::Ordinary).await
}

/// Converts a store's error to one of the provider contract.
fn provider_error(error: StoreError) -> Error {
    let kind = match &error {
        StoreError::AlreadyExists => ErrorKind::Conflict,
        StoreError::Busy | StoreError::FilesLost => ErrorKind::UpstreamUnavailable,
        StoreError::NotFound
        | StoreError::ProviderKeyTaken
        | StoreError::ClaimedElsewhere
        | StoreError::InUse(_)
        | StoreError::Precondition
        | StoreError::IdempotencyTaken
        | StoreError::CredentialEnded
        | StoreError::OverQuota(..)
        | StoreError::TenantSuspended
        | StoreError::Damaged(_)
        | StoreError::CommitFailed(_)
        | StoreError::Database(_) => ErrorKind::Internal,
    };
    Error::new(kind, "the store's sealed values").source(error)
}
