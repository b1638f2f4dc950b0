//! The audit log's file is removed, moved, replaced or cut while requests are served, or while the
//! gateway is stopped.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use claviger_test_support::{Client, Gateway, Tune, last_log_file, log_end, records};
use libtest_mimic::Trial;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::aside::number;
use crate::disagree::{Copy, DATABASE, accepting_lost_log, refused};
use crate::load::text;
use crate::run;
use crate::severed::fill_beyond_kill_file;

/// A look a second, and what a busy machine adds.
const FOUND_WITHIN: Duration = Duration::from_secs(3);

pub fn trials() -> Vec<Trial> {
    vec![
        Trial::test("watch::a_log_that_is_removed_under_load_comes_back_whole", || {
            run(taken(|log| fs::remove_file(log).expect("removed")))
        }),
        Trial::test("watch::a_log_that_is_moved_away_under_load_comes_back_whole", || {
            run(taken(|log| fs::rename(log, log.with_extension("away")).expect("moved")))
        }),
        Trial::test("watch::a_log_that_is_replaced_under_load_comes_back_whole", || {
            run(taken(|log| {
                let other = log.with_extension("other");
                fs::copy(log, &other).expect("copied");
                fs::rename(&other, log).expect("replaced");
            }))
        }),
        Trial::test("watch::a_log_that_is_cut_under_load_keeps_the_rest_and_reports_the_loss", || {
            run(cut())
        }),
        Trial::test("watch::a_log_that_is_cut_before_a_commit_that_closes_it_is_found", || {
            run(cut_and_closed())
        }),
        Trial::test("watch::without_traffic_a_removed_log_comes_back_as_well", || run(idle())),
        Trial::test("watch::a_start_without_its_log_is_refused_until_the_loss_is_accepted", || {
            run(accepted(|log| fs::remove_file(log).expect("removed")))
        }),
        Trial::test("watch::a_start_with_a_cut_log_is_refused_until_the_loss_is_accepted", || {
            run(accepted(|log| {
                let file = fs::File::options().write(true).open(log).expect("the log");
                let (_, end) = log_end(log.parent().expect("the folder"));
                file.set_len(end / 2).expect("cut");
            }))
        }),
        Trial::test(
            "watch::a_start_without_log_and_sidecar_is_refused_until_the_loss_is_accepted",
            || {
                run(accepted(|log| {
                    fs::remove_file(log).expect("removed");
                    fs::remove_file(log.with_file_name("audit.index")).expect("removed");
                }))
            },
        ),
        Trial::test(
            "watch::an_older_store_is_refused_although_the_record_of_its_change_was_cut_away",
            || run(older_store_after_a_cut()),
        ),
        Trial::test(
            "watch::a_store_is_not_refused_for_a_revocation_of_the_kill_file_whose_record_was_cut_away",
            || run(folded_before_a_cut()),
        ),
        Trial::test("watch::an_older_store_is_not_accepted_with_a_lost_log", || run(older_store())),
    ]
}

/// An answer that names a record.
struct Answered {
    /// `origin#number`.
    index: String,
    request_id: String,
    /// When the request was sent.
    sent: Instant,
}

/// Clients that send requests one after another until they are told to stop.
struct Load {
    tasks: JoinSet<()>,
    stop: Arc<AtomicBool>,
    answered: Arc<Mutex<Vec<Answered>>>,
}

impl Load {
    fn start(client: &Client) -> Self {
        let (stop, answered) = (Arc::<AtomicBool>::default(), Arc::<Mutex<Vec<Answered>>>::default());
        let mut tasks = JoinSet::new();
        for _ in 0..8 {
            let (client, stop, answered) = (client.clone(), Arc::clone(&stop), Arc::clone(&answered));
            tasks.spawn(async move {
                while !stop.load(Ordering::Acquire) {
                    let sent = Instant::now();
                    let answer = client.post("/v1/keys/first/data-keys", &json!({})).await;
                    match answer.status {
                        200 => answered.lock().expect("no task failed").push(Answered {
                            index: answer.header("claviger-audit-index").to_owned(),
                            request_id: answer.header("x-request-id").to_owned(),
                            sent,
                        }),
                        _ => drop(answer.expect_problem(503, "audit_unavailable")),
                    }
                }
            });
        }
        Self { tasks, stop, answered }
    }

    fn count(&self) -> usize {
        self.answered.lock().expect("no task failed").len()
    }

    /// Waits for so many more answers.
    async fn until_more(&self, count: usize) {
        let (before, end) = (self.count(), Instant::now() + Duration::from_secs(20));
        while self.count() < before + count {
            assert!(Instant::now() < end, "no more answers");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn end(self) -> Vec<Answered> {
        self.stop.store(true, Ordering::Release);
        self.tasks.join_all().await;
        std::mem::take(&mut *self.answered.lock().expect("no task failed"))
    }
}

/// The file that is written to.
fn log_of(gateway: &Gateway) -> PathBuf {
    last_log_file(&gateway.data())
}

/// Polls until the condition is true. Returns how long it took.
pub async fn until(what: &str, condition: impl Fn() -> bool) -> Duration {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < Duration::from_secs(20), "{what}: never");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    begun.elapsed()
}

/// Each record by what an answer calls it, with its request id. No record is there twice.
fn by_index(data: &Path) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    for record in records(data) {
        let [installation, node, tenant] = ["installation", "node", "tenant"].map(|name| text(&record[name]));
        let index = format!("{installation}/{node}/{tenant}#{}", record["sequence"]);
        let request = record["request_id"].as_str().unwrap_or_default().to_owned();
        assert!(all.insert(index.clone(), request).is_none(), "a record twice: {index}");
    }
    all
}

/// The records that are whole in the first bytes of a file of the log.
fn beginning(log: &Path, length: u64) -> BTreeMap<String, String> {
    if length == 0 {
        return BTreeMap::new();
    }
    let folder = tempfile::tempdir().expect("a folder");
    let bytes = fs::read(log).expect("the log");
    let name = log.file_name().expect("a name");
    fs::write(folder.path().join(name), &bytes[..length as usize]).expect("written");
    by_index(folder.path())
}

async fn furnished(gateway: &Gateway, client: &Client) {
    client
        .post("/v1/keys", &json!({"name": "first", "connection": "embedded"}))
        .await
        .expect_status(201);
    assert!(log_of(gateway).exists());
}

fn losses(data: &Path) -> Vec<Value> {
    records(data).into_iter().filter(|record| record["cause"] == "log_lost").collect()
}

/// A plain start after all, and its log.
fn starts_again(gateway: &Gateway) {
    let before = records(&gateway.data()).len();
    assert!(gateway.serve(&Tune::default()).terminate());
    assert!(records(&gateway.data()).len() >= before);
}

async fn taken(take: impl Fn(&Path)) {
    let gateway = Gateway::new(crate::BINARY);
    let started = gateway.serve(&Tune::default());
    let client = started.with_tenant("acme").await;
    furnished(&gateway, &client).await;
    let load = Load::start(&client);
    load.until_more(50).await;
    for _ in 0..3 {
        let log = log_of(&gateway);
        let inode = fs::metadata(&log).expect("the log").ino();
        take(&log);
        let other = fs::metadata(&log).map(|found| found.ino()).unwrap_or(inode);
        let back = || fs::metadata(&log).is_ok_and(|found| ![inode, other].contains(&found.ino()));
        let took = until("the log is back", back).await;
        assert!(took < FOUND_WITHIN, "found after {took:?}");
        load.until_more(50).await;
    }
    let answered = load.end().await;
    // What the open file had is in the one that the next process finds.
    started.kill();
    let there = by_index(&gateway.data());
    all_there(&there, &answered);
    assert!(losses(&gateway.data()).is_empty(), "nothing was lost");
    starts_again(&gateway);
}

/// Stops the test unless each answer's record is there.
fn all_there<'a>(there: &BTreeMap<String, String>, answered: impl IntoIterator<Item = &'a Answered>) {
    for answered in answered {
        assert_eq!(
            there.get(&answered.index),
            Some(&answered.request_id),
            "answered and gone: {}",
            answered.index
        );
    }
}

async fn cut() {
    let gateway = Gateway::new(crate::BINARY);
    let started = gateway.serve(&Tune::default());
    let client = started.with_tenant("acme").await;
    furnished(&gateway, &client).await;
    let load = Load::start(&client);
    let mut last = Instant::now();
    for part in [2, 1, 3, 2, 1] {
        load.until_more(100).await;
        // Without the zeros at its end.
        let (log, length) = log_end(&gateway.data());
        let file = fs::File::options().write(true).open(&log).expect("the log");
        let left = if part == 1 { 0 } else { length - length / part };
        let stays = beginning(&log, left);
        let before = losses(&gateway.data());
        file.set_len(left).expect("cut");
        last = Instant::now();
        let header = || fs::read(&log).expect("the log").starts_with(b"claviger");
        let reported = || header() && losses(&gateway.data()).iter().any(|loss| !before.contains(loss));
        let took = until("the loss is reported", reported).await;
        assert!(took < FOUND_WITHIN, "found after {took:?}");
        let there = by_index(&gateway.data());
        for (index, request_id) in stays {
            assert_eq!(there.get(&index), Some(&request_id), "it was still there: {index}");
        }
    }
    load.until_more(100).await;
    let answered = load.end().await;
    started.kill();
    let there = by_index(&gateway.data());
    let after: Vec<_> = answered.iter().filter(|answered| answered.sent > last).collect();
    assert!(after.len() >= 50);
    all_there(&there, after);
    // No number was given twice.
    let given: BTreeSet<_> = answered.iter().map(|answered| &answered.index).collect();
    assert_eq!(given.len(), answered.len());
    starts_again(&gateway);
}

/// The commit after the cut does not fit into the file, which is closed then: at its right length.
async fn cut_and_closed() {
    let gateway = Gateway::new(crate::BINARY);
    let started = gateway.serve(&Tune::default());
    let client = started.with_tenant("acme").await;
    furnished(&gateway, &client).await;
    let batch = async |items: usize| {
        let items: Vec<Value> = (0..items).map(|_| json!({"key": "first"})).collect();
        client.post("/v1/batch/data-keys", &json!({"items": items})).await
    };
    for _ in 0..5 {
        batch(150).await.expect_status(200);
    }
    let log = log_of(&gateway);
    assert!(losses(&gateway.data()).is_empty());
    let file = fs::File::options().write(true).open(&log).expect("the log");
    file.set_len(200_000).expect("cut");
    drop(batch(600).await);
    assert_ne!(log_of(&gateway), log, "a commit that closes the file");
    let took = until("the loss is reported", || !losses(&gateway.data()).is_empty()).await;
    assert!(took < FOUND_WITHIN, "found after {took:?}");
    started.kill();
    starts_again(&gateway);
}

async fn idle() {
    let gateway = Gateway::new(crate::BINARY);
    let started = gateway.serve(&Tune::default());
    let client = started.with_tenant("acme").await;
    furnished(&gateway, &client).await;
    let (log, before) = (log_of(&gateway), by_index(&gateway.data()));
    fs::remove_file(&log).expect("removed");
    let took = until("the log is back", || log.exists()).await;
    assert!(took < FOUND_WITHIN, "found after {took:?}");
    assert_eq!(by_index(&gateway.data()), before);
    assert!(started.terminate());
    starts_again(&gateway);
}

async fn accepted(lose: impl Fn(&Path)) {
    let gateway = Gateway::new(crate::BINARY);
    let started = gateway.serve(&Tune::default());
    let client = started.with_tenant("acme").await;
    furnished(&gateway, &client).await;
    let made = client.post("/v1/keys/first/data-keys", &json!({})).await;
    let last = made.header("claviger-audit-index").to_owned();
    let made = made.expect_status(200);
    client.post_empty("/v1/keys/first/rotate").await.expect_status(200);
    assert!(started.terminate());
    let had_index = || gateway.data().join("audit.index").exists();
    lose(&log_of(&gateway));
    let had_index = had_index();

    for _ in 0..2 {
        let said = refused(&gateway, &Tune::default());
        assert!(said.contains("--accept-lost-log"), "{said}");
    }
    let started = gateway.serve(&accepting_lost_log());
    let client = started.tenant("acme");
    assert_eq!(client.get("/v1/keys/first").await.expect_status(200)["primary_version"], 2);
    let opened = client.post("/v1/unwrap", &json!({"wrapped": made["wrapped"]})).await;
    // Where the sidecar is gone too, nobody knows which numbers were given.
    if had_index {
        assert!(number(opened.header("claviger-audit-index")) > number(&last));
    }
    assert_eq!(opened.expect_status(200)["plaintext"], made["plaintext"]);
    client.post_empty("/v1/keys/first/rotate").await.expect_status(200);
    let [loss] = &losses(&gateway.data())[..] else { panic!("one loss") };
    assert!(loss["lost"]["from"].as_u64() < loss["lost"]["to"].as_u64(), "{loss}");
    started.kill();
    starts_again(&gateway);
    assert_eq!(losses(&gateway.data()).len(), 1, "it is reported once");
}

/// What the log has and the store lacks is another loss, with another flag.
async fn older_store() {
    let gateway = Gateway::new(crate::BINARY);
    let started = gateway.serve(&Tune::default());
    let client = started.with_tenant("acme").await;
    furnished(&gateway, &client).await;
    assert!(started.terminate());
    let copy = Copy::of(&gateway.data(), &DATABASE);
    let started = gateway.serve(&Tune::default());
    started.tenant("acme").post_empty("/v1/keys/first/rotate").await.expect_status(200);
    assert!(started.terminate());
    copy.restore(&gateway.data());
    let said = refused(&gateway, &accepting_lost_log());
    assert!(said.contains("--accept-rollback"), "{said}");
}

/// Cuts away what is behind this length of the log, under the running gateway, once that is more than it has in memory.
pub async fn cut_behind(gateway: &Gateway, client: &Client, length: u64) {
    for _ in 0..20 {
        client.get("/v1/keys").await.expect_status(200);
    }
    let file = fs::File::options().write(true).open(log_of(gateway)).expect("the log");
    file.set_len(length).expect("cut");
    until("the loss is reported", || !losses(&gateway.data()).is_empty()).await;
}

/// A disable is lost with its records, and another revocation follows, which alone would be applied to an older store.
async fn older_store_after_a_cut() {
    let gateway = Gateway::new(crate::BINARY);
    let started = gateway.serve(&Tune::default());
    let client = started.with_tenant("acme").await;
    furnished(&gateway, &client).await;
    let other = json!({"name": "other", "connection": "embedded"});
    client.post("/v1/keys", &other).await.expect_status(201);
    assert!(started.terminate());
    let copy = Copy::of(&gateway.data(), &DATABASE);
    let started = gateway.serve(&Tune::default());
    let client = started.tenant("acme");
    let (_, length) = log_end(&gateway.data());
    client.post_empty("/v1/keys/first/disable").await.expect_status(200);
    cut_behind(&gateway, &client, length).await;
    client.post_empty("/v1/keys/other/disable").await.expect_status(200);
    assert!(started.terminate());
    starts_again(&gateway);
    copy.restore(&gateway.data());
    let said = refused(&gateway, &Tune::default());
    assert!(said.contains("--accept-rollback"), "{said}");
}

/// The kill file alone has a revocation, and the start that applies it records it. The store never gets that position.
async fn folded_before_a_cut() {
    let gateway = Gateway::new(crate::BINARY);
    let started = gateway.serve(&Tune::default());
    let client = started.with_tenant("acme").await;
    furnished(&gateway, &client).await;
    fill_beyond_kill_file(&gateway, &client).await;
    started.limit_files(Some(log_end(&gateway.data()).1));
    let disabled = client.post_empty("/v1/keys/first/disable").await;
    disabled.expect_problem(503, "effective_not_recorded");
    started.kill();
    let (_, length) = log_end(&gateway.data());
    let started = gateway.serve(&Tune::default());
    let is_disable = |record: &Value| record["change"]["verb"] == "disable" && record["result"] == "success";
    assert!(records(&gateway.data()).iter().any(is_disable));
    cut_behind(&gateway, &started.tenant("acme"), length).await;
    assert!(!records(&gateway.data()).iter().any(is_disable));
    assert!(started.terminate());
    let started = gateway.serve(&Tune::default());
    let first = started.tenant("acme").get("/v1/keys/first").await.expect_status(200);
    assert_eq!(first["state"], "disabled");
}
