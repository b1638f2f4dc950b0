//! A migration that is killed after each of its statements: the folder opens as if it had never
//! begun. The folder is that of `tests/upgrade`, which commit 617684d made.

pub mod claims;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use claviger::store::model::{Connection, Key, KeyFilter, KeyState, KeyVersion, ProviderState, Resource, Usage};
use claviger::store::sealing::RootKey;
use claviger::store::sqlite::SqliteStore;
use claviger::store::{Reads, Store};
use claviger_provider::{Id, TenantId};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection as _, query, query_scalar};

use crate::support::{cases, first, node};

/// Set in the environment of the process that migrates: how many statements, and the database.
pub const CHILD: &str = "CLAVIGER_TEST_STORE_MIGRATION";

/// The migrations that the folder lacks, by number.
const MIGRATIONS: [(u32, &str); 10] = [
    (4, include_str!("../../src/store/migrations/0004_custody_claims_ancestry.sql")),
    (5, include_str!("../../src/store/migrations/0005_usage.sql")),
    (6, include_str!("../../src/store/migrations/0006_wraps_reserved.sql")),
    (7, include_str!("../../src/store/migrations/0007_last_record.sql")),
    (8, include_str!("../../src/store/migrations/0008_creations.sql")),
    (9, include_str!("../../src/store/migrations/0009_declared_rows.sql")),
    (10, include_str!("../../src/store/migrations/0010_exposure.sql")),
    (11, include_str!("../../src/store/migrations/0011_asked_by.sql")),
    (12, include_str!("../../src/store/migrations/0012_log_bytes.sql")),
    (13, include_str!("../../src/store/migrations/0013_replaced_versions.sql")),
];

cases! { alone:
    a_folder_of_before_opens_wherever_its_migration_was_killed,
    what_a_tenant_has_is_counted,
    what_was_a_key_s_is_its_versions_,
    custody_and_material_are_the_provider_s,
    no_version_of_before_has_used_its_wraps,
    a_reference_without_its_row_ends_the_migration,
}

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/upgrade/folder-1")
}

/// The statements of a migration.
fn statements(number: u32) -> Vec<String> {
    let (_, text) = MIGRATIONS.into_iter().find(|(known, _)| *known == number).unwrap();
    text.split_inclusive(";\n").map(str::to_owned).collect()
}

fn root_key(folder: &Path) -> RootKey {
    use std::os::unix::fs::PermissionsExt;
    let file = folder.join("root.key");
    std::fs::copy(fixture().join("root.key"), &file).unwrap();
    // A root key that others can read is refused; a checkout does not keep modes.
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    RootKey::from_file(&file).unwrap()
}

/// A copy of the folder's database.
fn copy(folder: &Path) -> PathBuf {
    let database = folder.join("claviger.db");
    std::fs::copy(fixture().join("claviger.db"), &database).unwrap();
    database
}

/// A copy of the folder's database with the schema before a migration.
async fn copy_before(migration: u32, folder: &Path) -> PathBuf {
    let database = copy(folder);
    if migration > 4 {
        let store = SqliteStore::open(&database, root_key(folder), &node()).await.unwrap();
        Store::close(&store).await;
        let mut raw = SqliteConnectOptions::new().filename(&database).connect().await.unwrap();
        let undo: [(u32, &[&'static str]); 8] = [
            (12, &["DROP TABLE log_bytes"]),
            (
                11,
                &[
                    "ALTER TABLE creations DROP COLUMN token",
                    "ALTER TABLE creations DROP COLUMN acting",
                ],
            ),
            (
                10,
                &[
                    "ALTER TABLE key_versions DROP COLUMN exportable",
                    "ALTER TABLE key_versions DROP COLUMN plaintext_backup",
                ],
            ),
            (9, &["DROP INDEX connections_declared", "DROP INDEX keys_declared"]),
            (8, &["DROP TABLE creations"]),
            (
                7,
                &[
                    "ALTER TABLE nodes DROP COLUMN log_position",
                    "ALTER TABLE nodes DROP COLUMN log_crc",
                ],
            ),
            (6, &["ALTER TABLE key_versions DROP COLUMN wraps_reserved"]),
            (5, &["DROP TABLE usage", "DROP INDEX tokens_by_end"]),
        ];
        for (number, statements) in undo.into_iter().filter(|(number, _)| *number >= migration) {
            for statement in statements {
                query(*statement).execute(&mut raw).await.unwrap();
            }
            let undone = query("DELETE FROM _sqlx_migrations WHERE version = ?1").bind(number);
            undone.execute(&mut raw).await.unwrap();
        }
        raw.close().await.unwrap();
    }
    database
}

/// The process that migrates: as sqlx does it, in one transaction, but with a cache so small that
/// pages reach the log before the commit. It waits to be killed after its last statement.
pub fn child(at: &OsStr) -> ExitCode {
    let at = at.to_str().unwrap();
    let (migration, rest) = at.split_once(':').unwrap();
    let (number, database) = rest.split_once(':').unwrap();
    let work = async {
        let options = SqliteConnectOptions::new().filename(database).foreign_keys(false);
        let options = options.pragma("journal_mode", "WAL").pragma("cache_size", "1");
        let mut connection = options.connect().await.unwrap();
        query("BEGIN").execute(&mut connection).await.unwrap();
        for statement in statements(migration.parse().unwrap()).into_iter().take(number.parse().unwrap()) {
            query(AssertSqlSafe(statement)).execute(&mut connection).await.unwrap();
        }
        println!("ready");
        std::future::pending::<()>().await;
    };
    tokio::runtime::Runtime::new().unwrap().block_on(work);
    ExitCode::SUCCESS
}

/// Everything of a store that the API shows of keys and connections, by tenant.
type Content = BTreeMap<String, (Vec<Connection>, Vec<(Key, Vec<KeyVersion>)>, Usage)>;

async fn content(database: &Path, root: RootKey) -> Content {
    let store = SqliteStore::open(database, root, &node()).await.unwrap();
    let store: &dyn Store = &store;
    let mut content = Content::new();
    for tenant in store.tenants(&first(100)).await.unwrap() {
        let mut keys = Vec::new();
        for key in store.keys(tenant.id, &KeyFilter::default(), &first(1000)).await.unwrap().items {
            let versions = store.key_versions(tenant.id, key.id).await.unwrap();
            keys.push((key, versions));
        }
        let connections = store.connections(tenant.id, &first(1000)).await.unwrap();
        for connection in &connections {
            store.connection_snapshot(tenant.id, connection.id).await.unwrap();
        }
        let usage = store.usage(tenant.id).await.unwrap();
        content.insert(tenant.name, (connections, keys, usage));
    }
    store.close().await;
    content
}

async fn a_folder_of_before_opens_wherever_its_migration_was_killed() {
    let folder = tempfile::tempdir().unwrap();
    let expected = content(&copy(folder.path()), root_key(folder.path())).await;
    assert!(expected.values().map(|(_, keys, _)| keys.len()).sum::<usize>() > 3);
    let steps = MIGRATIONS
        .into_iter()
        .flat_map(|(migration, _)| (0..=statements(migration).len()).map(move |number| (migration, number)));
    for (migration, number) in steps {
        let folder = tempfile::tempdir().unwrap();
        let database = copy_before(migration, folder.path()).await;
        let mut migrating = Command::new(std::env::current_exe().unwrap())
            .env(CHILD, format!("{migration}:{number}:{}", database.display()))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(migrating.stdout.take().unwrap()).lines();
        assert_eq!(lines.next().unwrap().unwrap(), "ready", "statement {number}");
        migrating.kill().unwrap();
        migrating.wait().unwrap();
        assert_eq!(content(&database, root_key(folder.path())).await, expected, "statement {number}");
        // And once more: what was migrated stays so.
        assert_eq!(content(&database, root_key(folder.path())).await, expected, "statement {number}");
    }
}

/// Every row that exists counts, also of a detached key, of a revoked token and of the installation.
async fn what_a_tenant_has_is_counted() {
    for (migration, _) in MIGRATIONS {
        let folder = tempfile::tempdir().unwrap();
        let database = copy_before(migration, folder.path()).await;
        let store = SqliteStore::open(&database, root_key(folder.path()), &node()).await.unwrap();
        let mut tenants: Vec<TenantId> = store
            .tenants(&first(100))
            .await
            .unwrap()
            .into_iter()
            .map(|tenant| tenant.id)
            .collect();
        tenants.push(TenantId::INSTALLATION);
        let mut raw = SqliteConnectOptions::new().filename(&database).connect().await.unwrap();
        let mut kinds = BTreeSet::new();
        for tenant in tenants {
            let usage = store.usage(tenant).await.unwrap();
            for (resource, count) in [
                (Resource::Keys, "SELECT count(*) FROM keys WHERE tenant = ?1"),
                (Resource::Versions, "SELECT count(*) FROM key_versions WHERE tenant = ?1"),
                (Resource::Connections, "SELECT count(*) FROM connections WHERE tenant = ?1"),
                (Resource::Principals, "SELECT count(*) FROM principals WHERE tenant = ?1"),
                (Resource::Tokens, "SELECT count(*) FROM tokens WHERE tenant = ?1"),
                (Resource::IdempotencyKeys, "SELECT count(*) FROM idempotency WHERE tenant = ?1"),
            ] {
                let rows: i64 = query_scalar(count)
                    .bind(tenant.bytes().as_slice())
                    .fetch_one(&mut raw)
                    .await
                    .unwrap();
                assert_eq!(usage.of(resource), u64::try_from(rows).unwrap(), "{resource:?}");
                if rows > 0 {
                    kinds.insert(resource);
                }
            }
        }
        assert_eq!(kinds.len(), Resource::ALL.len(), "the folder has objects of every kind: {kinds:?}");
        raw.close().await.unwrap();
        Store::close(&store).await;
    }
}

/// Wraps of before are not known; the whole limit is left.
async fn no_version_of_before_has_used_its_wraps() {
    for (migration, _) in MIGRATIONS {
        let folder = tempfile::tempdir().unwrap();
        let content = content(&copy_before(migration, folder.path()).await, root_key(folder.path())).await;
        let store = SqliteStore::open(&folder.path().join("claviger.db"), root_key(folder.path()), &node())
            .await
            .unwrap();
        let (_, keys, _) = &content["acme"];
        for (key, versions) in keys {
            for version in versions {
                let reserved = store.reserve_wraps(key.tenant, key.id, version.number, u64::MAX).await.unwrap();
                assert_eq!((reserved.granted, reserved.total), (1 << 32, 1 << 32), "{}", key.name);
            }
        }
        Store::close(&store).await;
    }
}

async fn what_was_a_key_s_is_its_versions_() {
    let folder = tempfile::tempdir().unwrap();
    let database = copy(folder.path());
    let sql = "UPDATE key_versions SET enabled = 0 WHERE number = 1 AND key = (SELECT id FROM keys WHERE name = 'k0')";
    let mut raw = SqliteConnectOptions::new().filename(&database).connect().await.unwrap();
    assert_eq!(query(sql).execute(&mut raw).await.unwrap().rows_affected(), 1);
    let detached: Vec<(String, i64)> = sqlx::query_as("SELECT name, updated FROM keys WHERE detached = 1")
        .fetch_all(&mut raw)
        .await
        .unwrap();
    raw.close().await.unwrap();

    let content = content(&database, root_key(folder.path())).await;
    let (connections, keys, _) = &content["acme"];
    for (key, versions) in keys {
        for version in versions {
            let connection = version.connection.as_ref().unwrap();
            let row = connections.iter().find(|row| row.id == connection.id).unwrap();
            assert_eq!((&row.name, row.provider), (&connection.name, version.provider));
            let disabled = key.name == "k0" && version.number == 1;
            let at_provider = if disabled {
                ProviderState::Disabled
            } else {
                ProviderState::Enabled
            };
            assert_eq!((version.state, version.provider_state), (KeyState::Enabled, at_provider));
        }
        assert!(versions.contains(&key.primary));
        let state = if key.name == "k1" { KeyState::Disabled } else { KeyState::Enabled };
        assert_eq!((key.state, key.lifts, key.needs_restore), (state, 0, false), "{}", key.name);
    }
    // The time of the detach is that of the row's last change.
    let mut raw = SqliteConnectOptions::new().filename(&database).connect().await.unwrap();
    let after: Vec<(String, i64)> = sqlx::query_as("SELECT name, detached FROM keys WHERE detached IS NOT NULL")
        .fetch_all(&mut raw)
        .await
        .unwrap();
    assert!(!detached.is_empty());
    assert_eq!(after, detached);
    // Each attached key keeps its provider key within its tenant, and none has one for the installation.
    let claims: i64 = query_scalar("SELECT count(*) FROM claims WHERE span = tenant")
        .fetch_one(&mut raw)
        .await
        .unwrap();
    let keys: i64 = query_scalar("SELECT count(*) FROM keys WHERE detached IS NULL")
        .fetch_one(&mut raw)
        .await
        .unwrap();
    let wider: i64 = query_scalar("SELECT count(*) FROM claims WHERE span <> tenant")
        .fetch_one(&mut raw)
        .await
        .unwrap();
    assert_eq!((claims, wider), (keys, 0));
    raw.close().await.unwrap();
}

async fn custody_and_material_are_the_provider_s() {
    // By the providers' numbers at the time: 9 is none that this release knows.
    for (provider, expected) in [(5, "provider"), (6, "external"), (8, "external"), (9, "provider")] {
        let folder = tempfile::tempdir().unwrap();
        let database = copy(folder.path());
        let mut raw = SqliteConnectOptions::new().filename(&database).connect().await.unwrap();
        for change in [
            "UPDATE connections SET provider = ?1 WHERE (tenant, id) = (SELECT tenant, connection FROM keys WHERE name = 'k0')",
            "UPDATE keys SET provider = ?1, spec = 'rsa-4096' WHERE name = 'k0'",
        ] {
            let changed = query(change).bind(provider).execute(&mut raw).await.unwrap();
            assert_eq!(changed.rows_affected(), 1);
        }
        raw.close().await.unwrap();
        let store = SqliteStore::open(&database, root_key(folder.path()), &node()).await.unwrap();
        Store::close(&store).await;
        let mut raw = SqliteConnectOptions::new().filename(&database).connect().await.unwrap();
        let sql = "SELECT k.name = 'k0', v.provider, v.custody, v.material, v.spec \
                   FROM key_versions v JOIN keys k ON k.tenant = v.tenant AND k.id = v.key";
        let versions: Vec<(bool, i64, String, String, String)> = sqlx::query_as(sql).fetch_all(&mut raw).await.unwrap();
        let (changed, others): (Vec<_>, Vec<_>) = versions.into_iter().partition(|version| version.0);
        assert!(changed.len() > 1 && !others.is_empty());
        for (_, number, custody, material, spec) in changed {
            let expected = (provider, expected.to_owned(), expected.to_owned(), "rsa-4096".to_owned());
            assert_eq!((number, custody, material, spec), expected);
        }
        for (_, number, custody, material, _) in others {
            assert_eq!((number, &*custody, &*material), (1, "provider", "provider"));
        }
        raw.close().await.unwrap();
    }
}

async fn a_reference_without_its_row_ends_the_migration() {
    let folder = tempfile::tempdir().unwrap();
    let database = copy(folder.path());
    let damage = "DELETE FROM connections WHERE name = 'cut'";
    let options = SqliteConnectOptions::new().filename(&database).foreign_keys(false);
    let mut raw = options.connect().await.unwrap();
    assert_eq!(query(damage).execute(&mut raw).await.unwrap().rows_affected(), 1);
    raw.close().await.unwrap();
    let Err(error) = SqliteStore::open(&database, root_key(folder.path()), &node()).await else {
        panic!("opened")
    };
    assert!(error.to_string().contains("cannot be brought to this release's schema"), "{error}");
    // Nothing of the migration stays.
    let mut raw = SqliteConnectOptions::new().filename(&database).connect().await.unwrap();
    let tables: i64 = query_scalar("SELECT count(*) FROM sqlite_schema WHERE name IN ('claims', 'keys_anew', 'provider_keys')")
        .fetch_one(&mut raw)
        .await
        .unwrap();
    assert_eq!(tables, 1);
    raw.close().await.unwrap();
}
