//! `claviger backup` and `claviger restore`.

use std::fs;
use std::process::Command;

use claviger_test_support::{Started, Tune, records};
use libtest_mimic::Trial;
use serde_json::{Value, json};

use crate::bench::{Bench, path_text};
use crate::disagree::{refused, starts_plainly};
use crate::load::{self, Shared, text, world};
use crate::random::{Random, seed};
use crate::replay::can_trace;
use crate::run;
use crate::verify::{self, Record};
use crate::world::{Answered, Blob};

/// Backups under one load.
const BACKUPS: usize = 6;

pub fn trials() -> Vec<Trial> {
    vec![
        Trial::test(
            "backup::under_load_it_has_what_was_answered_before_and_starts",
            || run(under_load()),
        ),
        Trial::test("backup::changes_between_its_steps_are_in_log_and_store", || run(between_steps())).with_ignored_flag(!can_trace()),
        Trial::test("backup::beside_the_newer_log_of_the_database_its_copy_is_refused", || {
            run(beside_newer_log())
        }),
        Trial::test("backup::a_restore_wants_an_empty_folder_and_the_files_that_were_backed_up", || {
            run(refusals())
        }),
        Trial::test("backup::none_is_made_of_a_log_without_the_last_record_of_the_store", || {
            run(without_last_record())
        }),
        Trial::test("backup::a_restore_compares_with_what_is_known_elsewhere", || run(known_elsewhere())),
        Trial::test("backup::a_restore_warns_of_a_gateway_whose_folder_was_deleted", || {
            run(still_running())
        }),
    ]
}

impl Bench {
    fn json(&self, arguments: &[&str]) -> Value {
        let printed = self.run(&Tune::default(), &[arguments, &["--output", "json"]].concat());
        serde_json::from_slice(&printed).expect("JSON")
    }

    fn backup(&self, name: &str) -> Value {
        self.json(&["backup", path_text(&self.path(name))])
    }

    fn restore(&self, name: &str, known: &str) -> Value {
        self.json(&["restore", path_text(&self.path(name)), "--newest-known", known])
    }

    fn refused_restore(&self, name: &str, more: &[&str]) -> String {
        let path = self.path(name);
        let output = self.command(&Tune::default(), &[&["restore", path_text(&path)], more].concat());
        assert!(!output.status.success(), "it was restored");
        String::from_utf8_lossy(&output.stderr).into_owned()
    }
}

/// What the client knew when a backup began.
struct Before {
    blobs: Vec<Blob>,
    answered: Vec<Answered>,
    created: Vec<String>,
}

fn known(shared: &Shared) -> Before {
    let mut world = world(shared);
    Before {
        blobs: world.blobs.clone(),
        answered: world.answered.drain(..).collect(),
        created: world
            .created
            .iter()
            .filter(|(_, made)| made.id.is_some())
            .map(|(name, _)| name.clone())
            .collect(),
    }
}

async fn under_load() {
    let bench = Bench::new();
    let seed = seed("backup");
    let shared = Shared::default();
    let started = bench.gateway.serve(&Tune::default());
    let client = crate::kill::furnish(&shared, started.with_tenant("acme").await).await;
    let mut tasks = load::start(&shared, &client, |stream| Random::new(seed, stream), 0);
    let mut before = Vec::new();
    let mut answered = Vec::new();
    for round in 0..BACKUPS {
        let enough = 50 * (round + 1);
        while answered.len() + world(&shared).answered.len() < enough {
            if let Some(ended) = tokio::time::timeout(std::time::Duration::from_millis(5), tasks.join_next())
                .await
                .ok()
                .flatten()
            {
                ended.expect("no task fails");
            }
        }
        let mut now = known(&shared);
        answered.append(&mut now.answered);
        now.answered = answered.iter().map(copy_of).collect();
        let (gateway, name) = (&bench, format!("backup-{round}"));
        // On a thread of its own: the load goes on.
        tokio::task::block_in_place(|| gateway.backup(&name));
        before.push(now);
    }
    assert!(tasks.len() > 6, "the load went on");
    world(&shared).killed = true;
    started.kill();
    tasks.join_all().await;

    for (round, before) in before.iter().enumerate() {
        bench.lose_data(&format!("lost-{round}"));
        let restored = bench.restore(&format!("backup-{round}"), &before.answered.last().expect("answers").index);
        assert!(restored["last_record"].is_string(), "{restored}");
        let started = bench.gateway.serve(&Tune::default());
        holds(&bench, &started, before).await;
        assert!(started.terminate());
        starts_plainly(&bench.gateway);
    }
}

fn copy_of(answered: &Answered) -> Answered {
    Answered {
        index: answered.index.clone(),
        request_id: answered.request_id.clone(),
        success: answered.success,
    }
}

/// Everything that was answered before the backup is in it.
async fn holds(bench: &Bench, started: &Started, before: &Before) {
    let mut record = Record::default();
    let new = record.read_on(&bench.gateway.data());
    record.assert_nothing_open();
    let answered = Shared::default();
    world(&answered).answered = before.answered.iter().map(copy_of).collect();
    verify::recorded(&answered, &new);
    let client = started.tenant("acme");
    let blobs: Vec<Blob> = before
        .blobs
        .iter()
        .filter(|blob| !blob.key.starts_with("switch"))
        .cloned()
        .collect();
    assert!(!blobs.is_empty());
    verify::opens(&client, &blobs).await;
    for name in &before.created {
        client.get(&format!("/v1/keys/{name}")).await.expect_status(200);
    }
}

/// The backup pauses at each of its syncs, also between its looks at the log and at the store.
async fn between_steps() {
    let bench = Bench::new();
    let started = bench.gateway.serve(&Tune::default());
    let client = started.with_tenant("acme").await;
    let make = client.clone();
    let making = tokio::spawn(async move {
        for number in 0.. {
            let key = json!({"name": format!("key-{number}"), "connection": "embedded"});
            let request = make.request(reqwest::Method::POST, "/v1/keys").json(&key);
            if make.try_send(request).await.is_none() {
                return number;
            }
        }
        0
    });
    let path = bench.path("backup");
    let backup = bench.gateway.command(&Tune::default());
    let mut paused = Command::new("strace");
    paused
        .args([
            "-f",
            "-o",
            "/dev/null",
            "-e",
            "trace=fsync",
            "-e",
            "inject=fsync:delay_enter=300000",
        ])
        .arg(backup.get_program())
        .args(["backup", path_text(&path)])
        .env_clear()
        .envs(backup.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let output = tokio::task::block_in_place(|| paused.output().expect("strace runs"));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    started.kill();
    assert!(making.await.expect("the task ends") > 10, "too few changes");
    bench.lose_data("lost");
    bench.restore("backup", "none");
    starts_plainly(&bench.gateway);
}

/// A gateway with a key, stopped.
async fn furnished() -> Bench {
    let bench = Bench::new();
    let started = bench.gateway.serve(&Tune::default());
    let client = started.with_tenant("acme").await;
    let key = json!({"name": "first", "connection": "embedded"});
    client.post("/v1/keys", &key).await.expect_status(201);
    assert!(started.terminate());
    bench
}

/// A copy that was made in the same run as the log it is put beside.
async fn beside_newer_log() {
    let bench = furnished().await;
    let started = bench.gateway.serve(&Tune::default());
    bench.backup("backup");
    started.tenant("acme").post_empty("/v1/keys/first/disable").await.expect_status(200);
    started.kill();
    let database = bench.gateway.data().join("claviger.db");
    fs::copy(bench.path("backup").join("claviger.db"), &database).expect("copied");
    let said = refused(&bench.gateway, &Tune::default());
    assert!(said.contains("claviger.db-wal is not the log of"), "{said}");
}

async fn refusals() {
    let bench = furnished().await;
    let made = bench.backup("backup");
    assert_eq!(made["last_record"], records(&bench.gateway.data()).last().expect("records")["time"]);
    let said = bench.refused_restore("backup", &["--newest-known", "none"]);
    assert!(said.contains("is not empty"), "{said}");
    starts_plainly(&bench.gateway);
    // Nor does a backup replace anything.
    let output = bench.command(&Tune::default(), &["backup", path_text(&bench.path("backup"))]);
    assert!(!output.status.success() && String::from_utf8_lossy(&output.stderr).contains("is not empty"));

    // Nor is one made where it would be lost with the folder.
    let inside = bench.gateway.data().join("backup");
    let output = bench.command(&Tune::default(), &["backup", path_text(&inside)]);
    assert!(!output.status.success() && String::from_utf8_lossy(&output.stderr).contains("is in the data folder"));
    assert!(!inside.exists());
    // One that fails leaves nothing, and can be repeated.
    let log = bench.gateway.data().join("audit-00000000000000000000.log");
    let whole = fs::read(&log).expect("the log");
    let mut damaged = whole.clone();
    damaged[300] ^= 1;
    fs::write(&log, &damaged).expect("written");
    fs::create_dir(bench.path("empty")).expect("made");
    for (name, stays) in [("failed", false), ("empty", true)] {
        let output = bench.command(&Tune::default(), &["backup", path_text(&bench.path(name))]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            !output.status.success() && said.contains("the audit log is damaged at byte"),
            "{said}"
        );
        assert_eq!(bench.path(name).exists(), stays, "{name}");
    }
    assert!(fs::read_dir(bench.path("empty")).expect("the folder").next().is_none());
    let said = bench.refused_restore("empty", &["--newest-known", "none"]);
    assert!(said.contains("is not a complete backup"), "{said}");
    fs::write(&log, &whole).expect("written");

    bench.lose_data("lost");
    let said = bench.refused_restore("backup", &[]);
    assert!(said.contains("--newest-known"), "{said}");
    for name in ["claviger.db", "audit-00000000000000000000.log", "node", "cuts.kill", "store.run"] {
        let path = bench.path("backup").join(name);
        let whole = fs::read(&path).expect("a file of the backup");
        let mut changed = whole.clone();
        *changed.last_mut().expect("content") ^= 1;
        for wrong in [Some(&changed[..]), Some(&whole[1..]), None] {
            match wrong {
                Some(bytes) => fs::write(&path, bytes).expect("written"),
                None => fs::remove_file(&path).expect("removed"),
            }
            let said = bench.refused_restore("backup", &["--newest-known", "none"]);
            assert!(said.contains(name), "{said}");
            assert!(!bench.gateway.data().exists(), "nothing is restored of a changed backup");
        }
        fs::write(&path, &whole).expect("written");
    }
    bench.restore("backup", "none");
    starts_plainly(&bench.gateway);
    let started = bench.gateway.serve(&Tune::default());
    started.tenant("acme").get("/v1/keys/first").await.expect_status(200);
}

async fn without_last_record() {
    let bench = furnished().await;
    let log = bench.gateway.data().join("audit-00000000000000000000.log");
    let earlier = fs::read(&log).expect("the log");
    let started = bench.gateway.serve(&Tune::default());
    let client = started.tenant("acme");
    client.post("/v1/keys/first/data-keys", &json!({})).await.expect_status(200);
    assert!(started.terminate());
    let whole = fs::read(&log).expect("the log");
    let end = whole.iter().rposition(|byte| *byte != 0).expect("records");
    let mut flipped = whole.clone();
    flipped[end - 20] ^= 1;
    for damaged in [&earlier, &flipped] {
        fs::write(&log, damaged).expect("written");
        let output = bench.command(&Tune::default(), &["backup", path_text(&bench.path("backup"))]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            !output.status.success() && said.contains("that the store knows as one of its last"),
            "{said}"
        );
        assert!(!bench.path("backup").exists());
    }
    fs::write(&log, &whole).expect("written");
    bench.backup("backup");
}

async fn known_elsewhere() {
    let bench = furnished().await;
    let started = bench.gateway.serve(&Tune::default());
    let client = started.tenant("acme");
    let before = client.post("/v1/keys/first/data-keys", &json!({})).await;
    bench.backup("backup");
    let after = client.post("/v1/keys/first/data-keys", &json!({})).await;
    let index = |answer: &claviger_test_support::Answer| answer.header("claviger-audit-index").to_owned();
    let (before, after) = (index(&before), index(&after));
    let time = text(&records(&bench.gateway.data()).last().expect("records")["time"]);
    assert!(started.terminate());
    bench.lose_data("lost");
    for newer in [&after, &time] {
        let said = bench.refused_restore("backup", &["--newest-known", newer]);
        assert!(
            said.contains("older than what is known") && said.contains("--accept-rollback"),
            "{said}"
        );
        assert!(!bench.gateway.data().exists());
    }
    let other = after.replacen(&after[..8], "00000000", 1);
    let said = bench.refused_restore("backup", &["--newest-known", &other]);
    assert!(said.contains("another's"), "{said}");
    bench.restore("backup", &before);
    fs::remove_dir_all(bench.gateway.data()).expect("removed");
    let path = bench.path("backup");
    let output = bench.command(
        &Tune::default(),
        &["restore", path_text(&path), "--newest-known", &after, "--accept-rollback"],
    );
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("cannot bring back") && said.contains("revocation"), "{said}");
    starts_plainly(&bench.gateway);
}

async fn still_running() {
    let bench = furnished().await;
    let started = bench.gateway.serve(&Tune::default());
    bench.backup("backup");
    let path = bench.path("backup");
    let tune = Tune::default().set("CLAVIGER_SERVER__LISTEN", started.address().to_string());
    let warned = || {
        fs::remove_dir_all(bench.gateway.data()).expect("removed");
        let output = bench.command(&tune, &["restore", path_text(&path), "--newest-known", "none"]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{said}");
        said.contains("another process listens on")
    };
    assert!(warned());
    started.kill();
    assert!(!warned());
    starts_plainly(&bench.gateway);
}
