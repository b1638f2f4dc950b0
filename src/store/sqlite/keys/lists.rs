//! Lists of keys, page by page.
//!
//! Each list reads one range of an index that is in the list's order, or looks the keys up by
//! their ids. So a page costs the same wherever it starts and however many keys there are.

use std::collections::BTreeSet;

use claviger_provider::{ConnectionId, KeyId, TenantId};
use sqlx::{QueryBuilder, Sqlite, query_scalar};

use super::super::SqliteStore;
use super::super::row::{self, bytes};
use super::{push_only, read, read_detached};
use crate::store::StoreError;
use crate::store::model::{DetachedFilter, DetachedKey, Key, KeyFilter, Page, Rows, Weight};

/// A statement that looks keys up by their ids. The signs before the other columns keep SQLite
/// from the indexes that are in the list's order: it would read all of the tenant's keys.
fn chosen_statement(tenant: &TenantId, only: &BTreeSet<KeyId>, filter: &KeyFilter, page: &Page) -> QueryBuilder<Sqlite> {
    let mut statement = QueryBuilder::<Sqlite>::new(select!("keys k", "WHERE +k.detached IS NULL AND k.tenant = "));
    statement.push_bind(bytes(tenant).to_vec());
    push_only(&mut statement, only);
    if let Some(connection) = &filter.connection {
        statement
            .push(" AND +k.primary_connection = ")
            .push_bind(bytes(connection).to_vec());
    }
    if let Some(state) = filter.state {
        statement.push(" AND +k.state = ").push_bind(state.as_str());
    }
    if let Some((label, value)) = &filter.label {
        statement.push(" AND EXISTS (SELECT 1 FROM key_labels f WHERE f.tenant = k.tenant AND f.key = k.id AND f.label = ");
        statement.push_bind(label.clone()).push(" AND +f.value = ").push_bind(value.clone());
        statement.push(")");
    }
    statement.push(" AND +k.name > ").push_bind(page.after.clone().unwrap_or_default());
    statement.push(" ORDER BY +k.name LIMIT ").push_bind(page.size);
    statement
}

/// Each combination of filters names the index that ends in the list's order; a statement that
/// cannot use it fails. A label's keys are one range, of which other filters match a part:
/// there the page ends with the name `last`.
fn range_statement(tenant: &TenantId, filter: &KeyFilter, page: &Page, last: Option<&str>) -> QueryBuilder<Sqlite> {
    let select = match (&filter.label, filter.connection, filter.state) {
        (Some(_), _, _) => select!(
            "key_labels f INDEXED BY key_labels_by_value CROSS JOIN keys k ON k.tenant = f.tenant AND k.id = f.key",
            ""
        ),
        (None, None, None) => select!("keys k INDEXED BY keys_by_name", ""),
        (None, None, Some(_)) => select!("keys k INDEXED BY keys_by_state", ""),
        (None, Some(_), None) => select!("keys k INDEXED BY keys_by_connection", ""),
        (None, Some(_), Some(_)) => select!("keys k INDEXED BY keys_by_connection_and_state", ""),
    };
    let mut statement = QueryBuilder::<Sqlite>::new(select);
    statement.push("WHERE k.detached IS NULL");
    let order = match &filter.label {
        Some((label, value)) => {
            statement.push(" AND f.tenant = ").push_bind(bytes(tenant).to_vec());
            statement
                .push(" AND f.label = ")
                .push_bind(label.clone())
                .push(" AND f.value = ")
                .push_bind(value.clone());
            "f.key_name"
        }
        None => {
            statement.push(" AND k.tenant = ").push_bind(bytes(tenant).to_vec());
            "k.name"
        }
    };
    if let Some(connection) = &filter.connection {
        statement.push(" AND k.primary_connection = ").push_bind(bytes(connection).to_vec());
    }
    if let Some(state) = filter.state {
        statement.push(" AND k.state = ").push_bind(state.as_str());
    }
    statement
        .push(" AND ")
        .push(order)
        .push(" > ")
        .push_bind(page.after.clone().unwrap_or_default());
    if let Some(last) = last {
        statement.push(" AND ").push(order).push(" <= ").push_bind(last.to_owned());
    }
    statement.push(" ORDER BY ").push(order).push(" LIMIT ").push_bind(page.size);
    statement
}

const LAST_OF_LABEL: &str = "SELECT key_name FROM key_labels INDEXED BY key_labels_by_value \
    WHERE tenant = ?1 AND label = ?2 AND value = ?3 AND key_name > ?4 ORDER BY key_name LIMIT 1 OFFSET ?5";

/// Where a page ends that may pass over rows: the last name that it reads. `None` if it reads to
/// the list's end.
async fn last_read(store: &SqliteStore, tenant: TenantId, filter: &KeyFilter, page: &Page) -> Result<Option<String>, StoreError> {
    let Some((label, value)) = filter.label.as_ref().filter(|_| filter.passes_over_rows()) else {
        return Ok(None);
    };
    let last = query_scalar(LAST_OF_LABEL)
        .bind(bytes(&tenant))
        .bind(label)
        .bind(value)
        .bind(page.after.as_deref().unwrap_or_default())
        .bind(page.max_reads().saturating_sub(1))
        .fetch_optional(&mut *store.list_reader(tenant).await?)
        .await?;
    Ok(last)
}

/// The rows of a page: the next one starts after its last row, or after the last that was read.
fn rows<T: Weight>(items: Vec<T>, page: &Page, last_read: Option<String>, position: impl Fn(&T) -> String) -> Rows<T> {
    let next = match items.last() {
        Some(last) if page.is_full(&items) => Some(position(last)),
        Some(_) | None => last_read,
    };
    Rows { items, next }
}

/// A tenant's attached keys, by name.
pub(in crate::store::sqlite) async fn attached(
    store: &SqliteStore,
    tenant: TenantId,
    filter: &KeyFilter,
    page: &Page,
) -> Result<Rows<Key>, StoreError> {
    let last_read = last_read(store, tenant, filter, page).await?;
    let mut statement = match &filter.only {
        Some(only) => chosen_statement(&tenant, only, filter, page),
        None => range_statement(&tenant, filter, page, last_read.as_deref()),
    };
    // As many texts as there are numbers of ids would fill the cache of statements.
    let statement = statement.build().persistent(filter.only.is_none());
    let keys = row::page(statement.fetch(&mut *store.list_reader(tenant).await?), read).await?;
    Ok(rows(keys, page, last_read, |key: &Key| key.name.clone()))
}

const LAST_DETACHED: &str = "SELECT k.id FROM keys k INDEXED BY keys_detached \
    WHERE k.tenant = ?1 AND k.detached IS NOT NULL AND k.id > ?2 ORDER BY k.id LIMIT 1 OFFSET ?3";

/// Detached keys in the order of their ids, which the index and the primary key have alike. With a
/// connection the page ends with the id `last`.
fn detached_statement(tenant: &TenantId, filter: &DetachedFilter, page: &Page, last: Option<&[u8]>) -> QueryBuilder<Sqlite> {
    // An id that does not parse is before every other.
    let after = page.after.as_deref().and_then(|after| after.parse::<KeyId>().ok());
    let mut statement = QueryBuilder::<Sqlite>::new(match filter.only {
        Some(_) => select!("keys k", "WHERE k.detached IS NOT NULL AND k.tenant = "),
        None => select!("keys k INDEXED BY keys_detached", "WHERE k.detached IS NOT NULL AND k.tenant = "),
    });
    statement.push_bind(bytes(tenant).to_vec());
    let after = after.as_ref().map(bytes).unwrap_or_default();
    match &filter.only {
        Some(only) => {
            push_only(&mut statement, only);
            statement.push(" AND +k.id > ").push_bind(after.to_vec());
        }
        None => {
            statement.push(" AND k.id > ").push_bind(after.to_vec());
        }
    }
    if let Some(connection) = &filter.connection {
        statement.push(" AND k.primary_connection = ").push_bind(bytes(connection).to_vec());
    }
    if let Some(last) = last {
        statement.push(" AND k.id <= ").push_bind(last.to_vec());
    }
    statement.push(" ORDER BY k.id LIMIT ").push_bind(page.size);
    statement
}

async fn last_detached_read(
    store: &SqliteStore,
    tenant: TenantId,
    connection: Option<ConnectionId>,
    page: &Page,
) -> Result<Option<KeyId>, StoreError> {
    if connection.is_none() {
        return Ok(None);
    }
    let after = page.after.as_deref().and_then(|after| after.parse::<KeyId>().ok());
    let last: Option<Vec<u8>> = query_scalar(LAST_DETACHED)
        .bind(bytes(&tenant))
        .bind(after.as_ref().map(bytes).unwrap_or_default())
        .bind(page.max_reads().saturating_sub(1))
        .fetch_optional(&mut *store.list_reader(tenant).await?)
        .await?;
    last.map(|id| KeyId::try_from(id.as_slice()).map_err(|_| StoreError::Damaged("an id")))
        .transpose()
}

/// A tenant's detached keys, by id.
pub(in crate::store::sqlite) async fn detached(
    store: &SqliteStore,
    tenant: TenantId,
    filter: &DetachedFilter,
    page: &Page,
) -> Result<Rows<DetachedKey>, StoreError> {
    let last_read = match filter.only {
        Some(_) => None,
        None => last_detached_read(store, tenant, filter.connection, page).await?,
    };
    let mut statement = detached_statement(&tenant, filter, page, last_read.as_ref().map(bytes));
    let statement = statement.build().persistent(filter.only.is_none());
    let keys = row::page(statement.fetch(&mut *store.list_reader(tenant).await?), read_detached).await?;
    let last_read = last_read.map(|id| id.to_string());
    Ok(rows(keys, page, last_read, |detached: &DetachedKey| detached.key.id.to_string()))
}

#[cfg(test)]
mod tests;
