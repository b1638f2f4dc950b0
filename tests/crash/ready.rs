//! What `/readyz` says of the gateway's parts.

use std::time::{Duration, Instant};

use claviger_test_support::Started;
use serde_json::Value;

use crate::load::text;

/// The status of `/readyz`, and what it says of a part.
pub async fn part(started: &Started, name: &str) -> (u16, Value) {
    let ready = started.operator().get("/readyz").await;
    let parts = ready.body["parts"].as_array().expect("parts").clone();
    let part = parts.into_iter().find(|part| part["name"] == name).expect("the part");
    (ready.status, part)
}

/// The state of a part.
pub async fn state_of(started: &Started, name: &str) -> String {
    text(&part(started, name).await.1["state"])
}

/// The health of the audit log: the status, whether the log is ready, and its state.
pub async fn log_state(started: &Started) -> (u16, bool, String) {
    let (status, part) = part(started, "audit_log").await;
    (status, part["ready"] == true, text(&part["state"]))
}

/// Polls until the log is sound. One that is not checks itself when its health is read.
pub async fn until_sound(started: &Started) {
    until_state(started, &(200, true, "sound".to_owned())).await;
}

pub async fn until_state(started: &Started, state: &(u16, bool, String)) {
    let end = Instant::now() + Duration::from_secs(20);
    while log_state(started).await != *state {
        assert!(Instant::now() < end, "the log stays {:?}", log_state(started).await);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Waits until the job has run after this moment: twice, since a run that began before may end after it.
pub async fn until_ran(started: &Started, job: &str) {
    let last = || async {
        let ready = started.operator().get("/readyz").await.body;
        let jobs = ready["jobs"].as_array().expect("jobs").clone();
        let job = jobs.into_iter().find(|found| found["name"] == job).expect("the job");
        job["last_run"].clone()
    };
    let end = Instant::now() + Duration::from_secs(10);
    let mut seen = last().await;
    for _ in 0..2 {
        loop {
            assert!(Instant::now() < end, "the job does not run");
            let now = last().await;
            if now != seen && now != Value::Null {
                seen = now;
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}
