//! Converts SQLite's values to ours and back. A value that does not fit is reported as damage.

use claviger_provider::{Id, ProviderKind};
use futures::{Stream, TryStreamExt};
use sqlx::sqlite::{SqliteQueryResult, SqliteRow};
use sqlx::{ColumnIndex, Decode, Row, Sqlite, Type};

use crate::store::StoreError;
use crate::store::model::{Page, Weight};

impl From<sqlx::Error> for StoreError {
    /// Of violated constraints, a unique one means that the name or id is taken, and a foreign key
    /// that the referenced row does not exist.
    fn from(error: sqlx::Error) -> Self {
        match &error {
            sqlx::Error::RowNotFound => Self::NotFound,
            sqlx::Error::PoolTimedOut => Self::Busy,
            sqlx::Error::ColumnDecode { .. } => Self::Damaged("a column's type"),
            sqlx::Error::Database(cause) if cause.is_unique_violation() => Self::AlreadyExists,
            sqlx::Error::Database(cause) if cause.is_foreign_key_violation() => Self::NotFound,
            _ => Self::Database(Box::new(error)),
        }
    }
}

/// Converts a count, a position or an epoch: SQLite's integers end at 2^63.
pub(super) fn integer(value: u64) -> Result<i64, StoreError> {
    i64::try_from(value).map_err(|_| StoreError::Damaged("a number beyond 2^63"))
}

/// A provider's code in a column.
pub(super) fn provider(kind: ProviderKind) -> i64 {
    // At most 8: the discriminants of a u8.
    i64::from(kind as u8)
}

/// An id's bytes, to bind.
pub(super) fn bytes(id: &impl Id) -> &[u8] {
    id.bytes().as_slice()
}

/// Reads columns as the types of the model.
pub(super) trait Columns {
    fn value<'r, T: Decode<'r, Sqlite> + Type<Sqlite>>(&'r self, column: &str) -> Result<T, StoreError>;

    fn id<T: for<'a> TryFrom<&'a [u8]>>(&self, column: &str) -> Result<T, StoreError> {
        T::try_from(self.value::<&[u8]>(column)?).map_err(|_| StoreError::Damaged("an id"))
    }

    fn optional_id<T: for<'a> TryFrom<&'a [u8]>>(&self, column: &str) -> Result<Option<T>, StoreError> {
        let bytes = self.value::<Option<&[u8]>>(column)?;
        bytes
            .map(|bytes| T::try_from(bytes).map_err(|_| StoreError::Damaged("an id")))
            .transpose()
    }

    fn number<T: TryFrom<i64>>(&self, column: &str) -> Result<T, StoreError> {
        T::try_from(self.value(column)?).map_err(|_| StoreError::Damaged("a number"))
    }

    fn word<T: std::str::FromStr>(&self, column: &str) -> Result<T, StoreError> {
        self.value::<&str>(column)?.parse().map_err(|_| StoreError::Damaged("a word"))
    }

    fn json<T: serde::de::DeserializeOwned>(&self, column: &str) -> Result<T, StoreError> {
        serde_json::from_str(self.value(column)?).map_err(|_| StoreError::Damaged("a column of JSON"))
    }

    fn provider(&self, column: &str) -> Result<ProviderKind, StoreError> {
        ProviderKind::from_code(self.number(column)?).ok_or(StoreError::Damaged("a provider's number"))
    }

    fn hash(&self, column: &str) -> Result<[u8; 32], StoreError> {
        self.value::<&[u8]>(column)?.try_into().map_err(|_| StoreError::Damaged("a hash"))
    }
}

impl Columns for SqliteRow
where
    for<'a> &'a str: ColumnIndex<SqliteRow>,
{
    fn value<'r, T: Decode<'r, Sqlite> + Type<Sqlite>>(&'r self, column: &str) -> Result<T, StoreError> {
        Ok(self.try_get(column)?)
    }
}

/// Reads the rows of a page, of which there are no more than its size, until they have [`Page::BYTES`].
pub(super) async fn page<T: Weight>(
    mut rows: impl Stream<Item = Result<SqliteRow, sqlx::Error>> + Unpin,
    read: impl Fn(&SqliteRow) -> Result<T, StoreError>,
) -> Result<Vec<T>, StoreError> {
    let mut items = Vec::new();
    let mut bytes = 0;
    while bytes < Page::BYTES
        && let Some(row) = rows.try_next().await?
    {
        let item = read(&row)?;
        bytes += item.weight();
        items.push(item);
    }
    Ok(items)
}

/// `NotFound` when a statement on one row found none.
pub(super) fn one_row(result: &SqliteQueryResult) -> Result<(), StoreError> {
    match result.rows_affected() {
        0 => Err(StoreError::NotFound),
        _ => Ok(()),
    }
}

/// As JSON text, to bind.
pub(super) fn json(value: &impl serde::Serialize) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|_| StoreError::Damaged("a value that is no JSON"))
}
