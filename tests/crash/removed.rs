//! What something else removes, replaces or moves away under a running gateway, beside the log's files: the
//! kill file, the lock, the store's files, the whole folder.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::Path;
use std::time::{Duration, Instant};

use claviger_test_support::{Client, Gateway, Started, Tune, log_end, records};
use futures::future::join_all;
use libtest_mimic::Trial;
use serde_json::{Value, json};
use sqlx::Connection;

use crate::disagree::refused;
use crate::media::lock_store;
use crate::ready::{part, state_of, until_ran, until_sound};
use crate::run;

/// A look a second, and what a store that is locked and a busy machine add.
const FOUND_WITHIN: Duration = Duration::from_secs(30);

/// The length of a kill file, in bytes.
pub const KILL_FILE: u64 = 262_208;

pub fn trials() -> Vec<Trial> {
    vec![
        Trial::test("removed::a_kill_file_that_was_removed_takes_a_revocation_nevertheless", || {
            run(only_in_the_kill_file(|file| fs::remove_file(file).expect("removed"), |_| {}))
        }),
        Trial::test("removed::a_kill_file_that_was_replaced_takes_a_revocation_nevertheless", || {
            run(only_in_the_kill_file(
                |file| {
                    let other = file.with_extension("other");
                    fs::copy(file, &other).expect("copied");
                    fs::rename(&other, file).expect("replaced");
                },
                |_| {},
            ))
        }),
        Trial::test("removed::an_older_copy_of_the_kill_file_takes_no_revocation_away", || {
            let copy = |from: &Path, to: &Path| assert!(fs::copy(from, to).expect("copied") > 0);
            run(only_in_the_kill_file(
                |file| copy(file, &file.with_extension("copy")),
                |file| copy(&file.with_extension("copy"), file),
            ))
        }),
        Trial::test("removed::a_kill_file_that_cannot_be_put_back_is_told", || run(not_put_back())),
        Trial::test("removed::a_second_start_without_the_lock_s_file_changes_nothing", || {
            run(second_start())
        }),
        Trial::test("removed::a_folder_that_was_moved_away_gets_no_file_under_its_old_path", || {
            run(moved_folder())
        }),
        Trial::test("removed::a_store_whose_database_is_gone_takes_no_change", || {
            run(store_file("claviger.db"))
        }),
        Trial::test("removed::a_store_whose_log_is_gone_takes_no_change", || {
            run(store_file("claviger.db-wal"))
        }),
    ]
}

async fn furnished() -> (Gateway, Started, Client) {
    let gateway = Gateway::new(crate::BINARY);
    let started = gateway.serve(&Tune::default());
    let client = started.with_tenant("acme").await;
    for name in ["orders", "other"] {
        let body = json!({"name": name, "connection": "embedded"});
        client.post("/v1/keys", &body).await.expect_status(201);
    }
    (gateway, started, client)
}

async fn state(client: &Client, key: &str) -> Value {
    client.get(&format!("/v1/keys/{key}")).await.expect_status(200)["state"].clone()
}

/// Waits until a part's state is another one, or this one.
async fn until(started: &Started, name: &str, ready: impl Fn(&str) -> bool) {
    let end = Instant::now() + FOUND_WITHIN;
    loop {
        let state = state_of(started, name).await;
        if ready(&state) {
            return;
        }
        assert!(Instant::now() < end, "{name} stays {state}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Log and store take nothing, so the kill file alone has the disable.
async fn only_in_the_kill_file(before: impl Fn(&Path), after: impl Fn(&Path)) {
    let (gateway, started, client) = furnished().await;
    let file = gateway.data().join("cuts.kill");
    // A limit at the log's end must leave room for a new kill file.
    let items: Vec<Value> = (0..300).map(|_| json!({"key": "other"})).collect();
    while log_end(&gateway.data()).1 < KILL_FILE + 4096 {
        let body = json!({"items": items});
        client.post("/v1/batch/data-keys", &body).await.expect_status(200);
    }
    before(&file);
    let store = lock_store(&gateway.data()).await;
    started.limit_files(Some(log_end(&gateway.data()).1));
    let answer = client.post_empty("/v1/keys/orders/disable").await;
    answer.expect_problem(503, "effective_not_recorded");
    after(&file);
    // It looks each second.
    until_ran(&started, "audit_watch").await;
    until(&started, "kill_file", |state| state == "ok").await;
    started.kill();
    store.close().await.expect("the store is free");
    let started = gateway.serve(&Tune::default());
    assert_eq!(state(&started.tenant("acme"), "orders").await, "disabled");
    assert!(started.terminate());
}

async fn not_put_back() {
    let (gateway, started, client) = furnished().await;
    let more = (0..8).map(|number| format!("more-{number}"));
    for name in more.clone() {
        let body = json!({"name": name, "connection": "embedded"});
        client.post("/v1/keys", &body).await.expect_status(201);
    }
    let file = gateway.data().join("cuts.kill");
    let store = lock_store(&gateway.data()).await;
    let end = log_end(&gateway.data()).1;
    assert!(end < KILL_FILE, "a new kill file would not reach the limit");
    started.limit_files(Some(end));
    let taken = client.post_empty("/v1/keys/orders/disable").await;
    taken.expect_problem(503, "effective_not_recorded");
    fs::remove_file(&file).expect("removed");
    let disable = async |key: String| client.post_empty(&format!("/v1/keys/{key}/disable")).await;
    for answer in join_all(more.clone().map(disable)).await {
        answer.expect_problem(503, "effective_in_memory_only");
    }
    until(&started, "kill_file", |state| state.contains("removed or changed")).await;
    // Also the one that it had taken before.
    let in_memory_only = r#"claviger_revocations_unstored{kept="memory"} 9"#;
    let end = Instant::now() + FOUND_WITHIN;
    while !started.operator().get("/metrics").await.text.contains(in_memory_only) {
        assert!(Instant::now() < end, "not all revocations end with this process");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let (status, kill_file) = part(&started, "kill_file").await;
    assert_eq!((status, &kill_file["ready"]), (503, &json!(false)), "{kill_file}");
    started.limit_files(None);
    until(&started, "kill_file", |state| state == "ok").await;
    // The store, at which each of them waits for seconds, keeps none of them from the kill file.
    until(&started, "revocations", |state| !state.contains("end with this process")).await;
    started.kill();
    store.close().await.expect("the store is free");
    let started = gateway.serve(&Tune::default());
    for key in more.chain(["orders".to_owned()]) {
        assert_eq!(state(&started.tenant("acme"), &key).await, "disabled", "{key}");
    }
    assert!(started.terminate());
}

/// Files that a start writes, by their number and content.
fn written(data: &Path) -> BTreeMap<&'static str, (u64, Vec<u8>)> {
    let names = ["cuts.kill", "store.run", "node", "claviger.db"];
    let of = |name| {
        let file = data.join(name);
        let number = fs::metadata(&file).expect("the file").ino();
        (name, (number, fs::read(file).expect("its content")))
    };
    names.map(of).into()
}

async fn second_start() {
    let (gateway, started, client) = furnished().await;
    fs::remove_file(gateway.data().join("lock")).expect("removed");
    let before = written(&gateway.data());
    let said = refused(&gateway, &Tune::default());
    assert!(said.contains("another claviger process uses the data folder"), "{said}");
    assert!(written(&gateway.data()) == before, "the second process wrote to the folder");
    client.post_empty("/v1/keys/orders/disable").await.expect_status(200);
    assert!(started.terminate());
    let started = gateway.serve(&Tune::default());
    assert_eq!(state(&started.tenant("acme"), "orders").await, "disabled");
    assert!(started.terminate());
}

async fn moved_folder() {
    let (gateway, started, client) = furnished().await;
    let (data, away) = (gateway.data(), gateway.data().with_extension("away"));
    fs::rename(&data, &away).expect("moved");
    fs::DirBuilder::new().mode(0o700).create(&data).expect("another folder");
    until(&started, "audit_log", |state| state == "log_lost").await;
    let answer = client.post("/v1/keys/orders/data-keys", &json!({})).await;
    answer.expect_problem(503, "audit_unavailable");
    // They write to the folder.
    for job in ["audit_watch", "log_position"] {
        until_ran(&started, job).await;
    }
    let found: Vec<_> = fs::read_dir(&data)
        .expect("the folder")
        .map(|entry| entry.expect("an entry").file_name())
        .collect();
    assert!(found.is_empty(), "{found:?}");
    fs::remove_dir(&data).expect("it is empty");
    fs::rename(&away, &data).expect("moved back");
    until_sound(&started).await;
    let answer = client.post("/v1/keys/orders/data-keys", &json!({})).await;
    let index = answer.header("claviger-audit-index").to_owned();
    answer.expect_status(200);
    started.kill();
    let all = records(&data).into_iter();
    let mut numbers = all.map(|record| {
        format!(
            "{}/{}/{}#{}",
            record["installation"], record["node"], record["tenant"], record["sequence"]
        )
    });
    assert!(numbers.any(|number| number.replace('"', "") == index), "{index} is gone");
    assert!(gateway.serve(&Tune::default()).terminate());
}

async fn store_file(name: &str) {
    let (gateway, started, client) = furnished().await;
    let (file, away) = (gateway.data().join(name), gateway.data().join("away"));
    let create = async |name: &str| client.post("/v1/keys", &json!({"name": name, "connection": "embedded"})).await;
    fs::rename(&file, &away).expect("moved");
    // At once, before a look.
    create("lost").await.expect_problem(503, "not_ready");
    until(&started, "store", |state| state == "files_lost").await;
    assert_eq!(part(&started, "store").await.0, 503);
    assert!(started.output().contains(&format!("{name}\"")), "{}", started.output());
    // What needs no change goes on, and revocations take effect.
    client.post("/v1/keys/orders/data-keys", &json!({})).await.expect_status(200);
    let revoked = client.post_empty("/v1/keys/other/disable").await;
    assert!(matches!(revoked.status, 200 | 503), "{}", revoked.text);
    client
        .post("/v1/keys/other/data-keys", &json!({}))
        .await
        .expect_problem(409, "key_disabled");
    fs::rename(&away, &file).expect("moved back");
    until(&started, "store", |state| state == "ok").await;
    create("back").await.expect_status(201);
    until(&started, "revocations", |state| state == "ok").await;
    started.kill();
    let started = gateway.serve(&Tune::default());
    let client = started.tenant("acme");
    client.get("/v1/keys/back").await.expect_status(200);
    client.get("/v1/keys/lost").await.expect_problem(404, "not_found");
    assert_eq!(state(&client, "other").await, "disabled");
    assert!(started.terminate());
}
