//! What comes while a change of a key is at its provider.

use claviger_test_support::records;
use claviger_testkit::control::Request;
use serde_json::{Value, json};

use crate::fake_world::{FakeWorld, adopt, connect};

const ORDERS: &str = "/v1/keys/orders";
const ROTATE: &str = "/v1/keys/orders/rotate";

/// A world in which bank has a key `orders` on the server `here`, and a connection `second` to `there`.
async fn start() -> FakeWorld {
    let world = FakeWorld::start().await;
    connect(&world.bank, "first", "here", false).await;
    connect(&world.bank, "second", "there", false).await;
    world.made("here", "orders").await;
    adopt(&world.bank, "orders", "first", "orders").await.expect_status(201);
    world
}

#[tokio::test]
async fn a_detach_while_a_version_is_learned_leaves_a_log_that_the_next_start_accepts() {
    let world = start().await;
    let id = world.bank.get(ORDERS).await.expect_status(200)["id"].clone();
    let rotated = Request::RotateKey { id: "orders".to_owned() };
    world.at("here", rotated).await;
    let path = format!("{ORDERS}/data-keys");
    let wrapping = world.held_at("here", "describe", &world.bank, &path, json!({})).await;
    assert_eq!(world.bank.delete(ORDERS).await.status, 204);
    world.released("here", wrapping).await.expect_problem(404, "not_found");
    let learned = |record: &Value| record["authn"] == "gateway" && record["key"] == id && !record["change"].is_null();
    let kinds: Vec<Value> = records(&world.gateway.data())
        .into_iter()
        .filter(learned)
        .map(|record| record["kind"].clone())
        .collect();
    assert_eq!(kinds, ["intent", "outcome"]);
    let (_gateway, _started, bank) = world.restarted();
    let detached = bank.get("/v1/keys?state=detached").await.expect_status(200);
    assert_eq!(detached["items"][0]["id"], id);
}

#[tokio::test]
async fn a_sever_of_either_connection_while_a_key_moves_refuses_the_move() {
    let world = start().await;
    let before = world.bank.get(ORDERS).await.expect_status(200);
    for severed in ["second", "first"] {
        let moving = world
            .held_at("there", "create_key", &world.bank, ROTATE, json!({"connection": "second"}))
            .await;
        let connection = format!("/v1/connections/{severed}");
        world.bank.post_empty(&format!("{connection}/sever")).await.expect_status(200);
        let answer = world.released("there", moving).await;
        answer.expect_problem(409, "connection_severed");
        assert_eq!(world.bank.get(ORDERS).await.expect_status(200), before, "{severed}");
        assert_eq!(world.bank.list(&format!("{ORDERS}/versions")).await.len(), 1);
        world.bank.post_empty(&format!("{connection}/restore")).await.expect_status(200);
    }
    let made = world.bank.post(&format!("{ORDERS}/data-keys"), &json!({})).await;
    assert_eq!(made.expect_status(200)["version"], 1);
}
