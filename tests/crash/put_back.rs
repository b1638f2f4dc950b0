//! A data folder of which a part was put back to an older state, or is gone.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use claviger_test_support::{Gateway, Tune, records};
use libtest_mimic::Trial;
use serde_json::{Value, json};
use sqlx::Connection;

use crate::disagree::{Copy, DATABASE, accepting, accepting_lost_log, refused, starts_plainly};
use crate::media::store;
use crate::ready::until_ran;
use crate::run;

/// The first file of the log, which is the only one here.
const LOG: &str = "audit-00000000000000000000.log";
const LOG_AND_INDEX: [&str; 2] = [LOG, "audit.index"];

pub fn trials() -> Vec<Trial> {
    vec![
        Trial::test("put_back::an_older_database_beside_its_newer_log_is_refused", || {
            run(older_database(&["claviger.db"]))
        }),
        Trial::test("put_back::an_older_folder_beside_a_newer_log_of_the_database_is_refused", || {
            run(older_database(&[
                "claviger.db",
                "store.run",
                LOG,
                "audit.index",
                "cuts.kill",
                "node",
            ]))
        }),
        Trial::test("put_back::an_older_database_is_refused_without_store_run_as_well", || {
            run(without_run())
        }),
        Trial::test("put_back::what_a_killed_program_left_is_refused_until_it_is_completed", || {
            run(left_by_another())
        }),
        Trial::test(
            "put_back::an_older_log_is_refused_although_only_data_operations_are_missing",
            || run(older_log(true)),
        ),
        Trial::test("put_back::the_store_knows_the_log_s_end_while_records_are_written", || {
            run(older_log(false))
        }),
        Trial::test("put_back::a_store_without_a_tenant_is_accepted_and_each_loss_is_told", || {
            run(without_tenant())
        }),
        Trial::test("put_back::a_folder_with_a_log_and_no_store_is_left_as_it_is", || {
            run(without_store())
        }),
    ]
}

async fn furnished() -> Gateway {
    let gateway = Gateway::new(crate::BINARY);
    let started = gateway.serve(&Tune::default());
    let client = started.with_tenant("acme").await;
    for name in ["first", "second"] {
        let key = json!({"name": name, "connection": "embedded"});
        client.post("/v1/keys", &key).await.expect_status(201);
    }
    assert!(started.terminate());
    gateway
}

fn wal(gateway: &Gateway) -> Vec<u8> {
    fs::read(gateway.data().join("claviger.db-wal")).expect("the database's log")
}

async fn older_database(names: &[&'static str]) {
    let gateway = furnished().await;
    let copy = Copy::of(&gateway.data(), names);
    let started = gateway.serve(&Tune::default());
    let client = started.tenant("acme");
    client.post_empty("/v1/keys/first/disable").await.expect_status(200);
    started.kill();
    copy.restore(&gateway.data());
    let before = wal(&gateway);
    assert!(!before.is_empty(), "a killed gateway leaves the log");
    refused_for_its_log(&gateway);
    let started = gateway.serve(&accepting());
    let aside = fs::read(gateway.data().join("claviger.db-wal.replaced")).expect("it is kept");
    assert!(aside == before);
    // The audit log has the revocation, unless it was put back with the database.
    let first = started.tenant("acme").get("/v1/keys/first").await.expect_status(200);
    let expected = if names.contains(&LOG) { "enabled" } else { "disabled" };
    assert_eq!(first["state"], expected);
    assert!(started.terminate());
    starts_plainly(&gateway);
}

/// Two starts are refused, since the database and the log beside it do not belong together.
fn refused_for_its_log(gateway: &Gateway) {
    let before = wal(gateway);
    for _ in 0..2 {
        let said = refused(gateway, &Tune::default());
        assert!(
            said.contains("claviger.db-wal is not the log of") && said.contains("--accept-rollback"),
            "{said}"
        );
        assert!(wal(gateway) == before, "a refused start changes nothing");
    }
}

/// The file that tells the two apart is gone.
async fn without_run() {
    let gateway = furnished().await;
    let copy = Copy::of(&gateway.data(), &["claviger.db"]);
    let started = gateway.serve(&Tune::default());
    started.tenant("acme").post_empty("/v1/keys/first/disable").await.expect_status(200);
    started.kill();
    let newer = Copy::of(&gateway.data(), &["claviger.db"]);
    copy.restore(&gateway.data());
    fs::remove_file(gateway.data().join("store.run")).expect("removed");
    refused_for_its_log(&gateway);
    // Where the two belong together, the log shows it.
    newer.restore(&gateway.data());
    let started = gateway.serve(&Tune::default());
    let first = started.tenant("acme").get("/v1/keys/first").await.expect_status(200);
    assert_eq!(first["state"], "disabled");
    assert!(gateway.data().join("store.run").exists());
    assert!(started.terminate());
    starts_plainly(&gateway);
}

/// A program such as `sqlite3` writes to the store of a stopped gateway, and is killed.
async fn left_by_another() {
    let gateway = furnished().await;
    let mut other = store(&gateway.data()).await;
    sqlx::query("UPDATE keys SET name = 'third' WHERE name = 'first'")
        .execute(&mut other)
        .await
        .expect("the row changes");
    let left = Copy::of(&gateway.data(), &["claviger.db", "claviger.db-wal"]);
    // Its end moves the change to the main file, which a kill does not.
    other.close().await.expect("the store is closed");
    left.restore(&gateway.data());
    assert!(!wal(&gateway).is_empty());
    let said = refused(&gateway, &Tune::default());
    assert!(said.contains("open the database with that program once more"), "{said}");
    // Opening it merges the log, and closing it removes it.
    let mut other = store(&gateway.data()).await;
    sqlx::query("SELECT name FROM keys").fetch_all(&mut other).await.expect("the rows");
    other.close().await.expect("the store is closed");
    let started = gateway.serve(&Tune::default());
    started.tenant("acme").get("/v1/keys/third").await.expect_status(200);
    assert!(started.terminate());
    starts_plainly(&gateway);
}

async fn older_log(closed: bool) {
    let gateway = furnished().await;
    let copy = Copy::of(&gateway.data(), &LOG_AND_INDEX);
    let started = gateway.serve(&Tune::default());
    let client = started.tenant("acme");
    for _ in 0..5 {
        client.post("/v1/keys/first/data-keys", &json!({})).await.expect_status(200);
    }
    if closed {
        assert!(started.terminate());
    } else {
        until_ran(&started, "log_position").await;
        started.kill();
    }
    copy.restore(&gateway.data());
    for _ in 0..2 {
        let said = refused(&gateway, &Tune::default());
        assert!(
            said.contains("the log was restored from an older copy") && said.contains("--accept-lost-log"),
            "{said}"
        );
    }
    let started = gateway.serve(&accepting_lost_log());
    started
        .tenant("acme")
        .post("/v1/keys/first/data-keys", &json!({}))
        .await
        .expect_status(200);
    // Written before the first answer.
    assert!(records(&gateway.data()).iter().any(|record| record["cause"] == "log_lost"));
    started.kill();
    starts_plainly(&gateway);
}

async fn without_tenant() {
    let gateway = furnished().await;
    let copy = Copy::of(&gateway.data(), &DATABASE);
    let started = gateway.serve(&Tune::default());
    let client = started.with_tenant("globex").await;
    let key = json!({"name": "lost", "connection": "embedded"});
    let key = client.post("/v1/keys", &key).await.expect_status(201);
    client.post_empty("/v1/keys/lost/disable").await.expect_status(200);
    started.operator().post_empty("/v1/tenants/globex/suspend").await.expect_status(200);
    assert!(started.terminate());
    copy.restore(&gateway.data());

    let said = refused(&gateway, &Tune::default());
    assert!(said.contains("--accept-rollback") && said.contains("create tenant"), "{said}");
    let started = gateway.serve(&accepting());
    let said = started.output();
    let losses: Vec<Value> = said
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .filter(|line: &Value| {
            line["message"]
                .as_str()
                .is_some_and(|message| message.contains("the store lacks a change"))
        })
        .collect();
    for object in ["tenant", "connection", "key"] {
        let lost = |loss: &Value| loss["verb"] == "create" && loss["object"] == object;
        assert!(losses.iter().any(lost), "no {object}: {losses:?}");
    }
    assert!(losses.iter().any(|loss| loss["id"] == key["id"]), "{losses:?}");
    started.operator().get("/v1/tenants/globex").await.expect_problem(404, "not_found");
    started.with_tenant("globex").await;
    assert!(started.terminate());
    starts_plainly(&gateway);
}

fn files(folder: &Path) -> BTreeSet<(String, Vec<u8>)> {
    let entry = |entry: std::io::Result<fs::DirEntry>| {
        let entry = entry.expect("an entry");
        let content = fs::read(entry.path()).unwrap_or_default();
        (entry.file_name().into_string().expect("a name"), content)
    };
    fs::read_dir(folder).expect("the folder").map(entry).collect()
}

async fn without_store() {
    let gateway = furnished().await;
    for left in [LOG, "audit.index", "cuts.kill"] {
        for name in DATABASE {
            drop(fs::remove_file(gateway.data().join(name)));
        }
        drop(fs::remove_file(gateway.root_key()));
        let before = files(&gateway.data());
        let mut init = gateway.command(&Tune::default());
        let token = gateway.data().with_file_name("other.token");
        let output = init.args(["init", "--token-out"]).arg(&token).output().expect("init runs");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            !output.status.success() && said.contains(left) && said.contains("no store"),
            "{said}"
        );
        let said = refused(&gateway, &Tune::default());
        assert!(said.contains(left) && !said.contains("run claviger init"), "{said}");
        assert_eq!(files(&gateway.data()), before);
        assert!(!token.exists() && !gateway.root_key().exists(), "nothing is made");
        fs::remove_file(gateway.data().join(left)).expect("removed");
    }
}
