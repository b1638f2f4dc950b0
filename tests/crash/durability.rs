//! What an answered record survives: a failed write of its commit takes no number, process-crash
//! mode loses nothing to a kill, and a change is on the disk before its answer in both modes.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use claviger_test_support::{Client, Gateway, Started, Tune, log_end, records};
use futures::future::join_all;
use libtest_mimic::Trial;
use serde_json::{Value, json};

use crate::load::text;
use crate::ready::{part, until_sound};
use crate::verify::Record;
use crate::{kill, run};

pub fn trials() -> Vec<Trial> {
    // Tracing another process needs a right. Try it instead of guessing.
    let cannot = !can_trace();
    vec![
        Trial::test("durability::a_failed_commit_gives_its_numbers_back", || run(numbers_come_back())),
        Trial::test("durability::in_process_crash_mode_a_kill_loses_nothing_that_was_answered", || {
            run(kill::under_load(process_crash(), 8))
        }),
        Trial::test("durability::the_mode_is_shown_and_recorded", || run(mode_is_shown())),
        Trial::test("durability::a_change_is_synced_before_its_answer_in_both_modes", || {
            run(changes_are_synced())
        })
        .with_ignored_flag(cannot),
    ]
}

fn process_crash() -> Tune {
    Tune::default().set("CLAVIGER_AUDIT__DURABILITY", "process-crash")
}

/// A tenant with one key, and a wrapped key under it.
async fn furnish(started: &Started) -> (Client, Value) {
    let client = started.with_tenant("acme").await;
    client
        .post("/v1/keys", &json!({"name": "key", "connection": "embedded"}))
        .await
        .expect_status(201);
    let made = client.post("/v1/keys/key/data-keys", &json!({})).await.expect_status(200);
    (client, json!({"wrapped": made["wrapped"]}))
}

/// The number in an answer's `Claviger-Audit-Index`.
async fn unwrapped(client: &Client, body: &Value) -> u64 {
    let answer = client.post("/v1/unwrap", body).await;
    let index = answer.header("claviger-audit-index").to_owned();
    answer.expect_status(200);
    let (_, number) = index.rsplit_once('#').expect("an index");
    number.parse().expect("a number")
}

async fn numbers_come_back() {
    for tune in [Tune::default(), process_crash()] {
        let gateway = Gateway::new(crate::BINARY);
        let started = gateway.serve(&tune);
        let (client, body) = furnish(&started).await;
        let last = unwrapped(&client, &body).await;
        // No record fits any more.
        let (_, end) = log_end(&gateway.data());
        started.limit_files(Some(end + 16));
        for _ in 0..4 {
            let refused = join_all((0..16).map(|_| client.post("/v1/unwrap", &body))).await;
            for answer in refused {
                answer.expect_problem(503, "audit_unavailable");
            }
        }
        started.limit_files(None);
        until_sound(&started).await;
        assert_eq!(unwrapped(&client, &body).await, last + 1);
        let mut numbers = join_all((0..16).map(|_| unwrapped(&client, &body))).await;
        numbers.sort_unstable();
        assert_eq!(numbers, (last + 2..last + 18).collect::<Vec<_>>());
        started.kill();
        // Panics at a gap.
        let records = Record::default().read_on(&gateway.data());
        let lost = records.iter().find(|record| record["cause"] == "write_failed").expect("the report");
        assert_eq!(lost["unrecorded"], 64);
        let started = gateway.serve(&tune);
        assert!(started.terminate());
    }
}

async fn mode_is_shown() {
    let gateway = Gateway::new(crate::BINARY);
    for (tune, mode) in [(process_crash(), "process-crash"), (Tune::default(), "power-loss")] {
        gateway.serve(&tune).kill();
        let started = gateway.serve(&tune);
        assert_eq!(part(&started, "audit_log").await.1["durability"], mode);
        let restarted = records(&gateway.data());
        let restarted = restarted.iter().rfind(|record| record["kind"] == "restarted").expect("one");
        assert_eq!(
            (text(&restarted["cause"]), text(&restarted["durability"])),
            ("unclean_stop".to_owned(), mode.to_owned())
        );
        started.kill();
    }
}

/// strace of a running gateway's syncs.
struct Trace {
    strace: Child,
    output: tempfile::NamedTempFile,
}

impl Trace {
    fn of(pid: u32) -> Self {
        let output = tempfile::NamedTempFile::new().expect("a file");
        let strace = Command::new("strace")
            .args(["-f", "-y", "-e", "trace=fdatasync", "-p", &pid.to_string(), "-o"])
            .arg(output.path())
            .stderr(Stdio::null())
            .spawn()
            .expect("strace starts");
        Self { strace, output }
    }

    /// How many syncs of the audit log have ended.
    fn syncs(&self) -> usize {
        let lines = fs::read_to_string(self.output.path()).expect("the trace");
        let begun = lines.lines().filter(|line| line.contains(".log>")).count();
        begun
            - lines
                .lines()
                .filter(|line| line.contains(".log>") && line.contains("unfinished"))
                .count()
            + lines.lines().filter(|line| line.contains("fdatasync resumed")).count()
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        let _ = self.strace.kill();
        let _ = self.strace.wait();
    }
}

fn can_trace() -> bool {
    let traced = Command::new("strace")
        .args(["-o", "/dev/null", "true"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    traced.is_ok_and(|status| status.success())
}

async fn changes_are_synced() {
    for tune in [Tune::default(), process_crash()] {
        let gateway = Gateway::new(crate::BINARY);
        let started = gateway.serve(&tune);
        let (client, body) = furnish(&started).await;
        let trace = Trace::of(started.pid());
        // It is attached once it shows a sync.
        let end = Instant::now() + Duration::from_secs(20);
        while trace.syncs() == 0 {
            assert!(Instant::now() < end, "strace shows no sync");
            unwrapped(&client, &body).await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        for path in ["/v1/keys/key/rotate", "/v1/keys/key/disable", "/v1/keys/key/enable"] {
            // What was answered without a sync is synced by then.
            tokio::time::sleep(Duration::from_millis(200)).await;
            let before = trace.syncs();
            client.post_empty(path).await.expect_status(200);
            let syncs = trace.syncs() - before;
            assert!(
                syncs >= 2,
                "{path} was answered after {syncs} syncs: its intent and its outcome need one each"
            );
        }
        drop(trace);
        assert!(started.terminate());
    }
}
