//! Syncs that fail, are slow or are missing, by `strace`: the store's log of a change, the audit log, and the folder of
//! a new installation. Without `strace` and root, who alone can trace the gateway, they are ignored.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use claviger_test_support::{Client, Gateway, Started, Tune, last_log_file, log_end, records, records_of};
use libtest_mimic::Trial;
use rustix::process::{Pid, Signal, geteuid, kill_process};
use serde_json::{Value, json};
use sqlx::Connection;

use crate::aside::placed;
use crate::lifted::kill_file_is_empty;
use crate::media::store;
use crate::ready::until_ran;
use crate::run;
use crate::watch::{cut_behind, until};

pub fn trials() -> Vec<Trial> {
    let able = geteuid().is_root() && Command::new("strace").arg("-V").output().is_ok();
    let tests = [
        Trial::test("unsynced::a_change_whose_sync_failed_does_not_take_effect_after_a_kill", || {
            run(overwritten())
        }),
        Trial::test("unsynced::the_gateway_stops_before_it_answers_what_it_cannot_take_back", || {
            run(stopped())
        }),
        Trial::test("unsynced::a_revocation_holds_although_no_sync_succeeds", || run(revoked())),
        Trial::test(
            "unsynced::a_revocation_that_the_log_could_not_take_has_its_record_after_a_kill",
            || run(unrecorded()),
        ),
        Trial::test("unsynced::a_rotation_that_the_store_could_not_take_is_found_while_it_runs", || {
            run(rotated(false))
        }),
        Trial::test(
            "unsynced::a_rotation_that_the_store_could_not_even_note_is_found_by_the_next_start",
            || run(rotated(true)),
        ),
        Trial::test(
            "unsynced::the_store_has_a_revocation_whose_intent_came_late_and_was_cut_away",
            || run(late()),
        ),
        Trial::test("unsynced::a_revocation_needs_no_new_thread", || run(without_threads())),
        Trial::test("unsynced::a_new_data_folder_is_synced_in_its_parents", || {
            run(async { new_folder() })
        }),
    ];
    tests.map(|test| test.with_ignored_flag(!able)).into()
}

/// The system calls that sync.
const SYNCS: &str = "fsync,fdatasync";

/// Fails calls of a process on one file, or delays them.
struct Failing(Child);

impl Failing {
    /// `when` as in `strace(1)`: `1` for the first of these calls of each thread, `1+` for all.
    fn begin(started: &Started, file: &Path, calls: &str, when: &str) -> Self {
        Self::inject(started, file, calls, &format!("error=EIO:when={when}"))
    }

    fn inject(started: &Started, file: &Path, calls: &str, fault: &str) -> Self {
        Self::attach(started, |strace| strace.arg("-P").arg(file), calls, fault)
    }

    fn attach(started: &Started, only: impl FnOnce(&mut Command) -> &mut Command, calls: &str, fault: &str) -> Self {
        let mut strace = Command::new("strace");
        strace.args(["-f", "-p", &started.pid().to_string(), "-e", &format!("trace={calls}")]);
        let mut strace = only(&mut strace)
            .args(["-e", &format!("inject={calls}:{fault}")])
            .stderr(Stdio::piped())
            .spawn()
            .expect("strace runs");
        let mut said = BufReader::new(strace.stderr.take().expect("its output"));
        let mut line = String::new();
        while !line.contains("attached") {
            line.clear();
            assert!(said.read_line(&mut line).expect("its output") > 0, "strace ended");
        }
        // What it writes further must be read, or it waits.
        std::thread::spawn(move || std::io::copy(&mut said, &mut std::io::sink()));
        Self(strace)
    }

    fn end(mut self) {
        let pid = Pid::from_raw(i32::try_from(self.0.id()).expect("a pid")).expect("a pid");
        // It may have ended with the process.
        let _ = kill_process(pid, Signal::INT);
        self.0.wait().expect("its end");
    }
}

/// A gateway with a disabled key, whose store will fail its syncs.
async fn world(when: &str) -> (Gateway, Started, Client, Failing) {
    let gateway = Gateway::new(crate::BINARY);
    let started = gateway.serve(&Tune::default());
    let client = started.with_tenant("acme").await;
    for key in ["off", "on"] {
        let body = json!({"name": key, "connection": "embedded"});
        client.post("/v1/keys", &body).await.expect_status(201);
    }
    client.post_empty("/v1/keys/off/disable").await.expect_status(200);
    let log = gateway.data().join("claviger.db-wal").canonicalize().expect("the store's log");
    let failing = Failing::begin(&started, &log, SYNCS, when);
    (gateway, started, client, failing)
}

async fn state(client: &Client, key: &str) -> Value {
    client.get(&format!("/v1/keys/{key}")).await.expect_status(200)["state"].clone()
}

/// The result of the only change with this verb.
fn result(gateway: &Gateway, verb: &str) -> Value {
    let all = records(&gateway.data()).into_iter();
    let mut outcomes = all.filter(|record| record["kind"] == "outcome" && record["change"]["verb"] == verb);
    outcomes.next().expect("an outcome")["result"].clone()
}

async fn overwritten() {
    let (gateway, started, client, failing) = world("1").await;
    let answer = client.post_empty("/v1/keys/off/enable").await;
    assert_eq!((answer.status, &answer.body["code"]), (500, &json!("internal")), "{}", answer.text);
    failing.end();
    assert_eq!(state(&client, "off").await, "disabled");
    started.kill();
    let started = gateway.serve(&Tune::default());
    let client = started.tenant("acme");
    assert_eq!(state(&client, "off").await, "disabled");
    assert_eq!(result(&gateway, "enable"), "interrupted");
    // The store goes on.
    client.post_empty("/v1/keys/off/enable").await.expect_status(200);
    assert_eq!(state(&client, "off").await, "enabled");
}

async fn stopped() {
    let (gateway, started, client, failing) = world("1+").await;
    let request = client.request(http::Method::POST, "/v1/keys/off/enable").body("{}");
    let answer = client.try_send(request.header("content-type", "application/json")).await;
    assert!(
        answer.is_none(),
        "answered {}",
        answer.map(|answer| answer.text).unwrap_or_default()
    );
    assert!(
        started.output().contains("Check the disk of the data folder"),
        "{}",
        started.output()
    );
    assert!(!started.wait(), "the gateway ended in good order");
    failing.end();
    let started = gateway.serve(&Tune::default());
    let found = state(&started.tenant("acme"), "off").await;
    let expected = if found == "enabled" { "success" } else { "failed" };
    assert_eq!(result(&gateway, "enable"), expected, "the key is {found}");
}

async fn revoked() {
    let (gateway, started, client, failing) = world("1+").await;
    let answer = client.post_empty("/v1/keys/on/disable").await;
    assert!(matches!(answer.status, 200 | 503), "{}", answer.text);
    assert_eq!(state(&client, "on").await, "disabled");
    failing.end();
    started.kill();
    let started = gateway.serve(&Tune::default());
    assert_eq!(state(&started.tenant("acme"), "on").await, "disabled");
}

/// The store takes the revocation, and the log neither its intent nor its outcome.
async fn unrecorded() {
    let gateway = Gateway::new(crate::BINARY);
    let started = gateway.serve(&Tune::default());
    let client = started.with_tenant("acme").await;
    let body = json!({"name": "on", "connection": "embedded"});
    client.post("/v1/keys", &body).await.expect_status(201);
    let log = last_log_file(&gateway.data()).canonicalize().expect("the log");
    let failing = Failing::begin(&started, &log, "pwrite64", "1+");
    let answer = client.post_empty("/v1/keys/on/disable").await;
    answer.expect_problem(503, "effective_not_recorded");
    started.kill();
    failing.end();
    assert!(!records(&gateway.data()).iter().any(|record| record["operation"] == "Disable"));
    let started = gateway.serve(&Tune::default());
    assert_eq!(state(&started.tenant("acme"), "on").await, "disabled");
    assert_eq!(result(&gateway, "disable"), "success");
}

/// The store takes no change, and the system has no more threads.
async fn without_threads() {
    let gateway = Gateway::new(crate::BINARY);
    let started = gateway.serve(&Tune::default());
    let client = started.with_tenant("acme").await;
    let body = json!({"name": "on", "connection": "embedded"});
    client.post("/v1/keys", &body).await.expect_status(201);
    let kill_file = gateway.data().join("cuts.kill");
    let empty = fs::read(&kill_file).expect("the kill file");
    let store = gateway.data().join("claviger.db");
    let away = store.with_extension("away");
    fs::rename(&store, &away).expect("moved");
    let failing = Failing::attach(&started, |strace| strace, "clone,clone3", "error=EAGAIN");
    let answer = client.post_empty("/v1/keys/on/disable").await;
    assert!(matches!(answer.status, 200 | 503), "{}", answer.text);
    assert!(
        fs::read(&kill_file).expect("the kill file") != empty,
        "the kill file has no revocation"
    );
    started.kill();
    failing.end();
    fs::rename(&away, &store).expect("moved back");
    let started = gateway.serve(&Tune::default());
    assert_eq!(state(&started.tenant("acme"), "on").await, "disabled");
}

/// The revocation goes on without its intent, and the store lacks nothing when that is lost.
async fn late() {
    let gateway = Gateway::new(crate::BINARY);
    let started = gateway.serve(&Tune::default());
    let client = started.with_tenant("acme").await;
    let body = json!({"name": "on", "connection": "embedded"});
    client.post("/v1/keys", &body).await.expect_status(201);
    let (log, length) = log_end(&gateway.data());
    // Twice as long as a revocation waits.
    let slow = Failing::inject(&started, &log.canonicalize().expect("the log"), SYNCS, "delay_enter=1000000");
    let answer = client.post_empty("/v1/keys/on/disable").await;
    assert!(matches!(answer.status, 200 | 503), "{}", answer.text);
    let outcomes = || {
        let all = records(&gateway.data()).into_iter();
        let disables = all.filter(|record| record["kind"] == "outcome" && record["operation"] == "Disable");
        disables.map(|record| record["intent"].is_u64()).collect::<Vec<_>>()
    };
    until("both have an outcome", || outcomes().len() == 2).await;
    slow.end();
    assert!(outcomes().contains(&false), "it waited for its intent");
    // The store has it, and what was answered has its record.
    if answer.status == 200 {
        until("its slot in the kill file is free", || kill_file_is_empty(&gateway)).await;
    }
    let is_intent = |record: &Value| record["kind"] == "intent" && record["operation"] == "Disable";
    let mut all = placed(&gateway.data()).into_iter();
    let (position, _) = all.find(|(_, record)| is_intent(record)).expect("the intent");
    let mut store = store(&gateway.data()).await;
    let end = Instant::now() + Duration::from_secs(20);
    let last = "SELECT max(position) FROM applied";
    while sqlx::query_scalar::<_, i64>(last).fetch_one(&mut store).await.expect("a position") != position as i64 {
        assert!(Instant::now() < end, "the store never gets its position");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    store.close().await.expect("the store is closed");
    cut_behind(&gateway, &client, length).await;
    assert!(started.terminate());
    let started = gateway.serve(&Tune::default());
    assert_eq!(state(&started.tenant("acme"), "on").await, "disabled");
}

/// The embedded provider's material is the rotate's first commit, its version the second. The third overwrites that
/// one, and the fourth notes that a version is to be looked for.
async fn rotated(killed: bool) {
    let gateway = Gateway::new(crate::BINARY);
    let mut started = gateway.serve(&Tune::default());
    started.with_tenant("acme").await;
    let log = gateway.data().join("claviger.db-wal");
    // The job that keeps the log's position commits, too, and may come in between.
    for attempt in 0..10 {
        let (client, name) = (started.tenant("acme"), format!("key-{attempt}"));
        let body = json!({"name": name, "connection": "embedded"});
        client.post("/v1/keys", &body).await.expect_status(201);
        until_ran(&started, "log_position").await;
        let failing = Failing::begin(&started, &log, SYNCS, if killed { "2..4+2" } else { "2" });
        let answer = client.post_empty(&format!("/v1/keys/{name}/rotate")).await;
        let path = format!("/v1/keys/{name}");
        let key = client.get(&path).await.expect_status(200);
        assert_eq!(key["primary_version"] == 2, answer.status == 200, "{}", answer.text);
        if killed {
            started.kill();
            failing.end();
            started = gateway.serve(&Tune::default());
        } else {
            failing.end();
        }
        if answer.status == 200 || result_of(&gateway, answer.header("x-request-id")) != "interrupted" {
            continue;
        }
        let client = started.tenant("acme");
        let end = Instant::now() + Duration::from_secs(if killed { 0 } else { 20 });
        loop {
            let key = client.get(&path).await.expect_status(200);
            if key["primary_version"] == 2 {
                break;
            }
            assert!(Instant::now() < end, "{key}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        // No other rotate was needed, and the next one makes the next version.
        let answer = client.post_empty(&format!("{path}/rotate")).await;
        assert_eq!(answer.expect_status(200)["primary_version"], 3);
        return;
    }
    panic!("the second commit was never the one that failed");
}

/// The result of a request's change.
fn result_of(gateway: &Gateway, request_id: &str) -> Value {
    let mut outcomes = records_of(&gateway.data(), request_id)
        .into_iter()
        .filter(|record| record["kind"] == "outcome");
    outcomes.next().expect("an outcome")["result"].clone()
}

fn new_folder() {
    let gateway = Gateway::empty(crate::BINARY);
    let parent = gateway.data().canonicalize().unwrap_or_else(|_| gateway.data());
    let folder = parent.join("inner");
    let init = gateway.command(&Tune::default());
    let output = Command::new("strace")
        .args(["-f", "-y", "-e", "trace=fsync"])
        .arg(init.get_program())
        .arg("init")
        .arg("--token-out")
        .arg(gateway.token_file())
        .env_clear()
        .envs(init.get_envs().filter_map(|(name, value)| Some((name, value?))))
        .env("CLAVIGER_STORAGE__DATA_DIR", &folder)
        .output()
        .expect("strace runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    for synced in [parent.parent().expect("a parent"), &parent] {
        let call = format!("<{}>)", synced.display());
        assert!(
            said.lines().any(|line| line.contains("fsync(") && line.contains(&call)),
            "{call} is not synced:\n{said}"
        );
    }
}
