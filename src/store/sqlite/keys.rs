//! Logical keys and their labels. Their versions are in [`super::versions`].

use claviger_provider::{KeyId, TenantId};
use sqlx::sqlite::SqliteRow;
use sqlx::{QueryBuilder, Sqlite, SqliteConnection, SqliteExecutor, query};

use super::row::{self, Columns, bytes, integer, one_row};
use super::{SqliteStore, versions};
use crate::store::StoreError;
use crate::store::model::{Key, KeyFilter, KeySelector, KeySnapshot, Page};
use crate::store::rules::Holder;

/// The columns of a key, and the tables that they are read from. `$from` names `keys k`; the
/// primary version's provider key is read from its own row.
macro_rules! select {
    ($from:literal, $rest:literal) => {
        select!($from, "", "", $rest)
    };
    ($from:literal, $columns:literal, $joined:literal, $rest:literal) => {
        concat!(
            "SELECT k.tenant, k.id, k.name, k.connection, k.provider, v.provider_key, k.spec, k.disabled, k.allow_export, \
             k.primary_version, k.rotating, k.cache, k.managed_by, k.epoch, k.lifts, k.revision, k.created, k.updated, \
             (SELECT json_group_object(l.label, l.value) FROM key_labels l WHERE l.tenant = k.tenant AND l.key = k.id) AS labels",
            $columns,
            " FROM ",
            $from,
            " CROSS JOIN key_versions v ON v.tenant = k.tenant AND v.key = k.id AND v.number = k.primary_version ",
            $joined,
            $rest
        )
    };
}

/// A key with all of its versions, one row for each.
macro_rules! select_snapshot {
    ($rest:literal) => {
        select!(
            "keys k",
            ", a.number AS version_number, a.provider_key AS version_provider_key, a.provider_version AS version_provider_version, \
             a.enabled AS version_enabled, a.created AS version_created",
            "CROSS JOIN key_versions a ON a.tenant = k.tenant AND a.key = k.id ",
            $rest
        )
    };
}

fn read(row: &SqliteRow) -> Result<Key, StoreError> {
    Ok(Key {
        id: row.id("id")?,
        tenant: row.id("tenant")?,
        name: row.value("name")?,
        connection: row.id("connection")?,
        provider: row.provider("provider")?,
        provider_key: row.value("provider_key")?,
        spec: row.word("spec")?,
        disabled: row.value("disabled")?,
        allow_export: row.value("allow_export")?,
        primary_version: row.number("primary_version")?,
        rotating: row.value("rotating")?,
        cache: row.json("cache")?,
        labels: row.json("labels")?,
        managed_by: row.value("managed_by")?,
        epoch: row.number("epoch")?,
        lifts: row.number("lifts")?,
        revision: row.number("revision")?,
        created: row.value("created")?,
        updated: row.value("updated")?,
    })
}

pub(super) async fn by_name(store: &SqliteStore, tenant: TenantId, name: &str) -> Result<Key, StoreError> {
    let statement = query(select!("keys k", "WHERE k.tenant = ?1 AND k.name = ?2 AND k.detached = 0"));
    read(&statement.bind(bytes(&tenant)).bind(name).fetch_one(&store.readers).await?)
}

pub(super) async fn by_id(executor: impl SqliteExecutor<'_>, tenant: TenantId, id: KeyId) -> Result<Key, StoreError> {
    let statement = query(select!("keys k", "WHERE k.tenant = ?1 AND k.id = ?2 AND k.detached = 0"));
    read(&statement.bind(bytes(&tenant)).bind(bytes(&id)).fetch_one(executor).await?)
}

pub(super) async fn snapshot(store: &SqliteStore, tenant: TenantId, key: KeySelector<'_>) -> Result<KeySnapshot, StoreError> {
    let statement = match key {
        KeySelector::Id(_) => query(select_snapshot!(
            "WHERE k.tenant = ?1 AND k.id = ?2 AND k.detached = 0 ORDER BY a.number"
        )),
        KeySelector::Name(_) => query(select_snapshot!(
            "WHERE k.tenant = ?1 AND k.name = ?2 AND k.detached = 0 ORDER BY a.number"
        )),
    };
    let statement = statement.bind(bytes(&tenant));
    let statement = match &key {
        KeySelector::Id(id) => statement.bind(bytes(id)),
        KeySelector::Name(name) => statement.bind(*name),
    };
    let rows = statement.fetch_all(&store.readers).await?;
    Ok(KeySnapshot {
        key: read(rows.first().ok_or(StoreError::NotFound)?)?,
        versions: rows.iter().map(versions::read_joined).collect::<Result<_, _>>()?,
    })
}

pub(super) async fn holder(connection: &mut SqliteConnection, tenant: TenantId, id: KeyId) -> Result<Option<Holder>, StoreError> {
    let row = query("SELECT detached, provider, epoch, lifts, revision FROM keys WHERE tenant = ?1 AND id = ?2")
        .bind(bytes(&tenant))
        .bind(bytes(&id))
        .fetch_optional(connection)
        .await?;
    row.map(|row| {
        Ok(Holder {
            detached: row.value("detached")?,
            provider: row.provider("provider")?,
            epoch: row.number("epoch")?,
            lifts: row.number("lifts")?,
            revision: row.number("revision")?,
        })
    })
    .transpose()
}

/// Each combination of filters names the index that ends in the list's order, so that a
/// page costs the same wherever it stands; a statement that cannot use it fails. A label's
/// keys are one range, of which other filters show a part.
fn list_statement(tenant: &TenantId, filter: &KeyFilter, page: &Page) -> QueryBuilder<Sqlite> {
    let select = match (&filter.label, filter.connection, filter.disabled) {
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
    let after = page.after.as_deref().unwrap_or_default();
    statement.push("WHERE k.detached = 0");
    let order = match &filter.label {
        Some((label, value)) => {
            statement.push(" AND f.tenant = ").push_bind(bytes(tenant));
            statement
                .push(" AND f.label = ")
                .push_bind(label)
                .push(" AND f.value = ")
                .push_bind(value);
            "f.key_name"
        }
        None => {
            statement.push(" AND k.tenant = ").push_bind(bytes(tenant));
            "k.name"
        }
    };
    if let Some(connection) = &filter.connection {
        statement.push(" AND k.connection = ").push_bind(bytes(connection));
    }
    if let Some(disabled) = filter.disabled {
        statement.push(" AND k.disabled = ").push_bind(disabled);
    }
    statement.push(" AND ").push(order).push(" > ").push_bind(after);
    statement.push(" ORDER BY ").push(order).push(" LIMIT ").push_bind(page.size);
    statement
}

pub(super) async fn list(store: &SqliteStore, tenant: TenantId, filter: &KeyFilter, page: &Page) -> Result<Vec<Key>, StoreError> {
    list_statement(&tenant, filter, page)
        .build()
        .fetch_all(&store.readers)
        .await?
        .iter()
        .map(read)
        .collect()
}

/// Writes every column of an attached key.
async fn write(connection: &mut SqliteConnection, statement: &'static str, key: &Key) -> Result<(), StoreError> {
    let written = query(statement)
        .bind(bytes(&key.tenant))
        .bind(bytes(&key.id))
        .bind(&key.name)
        .bind(bytes(&key.connection))
        .bind(row::provider(key.provider))
        .bind(key.spec.as_str())
        .bind(key.disabled)
        .bind(key.allow_export)
        .bind(key.primary_version)
        .bind(key.rotating)
        .bind(row::json(&key.cache)?)
        .bind(&key.managed_by)
        .bind(integer(key.epoch)?)
        .bind(integer(key.revision)?)
        .bind(key.created)
        .bind(key.updated)
        .bind(integer(key.lifts)?)
        .execute(connection)
        .await?;
    one_row(&written)
}

pub(super) async fn insert(connection: &mut SqliteConnection, key: &Key) -> Result<(), StoreError> {
    write(
        connection,
        "INSERT INTO keys (tenant, id, name, connection, provider, spec, disabled, detached, allow_export, primary_version, rotating, \
         cache, managed_by, epoch, revision, created, updated, lifts) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, 0, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17)",
        key,
    )
    .await
}

pub(super) async fn take_over(connection: &mut SqliteConnection, key: &Key) -> Result<(), StoreError> {
    write(
        connection,
        "UPDATE keys SET name = ?3, connection = ?4, provider = ?5, spec = ?6, disabled = ?7, detached = 0, allow_export = ?8, \
         primary_version = ?9, rotating = ?10, cache = ?11, managed_by = ?12, epoch = ?13, revision = ?14, created = ?15, updated = ?16, lifts = ?17 \
         WHERE tenant = ?1 AND id = ?2 AND detached = 1",
        key,
    )
    .await
}

/// Writes what can change of an attached key, without its labels.
pub(super) async fn update(connection: &mut SqliteConnection, key: &Key) -> Result<(), StoreError> {
    let updated = query(
        "UPDATE keys SET name = ?3, disabled = ?4, primary_version = ?5, cache = ?6, epoch = ?7, revision = ?8, updated = ?9, rotating = ?10, \
         allow_export = ?11, lifts = ?12 \
         WHERE tenant = ?1 AND id = ?2 AND detached = 0",
    )
    .bind(bytes(&key.tenant))
    .bind(bytes(&key.id))
    .bind(&key.name)
    .bind(key.disabled)
    .bind(key.primary_version)
    .bind(row::json(&key.cache)?)
    .bind(integer(key.epoch)?)
    .bind(integer(key.revision)?)
    .bind(key.updated)
    .bind(key.rotating)
    .bind(key.allow_export)
    .bind(integer(key.lifts)?)
    .execute(connection)
    .await?;
    one_row(&updated)
}

async fn clear_labels(connection: &mut SqliteConnection, tenant: TenantId, id: KeyId) -> Result<(), StoreError> {
    query("DELETE FROM key_labels WHERE tenant = ?1 AND key = ?2")
        .bind(bytes(&tenant))
        .bind(bytes(&id))
        .execute(connection)
        .await?;
    Ok(())
}

/// Writes a key's labels under its present name.
pub(super) async fn replace_labels(connection: &mut SqliteConnection, key: &Key) -> Result<(), StoreError> {
    clear_labels(connection, key.tenant, key.id).await?;
    for (label, value) in &key.labels {
        query("INSERT INTO key_labels (tenant, key, label, value, key_name) VALUES (?1, ?2, ?3, ?4, ?5)")
            .bind(bytes(&key.tenant))
            .bind(bytes(&key.id))
            .bind(label)
            .bind(value)
            .bind(&key.name)
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}

pub(super) async fn rotating(store: &SqliteStore, most: u32) -> Result<Vec<(TenantId, KeyId)>, StoreError> {
    query(
        "SELECT tenant, id FROM keys INDEXED BY keys_rotating \
         WHERE rotating IS NOT NULL AND detached = 0 ORDER BY rotating LIMIT ?1",
    )
    .bind(most)
    .fetch_all(&store.readers)
    .await?
    .iter()
    .map(|row| Ok((row.id("tenant")?, row.id("id")?)))
    .collect()
}

pub(super) async fn detach(connection: &mut SqliteConnection, key: &Key) -> Result<(), StoreError> {
    let detached =
        query("UPDATE keys SET detached = 1, epoch = ?3, revision = ?4, updated = ?5 WHERE tenant = ?1 AND id = ?2 AND detached = 0")
            .bind(bytes(&key.tenant))
            .bind(bytes(&key.id))
            .bind(integer(key.epoch)?)
            .bind(integer(key.revision)?)
            .bind(key.updated)
            .execute(&mut *connection)
            .await?;
    one_row(&detached)?;
    clear_labels(connection, key.tenant, key.id).await
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use claviger_provider::{ConnectionId, Node};

    use super::*;
    use crate::store::sealing::RootKey;

    async fn plan(store: &SqliteStore, sql: &str) -> Vec<String> {
        // Nothing is bound: the plan does not depend on it, and nothing runs.
        let rows = query(sqlx::AssertSqlSafe(format!("EXPLAIN QUERY PLAN {sql}")))
            .fetch_all(&store.readers)
            .await
            .unwrap();
        rows.iter().map(|row| row.value("detail").unwrap()).collect()
    }

    /// No table is read from end to end, and nothing is sorted: a page costs the same
    /// wherever it stands, and a single read the same however many keys there are.
    #[tokio::test]
    async fn every_read_is_a_range_of_an_index() {
        let folder = tempfile::tempdir().unwrap();
        let root = RootKey::generate_to_file(&folder.path().join("root-key")).unwrap();
        let store = SqliteStore::create(&folder.path().join("claviger.db"), root, &Node::random())
            .await
            .unwrap();
        let mut statements = vec![
            select!("keys k", "WHERE k.tenant = ?1 AND k.name = ?2 AND k.detached = 0").to_owned(),
            select!("keys k", "WHERE k.tenant = ?1 AND k.id = ?2 AND k.detached = 0").to_owned(),
            select_snapshot!("WHERE k.tenant = ?1 AND k.id = ?2 AND k.detached = 0 ORDER BY a.number").to_owned(),
            select_snapshot!("WHERE k.tenant = ?1 AND k.name = ?2 AND k.detached = 0 ORDER BY a.number").to_owned(),
        ];
        let page = Page { after: None, size: 10 };
        for label in [None, Some(("a".to_owned(), "b".to_owned()))] {
            for connection in [None, Some(ConnectionId::random())] {
                for disabled in [None, Some(true)] {
                    let filter = KeyFilter {
                        connection,
                        disabled,
                        label: label.clone(),
                    };
                    statements.push(list_statement(&TenantId::random(), &filter, &page).sql().as_str().to_owned());
                }
            }
        }
        for sql in statements {
            let plan = plan(&store, &sql).await;
            assert!(plan.iter().any(|step| step.starts_with("SEARCH k USING")), "{plan:?}");
            assert!(
                !plan.iter().any(|step| step.contains("SCAN") || step.contains("TEMP B-TREE")),
                "{sql}: {plan:?}"
            );
        }
    }
}
