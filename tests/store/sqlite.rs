//! What only the SQLite file can show: its modes, its schema, and values that someone who
//! can write the file moved.

use std::fs::{read, write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use claviger::store::sealing::RootKey;
use claviger::store::sqlite::{OpenError, SqliteStore};
use claviger::store::{KnownNode, Reads, Store, StoreError};
use claviger_provider::{ErrorKind, Id, SealedName, SealedStore, TenantId};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, query, query_scalar};

use crate::support::{Folder, NONE, cases, connection, intent, new_connection, new_key, new_tenant, node, refused, sealed, tenant};

cases! { alone:
    a_store_is_made_once_and_opened_again,
    the_files_are_private,
    a_first_start_that_failed_leaves_nothing,
    a_store_that_is_absent_is_not_made_by_opening,
    another_root_key_is_refused,
    a_foreign_file_is_refused_and_left_alone,
    a_newer_store_is_refused_and_left_alone,
    a_damaged_value_is_told_as_damage,
    a_moved_value_does_not_open,
    another_installation_s_value_does_not_open,
    no_secret_stands_in_the_file,
    every_table_carries_the_tenant,
    a_store_knows_its_nodes,
}

async fn raw(path: &Path) -> SqliteConnection {
    SqliteConnectOptions::new().filename(path).connect().await.unwrap()
}

async fn statement(path: &Path, sql: String) {
    let mut connection = raw(path).await;
    query(AssertSqlSafe(sql)).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
}

async fn a_store_is_made_once_and_opened_again() {
    let folder = Folder::new();
    let path = folder.database();
    assert!(!SqliteStore::exists(&path).unwrap());
    let store = SqliteStore::create(&path, folder.new_root_key(), &node()).await.unwrap();
    assert!(SqliteStore::exists(&path).unwrap());
    let installation = store.installation().await.unwrap();
    let tenant = new_tenant(&store, "acme").await;
    store.insert(vec![sealed(tenant, "r", "a", b"1")]).await.unwrap();
    store.close().await;
    refused!(store.tenant(tenant).await, StoreError::Database(_));

    refused!(SqliteStore::create(&path, folder.root_key(), &node()).await, OpenError::Exists(_));
    let store = SqliteStore::open(&path, folder.root_key(), &node()).await.unwrap();
    assert_eq!(store.installation().await.unwrap(), installation);
    assert_eq!(store.tenant_by_name("acme").await.unwrap().id, tenant);
    let name = SealedName {
        tenant,
        row: "r".to_owned(),
        column: "a".to_owned(),
    };
    assert_eq!(store.get(&name).await.unwrap().unwrap().expose(), b"1");

    let other = Folder::new();
    let another = SqliteStore::create(&other.database(), other.new_root_key(), &node())
        .await
        .unwrap()
        .installation()
        .await
        .unwrap();
    assert!(another != installation);
}

async fn the_files_are_private() {
    let folder = Folder::new();
    let store = SqliteStore::create(&folder.database(), folder.new_root_key(), &node())
        .await
        .unwrap();
    new_tenant(&store, "acme").await;
    let mut names = Vec::new();
    for entry in folder.path().read_dir().unwrap().map(Result::unwrap) {
        assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o077, 0, "{:?}", entry.path());
        names.push(entry.file_name().into_string().unwrap());
    }
    names.sort();
    assert_eq!(
        names,
        ["claviger.db", "claviger.db-shm", "claviger.db-wal", "root-key", "store.run"]
    );
}

async fn a_first_start_that_failed_leaves_nothing() {
    let folder = Folder::new();
    let path = folder.path().join("absent/claviger.db");
    refused!(SqliteStore::create(&path, folder.new_root_key(), &node()).await, OpenError::Io(..));
    assert!(!SqliteStore::exists(&path).unwrap());
    write(folder.database(), "something").unwrap();
    refused!(
        SqliteStore::create(&folder.database(), folder.root_key(), &node()).await,
        OpenError::Exists(_)
    );
    assert_eq!(read(folder.database()).unwrap(), b"something");
}

async fn a_store_that_is_absent_is_not_made_by_opening() {
    let folder = Folder::new();
    refused!(
        SqliteStore::open(&folder.database(), folder.new_root_key(), &node()).await,
        OpenError::Missing(_)
    );
    assert!(!SqliteStore::exists(&folder.database()).unwrap());
}

async fn another_root_key_is_refused() {
    let folder = Folder::new();
    SqliteStore::create(&folder.database(), folder.new_root_key(), &node())
        .await
        .unwrap()
        .close()
        .await;
    let other = RootKey::generate_to_file(&folder.path().join("other")).unwrap();
    let Err(error) = SqliteStore::open(&folder.database(), other, &node()).await else {
        panic!("opened")
    };
    assert!(matches!(error, OpenError::WrongRootKey(_)), "{error}");
    assert!(error.to_string().contains("this root key does not open this store"), "{error}");
    SqliteStore::open(&folder.database(), folder.root_key(), &node()).await.unwrap();
}

async fn a_foreign_file_is_refused_and_left_alone() {
    let folder = Folder::new();
    folder.new_root_key();
    let path = folder.database();
    for content in [
        &b""[..],
        b"no database, but long enough to be taken for one if nobody looks at its first bytes at all",
    ] {
        write(&path, content).unwrap();
        refused!(SqliteStore::open(&path, folder.root_key(), &node()).await, OpenError::NotAStore(_));
        assert_eq!(read(&path).unwrap(), content);
    }
    write(&path, "").unwrap();
    statement(&path, "CREATE TABLE notes (text TEXT)".to_owned()).await;
    let before = read(&path).unwrap();
    refused!(SqliteStore::open(&path, folder.root_key(), &node()).await, OpenError::NotAStore(_));
    assert_eq!(read(&path).unwrap(), before);
}

async fn a_newer_store_is_refused_and_left_alone() {
    let folder = Folder::new();
    SqliteStore::create(&folder.database(), folder.new_root_key(), &node())
        .await
        .unwrap()
        .close()
        .await;
    let newer = "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) VALUES (9999, 'x', 1, x'00', 0)";
    statement(&folder.database(), newer.to_owned()).await;
    let Err(error) = SqliteStore::open(&folder.database(), folder.root_key(), &node()).await else {
        panic!("opened")
    };
    assert!(matches!(error, OpenError::Newer(_, 9999)), "{error}");
    assert!(error.to_string().contains("newer release"), "{error}");
}

async fn a_damaged_value_is_told_as_damage() {
    let folder = Folder::new();
    let store = SqliteStore::create(&folder.database(), folder.new_root_key(), &node())
        .await
        .unwrap();
    let tenant = new_tenant(&store, "acme").await;
    let made = new_key(&store, &new_connection(&store, tenant, "main").await, "k").await;
    let damages = [
        ("key_versions", "spec", "'aes-512'"),
        ("key_versions", "provider", "99"),
        ("keys", "epoch", "-1"),
        ("keys", "cache", "'{\"surprise\":1}'"),
        ("keys", "cache", "'not json'"),
    ];
    for (table, column, value) in damages {
        let mut connection = raw(&folder.database()).await;
        let before: String = query_scalar(AssertSqlSafe(format!("SELECT quote({column}) FROM {table}")))
            .fetch_one(&mut connection)
            .await
            .unwrap();
        connection.close().await.unwrap();
        statement(&folder.database(), format!("UPDATE {table} SET {column} = {value}")).await;
        refused!(store.key(tenant, made.id).await, StoreError::Damaged(_));
        statement(&folder.database(), format!("UPDATE {table} SET {column} = {before}")).await;
        assert_eq!(store.key(tenant, made.id).await.unwrap(), made);
    }
}

/// Puts one sealed value's bytes in the place of another.
async fn overwrite(path: &Path, to: &SealedName, from: &SealedName) {
    let place = |name: &SealedName| {
        let tenant = hex::encode(name.tenant.bytes());
        format!(
            "tenant = x'{tenant}' AND row_id = '{}' AND column_name = '{}'",
            name.row, name.column
        )
    };
    let sql = format!(
        "UPDATE sealed_values SET value = (SELECT value FROM sealed_values WHERE {}) WHERE {}",
        place(from),
        place(to)
    );
    statement(path, sql).await;
}

async fn a_moved_value_does_not_open() {
    let folder = Folder::new();
    let store = SqliteStore::create(&folder.database(), folder.new_root_key(), &node())
        .await
        .unwrap();
    let (ours, theirs) = (new_tenant(&store, "ours").await, new_tenant(&store, "theirs").await);
    let secret = sealed(ours, "r", "material/1", b"ours");
    let source = secret.0.clone();
    store.insert(vec![secret]).await.unwrap();
    for (tenant, row, column) in [(theirs, "r", "material/1"), (ours, "s", "material/1"), (ours, "r", "material/2")] {
        let target = sealed(tenant, row, column, b"another");
        let name = target.0.clone();
        store.insert(vec![target]).await.unwrap();
        assert_eq!(store.get(&name).await.unwrap().unwrap().expose(), b"another");
        overwrite(&folder.database(), &name, &source).await;
        let error = store.get(&name).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Internal, "{name:?}");
    }
    assert_eq!(store.get(&source).await.unwrap().unwrap().expose(), b"ours");
}

async fn another_installation_s_value_does_not_open() {
    let folder = Folder::new();
    let elsewhere = Folder::new();
    // Both under the same root key, as after a careless copy of a host.
    let store = SqliteStore::create(&folder.database(), folder.new_root_key(), &node())
        .await
        .unwrap();
    let other = SqliteStore::create(&elsewhere.database(), folder.root_key(), &node())
        .await
        .unwrap();
    let tenant = TenantId::INSTALLATION;
    let name = sealed(tenant, "r", "a", b"").0;
    store.insert(vec![sealed(tenant, "r", "a", b"ours")]).await.unwrap();
    other.insert(vec![sealed(tenant, "r", "a", b"theirs")]).await.unwrap();
    let mut connection = raw(&elsewhere.database()).await;
    let value: Vec<u8> = query_scalar("SELECT value FROM sealed_values")
        .fetch_one(&mut connection)
        .await
        .unwrap();
    connection.close().await.unwrap();
    statement(
        &folder.database(),
        format!("UPDATE sealed_values SET value = x'{}'", hex::encode(value)),
    )
    .await;
    assert_eq!(store.get(&name).await.unwrap_err().kind, ErrorKind::Internal);
}

async fn no_secret_stands_in_the_file() {
    const CANARY: &[u8] = b"canary-4f1c9be2-material";
    let folder = Folder::new();
    let store = SqliteStore::create(&folder.database(), folder.new_root_key(), &node())
        .await
        .unwrap();
    let tenant = new_tenant(&store, "acme").await;
    let made = connection(tenant, "main");
    store
        .create_connection(&made, vec![sealed(tenant, &made.id.to_string(), "secret/a", CANARY)], &NONE)
        .await
        .unwrap();
    store.insert(vec![sealed(tenant, "r", "material/1", CANARY)]).await.unwrap();
    let mut searched = 0;
    for entry in folder.path().read_dir().unwrap().map(Result::unwrap) {
        let content = read(entry.path()).unwrap();
        assert!(!content.windows(CANARY.len()).any(|window| window == CANARY), "{:?}", entry.path());
        searched += content.len();
    }
    assert!(searched > 4096);
}

async fn every_table_carries_the_tenant() {
    let folder = Folder::new();
    SqliteStore::create(&folder.database(), folder.new_root_key(), &node())
        .await
        .unwrap()
        .close()
        .await;
    let mut connection = raw(&folder.database()).await;
    let without: Vec<String> = query_scalar(
        "SELECT t.name FROM pragma_table_list t WHERE t.schema = 'main' AND t.type = 'table' AND t.name NOT LIKE 'sqlite_%' \
         AND (t.strict = 0 OR NOT EXISTS (SELECT 1 FROM pragma_table_info(t.name) c WHERE c.name = 'tenant')) ORDER BY t.name",
    )
    .fetch_all(&mut connection)
    .await
    .unwrap();
    connection.close().await.unwrap();
    // sqlx's own list of applied migrations, and the tenants, whose id it is.
    assert_eq!(without, ["_sqlx_migrations", "tenants"]);
}

async fn a_store_knows_its_nodes() {
    let folder = Folder::new();
    let path = folder.database();
    refused!(SqliteStore::nodes(&path).await, OpenError::Missing(_));
    let store = SqliteStore::create(&path, folder.new_root_key(), &node()).await.unwrap();
    let known = |last| KnownNode {
        name: node(),
        last,
        named: true,
    };
    assert_eq!(SqliteStore::nodes(&path).await.unwrap(), [known(None)]);
    store.create_tenant(&tenant("a"), Vec::new(), &intent(7)).await.unwrap();
    store.close().await;
    // Another root key opens nothing and adds no node.
    let other = RootKey::generate_to_file(&folder.path().join("other")).unwrap();
    let elsewhere = "n2".parse().unwrap();
    refused!(SqliteStore::open(&path, other, &elsewhere).await, OpenError::WrongRootKey(_));
    assert_eq!(SqliteStore::nodes(&path).await.unwrap(), [known(Some(7))]);
    SqliteStore::open(&path, folder.root_key(), &elsewhere).await.unwrap();
    let names = SqliteStore::nodes(&path).await.unwrap();
    assert_eq!(names.iter().map(|node| node.name.as_str()).collect::<Vec<_>>(), ["n1", "n2"]);
}
