//! Start time and idle memory with a large log. Ignored by default, and meant for a release build:
//! `CLAVIGER_TEST_BINARY=target/release/claviger cargo test --test crash -- --ignored --nocapture footprint`.

use std::fs;
use std::time::{Duration, Instant};

use claviger_test_support::{Client, Gateway, Started, Tune, records};
use libtest_mimic::Trial;
use serde_json::json;

use crate::random::count;
use crate::run;

/// How often each start is measured. The median is printed.
const STARTS: usize = 5;
/// The items of a batch that fills the log.
const ITEMS: u64 = 1000;

pub fn trials() -> Vec<Trial> {
    vec![Trial::test("footprint::start_time_and_idle_memory", || run(measure())).with_ignored_flag(true)]
}

/// The time from the command to the first `/readyz` that is ready.
async fn start(gateway: &Gateway) -> (Started, Duration) {
    let begun = Instant::now();
    let started = gateway.serve(&Tune::default());
    started.operator().get("/readyz").await.expect_status(200);
    (started, begun.elapsed())
}

/// Resident memory in KiB of the idle process.
async fn resident(started: &Started) -> u64 {
    tokio::time::sleep(Duration::from_secs(2)).await;
    let status = fs::read_to_string(format!("/proc/{}/status", started.pid())).expect("the process lives");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("VmRSS");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

async fn line(gateway: &Gateway, what: &str, kill: bool) {
    let mut times = Vec::new();
    let mut memory = Vec::new();
    for _ in 0..STARTS {
        let (started, time) = start(gateway).await;
        times.push(time);
        memory.push(resident(&started).await);
        if kill {
            started.kill();
        } else {
            assert!(started.terminate());
        }
    }
    times.sort_unstable();
    memory.sort_unstable();
    println!(
        "{what:<44} {:>7.1} ms {:>7.1} MiB",
        times[STARTS / 2].as_secs_f64() * 1e3,
        memory[STARTS / 2] as f64 / 1024.0
    );
}

async fn fill(client: &Client, items: u64) {
    let item = json!({"key": "orders", "plaintext": false});
    let body = json!({"items": vec![item; ITEMS as usize]});
    for _ in 0..items.div_ceil(ITEMS) {
        client.post("/v1/batch/data-keys", &body).await.expect_status(200);
    }
}

async fn measure() {
    let many = count("CLAVIGER_TEST_RECORDS", 100_000);
    println!("{:<44} {:>10} {:>11}", "", "ready", "resident");
    let gateway = Gateway::new(&crate::measured());
    line(&gateway, "after init", false).await;

    let (started, _) = start(&gateway).await;
    let client = started.with_tenant("acme").await;
    client
        .post("/v1/keys", &json!({"name": "orders", "connection": "embedded"}))
        .await
        .expect_status(201);
    fill(&client, many).await;
    assert!(started.terminate());
    line(
        &gateway,
        &format!("log of {} records, closed", records(&gateway.data()).len()),
        false,
    )
    .await;

    let mut times = Vec::new();
    for _ in 0..3 {
        let (started, _) = start(&gateway).await;
        fill(&started.tenant("acme"), many).await;
        started.kill();
        let (started, time) = start(&gateway).await;
        times.push((time, resident(&started).await));
        assert!(started.terminate());
    }
    times.sort_unstable();
    let (time, memory) = times[1];
    println!(
        "{:<44} {:>7.1} ms {:>7.1} MiB",
        format!("after SIGKILL, {many} records in that run"),
        time.as_secs_f64() * 1e3,
        memory as f64 / 1024.0
    );
}
