//! Logical keys and their labels. Their versions are in [`super::versions`].

use claviger_provider::{ConnectionId, KeyId, TenantId};
use sqlx::sqlite::SqliteRow;
use sqlx::{QueryBuilder, Sqlite, SqliteConnection, SqliteExecutor, query};

use super::row::{self, Columns, bytes, integer, one_row};
use super::{SqliteStore, versions};
use crate::store::StoreError;
use crate::store::model::{DetachedKey, Holder, Key, KeyFilter, KeySelector, KeySnapshot, KeyState, Page};

/// The columns of a key with those of a version, and the tables that they are read from. `$from`
/// names `keys k`, and `$version` restricts the versions.
macro_rules! select_with {
    ($from:literal, $version:literal, $rest:literal) => {
        concat!(
            "SELECT k.tenant, k.id, k.name, k.state, k.compromised_since, k.needs_restore, k.allow_export, k.primary_version, k.rotating, \
             k.cache, k.managed_by, k.detached, k.epoch, k.lifts, k.revision, k.created, k.updated, \
             (SELECT json_group_object(l.label, l.value) FROM key_labels l WHERE l.tenant = k.tenant AND l.key = k.id) AS labels, ",
            version_columns!(),
            " FROM ",
            $from,
            " CROSS JOIN key_versions v ON v.tenant = k.tenant AND v.key = k.id ",
            $version,
            " LEFT JOIN connections c ON c.tenant = v.tenant AND c.id = v.connection ",
            $rest
        )
    };
}

/// Keys, each with its primary version.
macro_rules! select {
    ($from:literal, $rest:literal) => {
        select_with!($from, "AND v.number = k.primary_version", $rest)
    };
}

/// A key, one row for each of its versions.
macro_rules! select_snapshot {
    ($rest:literal) => {
        select_with!("keys k", "", $rest)
    };
}

/// A key, from its row with the primary version.
fn read(row: &SqliteRow) -> Result<Key, StoreError> {
    Ok(Key {
        id: row.id("id")?,
        tenant: row.id("tenant")?,
        name: row.value("name")?,
        state: KeyState::parse(row.value("state")?),
        compromised_since: row.value("compromised_since")?,
        needs_restore: row.value("needs_restore")?,
        allow_export: row.value("allow_export")?,
        primary: versions::read(row)?,
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

pub(super) async fn by_name(executor: impl SqliteExecutor<'_>, tenant: TenantId, name: &str) -> Result<Key, StoreError> {
    let statement = query(select!("keys k", "WHERE k.tenant = ?1 AND k.name = ?2 AND k.detached IS NULL"));
    read(&statement.bind(bytes(&tenant)).bind(name).fetch_one(executor).await?)
}

pub(super) async fn by_id(executor: impl SqliteExecutor<'_>, tenant: TenantId, id: KeyId) -> Result<Key, StoreError> {
    let statement = query(select!("keys k", "WHERE k.tenant = ?1 AND k.id = ?2 AND k.detached IS NULL"));
    read(&statement.bind(bytes(&tenant)).bind(bytes(&id)).fetch_one(executor).await?)
}

pub(super) async fn snapshot(store: &SqliteStore, tenant: TenantId, key: KeySelector<'_>) -> Result<KeySnapshot, StoreError> {
    let statement = match key {
        KeySelector::Id(_) => query(select_snapshot!(
            "WHERE k.tenant = ?1 AND k.id = ?2 AND k.detached IS NULL ORDER BY v.number"
        )),
        KeySelector::Name(_) => query(select_snapshot!(
            "WHERE k.tenant = ?1 AND k.name = ?2 AND k.detached IS NULL ORDER BY v.number"
        )),
    };
    let statement = statement.bind(bytes(&tenant));
    let statement = match &key {
        KeySelector::Id(id) => statement.bind(bytes(id)),
        KeySelector::Name(name) => statement.bind(*name),
    };
    let rows = statement.fetch_all(&store.readers).await?;
    let primary: i64 = rows.first().ok_or(StoreError::NotFound)?.value("primary_version")?;
    let mut key = None;
    let mut versions = Vec::with_capacity(rows.len());
    for row in &rows {
        if row.value::<i64>("number")? == primary {
            key = Some(read(row)?);
        }
        versions.push(versions::read(row)?);
    }
    Ok(KeySnapshot {
        key: key.ok_or(StoreError::Damaged("a key without its primary version"))?,
        versions,
    })
}

pub(super) async fn holder(executor: impl SqliteExecutor<'_>, tenant: TenantId, id: KeyId) -> Result<Option<Holder>, StoreError> {
    let row = query(
        "SELECT k.detached, k.state, k.compromised_since, k.needs_restore, k.cache, k.epoch, k.lifts, k.revision, \
         EXISTS (SELECT 1 FROM key_versions v JOIN connections c ON c.tenant = v.tenant AND c.id = v.connection \
         WHERE v.tenant = k.tenant AND v.key = k.id AND c.severed) AS severed \
         FROM keys k WHERE k.tenant = ?1 AND k.id = ?2",
    )
    .bind(bytes(&tenant))
    .bind(bytes(&id))
    .fetch_optional(executor)
    .await?;
    row.map(|row| {
        Ok(Holder {
            detached: row.value::<Option<i64>>("detached")?.is_some(),
            state: KeyState::parse(row.value("state")?),
            compromised_since: row.value("compromised_since")?,
            needs_restore: row.value("needs_restore")?,
            cache: row.json("cache")?,
            severed: row.value("severed")?,
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
    let after = page.after.as_deref().unwrap_or_default();
    statement.push("WHERE k.detached IS NULL");
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
        statement.push(" AND k.primary_connection = ").push_bind(bytes(connection));
    }
    if let Some(state) = filter.state {
        statement.push(" AND k.state = ").push_bind(state.as_str());
    }
    statement.push(" AND ").push(order).push(" > ").push_bind(after);
    statement.push(" ORDER BY ").push(order).push(" LIMIT ").push_bind(page.size);
    statement
}

pub(super) async fn list(store: &SqliteStore, tenant: TenantId, filter: &KeyFilter, page: &Page) -> Result<Vec<Key>, StoreError> {
    let mut statement = list_statement(&tenant, filter, page);
    row::page(statement.build().fetch(&store.readers), read).await
}

fn read_detached(row: &SqliteRow) -> Result<DetachedKey, StoreError> {
    Ok(DetachedKey {
        key: read(row)?,
        at: row.value("detached")?,
    })
}

pub(super) async fn detached_by_id(store: &SqliteStore, tenant: TenantId, id: KeyId) -> Result<DetachedKey, StoreError> {
    let statement = query(select!("keys k", "WHERE k.tenant = ?1 AND k.id = ?2 AND k.detached IS NOT NULL"));
    read_detached(&statement.bind(bytes(&tenant)).bind(bytes(&id)).fetch_one(&store.readers).await?)
}

const DETACHED: &str = select!(
    "keys k INDEXED BY keys_detached",
    "WHERE k.tenant = ?1 AND k.detached IS NOT NULL AND k.id > ?2 AND (?4 IS NULL OR k.primary_connection = ?4) ORDER BY k.id LIMIT ?3"
);

pub(super) async fn detached(
    store: &SqliteStore,
    tenant: TenantId,
    connection: Option<ConnectionId>,
    page: &Page,
) -> Result<Vec<DetachedKey>, StoreError> {
    // An id that does not parse is before every other.
    let after = page.after.as_deref().and_then(|after| after.parse::<KeyId>().ok());
    let statement = query(DETACHED)
        .bind(bytes(&tenant))
        .bind(after.as_ref().map(bytes).unwrap_or_default())
        .bind(page.size)
        .bind(connection.as_ref().map(bytes));
    row::page(statement.fetch(&store.readers), read_detached).await
}

/// Writes every column of an attached key.
async fn write(connection: &mut SqliteConnection, statement: &'static str, key: &Key) -> Result<(), StoreError> {
    let primary_connection = key.primary.connection_id();
    let written = query(statement)
        .bind(bytes(&key.tenant))
        .bind(bytes(&key.id))
        .bind(&key.name)
        .bind(key.state.as_str())
        .bind(key.compromised_since)
        .bind(key.needs_restore)
        .bind(key.allow_export)
        .bind(key.primary.number)
        .bind(primary_connection.as_ref().map(bytes))
        .bind(key.rotating)
        .bind(row::json(&key.cache)?)
        .bind(&key.managed_by)
        .bind(integer(key.epoch)?)
        .bind(integer(key.lifts)?)
        .bind(integer(key.revision)?)
        .bind(key.created)
        .bind(key.updated)
        .execute(connection)
        .await?;
    one_row(&written)
}

pub(super) async fn insert(connection: &mut SqliteConnection, key: &Key) -> Result<(), StoreError> {
    write(
        connection,
        "INSERT INTO keys (tenant, id, name, state, compromised_since, needs_restore, allow_export, primary_version, primary_connection, \
         rotating, cache, managed_by, epoch, lifts, revision, created, updated) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17)",
        key,
    )
    .await
}

pub(super) async fn take_over(connection: &mut SqliteConnection, key: &Key) -> Result<(), StoreError> {
    write(
        connection,
        "UPDATE keys SET name = ?3, state = ?4, compromised_since = ?5, needs_restore = ?6, allow_export = ?7, primary_version = ?8, \
         primary_connection = ?9, rotating = ?10, cache = ?11, managed_by = ?12, epoch = ?13, lifts = ?14, revision = ?15, \
         created = ?16, updated = ?17, detached = NULL WHERE tenant = ?1 AND id = ?2 AND detached IS NOT NULL",
        key,
    )
    .await
}

/// Writes every column of an attached key, without its labels.
pub(super) async fn update(connection: &mut SqliteConnection, key: &Key) -> Result<(), StoreError> {
    write(
        connection,
        "UPDATE keys SET name = ?3, state = ?4, compromised_since = ?5, needs_restore = ?6, allow_export = ?7, primary_version = ?8, \
         primary_connection = ?9, rotating = ?10, cache = ?11, managed_by = ?12, epoch = ?13, lifts = ?14, revision = ?15, \
         created = ?16, updated = ?17 WHERE tenant = ?1 AND id = ?2 AND detached IS NULL",
        key,
    )
    .await
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
         WHERE rotating IS NOT NULL AND detached IS NULL ORDER BY rotating LIMIT ?1",
    )
    .bind(most)
    .fetch_all(&store.readers)
    .await?
    .iter()
    .map(|row| Ok((row.id("tenant")?, row.id("id")?)))
    .collect()
}

pub(super) async fn detach(connection: &mut SqliteConnection, key: &Key) -> Result<(), StoreError> {
    let detached = query(
        "UPDATE keys SET detached = ?5, epoch = ?3, revision = ?4, updated = ?5, state = ?6, needs_restore = ?7 \
             WHERE tenant = ?1 AND id = ?2 AND detached IS NULL",
    )
    .bind(bytes(&key.tenant))
    .bind(bytes(&key.id))
    .bind(integer(key.epoch)?)
    .bind(integer(key.revision)?)
    .bind(key.updated)
    .bind(key.state.as_str())
    .bind(key.needs_restore)
    .execute(&mut *connection)
    .await?;
    one_row(&detached)?;
    clear_labels(connection, key.tenant, key.id).await
}

pub(super) async fn detached_through(
    connection: &mut SqliteConnection,
    tenant: TenantId,
    through: ConnectionId,
) -> Result<Vec<Key>, StoreError> {
    query(select!(
        "(SELECT DISTINCT key FROM key_versions WHERE tenant = ?1 AND connection = ?2) d CROSS JOIN keys k ON k.tenant = ?1 AND k.id = d.key",
        "WHERE k.detached IS NOT NULL"
    ))
    .bind(bytes(&tenant))
    .bind(bytes(&through))
    .fetch_all(connection)
    .await?
    .iter()
    .map(read)
    .collect()
}

pub(super) async fn update_detached(connection: &mut SqliteConnection, key: &Key) -> Result<(), StoreError> {
    let updated =
        query("UPDATE keys SET state = ?3, needs_restore = ?4, revision = ?5 WHERE tenant = ?1 AND id = ?2 AND detached IS NOT NULL")
            .bind(bytes(&key.tenant))
            .bind(bytes(&key.id))
            .bind(key.state.as_str())
            .bind(key.needs_restore)
            .bind(integer(key.revision)?)
            .execute(connection)
            .await?;
    one_row(&updated)
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
            select!("keys k", "WHERE k.tenant = ?1 AND k.name = ?2 AND k.detached IS NULL").to_owned(),
            select!("keys k", "WHERE k.tenant = ?1 AND k.id = ?2 AND k.detached IS NULL").to_owned(),
            select_snapshot!("WHERE k.tenant = ?1 AND k.id = ?2 AND k.detached IS NULL ORDER BY v.number").to_owned(),
            select_snapshot!("WHERE k.tenant = ?1 AND k.name = ?2 AND k.detached IS NULL ORDER BY v.number").to_owned(),
            select!("keys k", "WHERE k.tenant = ?1 AND k.id = ?2 AND k.detached IS NOT NULL").to_owned(),
            DETACHED.to_owned(),
        ];
        let page = Page { after: None, size: 10 };
        for label in [None, Some(("a".to_owned(), "b".to_owned()))] {
            for connection in [None, Some(ConnectionId::random())] {
                for state in [None, Some(KeyState::Disabled)] {
                    let filter = KeyFilter {
                        connection,
                        state,
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
