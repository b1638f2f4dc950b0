//! States at the provider: what the gateway learns by itself is in the tenant's log, and what is stored as
//! unusable is asked for anew.

use std::time::Instant;

use claviger_test_support::records;
use claviger_testkit::Fault;
use claviger_testkit::control::Request;
use serde_json::{Value, json};

use crate::fake_world::{FakeWorld, adopt, connect, connect_cloud};
use crate::support::PATIENCE;

const ORDERS: &str = "/v1/keys/orders";
const ID: &str = "orders";

/// A world in which bank has a key `orders` on the server `bank`, and the wrapped key that it made.
async fn with_key() -> (FakeWorld, Value) {
    let world = FakeWorld::start().await;
    connect(&world.bank, "own", "bank", false).await;
    adopted(world).await
}

/// The same of a cloud.
async fn with_cloud_key() -> (FakeWorld, Value) {
    let world = FakeWorld::cloud().await;
    connect_cloud(&world.bank, "own", "bank").await;
    adopted(world).await
}

async fn adopted(world: FakeWorld) -> (FakeWorld, Value) {
    world.made("bank", ID).await;
    adopt(&world.bank, "orders", "own", ID).await.expect_status(201);
    let made = world.bank.post(&format!("{ORDERS}/data-keys"), &json!({})).await.expect_status(200);
    (world, json!({"wrapped": made["wrapped"]}))
}

/// The records of what the gateway learned by itself of the key, without those of mere calls.
fn learned(world: &FakeWorld, key: &Value) -> Vec<Value> {
    let all = records(&world.gateway.data());
    let learned = |record: &Value| record["authn"] == "gateway" && record["key"] == key["id"] && !record["change"].is_null();
    all.into_iter().filter(|record| learned(record)).collect()
}

#[tokio::test]
async fn a_version_that_is_learned_has_an_intent_and_an_outcome() {
    let (world, _) = with_key().await;
    let key = world.bank.get(ORDERS).await.expect_status(200);
    assert_eq!(learned(&world, &key), [] as [Value; 0]);
    // The owner rotates at the provider itself: the next wrap names a version without a row.
    world.at("bank", Request::RotateKey { id: ID.to_owned() }).await;
    let made = world.bank.post(&format!("{ORDERS}/data-keys"), &json!({})).await.expect_status(200);
    assert_eq!(made["version"], 2);
    let records = learned(&world, &key);
    let kinds: Vec<&Value> = records.iter().map(|record| &record["kind"]).collect();
    assert_eq!(kinds, ["intent", "outcome"], "{records:#?}");
    for record in &records {
        assert_eq!((&record["tenant"], &record["change"]["verb"]), (&key["tenant"], &json!("update")));
        assert!(record.get("principal").is_none_or(Value::is_null), "{record}");
    }
    assert_eq!(records[1]["result"], "success");
}

#[tokio::test]
async fn what_is_stored_as_disabled_is_asked_for_anew_and_not_too_often() {
    let (world, blob) = with_cloud_key().await;
    let unwrap = format!("{ORDERS}/unwrap");
    // The gateway learns that the owner disabled the key while it waits for a rotation.
    world.fault("bank", "rotate", Fault::Later, 1).await;
    world.fault("bank", "describe", Fault::Denied, 1000).await;
    world.bank.post_empty(&format!("{ORDERS}/rotate")).await.expect_status(202);
    let state = |enabled| Request::ChangeState {
        id: ID.to_owned(),
        enabled,
    };
    world.at("bank", state(false)).await;
    world.at("bank", Request::Clear).await;
    // It stores the new version first, and then what the provider says of all.
    let begin = Instant::now();
    loop {
        let rotation = world.bank.get(ORDERS).await.expect_status(200)["rotation"]["state"].clone();
        let versions = world.bank.get(&format!("{ORDERS}/versions")).await.expect_status(200);
        let mut versions = versions["items"].as_array().unwrap().iter();
        if rotation == "idle" && versions.all(|version| version["provider_state"] == "disabled" && version["state"] == "enabled") {
            break;
        }
        assert!(begin.elapsed() < PATIENCE, "the rotation does not end with what the owner did");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }

    // A refused call asks, and those that come with it or soon after it do not ask again.
    let asked = world.calls("bank", "describe").await;
    let refused = futures::future::join_all((0..8).map(|_| world.bank.post(&unwrap, &blob))).await;
    for answer in refused {
        let problem = answer.expect_problem(409, "key_state");
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.starts_with("Version 1 of the key is `disabled` at the provider"), "{detail}");
        assert!(problem["what_to_do"].as_str().unwrap().contains("owner"), "{problem}");
    }
    assert_eq!(world.calls("bank", "describe").await, asked + 1);
    assert_eq!(world.calls("bank", "unwrap_key").await, 0);
    // Once its owner has enabled it, that is seen at the latest after 10 s.
    world.at("bank", state(true)).await;
    let begin = Instant::now();
    let opened = loop {
        let answer = world.bank.post(&unwrap, &blob).await;
        if answer.status == 200 {
            break answer.expect_status(200);
        }
        assert!(begin.elapsed() < PATIENCE, "{}", answer.text);
        answer.expect_problem(409, "key_state");
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    };
    assert_eq!(opened["version"], 1);
    assert_eq!(world.calls("bank", "describe").await, asked + 2);
    let key = world.bank.get(ORDERS).await.expect_status(200);
    let outcomes: Vec<Value> = learned(&world, &key)
        .into_iter()
        .filter(|record| record["kind"] == "outcome")
        .collect();
    assert_eq!(outcomes.len(), 2, "{outcomes:#?}");
}
