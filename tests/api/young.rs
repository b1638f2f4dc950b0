//! Keys that were made a moment ago, which a provider may not find yet.

use std::time::{Duration, Instant};

use claviger_testkit::Fault;
use claviger_testkit::control::Request;
use serde_json::{Value, json};

use crate::fake_world::{FakeWorld, adopt, connect, connect_cloud};
use crate::support::PATIENCE;

const DATA_KEYS: &str = "/v1/keys/orders/data-keys";
const WRAP: &str = "/v1/keys/orders/wrap";
const UNWRAP: &str = "/v1/unwrap";

/// A key service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    /// A vault, whose replicas are seconds behind.
    Vault,
    /// A cloud, whose servers may be a minute behind.
    Cloud,
}

/// A world in which bank has made a key `orders` a moment ago, which the next `calls` do not find.
async fn start(at: At, calls: u32) -> FakeWorld {
    let world = match at {
        At::Vault => FakeWorld::start().await,
        At::Cloud => FakeWorld::cloud().await,
    };
    match at {
        At::Vault => connect(&world.bank, "first", "here", false).await,
        At::Cloud => connect_cloud(&world.bank, "first", "here").await,
    }
    world.at("here", Request::HideNewKeys { calls }).await;
    let key = json!({"name": "orders", "connection": "first"});
    world.bank.post("/v1/keys", &key).await.expect_status(201);
    world
}

async fn data_key(world: &FakeWorld) -> Value {
    world.bank.post(DATA_KEYS, &json!({})).await.expect_status(200)
}

#[tokio::test]
async fn a_young_key_that_is_not_found_at_first_is_waited_for() {
    for at in [At::Vault, At::Cloud] {
        let world = start(at, 4).await;
        let wraps = world.calls("here", "wrap_key").await;
        let made = data_key(&world).await;
        assert!(world.calls("here", "wrap_key").await > wraps + 1, "{at:?}: it was asked for again");
        world.fault("here", "unwrap_key", Fault::KeyMissing, 3).await;
        let opened = world
            .bank
            .post(UNWRAP, &json!({"wrapped": made["wrapped"]}))
            .await
            .expect_status(200);
        assert_eq!(opened["plaintext"], made["plaintext"], "{at:?}");
    }
}

#[tokio::test]
async fn a_young_key_that_does_not_come_is_unavailable_and_not_gone() {
    for at in [At::Vault, At::Cloud] {
        does_not_come(start(at, 1).await).await;
    }
}

async fn does_not_come(world: FakeWorld) {
    let made = data_key(&world).await;
    let hasty = world.bank.clone().with_header("claviger-timeout", "1200ms");
    for (op, path, body) in [
        ("wrap_key", DATA_KEYS, json!({})),
        ("wrap_key", WRAP, json!({"plaintext": "AAAA"})),
        ("unwrap_key", UNWRAP, json!({"wrapped": made["wrapped"]})),
    ] {
        world.fault("here", op, Fault::KeyMissing, 1000).await;
        let begin = Instant::now();
        let answer = hasty.post(path, &body).await;
        // Far from the deadline of a call that names none, however busy the machine is.
        assert!(begin.elapsed() < Duration::from_secs(10), "{path}: an answer before the deadline");
        assert_eq!(answer.header("retry-after"), "1");
        let problem = answer.expect_problem(503, "provider_unavailable");
        assert_eq!(problem["retryable"], true, "{problem}");
        assert!(problem["detail"].as_str().unwrap().contains("a moment ago"), "{problem}");
        world.at("here", Request::Clear).await;
    }
    // Its owner's disable is none of that, and is not waited for.
    world.fault("here", "unwrap_key", Fault::KeyDisabled, 1000).await;
    let calls = world.calls("here", "unwrap_key").await;
    let refused = world.bank.post(UNWRAP, &json!({"wrapped": made["wrapped"]})).await;
    refused.expect_problem(409, "key_state");
    // Once more after a look at the key.
    assert_eq!(world.calls("here", "unwrap_key").await, calls + 2);
}

/// What is revoked while a young key is waited for ends the wait: no further call is made.
#[tokio::test]
async fn a_revocation_ends_the_wait_for_a_young_key() {
    for (revocation, status, code) in [
        ("/v1/keys/orders/disable", 409, "key_disabled"),
        ("/v1/connections/first/sever", 409, "connection_severed"),
    ] {
        let world = start(At::Vault, 1).await;
        let made = data_key(&world).await;
        for (op, path, body) in [
            ("wrap_key", DATA_KEYS, json!({})),
            ("unwrap_key", UNWRAP, json!({"wrapped": made["wrapped"]})),
        ] {
            world.fault("here", op, Fault::KeyMissing, 100_000).await;
            let (client, calls) = (world.bank.clone(), world.calls("here", op).await);
            let waiting = tokio::spawn(async move { client.post(path, &body).await });
            let begin = Instant::now();
            while world.calls("here", op).await < calls + 2 {
                assert!(begin.elapsed() < PATIENCE, "it does not wait");
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            world.bank.post_empty(revocation).await.expect_status(200);
            // One call can be under way, and none comes after it.
            let revoked = Instant::now();
            waiting.await.unwrap().expect_problem(status, code);
            assert!(
                revoked.elapsed() < Duration::from_secs(3),
                "{revocation} {op}: {:?}",
                revoked.elapsed()
            );
            let undo = match revocation {
                "/v1/keys/orders/disable" => "/v1/keys/orders/enable",
                _ => "/v1/connections/first/restore",
            };
            world.bank.post_empty(undo).await.expect_status(200);
            world.at("here", Request::Clear).await;
        }
    }
}

#[tokio::test]
async fn a_key_that_was_made_long_ago_is_gone_when_it_is_not_found() {
    let world = start(At::Vault, 0).await;
    world.made("here", "theirs").await;
    adopt(&world.bank, "old", "first", "theirs").await.expect_status(201);
    world.at("here", Request::RemoveKey { id: "theirs".to_owned() }).await;
    let calls = world.calls("here", "wrap_key").await;
    let refused = world.bank.post("/v1/keys/old/data-keys", &json!({})).await;
    refused.expect_problem(409, "key_state");
    assert_eq!(world.calls("here", "wrap_key").await, calls + 1);
}
