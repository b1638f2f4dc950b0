//! Revocations that a medium could not take, and changes that an older store lacks although it has a
//! later one.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::{Duration, Instant};

use claviger_test_support::{Client, Gateway, Tune};
use claviger_testkit::control::Request;
use libtest_mimic::Trial;
use serde_json::{Value, json};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions, Connection};

use crate::answers::{PATIENCE, kill_in, world};
use crate::disagree::{Copy, DATABASE};
use crate::held::Held;
use crate::ready::{log_state, state_of, until_ran, until_sound};
use crate::run;
use crate::service::{Loss, Service};

const KILL_FILE: [&str; 1] = ["cuts.kill"];

pub fn trials() -> Vec<Trial> {
    let absent = !cfg!(feature = "testkit");
    vec![
        Trial::test("media::a_rotate_that_another_change_overtook_is_missed_in_an_older_store", || {
            run(overtaken())
        })
        .with_ignored_flag(absent),
        Trial::test("media::a_disable_that_only_the_log_has_holds_after_a_later_change", || {
            run(only_in_the_log())
        }),
        Trial::test("media::a_limit_on_the_size_of_files_is_borne_like_a_full_disk", || {
            run(limited_files())
        }),
        Trial::test("media::a_missing_kill_file_is_reported", || run(missing())),
        Trial::test("media::a_missing_kill_file_is_reported_after_a_start_that_was_killed", || {
            run(missing_twice())
        }),
        Trial::test("media::a_start_writes_kill_file_and_reserve_anew", || run(anew())),
    ]
}

/// A connection to the store.
pub async fn store(data: &Path) -> SqliteConnection {
    let options = SqliteConnectOptions::new().filename(data.join("claviger.db"));
    options.connect().await.expect("the store opens")
}

/// The store of a running gateway, locked against its writes.
pub async fn lock_store(data: &Path) -> SqliteConnection {
    let mut store = store(data).await;
    sqlx::query("BEGIN IMMEDIATE")
        .execute(&mut store)
        .await
        .expect("the store is locked");
    store
}

/// The store takes no change of this column, or takes them again.
pub async fn take(gateway: &Gateway, column: &str, table: &str, takes: bool) {
    let mut store = store(&gateway.data()).await;
    let statement = match takes {
        false => format!("CREATE TRIGGER held BEFORE UPDATE OF {column} ON {table} BEGIN SELECT RAISE(ABORT, 'held'); END"),
        true => "DROP TRIGGER held".to_owned(),
    };
    let statement = sqlx::AssertSqlSafe(statement);
    sqlx::query(statement).execute(&mut store).await.expect("the store changes");
    store.close().await.expect("the store is closed");
}

async fn key(client: &Client, name: &str) {
    client
        .post("/v1/keys", &json!({"name": name, "connection": "embedded"}))
        .await
        .expect_status(201);
}

/// The intent of the rotate is before the other change in the log; its commit is after the copy.
async fn overtaken() {
    let (held, started, client) = Held::start("there").await;
    let going = held.rotate(&client, "rotate", &json!({})).await;
    key(&client, "later").await;
    let copy = Copy::of(&held.gateway.data(), &DATABASE);
    let mut fake = held.control().await;
    fake.tell(&Request::Clear).await.expect("the gate opens");
    let rotated = going.await.expect("the request ends").expect("an answer");
    assert_eq!(rotated.expect_status(200)["primary_version"], 2);
    // After a clean end, the copy's own log would be refused for another reason.
    started.kill();
    copy.restore(&held.gateway.data());

    let Err(refused) = catch_unwind(AssertUnwindSafe(|| held.again())) else {
        panic!("it starts although the store lacks the rotate");
    };
    let said = refused.downcast_ref::<String>().expect("a message");
    assert!(said.contains("lacks 1 change(s)") && said.contains("rotate key"), "{said}");
}

/// The store refuses the disable until the process ends, and the kill file is lost, so the log alone has it.
async fn only_in_the_log() {
    let gateway = Gateway::new(crate::BINARY);
    let started = gateway.serve(&Tune::default());
    let client = started.with_tenant("acme").await;
    key(&client, "orders").await;
    let kill_file = Copy::of(&gateway.data(), &KILL_FILE);
    take(&gateway, "state", "keys", false).await;
    client.post_empty("/v1/keys/orders/disable").await.expect_status(200);
    key(&client, "later").await;
    started.kill();
    kill_file.restore(&gateway.data());
    take(&gateway, "state", "keys", true).await;
    let mut store = store(&gateway.data()).await;
    let query = "SELECT name, state FROM keys WHERE name IN ('later', 'orders') ORDER BY name";
    let rows: Vec<(String, String)> = sqlx::query_as(query).fetch_all(&mut store).await.expect("the keys");
    let enabled = |name: &str| (name.to_owned(), "enabled".to_owned());
    assert_eq!(rows, [enabled("later"), enabled("orders")], "the store lacks the disable alone");
    store.close().await.expect("the store is closed");

    let started = gateway.serve(&Tune::default());
    let client = started.tenant("acme");
    client.get("/v1/keys/later").await.expect_status(200);
    assert_eq!(client.get("/v1/keys/orders").await.expect_status(200)["state"], "disabled");
    assert!(started.terminate());
}

async fn missing() {
    let gateway = Gateway::new(crate::BINARY);
    let started = gateway.serve(&Tune::default());
    assert_eq!(state_of(&started, "kill_file").await, "ok");
    assert!(!started.output().contains("cuts.kill"), "{}", started.output());
    assert!(started.terminate());
    fs::remove_file(gateway.data().join(KILL_FILE[0])).expect("it was there");
    let started = gateway.serve(&Tune::default());
    assert!(state_of(&started, "kill_file").await.contains("missing at the start"));
    assert!(started.output().contains("cuts.kill is missing"), "{}", started.output());
    assert!(started.terminate());
    let started = gateway.serve(&Tune::default());
    assert_eq!(state_of(&started, "kill_file").await, "ok");
    assert!(started.terminate());
}

/// The start is killed while it asks the provider what became of a rotation.
async fn missing_twice() {
    let service = Service::start().await;
    let (gateway, started, client) = world(&service).await;
    kill_in(&service, Loss::Silent, started, client, "/v1/keys/on-aws/rotate", json!({})).await;
    fs::remove_file(gateway.data().join(KILL_FILE[0])).expect("it was there");
    service.set_hanging(true);
    let calls = service.calls();
    let started = gateway.listen(&service.tune());
    let end = Instant::now() + PATIENCE;
    while service.calls() == calls {
        assert!(Instant::now() < end, "it asks nothing:\n{}", started.output());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    started.kill();
    service.set_hanging(false);
    let started = gateway.serve(&service.tune());
    assert!(state_of(&started, "kill_file").await.contains("missing at the start"));
    assert!(started.terminate());
}

async fn anew() {
    let gateway = Gateway::new(crate::BINARY);
    let tune = Tune::default().set("CLAVIGER_AUDIT__DISK_RESERVE", "1MiB");
    // Held open, so that no number is used again.
    let open = |name: &str| fs::File::open(gateway.data().join(name)).ok();
    let number = |file: &fs::File| file.metadata().expect("its number").ino();
    let mut kept = Vec::new();
    for _ in 0..3 {
        let kill_file = open("cuts.kill").expect("init makes it");
        let reserve = open("audit.reserve");
        let started = gateway.serve(&tune);
        let now = open("cuts.kill").expect("the file");
        assert_ne!(number(&now), number(&kill_file), "the kill file shares its blocks with a copy");
        // The reserve is made after the start.
        let end = Instant::now() + Duration::from_secs(20);
        while open("audit.reserve").map(|now| number(&now)) == reserve.as_ref().map(number) {
            assert!(Instant::now() < end, "the reserve shares its blocks with a copy");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        kept.push((kill_file, reserve));
        assert!(started.terminate());
    }
    assert!(kept.last().is_some_and(|(_, reserve)| reserve.is_some()));
}

/// `ulimit -f`: the next file of the log cannot be made.
async fn limited_files() {
    let gateway = Gateway::new(crate::BINARY);
    let started = gateway.serve(&Tune::default().set("CLAVIGER_AUDIT__DISK_RESERVE", "1MiB"));
    let client = started.with_tenant("acme").await;
    for name in ["filler", "orders"] {
        let body = json!({"name": name, "connection": "embedded"});
        client.post("/v1/keys", &body).await.expect_status(201);
    }
    started.limit_files(Some(1 << 20));
    let items: Vec<Value> = (0..200).map(|_| json!({"key": "filler"})).collect();
    let end = Instant::now() + Duration::from_secs(20);
    loop {
        let answer = client.post("/v1/batch/data-keys", &json!({"items": items})).await;
        if answer.status != 200 {
            answer.expect_problem(503, "audit_unavailable");
            break;
        }
        assert!(Instant::now() < end, "the log is not limited");
    }
    // Also after a look at the disk, which has room.
    until_ran(&started, "audit_watch").await;
    assert_eq!(log_state(&started).await, (503, false, "disk_full".to_owned()));
    let revoked = client.post_empty("/v1/keys/orders/disable").await;
    assert!(matches!(revoked.status, 200 | 503), "{}", revoked.text);
    started.limit_files(None);
    until_sound(&started).await;
    client.post("/v1/keys/filler/data-keys", &json!({})).await.expect_status(200);
    started.kill();
    let started = gateway.serve(&Tune::default());
    let key = started.tenant("acme").get("/v1/keys/orders").await.expect_status(200);
    assert_eq!(key["state"], "disabled");
    assert!(started.terminate());
}
