//! Files of the log that cannot be read as such, and numbers after an end of the log that is lost.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use claviger_test_support::{Client, Gateway, Started, Tune, log_end, log_files, records};
use libtest_mimic::Trial;
use serde_json::{Value, json};

use crate::disagree::{accepting_lost_log, refused, starts_plainly};
use crate::load::text;
use crate::run;

pub fn trials() -> Vec<Trial> {
    vec![
        Trial::test("aside::a_damaged_first_line_is_named_and_costs_no_record", || run(damaged_lines())),
        Trial::test("aside::a_stray_file_or_a_folder_is_named_and_set_aside", || run(strays())),
        Trial::test("aside::after_a_kill_no_number_of_a_lost_end_is_given_again", || run(numbers())),
        Trial::test(
            "aside::a_rotation_whose_outcome_is_in_a_lost_end_is_not_said_to_have_failed",
            || run(rotated()),
        ),
    ]
}

async fn furnished(gateway: &Gateway) -> (Started, Client) {
    let started = gateway.serve(&Tune::default());
    let client = started.with_tenant("acme").await;
    let key = json!({"name": "first", "connection": "embedded"});
    client.post("/v1/keys", &key).await.expect_status(201);
    (started, client)
}

/// Fills the first files of the log.
async fn fill(gateway: &Gateway, client: &Client, files: usize) {
    let items: Vec<Value> = (0..700).map(|_| json!({"key": "first"})).collect();
    while log_files(&gateway.data()).len() < files {
        let body = json!({"items": items});
        client.post("/v1/batch/data-keys", &body).await.expect_status(200);
    }
}

/// The records, each by its tenant and number.
fn numbered(data: &Path) -> BTreeSet<(String, u64)> {
    let all = records(data).into_iter();
    all.map(|record| (text(&record["tenant"]), record["sequence"].as_u64().expect("a number")))
        .collect()
}

fn losses(data: &Path) -> usize {
    records(data).iter().filter(|record| record["cause"] == "log_lost").count()
}

fn flip(file: &Path, at: usize) {
    let mut bytes = fs::read(file).expect("the file");
    bytes[at] ^= 1;
    fs::write(file, bytes).expect("written");
}

/// The folder of a stopped gateway, to be put back.
pub struct Saved(tempfile::TempDir);

impl Saved {
    pub fn of(data: &Path) -> Self {
        let saved = tempfile::tempdir().expect("a folder");
        copy_all(data, saved.path());
        Self(saved)
    }

    pub fn put_back(&self, data: &Path) {
        fs::remove_dir_all(data).expect("removed");
        fs::create_dir(data).expect("made");
        copy_all(self.0.path(), data);
    }
}

fn copy_all(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).expect("the folder") {
        let entry = entry.expect("an entry");
        fs::copy(entry.path(), to.join(entry.file_name())).expect("copied");
    }
}

fn aside(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".damaged");
    name.into()
}

/// A plain start names the file; one that accepts the loss keeps it, records the loss, and goes on.
async fn named_and_set_aside(gateway: &Gateway, file: &Path) {
    let name = file.file_name().expect("a name").to_string_lossy().into_owned();
    for _ in 0..2 {
        let said = refused(gateway, &Tune::default());
        assert!(said.contains(&name) && said.contains("--accept-lost-log"), "{name}: {said}");
    }
    let started = gateway.serve(&accepting_lost_log());
    let client = started.tenant("acme");
    client.post("/v1/keys/first/data-keys", &json!({})).await.expect_status(200);
    started.kill();
    assert!(aside(file).exists(), "{name} is not kept");
    starts_plainly(gateway);
}

async fn damaged_lines() {
    let gateway = Gateway::new(crate::BINARY);
    let (started, client) = furnished(&gateway).await;
    fill(&gateway, &client, 3).await;
    assert!(started.terminate());
    let data = gateway.data();
    let (saved, before) = (Saved::of(&data), numbered(&data));
    let files: Vec<PathBuf> = log_files(&data).into_iter().map(|(_, file)| file).collect();
    let line = fs::read(&files[2])
        .expect("the file")
        .iter()
        .position(|byte| *byte == b'\n')
        .expect("a line");
    // A letter, and the last digit of the position; a file in the middle is read only without the index.
    for (file, at, without_index) in [(2, 5, false), (2, line - 1, false), (0, 5, false), (1, 5, true)] {
        saved.put_back(&data);
        if without_index {
            fs::remove_file(data.join("audit.index")).expect("removed");
        }
        flip(&files[file], at);
        named_and_set_aside(&gateway, &files[file]).await;
        assert!(
            numbered(&data).is_superset(&before),
            "a record is gone, although only the line was damaged"
        );
        assert_eq!(losses(&data), 1);
    }
}

async fn strays() {
    let gateway = Gateway::new(crate::BINARY);
    let (started, client) = furnished(&gateway).await;
    fill(&gateway, &client, 2).await;
    assert!(started.terminate());
    let data = gateway.data();
    let (saved, before) = (Saved::of(&data), numbered(&data));
    let last = log_files(&data).pop().expect("a file").1;
    let later = data.join("audit-00000000000099999999.log");
    // What is no part of the log takes nothing with it.
    for content in ["garbage", ""] {
        saved.put_back(&data);
        fs::write(&later, content).expect("written");
        named_and_set_aside(&gateway, &later).await;
        assert!(numbered(&data).is_superset(&before));
    }
    saved.put_back(&data);
    let old = data.join("audit.log");
    fs::write(&old, "x").expect("written");
    named_and_set_aside(&gateway, &old).await;
    assert!(numbered(&data).is_superset(&before));
    // A folder in the place of the last file, whose records are lost.
    saved.put_back(&data);
    fs::remove_file(&last).expect("removed");
    fs::create_dir(&last).expect("made");
    named_and_set_aside(&gateway, &last).await;
    assert_eq!(losses(&data), 1);
}

/// The number in a `Claviger-Audit-Index`.
pub fn number(index: &str) -> u64 {
    let (_, number) = index.split_once('#').expect("an index");
    number.parse().expect("a number")
}

async fn numbers() {
    let gateway = Gateway::new(crate::BINARY);
    let (started, _) = furnished(&gateway).await;
    assert!(started.terminate());
    let started = gateway.serve(&Tune::default());
    let client = started.tenant("acme");
    // Unknown to the index, which is as old as the start.
    let late = started.with_tenant("late").await;
    let key = json!({"name": "first", "connection": "embedded"});
    late.post("/v1/keys", &key).await.expect_status(201);
    fill(&gateway, &client, 2).await;
    let mut given = Vec::new();
    for client in [&client, &late] {
        for _ in 0..5 {
            let made = client.post("/v1/keys/first/data-keys", &json!({})).await;
            given.push(made.header("claviger-audit-index").to_owned());
            made.expect_status(200);
        }
    }
    started.kill();
    let data = gateway.data();
    let saved = Saved::of(&data);
    let (last, end) = log_end(&data);
    let remove = |file: &Path| fs::remove_file(file).expect("removed");
    let lose: [&dyn Fn(); 4] = [
        &|| remove(&last),
        &|| {
            let file = fs::File::options().write(true).open(&last).expect("the log");
            file.set_len(end / 3).expect("cut");
        },
        &|| log_files(&data).iter().for_each(|(_, file)| remove(file)),
        &|| {
            log_files(&data).iter().for_each(|(_, file)| remove(file));
            remove(&data.join("audit.index"));
        },
    ];
    for (case, lose) in lose.into_iter().enumerate() {
        saved.put_back(&data);
        lose();
        refused(&gateway, &Tune::default());
        let started = gateway.serve(&accepting_lost_log());
        for (tenant, given) in ["acme", "late"].into_iter().zip(given.chunks(5)) {
            let made = started.tenant(tenant).post("/v1/keys/first/data-keys", &json!({})).await;
            let index = made.header("claviger-audit-index").to_owned();
            made.expect_status(200);
            let most = given.iter().map(|index| number(index)).max().expect("a number");
            assert!(number(&index) > most, "case {case}, {tenant}: {index} after {most}");
        }
        assert!(losses(&data) > 0);
        started.kill();
        // Also by a start that reads the whole log.
        fs::remove_file(data.join("audit.index")).expect("removed");
        starts_plainly(&gateway);
    }
}

/// The records of a log of one file, each with its position.
pub fn placed(data: &Path) -> Vec<(u64, Value)> {
    let (file, end) = log_end(data);
    let bytes = fs::read(file).expect("the log");
    let mut at = bytes.iter().position(|byte| *byte == b'\n').expect("a header") + 1;
    let mut placed = Vec::new();
    while (at as u64) < end {
        // The top bit marks a commit's first frame.
        let length = u32::from_be_bytes(bytes[at..at + 4].try_into().expect("4 bytes")) & 0x7fff_ffff;
        let next = at + 8 + length as usize;
        placed.push((at as u64, serde_json::from_slice(&bytes[at + 8..next]).expect("a record")));
        at = next;
    }
    placed
}

async fn rotated() {
    let gateway = Gateway::new(crate::BINARY);
    let (started, client) = furnished(&gateway).await;
    client.post_empty("/v1/keys/first/rotate").await.expect_status(200);
    // The next start forgets all positions but the last one.
    let key = json!({"name": "second", "connection": "embedded"});
    client.post("/v1/keys", &key).await.expect_status(201);
    started.kill();
    gateway.serve(&Tune::default()).kill();
    let data = gateway.data();
    let is_outcome = |record: &Value| record["kind"] == "outcome" && record["change"]["verb"] == "rotate";
    let (cut, _) = placed(&data)
        .into_iter()
        .find(|(_, record)| is_outcome(record))
        .expect("an outcome");
    let file = fs::File::options().write(true).open(log_end(&data).0).expect("the log");
    file.set_len(cut).expect("cut");
    // It knows that the rotation has an outcome.
    fs::remove_file(data.join("audit.index")).expect("removed");
    refused(&gateway, &Tune::default());
    let started = gateway.serve(&accepting_lost_log());
    let outcome = records(&data).into_iter().find(is_outcome).expect("an outcome");
    assert_eq!(outcome["result"], "interrupted", "{outcome}");
    let key = started.tenant("acme").get("/v1/keys/first").await.expect_status(200);
    assert_eq!((&key["primary_version"], &key["rotation"]["state"]), (&json!(2), &json!("idle")));
    started.kill();
    starts_plainly(&gateway);
}
