//! A process that dies in the middle of writing: this binary starts itself as the writer,
//! kills it at some moment, and looks at what is left.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use claviger::store::model::{Key, Resource};
use claviger::store::sealing::RootKey;
use claviger::store::sqlite::SqliteStore;
use claviger::store::{Change, Reads, Store, StoreError};
use claviger_provider::{SealedName, SealedStore, Secret, TenantId};
use proptest::prelude::Rng;
use proptest::test_runner::{RngAlgorithm, TestRng};

use crate::support::{Folder, cases, idempotency, new_connection, new_key, new_tenant, node, now, sealed, version};

/// Set in the writer's environment: the folder to write in.
pub const CHILD: &str = "CLAVIGER_TEST_STORE_WRITER";

const ROUNDS: usize = 12;
/// Versions that one rotation adds.
const ADDED: u32 = 3;

cases! { alone:every_acknowledged_write_survives_and_no_half_one}

/// What the writer does for one intent: a rotation, with its answer kept, on even ones; a
/// row of sealed values on odd ones. Both are several rows.
async fn write(store: &SqliteStore, key: &Key, intent: u64) -> Result<(), StoreError> {
    let tenant = key.tenant;
    if intent % 2 == 1 {
        let values = (0..ADDED).map(|column| sealed(tenant, &intent.to_string(), &column.to_string(), b"material"));
        store.insert(values.collect()).await.unwrap();
        return Ok(());
    }
    let before = u32::try_from(store.key_versions(tenant, key.id).await?.len()).unwrap();
    let versions: Vec<_> = (1..=ADDED)
        .map(|n| version(key, before + n, &format!("provider/{}", before + n), ""))
        .collect();
    let change = Change {
        intent: Some(intent),
        idempotency: Some(idempotency(tenant, &intent.to_string(), now())),
        ..Change::unannounced()
    };
    store
        .add_key_versions(tenant, key.id, &versions, before + ADDED, now(), &change)
        .await?;
    Ok(())
}

/// The writer: one intent after the other, each named on standard output when it was
/// acknowledged, until it is killed.
pub fn child(folder: PathBuf) -> ExitCode {
    let work = async {
        let root = RootKey::from_file(&folder.join("root-key")).unwrap();
        let store = SqliteStore::open(&folder.join("claviger.db"), root, &node()).await.unwrap();
        let key = the_key(&store).await;
        let mut intent = next(&store, key.tenant).await;
        loop {
            write(&store, &key, intent).await.unwrap();
            println!("{intent}");
            intent += 1;
        }
    };
    tokio::runtime::Runtime::new().unwrap().block_on(work)
}

async fn the_key(store: &SqliteStore) -> Key {
    let tenant = store.tenant_by_name("acme").await.unwrap();
    store.key_by_name(tenant.id, "k").await.unwrap()
}

/// The intent after the last whole one.
async fn next(store: &SqliteStore, tenant: TenantId) -> u64 {
    let rotated = store.last_applied().await.unwrap().unwrap_or(0);
    if store.columns(tenant, &(rotated + 1).to_string()).await.unwrap().is_empty() {
        rotated + 1
    } else {
        rotated + 2
    }
}

async fn every_acknowledged_write_survives_and_no_half_one() {
    let folder = Folder::new();
    let store = SqliteStore::create(&folder.database(), folder.new_root_key(), &node())
        .await
        .unwrap();
    let tenant = new_tenant(&store, "acme").await;
    new_key(&store, &new_connection(&store, tenant, "main").await, "k").await;
    store.close().await;

    let seed = Secret::random(32);
    eprintln!("kill: seed {}", hex::encode(seed.expose()));
    let mut random = TestRng::from_seed(RngAlgorithm::ChaCha, seed.expose());
    for round in 0..ROUNDS {
        let acknowledged = write_and_kill(&folder, &mut random);
        check(&folder, acknowledged, round).await;
    }
}

/// Lets the writer run for a while; tells the last intent that it was seen to acknowledge.
fn write_and_kill(folder: &Folder, random: &mut TestRng) -> u64 {
    let mut writer = Command::new(std::env::current_exe().unwrap())
        .env(CHILD, folder.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(writer.stdout.take().unwrap()).lines();
    let enough = 1 + random.next_u32() % 12;
    for _ in 0..enough {
        lines.next().expect("the writer goes on until it is killed").unwrap();
    }
    // Somewhere inside the writes that follow; where does not matter to what is checked.
    std::thread::sleep(Duration::from_micros(u64::from(random.next_u32() % 5_000)));
    writer.kill().unwrap();
    // What was acknowledged before the kill is still in the pipe.
    let last = lines.map_while(Result::ok).last();
    writer.wait().unwrap();
    last.map_or(0, |line| line.parse().unwrap())
}

async fn check(folder: &Folder, acknowledged: u64, round: usize) {
    let store = SqliteStore::open(&folder.database(), folder.root_key(), &node()).await.unwrap();
    let key = the_key(&store).await;
    let done = next(&store, key.tenant).await - 1;
    // The last one may have been committed without being told.
    assert!(
        done >= acknowledged,
        "round {round}: {acknowledged} was acknowledged, {done} is there"
    );
    let mut rotations = 0;
    for intent in 1..=done {
        if intent % 2 == 1 {
            let columns = store.columns(key.tenant, &intent.to_string()).await.unwrap();
            assert_eq!(columns, ["0", "1", "2"], "round {round}: intent {intent}");
            let name = SealedName {
                tenant: key.tenant,
                row: intent.to_string(),
                column: "2".to_owned(),
            };
            assert_eq!(store.get(&name).await.unwrap().unwrap().expose(), b"material");
        } else {
            rotations += 1;
            assert!(store.is_applied(intent).await.unwrap(), "round {round}: intent {intent}");
            let answer = idempotency(key.tenant, &intent.to_string(), 0).key;
            assert!(store.idempotent(&answer).await.unwrap().is_some(), "round {round}: intent {intent}");
        }
    }
    let versions = store.key_versions(key.tenant, key.id).await.unwrap();
    assert_eq!(versions.len(), 1 + rotations * ADDED as usize, "round {round}");
    let usage = store.usage(key.tenant).await.unwrap();
    let counted = [Resource::Versions, Resource::IdempotencyKeys].map(|resource| usage.of(resource));
    assert_eq!(
        counted,
        [1 + rotations as u64 * u64::from(ADDED), rotations as u64],
        "round {round}"
    );
    let primary = versions.last().unwrap();
    assert_eq!(&key.primary, primary, "round {round}");
    assert_eq!(key.revision, 1 + rotations as u64, "round {round}");
    let held = store
        .provider_key_holders(key.tenant, key.primary.provider, &primary.provider_key)
        .await
        .unwrap();
    assert_eq!(held, [(key.id, false)], "round {round}");
    store.close().await;
}
