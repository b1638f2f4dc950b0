//! A migration that is killed after each of its statements: the folder opens as if it had never
//! begun. The folder is that of `tests/upgrade`, which commit 617684d made.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use claviger::store::Store;
use claviger::store::model::{Connection, Key, KeyFilter, KeyState, KeyVersion, ProviderState};
use claviger::store::sealing::RootKey;
use claviger::store::sqlite::SqliteStore;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection as _, query, query_scalar};

use crate::support::{cases, first, node};

/// Set in the environment of the process that migrates: how many statements, and the database.
pub const CHILD: &str = "CLAVIGER_TEST_STORE_MIGRATION";

/// The migration that the folder lacks.
const MIGRATION: &str = include_str!("../../src/store/migrations/0004_custody_claims_ancestry.sql");

cases! { alone:
    a_folder_of_before_opens_wherever_its_migration_was_killed,
    what_was_a_key_s_is_its_versions_,
    a_reference_without_its_row_ends_the_migration,
}

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/upgrade/folder-1")
}

fn statements() -> Vec<String> {
    MIGRATION.split_inclusive(";\n").map(str::to_owned).collect()
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

/// The process that migrates: as sqlx does it, in one transaction, but with a cache so small that
/// pages reach the log before the commit. It waits to be killed after its last statement.
pub fn child(at: &OsStr) -> ExitCode {
    let at = at.to_str().unwrap();
    let (number, database) = at.split_once(':').unwrap();
    let work = async {
        let options = SqliteConnectOptions::new().filename(database).foreign_keys(false);
        let options = options.pragma("journal_mode", "WAL").pragma("cache_size", "1");
        let mut connection = options.connect().await.unwrap();
        query("BEGIN").execute(&mut connection).await.unwrap();
        for statement in statements().into_iter().take(number.parse().unwrap()) {
            query(AssertSqlSafe(statement)).execute(&mut connection).await.unwrap();
        }
        println!("ready");
        std::future::pending::<()>().await;
    };
    tokio::runtime::Runtime::new().unwrap().block_on(work);
    ExitCode::SUCCESS
}

/// Everything of a store that the API shows of keys and connections, by tenant.
type Content = BTreeMap<String, (Vec<Connection>, Vec<(Key, Vec<KeyVersion>)>)>;

async fn content(database: &Path, root: RootKey) -> Content {
    let store = SqliteStore::open(database, root, &node()).await.unwrap();
    let store: &dyn Store = &store;
    let mut content = Content::new();
    for tenant in store.tenants(&first(100)).await.unwrap() {
        let mut keys = Vec::new();
        for key in store.keys(tenant.id, &KeyFilter::default(), &first(1000)).await.unwrap() {
            let versions = store.key_versions(tenant.id, key.id).await.unwrap();
            keys.push((key, versions));
        }
        let connections = store.connections(tenant.id, &first(1000)).await.unwrap();
        for connection in &connections {
            store.connection_snapshot(tenant.id, connection.id).await.unwrap();
        }
        content.insert(tenant.name, (connections, keys));
    }
    store.close().await;
    content
}

async fn a_folder_of_before_opens_wherever_its_migration_was_killed() {
    let folder = tempfile::tempdir().unwrap();
    let expected = content(&copy(folder.path()), root_key(folder.path())).await;
    assert!(expected.values().map(|(_, keys)| keys.len()).sum::<usize>() > 3);
    for number in 0..=statements().len() {
        let folder = tempfile::tempdir().unwrap();
        let database = copy(folder.path());
        let mut migrating = Command::new(std::env::current_exe().unwrap())
            .env(CHILD, format!("{number}:{}", database.display()))
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
    let (connections, keys) = &content["acme"];
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
    let claims: i64 = query_scalar("SELECT count(*) FROM claims WHERE span = zeroblob(16)")
        .fetch_one(&mut raw)
        .await
        .unwrap();
    let keys: i64 = query_scalar("SELECT count(*) FROM keys").fetch_one(&mut raw).await.unwrap();
    assert_eq!(claims, keys);
    raw.close().await.unwrap();
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
