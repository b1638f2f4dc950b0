//! The limit of wraps under one version whose nonces are random.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use claviger_test_support::{Answer, Client};
use claviger_testkit::Fault;
use reqwest::Method;
use serde_json::{Value, json};

use crate::fake_world::{FakeWorld, adopt, connect};
use crate::support::{PATIENCE, wraps_reserved};

const DATA_KEYS: &str = "/v1/keys/orders/data-keys";
/// The most wraps of one version.
const LIMIT: u64 = 1 << 32;

/// A world in which each tenant has a key `orders` on a server that is called after it, whose first version has
/// this many wraps reserved.
async fn start(bank: u64) -> FakeWorld {
    let world = FakeWorld::start().await;
    for (client, server) in [(&world.bank, "bank"), (&world.evil, "evil")] {
        connect(client, "kms", server, false).await;
        world.made(server, "orders").await;
        adopt(client, "orders", "kms", "orders").await.expect_status(201);
    }
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(world.gateway.data().join("claviger.db"));
    let mut store = sqlx::ConnectOptions::connect(&options).await.unwrap();
    let seed = "UPDATE key_versions SET wraps_reserved = ?1 WHERE tenant = (SELECT id FROM tenants WHERE name = 'bank')";
    let seeded = sqlx::query(seed)
        .bind(i64::try_from(bank).unwrap())
        .execute(&mut store)
        .await
        .unwrap();
    assert_eq!(seeded.rows_affected(), 1);
    sqlx::Connection::close(store).await.unwrap();
    world
}

async fn data_key(client: &Client) -> Answer {
    client.post(DATA_KEYS, &json!({})).await
}

/// Stops the test unless the answer says that version 1 has no wraps left, and what to do.
#[track_caller]
fn used_up(answer: Answer) {
    let problem = answer.expect_problem(409, "key_state");
    assert!(
        problem["detail"]
            .as_str()
            .unwrap()
            .contains("Version 1 of the key has reached its limit of 2^32 wraps")
    );
    assert!(problem["what_to_do"].as_str().unwrap().contains("Rotate the key"), "{problem}");
}

/// How often the gateway has logged this.
fn logged(world: &FakeWorld, text: &str) -> usize {
    world.started().output().matches(text).count()
}

#[tokio::test]
async fn a_version_wraps_2_to_the_32_times_and_a_rotation_brings_new_wraps() {
    let world = start(LIMIT - 3).await;
    let elsewhere = data_key(&world.evil).await.expect_status(200);
    let mut wrapped = Value::Null;
    for _ in 0..3 {
        wrapped = data_key(&world.bank).await.expect_status(200);
    }
    // Whatever wraps is refused, before the provider is called; whatever unwraps is not.
    let sent = world.calls("bank", "wrap_key").await;
    used_up(data_key(&world.bank).await);
    used_up(world.bank.post("/v1/keys/orders/wrap", &json!({"plaintext": "AAAA"})).await);
    let items = json!({"items": [{"key": "orders"}, {"key": "orders"}]});
    let batch = world.bank.post("/v1/batch/data-keys", &items).await.expect_status(200);
    for item in batch["items"].as_array().unwrap() {
        assert_eq!(item["error"]["code"], "key_state", "{item}");
    }
    assert_eq!(world.calls("bank", "wrap_key").await, sent);
    let opened = json!({"wrapped": wrapped["wrapped"]});
    let unwrapped = world.bank.post("/v1/unwrap", &opened).await.expect_status(200);
    assert_eq!(unwrapped["plaintext"], wrapped["plaintext"]);
    // A check, which wraps random bytes, leaves the key out.
    world.bank.post_empty("/v1/connections/kms/check").await.expect_status(200);
    // It is this tenant's alone.
    data_key(&world.evil).await.expect_status(200);
    let unwrapped = world.evil.post("/v1/unwrap", &json!({"wrapped": elsewhere["wrapped"]})).await;
    unwrapped.expect_status(200);

    world.bank.post_empty("/v1/keys/orders/rotate").await.expect_status(200);
    for _ in 0..5 {
        assert_eq!(data_key(&world.bank).await.expect_status(200)["version"], 2);
    }
    let rewrapped = world.bank.post("/v1/keys/orders/rewrap", &opened).await.expect_status(200);
    assert_eq!(rewrapped["version"], 2);
    assert_eq!(logged(&world, "half of the 2^32 wraps"), 1);
    assert_eq!(logged(&world, "the last of the 2^32 wraps"), 1);
    let metrics = world.started().operator().get("/metrics").await.text;
    for level in ["half", "reached"] {
        let line = format!("claviger_wrap_limit_versions_total{{level=\"{level}\"}} 1\n");
        assert!(metrics.contains(&line), "{metrics}");
    }
    // The store says so at the next start, too.
    let data = world.gateway.data();
    let (gateway, started, bank) = world.restarted();
    let world_after = bank.get("/v1/keys/orders").await.expect_status(200);
    assert_eq!(world_after["primary_version"], 2);
    assert!(started.terminate());
    let tenants = sqlx::sqlite::SqliteConnectOptions::new().filename(data.join("claviger.db"));
    let mut store = sqlx::ConnectOptions::connect(&tenants).await.unwrap();
    let sql = "SELECT v.wraps_reserved FROM key_versions v JOIN tenants t ON t.id = v.tenant WHERE t.name = 'bank' ORDER BY v.number";
    let reserved: Vec<i64> = sqlx::query_scalar(sql).fetch_all(&mut store).await.unwrap();
    sqlx::Connection::close(store).await.unwrap();
    drop(gateway);
    // Six wraps of the second version: one, two and four.
    assert_eq!(reserved, [i64::try_from(LIMIT).unwrap(), 7]);
}

#[tokio::test]
async fn half_of_the_limit_is_warned_of_once() {
    let world = start(LIMIT / 2 - 2).await;
    data_key(&world.bank).await.expect_status(200);
    assert_eq!(logged(&world, "half of the 2^32 wraps"), 0);
    for _ in 0..20 {
        data_key(&world.bank).await.expect_status(200);
    }
    assert_eq!(logged(&world, "half of the 2^32 wraps"), 1);
    // Each process warns.
    let world = world.killed();
    world.made("bank", "orders").await;
    assert_eq!(logged(&world, "half of the 2^32 wraps"), 1, "the log goes on");
    data_key(&world.bank).await.expect_status(200);
    assert_eq!(logged(&world, "half of the 2^32 wraps"), 2);
}

#[tokio::test]
async fn each_retry_counts() {
    let world = start(LIMIT - 2).await;
    // The service wraps, and its answer is lost twice.
    world.fault("bank", "wrap_key", Fault::Reset, 2).await;
    data_key(&world.bank).await.expect_status(200);
    assert_eq!(world.calls("bank", "wrap_key").await, 3);
    used_up(data_key(&world.bank).await);
}

#[tokio::test]
async fn at_once_no_more_pass_than_are_left() {
    let world = start(LIMIT - 37).await;
    let items = json!({"items": vec![json!({"key": "orders", "plaintext": false}); 200]});
    let batches = futures::future::join_all((0..2).map(|_| world.bank.post("/v1/batch/data-keys", &items))).await;
    let mut made = 0;
    for batch in batches {
        for item in batch.expect_status(200)["items"].as_array().unwrap() {
            if item["wrapped"].is_string() {
                made += 1;
            } else {
                assert_eq!(item["error"]["code"], "key_state", "{item}");
            }
        }
    }
    assert_eq!((made, world.calls("bank", "wrap_key").await), (37, 37));
}

#[tokio::test]
async fn a_kill_between_wraps_loses_none_of_the_count() {
    let mut world = FakeWorld::start().await;
    connect(&world.bank, "kms", "bank", false).await;
    world.made("bank", "orders").await;
    adopt(&world.bank, "orders", "kms", "orders").await.expect_status(201);
    let (sent, answered) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let mut before = 0;
    for round in 1..=5 {
        let wrapping: Vec<_> = (0..4)
            .map(|_| {
                let (client, sent, answered) = (world.bank.clone(), Arc::clone(&sent), Arc::clone(&answered));
                tokio::spawn(async move {
                    loop {
                        sent.fetch_add(1, Ordering::Relaxed);
                        let request = client.request(Method::POST, DATA_KEYS).json(&json!({"plaintext": false}));
                        match client.try_send(request).await {
                            Some(answer) => drop(answer.expect_status(200)),
                            None => return,
                        }
                        answered.fetch_add(1, Ordering::Relaxed);
                    }
                })
            })
            .collect();
        let enough = async {
            while answered.load(Ordering::Relaxed) < 30 * round {
                tokio::time::sleep(std::time::Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(PATIENCE, enough).await.expect("the gateway wraps");
        world = world.killed();
        for task in wrapping {
            task.await.unwrap();
        }
        let reserved = wraps_reserved(&world.gateway.data(), "orders", 1).await;
        let (sent, answered) = (sent.load(Ordering::Relaxed), answered.load(Ordering::Relaxed));
        assert!(
            reserved > before && reserved >= answered,
            "{reserved} of {answered}, {before} before"
        );
        assert!(reserved < 2 * sent, "{reserved} of {sent}");
        before = reserved;
        world.made("bank", "orders").await;
    }
}
