//! Work whose caller gave up.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use claviger_test_support::{Client, Tune};
use serde_json::{Value, json};

use crate::world::{PATIENCE, World};

/// Keys that are generated first, one after the other, to see what one costs.
const MEASURED: u32 = 3;
/// Keys whose callers give up.
const ABANDONED: u32 = 64;
/// The most CPU time that may be spent after all callers have given up, as a multiple of one key's.
/// Generating takes a random time; no key takes so much longer than the others.
const AFTERWARDS: u32 = 8;
/// Time over which the process must be idle.
const WINDOW: Duration = Duration::from_millis(500);
/// Clock ticks in a second of CPU time, on every Linux.
const TICKS: u64 = 100;

async fn generate(client: &Client, name: &str) -> (u16, Value) {
    let body = json!({"name": name, "connection": "embedded", "spec": "rsa-3072"});
    let answer = client.post("/v1/keys", &body).await;
    (answer.status, answer.body)
}

/// CPU time of the gateway's process so far (proc(5): utime and stime).
fn cpu_time(world: &World) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", world.started.pid())).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    let ticks: u64 = [fields[11], fields[12]].iter().map(|field| field.parse::<u64>().unwrap()).sum();
    Duration::from_millis(ticks * 1000 / TICKS)
}

/// The jobs of the embedded provider that are under way.
async fn under_way(watcher: &Client) -> Option<f64> {
    let metrics = watcher.get("/metrics").await.text;
    let sample = metrics
        .lines()
        .find_map(|line| line.strip_prefix(r#"claviger_embedded_jobs{kind="key_generation"} "#));
    sample.map(|value| value.parse().unwrap())
}

/// Watches them until told to stop; returns the most that were under way at once.
async fn watch(watcher: Client, stop: Arc<AtomicBool>) -> f64 {
    let mut most: f64 = 0.0;
    while !stop.load(Ordering::Relaxed) {
        most = most.max(under_way(&watcher).await.unwrap_or(0.0));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    most
}

#[tokio::test]
async fn key_generation_stays_within_its_bound_and_ends_with_its_callers() {
    let patient = Tune::default()
        .set("CLAVIGER_PROVIDERS__ATTEMPT_TIMEOUT", "30s")
        .set("CLAVIGER_SERVER__REQUEST_DEADLINE", "60s");
    let world = World::tuned(&patient).await;
    let before = cpu_time(&world);
    for number in 0..MEASURED {
        let (status, body) = generate(&world.evil, &format!("measured-{number}")).await;
        assert_eq!(status, 201, "{body}");
    }
    let one = (cpu_time(&world) - before) / MEASURED;

    let honest = world.honest().await;
    let stop = Arc::new(AtomicBool::new(false));
    let watching = tokio::spawn(watch(world.started.operator(), Arc::clone(&stop)));
    let hasty = world.evil.clone().with_header("claviger-timeout", "500ms");
    let mut calls = tokio::task::JoinSet::new();
    for number in 0..ABANDONED {
        let hasty = hasty.clone();
        calls.spawn(async move { generate(&hasty, &format!("abandoned-{number}")).await });
    }
    let mut abandoned = 0;
    while let Some(call) = calls.join_next().await {
        let (status, body) = call.unwrap();
        assert!(matches!(status, 201 | 429 | 504), "{status} {body}");
        abandoned += u32::from(status != 201);
    }
    assert!(abandoned > ABANDONED / 2, "only {abandoned} were abandoned");
    let answered = cpu_time(&world);
    honest.end().await;
    stop.store(true, Ordering::Relaxed);
    let most = watching.await.unwrap();

    let given_up = Instant::now() + PATIENCE;
    loop {
        let from = cpu_time(&world);
        tokio::time::sleep(WINDOW).await;
        let to = cpu_time(&world);
        let spent = to - answered;
        assert!(
            spent < one * AFTERWARDS,
            "{spent:?} of CPU time after the last answer; one key takes {one:?}"
        );
        if to - from < WINDOW / 10 {
            break;
        }
        assert!(Instant::now() < given_up, "the gateway never becomes idle");
    }
    let bound = std::thread::available_parallelism().unwrap().get().div_euclid(2).max(1);
    assert!((1.0..=bound as f64).contains(&most), "{most} under way at once, {bound} may be");
    assert_eq!(under_way(&world.started.operator()).await, Some(0.0));
    let (status, body) = generate(&world.evil, "afterwards").await;
    assert_eq!(status, 201, "{body}");
}
