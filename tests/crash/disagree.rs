//! Store and log that no longer agree: an older copy of either, a damaged or torn log, a
//! missing sidecar.

use std::fs;
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use claviger_test_support::{Client, Gateway, Started, Tune, last_log_file, log_end, records};
use libtest_mimic::Trial;
use serde_json::json;

use crate::load::text;
use crate::run;
use crate::verify::Record;

/// The files of the store.
pub const DATABASE: [&str; 3] = ["claviger.db", "claviger.db-wal", "claviger.db-shm"];
/// The first file of the log; these cases write no other.
const LOG: [&str; 1] = ["audit-00000000000000000000.log"];
const LOG_AND_INDEX: [&str; 2] = ["audit-00000000000000000000.log", "audit.index"];

pub fn trials() -> Vec<Trial> {
    vec![
        Trial::test("disagree::an_older_store_is_refused_until_the_rollback_is_accepted", || {
            run(older_store())
        }),
        Trial::test("disagree::a_refusal_is_repeated_although_a_revocation_was_missing_too", || {
            run(refused_twice())
        }),
        Trial::test("disagree::revocations_that_an_older_store_lacks_are_applied_again", || {
            run(revocations_again())
        }),
        Trial::test("disagree::a_disable_outlives_the_loss_of_the_adoption_before_it", || {
            run(disable_without_adoption())
        }),
        Trial::test("disagree::an_older_log_is_refused_until_the_loss_is_accepted", || {
            run(older_log(&LOG_AND_INDEX))
        }),
        Trial::test("disagree::an_older_log_beside_a_newer_sidecar_is_refused_as_well", || {
            run(older_log(&LOG))
        }),
        Trial::test("disagree::damage_in_the_middle_is_refused", || run(damaged())),
        Trial::test("disagree::a_torn_end_is_removed", || run(torn())),
        Trial::test("disagree::a_missing_or_damaged_sidecar_changes_nothing", || run(sidecar())),
        Trial::test(
            "disagree::an_interrupted_creation_does_not_stop_later_starts",
            || run(interrupted()),
        ),
    ]
}

/// Copies of some files of the data folder.
pub struct Copy(Vec<(&'static str, Option<Vec<u8>>)>);

impl Copy {
    pub fn of(data: &Path, names: &[&'static str]) -> Self {
        Self(names.iter().map(|name| (*name, fs::read(data.join(name)).ok())).collect())
    }

    pub fn restore(&self, data: &Path) {
        for (name, bytes) in &self.0 {
            match bytes {
                Some(bytes) => fs::write(data.join(name), bytes).expect("the copy is written"),
                None => drop(fs::remove_file(data.join(name))),
            }
        }
    }
}

fn with(flag: &str) -> Tune {
    Tune {
        arguments: vec![flag.to_owned()],
        ..Tune::default()
    }
}

/// A start that goes on with an older store.
pub fn accepting() -> Tune {
    with("--accept-rollback")
}

/// A start that goes on with what is left of the log.
pub fn accepting_lost_log() -> Tune {
    with("--accept-lost-log")
}

/// Starts the gateway, which must fail. Returns its messages.
pub fn refused(gateway: &Gateway, tune: &Tune) -> String {
    match gateway.try_serve(tune) {
        Ok(_) => panic!("it started"),
        Err(said) => said,
    }
}

/// Starts the gateway, stops it, and checks that no intent is open.
pub fn starts_plainly(gateway: &Gateway) {
    let started = gateway.serve(&Tune::default());
    assert!(started.terminate(), "an end in order");
    let mut record = Record::default();
    record.read_on(&gateway.data());
    record.assert_nothing_open();
}

async fn key(client: &Client, name: &str) {
    client
        .post("/v1/keys", &json!({"name": name, "connection": "embedded"}))
        .await
        .expect_status(201);
}

/// A stopped gateway with a tenant and two keys.
async fn furnished() -> Gateway {
    let gateway = Gateway::new(crate::BINARY);
    let started = gateway.serve(&Tune::default());
    let client = started.with_tenant("acme").await;
    key(&client, "first").await;
    key(&client, "second").await;
    assert!(started.terminate());
    gateway
}

async fn older_store() {
    let gateway = furnished().await;
    let copy = Copy::of(&gateway.data(), &DATABASE);
    let started = gateway.serve(&Tune::default());
    let client = started.tenant("acme");
    key(&client, "third").await;
    let made = client.post("/v1/keys/third/data-keys", &json!({})).await.expect_status(200);
    assert!(started.terminate());
    copy.restore(&gateway.data());

    for _ in 0..2 {
        let said = refused(&gateway, &Tune::default());
        assert!(said.contains("--accept-rollback") && said.contains("older copy"), "{said}");
    }
    // The change of a new token must not hide the missing ones.
    let mut init = gateway.command(&Tune::default());
    let output = init
        .args(["init", "--new-token", "--token-out"])
        .arg(gateway.data().join("new.token"))
        .output();
    let output = output.expect("init runs");
    assert!(!output.status.success() && String::from_utf8_lossy(&output.stderr).contains("older copy"));

    let started = gateway.serve(&accepting());
    let client = started.tenant("acme");
    client.get("/v1/keys/third").await.expect_problem(404, "not_found");
    // Only to one who may read all keys, and only an inspection says that the key is lost.
    for (path, says) in [("/v1/inspect", true), ("/v1/unwrap", false)] {
        let refused = client.post(path, &json!({"wrapped": made["wrapped"]})).await;
        let problem = refused.expect_problem(422, "ciphertext_rejected");
        assert_eq!(text(&problem["detail"]).contains("does not have the key"), says, "{problem}");
        assert_eq!(text(&problem["what_to_do"]).contains("--accept-rollback"), says, "{problem}");
    }
    key(&client, "third").await;
    assert!(started.terminate());
    starts_plainly(&gateway);
}

/// A revocation follows the lost changes: applying it must not hide the loss from the next start.
async fn refused_twice() {
    let gateway = furnished().await;
    let copy = Copy::of(&gateway.data(), &DATABASE);
    let started = gateway.serve(&Tune::default());
    let client = started.tenant("acme");
    client.post_empty("/v1/keys/first/rotate").await.expect_status(200);
    client.post_empty("/v1/keys/second/disable").await.expect_status(200);
    assert!(started.terminate());
    copy.restore(&gateway.data());

    for _ in 0..3 {
        let said = refused(&gateway, &Tune::default());
        assert!(said.contains("--accept-rollback") && said.contains("rotate key"), "{said}");
    }
    let started = gateway.serve(&accepting());
    let second = started.tenant("acme").get("/v1/keys/second").await.expect_status(200);
    assert_eq!(second["state"], "disabled", "a revocation survives an accepted rollback");
    assert!(started.terminate());
    starts_plainly(&gateway);
}

async fn revocations_again() {
    let gateway = furnished().await;
    let started = gateway.serve(&Tune::default());
    let client = started.tenant("acme");
    client.post("/v1/principals", &json!({"name": "worker"})).await.expect_status(201);
    let tokens = "/v1/principals/worker/tokens";
    let token = client.post(tokens, &json!({"operations": ["ReadKey"]})).await.expect_status(201);
    client
        .post("/v1/connections", &json!({"name": "other", "provider": "local", "settings": {}}))
        .await
        .expect_status(201);
    client.post("/v1/principals", &json!({"name": "leaver"})).await.expect_status(201);
    let tokens_of_leaver = "/v1/principals/leaver/tokens";
    let of_leaver = client
        .post(tokens_of_leaver, &json!({"operations": ["ReadKey"]}))
        .await
        .expect_status(201);
    started.with_tenant("globex").await;
    assert!(started.terminate());
    let copy = Copy::of(&gateway.data(), &DATABASE);

    let started = gateway.serve(&Tune::default());
    let client = started.tenant("acme");
    client.delete("/v1/principals/leaver").await.expect_status(204);
    let suspended = started.operator().post_empty("/v1/tenants/globex/suspend").await;
    suspended.expect_status(200);
    client.post_empty("/v1/keys/first/disable").await.expect_status(200);
    client.post_empty("/v1/connections/other/sever").await.expect_status(200);
    client.delete(&format!("{tokens}/{}", text(&token["id"]))).await.expect_status(204);
    assert!(started.terminate());
    copy.restore(&gateway.data());

    for _ in 0..2 {
        let started = gateway.serve(&Tune::default());
        let client = started.tenant("acme");
        assert_eq!(client.get("/v1/keys/first").await.expect_status(200)["state"], "disabled");
        let key = client.post("/v1/keys", &json!({"name": "x", "connection": "other"})).await;
        key.expect_problem(409, "connection_severed");
        let read = client.with_token(token["token"].as_str().expect("a token")).get("/v1/keys").await;
        read.expect_problem(401, "unauthenticated");
        let read = client
            .with_token(of_leaver["token"].as_str().expect("a token"))
            .get("/v1/keys")
            .await;
        read.expect_problem(401, "unauthenticated");
        client.get("/v1/principals/leaver").await.expect_problem(404, "not_found");
        let globex = started.operator().get("/v1/tenants/globex").await.expect_status(200);
        assert_eq!(globex["state"], "suspended");
        assert!(started.terminate());
    }
    // The revocations can be undone as usual.
    let started = gateway.serve(&Tune::default());
    let resumed = started.operator().post_empty("/v1/tenants/globex/resume").await;
    assert_eq!(resumed.expect_status(200)["state"], "active");
    started.tenant("acme").post_empty("/v1/keys/first/enable").await.expect_status(200);
    assert!(started.terminate());
    let started = gateway.serve(&Tune::default());
    let first = started.tenant("acme").get("/v1/keys/first").await.expect_status(200);
    assert_eq!(first["state"], "enabled", "an enable after the revocation survives");
    let globex = started.operator().get("/v1/tenants/globex").await.expect_status(200);
    assert_eq!(globex["state"], "active", "a resume after the revocation survives");
}

/// In the older store the key is detached and enabled.
async fn disable_without_adoption() {
    let gateway = furnished().await;
    let started = gateway.serve(&Tune::default());
    let client = started.tenant("acme");
    let first = client.get("/v1/keys/first").await.expect_status(200);
    assert_eq!(client.delete("/v1/keys/first").await.status, 204);
    let adopt = json!({"name": "first", "connection": "embedded", "provider_key": first["provider_key"]});
    assert!(started.terminate());
    let copy = Copy::of(&gateway.data(), &DATABASE);

    let started = gateway.serve(&Tune::default());
    let client = started.tenant("acme");
    let adopted = client.post("/v1/keys", &adopt).await.expect_status(201);
    assert_eq!((&adopted["id"], &adopted["state"]), (&first["id"], &json!("enabled")));
    client.post_empty("/v1/keys/first/disable").await.expect_status(200);
    assert!(started.terminate());
    copy.restore(&gateway.data());

    let started = gateway.serve(&accepting());
    let client = started.tenant("acme");
    client.get("/v1/keys/first").await.expect_problem(404, "not_found");
    let adopted = client.post("/v1/keys", &adopt).await.expect_status(201);
    assert_eq!((&adopted["id"], &adopted["state"]), (&first["id"], &json!("disabled")));
    client.post_empty("/v1/keys/first/enable").await.expect_status(200);
    assert!(started.terminate());
    starts_plainly(&gateway);
    let started = gateway.serve(&Tune::default());
    let first = started.tenant("acme").get("/v1/keys/first").await.expect_status(200);
    assert_eq!(first["state"], "enabled", "an enable after the disable survives");
}

async fn older_log(files: &[&'static str]) {
    let gateway = furnished().await;
    let copy = Copy::of(&gateway.data(), files);
    let started = gateway.serve(&Tune::default());
    let client = started.tenant("acme");
    key(&client, "third").await;
    client.post_empty("/v1/keys/first/rotate").await.expect_status(200);
    assert!(started.terminate());
    copy.restore(&gateway.data());

    for tune in [Tune::default(), accepting(), Tune::default()] {
        let said = refused(&gateway, &tune);
        assert!(said.contains("--accept-lost-log"), "{said}");
    }
    let started = gateway.serve(&accepting_lost_log());
    // The store continues from its state.
    let client = started.tenant("acme");
    client.get("/v1/keys/third").await.expect_status(200);
    assert_eq!(client.get("/v1/keys/first").await.expect_status(200)["primary_version"], 2);
    assert!(started.terminate());
    starts_plainly(&gateway);
    let started = gateway.serve(&Tune::default());
    key(&started.tenant("acme"), "fourth").await;
    started.kill();
    starts_plainly(&gateway);
}

/// Kills the gateway, so that the next start reads the log from its last sidecar. Returns the log
/// without the zeros at its end.
async fn killed() -> (Gateway, Vec<u8>) {
    let gateway = furnished().await;
    let started = gateway.serve(&Tune::default());
    let client = started.tenant("acme");
    for _ in 0..20 {
        client.post("/v1/keys/first/data-keys", &json!({})).await.expect_status(200);
    }
    started.kill();
    let (path, end) = log_end(&gateway.data());
    let mut log = fs::read(path).expect("the log");
    log.truncate(usize::try_from(end).expect("a length"));
    (gateway, log)
}

fn overwrite(gateway: &Gateway, at: u64, bytes: &[u8]) {
    let log = fs::File::options().write(true).open(last_log_file(&gateway.data()));
    let mut log = log.expect("the log");
    log.seek(SeekFrom::Start(at)).expect("a place");
    log.write_all(bytes).expect("written");
}

async fn damaged() {
    let (gateway, log) = killed().await;
    // After the sidecar's offset, with whole commits following.
    let at = log.len() as u64 - 4000;
    overwrite(&gateway, at, b"????");
    let before = fs::read(last_log_file(&gateway.data())).expect("the log");
    for tune in [Tune::default(), accepting()] {
        let said = refused(&gateway, &tune);
        assert!(said.contains("the audit log is damaged at byte"), "{said}");
    }
    let after = fs::read(last_log_file(&gateway.data())).expect("the log");
    assert!(before == after, "a refused log is left as it was found");
}

async fn torn() {
    let (gateway, log) = killed().await;
    // The first part of a commit that was not acknowledged: after the last one.
    overwrite(&gateway, log.len() as u64, &[0x80, 0, 1, 0, 1, 2, 3, 4, b'{']);
    starts_plainly(&gateway);
    let all = records(&gateway.data());
    let restarted = all.iter().rfind(|record| record["kind"] == "restarted").expect("a restart");
    assert!(restarted["truncated_bytes"].as_u64().is_some_and(|bytes| bytes > 0), "{restarted}");
}

async fn sidecar() {
    for damage in [None, Some(&b"claviger-audit-index/1 00000000\n{}"[..]), Some(&b""[..])] {
        let gateway = furnished().await;
        let before = records(&gateway.data()).len();
        let index = gateway.data().join("audit.index");
        match damage {
            None => fs::remove_file(&index).expect("removed"),
            Some(bytes) => fs::write(&index, bytes).expect("written"),
        }
        let started = gateway.serve(&Tune::default());
        key(&started.tenant("acme"), "third").await;
        assert!(started.terminate());
        assert!(records(&gateway.data()).len() > before);
        // The sequence numbers have no gap, and store and log agree.
        starts_plainly(&gateway);
    }
}

/// Kills the gateway while it creates keys until a start finds a creation with an unknown result.
/// That start and the later ones succeed without help.
async fn interrupted() {
    let gateway = furnished().await;
    for round in 0..200 {
        let started = gateway.serve(&Tune::default());
        if interruptions(&gateway) > 0 {
            assert!(started.terminate());
            starts_plainly(&gateway);
            return;
        }
        kill_while_making_keys(&gateway, started, round).await;
    }
    panic!("no kill fell into a creation");
}

async fn kill_while_making_keys(gateway: &Gateway, started: Started, round: u32) {
    let creations = || {
        let all = records(&gateway.data());
        all.iter().filter(|record| record["operation"] == "CreateKey").count()
    };
    let before = creations();
    let client = started.tenant("acme");
    let tasks: Vec<_> = (0..8)
        .map(|task| {
            let client = client.clone();
            tokio::spawn(async move {
                for number in 0.. {
                    let name = format!("made-{round}-{task}-{number}");
                    let request = client.request(reqwest::Method::POST, "/v1/keys");
                    let body = json!({"name": name, "connection": "embedded"});
                    if client.try_send(request.json(&body)).await.is_none() {
                        return;
                    }
                }
            })
        })
        .collect();
    // Kill it once requests are served: a client's first one may take longer than all others.
    let end = Instant::now() + Duration::from_secs(20);
    while creations() == before {
        assert!(Instant::now() < end, "no key is being made");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    started.kill();
    for task in tasks {
        task.await.expect("a task");
    }
}

fn interruptions(gateway: &Gateway) -> usize {
    let all = records(&gateway.data());
    all.iter().filter(|record| record["result"] == "interrupted").count()
}
