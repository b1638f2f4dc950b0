//! Tenants that fill the data-key cache.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use claviger_test_support::{Client, Gateway, Tune};
use serde_json::{Value, json};

use crate::world::{HOSTILE, PATIENCE, World, make_key};

/// Items of one batch.
const BATCH: usize = 500;
/// A length that took the largest slot of the arena when slots came in sizes.
const LARGE: usize = 1025;

/// Nothing becomes idle while a test runs.
fn lasting() -> Tune {
    Tune::default().set("CLAVIGER_CACHE__MAX_IDLE", "60s")
}

/// Wraps `count` plaintexts of `len` bytes; returns their wrapped keys.
async fn wrapped(client: &Client, count: usize, len: usize) -> Vec<Value> {
    let plaintext = STANDARD.encode(vec![7; len]);
    let mut all = Vec::with_capacity(count);
    while all.len() < count {
        let items = vec![json!({"key": "orders", "plaintext": plaintext}); BATCH.min(count - all.len())];
        let made = client.post("/v1/batch/wrap", &json!({"items": items})).await.expect_status(200);
        all.extend(made["items"].as_array().unwrap().iter().map(|item| item["wrapped"].clone()));
    }
    all
}

/// Unwraps them, in this order; returns for how many the cache had the data key.
async fn cached(client: &Client, wrapped: &[Value]) -> usize {
    let mut cached = 0;
    for some in wrapped.chunks(BATCH) {
        let items: Vec<Value> = some.iter().map(|wrapped| json!({"wrapped": wrapped})).collect();
        let opened = client.post("/v1/batch/unwrap", &json!({"items": items})).await.expect_status(200);
        for item in opened["items"].as_array().unwrap() {
            assert!(item.get("error").is_none(), "{item}");
            cached += usize::from(item["cached"] == true);
        }
    }
    cached
}

/// Fills the cache from three tenants: two with large data keys, one with small ones.
async fn crowd(world: &World) {
    for (name, count, len) in [(HOSTILE, 1_000, LARGE), ("greedy", 1_000, LARGE), ("hoarder", 3_000, 32)] {
        let tenant = if name == HOSTILE {
            world.evil.clone()
        } else {
            let tenant = world.started.with_tenant(name).await;
            make_key(&tenant, "orders").await;
            tenant
        };
        let all = wrapped(&tenant, count, len).await;
        cached(&tenant, &all).await;
    }
}

#[tokio::test]
async fn three_tenants_that_fill_their_shares_leave_a_fourth_its_entries() {
    let world = World::tuned(&lasting()).await;
    let quiet = world.started.with_tenant("quiet").await;
    make_key(&quiet, "orders").await;
    let honest = world.honest().await;
    let mut all = wrapped(&quiet, 40, 32).await;
    assert_eq!(cached(&quiet, &all).await, 0);
    crowd(&world).await;
    // What the tenant had stays, and there is room for more of it, small and large.
    all.extend(wrapped(&quiet, 40, 32).await);
    all.extend(wrapped(&quiet, 10, LARGE).await);
    assert_eq!(cached(&quiet, &all).await, 40);
    assert_eq!(cached(&quiet, &all).await, all.len());
    honest.end().await;
}

#[tokio::test]
async fn a_tenant_gets_as_many_entries_as_the_defaults_say() {
    let world = World::tuned(&lasting()).await;
    let all = wrapped(&world.evil, 10_000, 32).await;
    assert_eq!(cached(&world.evil, &all).await, 0);
    assert_eq!(cached(&world.evil, &all).await, 10_000);
}

/// The locked memory of the test below: far less than the tenants' shares.
const LITTLE: usize = 256 << 10;

#[tokio::test]
async fn with_little_locked_memory_the_start_says_so_and_each_tenant_keeps_a_part() {
    let gateway = Gateway::with_locked_memory(crate::BINARY, LITTLE);
    let started = gateway.serve(&lasting());
    let world = World::of(gateway, started).await;
    let output = world.started.output();
    let said: Vec<Value> = output.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let said = said.iter().find(|event| event["locked_bytes"] == LITTLE);
    let said = said.unwrap_or_else(|| panic!("nothing about the locked memory: {output}"));
    assert_eq!((&said["level"], &said["wanted_bytes"]), (&json!("WARN"), &json!(4 << 20)), "{said}");
    let message = said["message"].as_str().unwrap();
    assert!(message.contains("RLIMIT_MEMLOCK") && message.contains("LimitMEMLOCK"), "{message}");

    let quiet = world.started.with_tenant("quiet").await;
    make_key(&quiet, "orders").await;
    let honest = world.honest().await;
    crowd(&world).await;
    let all = wrapped(&quiet, 200, 32).await;
    assert_eq!(cached(&quiet, &all).await, 0);
    assert_eq!(cached(&quiet, &all).await, all.len());
    let shown = async {
        loop {
            let metrics = world.started.operator().get("/metrics").await.text;
            if metrics.contains(&format!("claviger_cache_locked_bytes {LITTLE}\n")) {
                break;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, shown).await.expect("a metric shows it");
    honest.end().await;
}
