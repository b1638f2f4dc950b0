//! Enable and disable at the providers of a key's versions: what was done there is told.

use claviger_test_support::records_of;
use claviger_testkit::Fault;
use serde_json::{Value, json};

use crate::fake_world::{FakeWorld, adopt, connect};

const DISABLE: &str = "/v1/keys/orders/disable";
const ENABLE: &str = "/v1/keys/orders/enable";

fn at_provider() -> Value {
    json!({"at_provider": true})
}

/// A world in which bank's key `orders` moved from the server `here` to the server `there`.
async fn moved() -> FakeWorld {
    let world = FakeWorld::start().await;
    for (connection, server) in [("first", "here"), ("second", "there")] {
        connect(&world.bank, connection, server, false).await;
        world.made(server, &format!("at-{server}")).await;
    }
    adopt(&world.bank, "orders", "first", "at-here").await.expect_status(201);
    let there = json!({"connection": "second", "provider_key": "at-there"});
    world.bank.post("/v1/keys/orders/rotate", &there).await.expect_status(200);
    world
}

#[tokio::test]
async fn a_disable_is_done_wherever_it_can_be_and_says_where_it_was_not() {
    let world = moved().await;
    let hasty = world.bank.clone().with_header("claviger-timeout", "800ms");
    for (fault, verb, result, recorded, code) in [
        (Fault::Denied, json!("disable"), "denied", "failed", json!("provider_denied")),
        // The provider may have done it. Here it is disabled already.
        (Fault::Hang, Value::Null, "pending", "interrupted", Value::Null),
    ] {
        world.fault("here", "set_state", fault, 100).await;
        let there = world.calls("there", "set_state").await;
        let answer = hasty.post(DISABLE, &at_provider()).await;
        let outcomes: Vec<Value> = records_of(&world.gateway.data(), answer.header("x-request-id"))
            .into_iter()
            .filter(|record| record["kind"] == "outcome")
            .collect();
        let told: Vec<_> = outcomes
            .iter()
            .map(|record| (&record["change"]["verb"], &record["result"], &record["code"]))
            .collect();
        assert_eq!(
            told,
            [
                (&verb, &json!("success"), &Value::Null),
                (&json!("update"), &json!(recorded), &code)
            ]
        );
        let key = answer.expect_status(200);
        assert_eq!((&key["state"], &key["at_provider"]["result"]), (&json!("disabled"), &json!(result)));
        let detail = key["at_provider"]["detail"].as_str().unwrap();
        assert!(detail.contains("first: ") && !detail.contains("second"), "{detail}");
        assert_eq!(world.calls("there", "set_state").await, there + 1);
        world.at("here", claviger_testkit::control::Request::Clear).await;
    }
    // The same request does the rest.
    let key = world.bank.post(DISABLE, &at_provider()).await.expect_status(200);
    assert_eq!(key["at_provider"], json!({"result": "done", "detail": null}));
    let key = world.bank.post_empty(DISABLE).await.expect_status(200);
    assert!(key.get("at_provider").is_none(), "{key}");
}

#[tokio::test]
async fn an_enable_is_told_as_done_once_every_provider_has_done_it() {
    let world = moved().await;
    world.bank.post(DISABLE, &at_provider()).await.expect_status(200);
    world.fault("here", "set_state", Fault::Denied, 1).await;
    let refused = world.bank.post(ENABLE, &at_provider()).await;
    refused.expect_problem(424, "provider_denied");
    assert_eq!(world.bank.get("/v1/keys/orders").await.expect_status(200)["state"], "disabled");
    let once = world.bank.clone().with_header("idempotency-key", "on");
    let key = once.post(ENABLE, &at_provider()).await.expect_status(200);
    let done = json!({"result": "done", "detail": null});
    assert_eq!(key["at_provider"], done);
    // A repetition does nothing, and tells what the first request did.
    let calls = world.calls("here", "set_state").await;
    let key = once.post(ENABLE, &at_provider()).await.expect_status(200);
    assert_eq!((&key["state"], &key["at_provider"]), (&json!("enabled"), &done));
    assert_eq!(world.calls("here", "set_state").await, calls);
}

#[tokio::test]
async fn a_key_that_is_enabled_at_its_provider_from_here_works_at_once() {
    let world = FakeWorld::start().await;
    connect(&world.bank, "own", "bank", false).await;
    world.made("bank", "orders").await;
    adopt(&world.bank, "orders", "own", "orders").await.expect_status(201);
    let made = world.bank.post("/v1/keys/orders/data-keys", &json!({})).await.expect_status(200);
    let wrapped = json!({"wrapped": made["wrapped"]});
    world.learns_disabled(&world.bank, "orders", "bank", "orders").await;
    // It was asked about just now, so it is not asked about soon again.
    let asked = world.calls("bank", "describe").await;
    for _ in 0..2 {
        world.bank.post("/v1/unwrap", &wrapped).await.expect_problem(409, "key_state");
    }
    assert_eq!(world.calls("bank", "describe").await, asked + 1);
    world.bank.post(ENABLE, &at_provider()).await.expect_status(200);
    let opened = world.bank.post("/v1/unwrap", &wrapped).await.expect_status(200);
    assert_eq!(opened["plaintext"], made["plaintext"]);
    for version in world.bank.list("/v1/keys/orders/versions").await {
        assert_eq!(version["provider_state"], "enabled");
    }
}
