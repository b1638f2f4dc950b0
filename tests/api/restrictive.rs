//! What restricts a key outlives its detach: it comes back disabled, and after a sever only one who
//! may restore enables it.

use claviger_test_support::{Answer, Client};
use serde_json::{Value, json};

use crate::fake_world::{FakeWorld, adopt, connect};

const ORDERS: &str = "/v1/keys/orders";

/// A world in which bank has a key `orders` through `main`, and the wrapped key that it made.
async fn with_key() -> (FakeWorld, Value) {
    let world = FakeWorld::start().await;
    for connection in ["main", "other"] {
        connect(&world.bank, connection, "bank", false).await;
    }
    world.made("bank", "orders").await;
    adopt(&world.bank, "orders", "main", "orders").await.expect_status(201);
    let made = world.bank.post(&format!("{ORDERS}/data-keys"), &json!({})).await.expect_status(200);
    (world, json!({"wrapped": made["wrapped"]}))
}

async fn act(client: &Client, path: &str) -> Answer {
    client.post_empty(path).await
}

/// A client of bank's with a token for these operations.
async fn with(world: &FakeWorld, operations: &[&str]) -> Client {
    let made = world.bank.post("/v1/principals", &json!({"name": "ops"})).await;
    assert!(made.status == 201 || made.status == 409, "{}", made.text);
    let body = json!({"operations": operations, "expires_in": "1h"});
    let issued = world.bank.post("/v1/principals/ops/tokens", &body).await.expect_status(201);
    world.bank.with_token(issued["token"].as_str().unwrap())
}

#[tokio::test]
async fn a_key_that_was_detached_while_disabled_comes_back_disabled() {
    let (world, blob) = with_key().await;
    let bank = &world.bank;
    act(bank, &format!("{ORDERS}/disable")).await.expect_status(200);
    bank.delete(ORDERS).await.expect_status(204);
    // Under another name and through another connection, too; also told to a repetition.
    let body = json!({"name": "renamed", "connection": "other", "provider_key": "orders"});
    let repeating = bank.clone().with_header("idempotency-key", "once");
    let back = repeating.post("/v1/keys", &body).await;
    let again = repeating.post("/v1/keys", &body).await;
    assert_eq!((back.status, &back.body["state"]), (201, &json!("disabled")), "{}", back.text);
    assert_eq!((&again.body, again.header("etag")), (&back.body, back.header("etag")));
    bank.post("/v1/keys/renamed/unwrap", &blob)
        .await
        .expect_problem(409, "key_disabled");
    let enabler = with(&world, &["Enable"]).await;
    assert_eq!(
        act(&enabler, "/v1/keys/renamed/enable").await.expect_status(200)["state"],
        "enabled"
    );
    bank.post("/v1/keys/renamed/unwrap", &blob).await.expect_status(200);
}

#[tokio::test]
async fn a_key_whose_cache_was_off_comes_back_with_the_cache_off() {
    let (world, _) = with_key().await;
    let bank = &world.bank;
    let etag = bank.get(ORDERS).await.header("etag").to_owned();
    let off = json!({"cache": {"enabled": false}});
    bank.patch(ORDERS, &etag, &off).await.expect_status(200);
    bank.delete(ORDERS).await.expect_status(204);
    let body = json!({"name": "orders", "connection": "main", "provider_key": "orders"});
    let back = bank.post("/v1/keys", &body).await.expect_status(201);
    assert_eq!(back["cache"]["enabled"], false, "{back}");
}

/// Stops the test unless the key is disabled, and only one who may restore enables it.
async fn needs_restore(world: &FakeWorld, blob: &Value) {
    let key = world.bank.get(ORDERS).await.expect_status(200);
    assert_eq!(key["state"], "disabled", "{key}");
    world
        .bank
        .post(&format!("{ORDERS}/unwrap"), blob)
        .await
        .expect_problem(409, "key_disabled");
    let enable = format!("{ORDERS}/enable");
    let refused = act(&with(world, &["Enable"]).await, &enable).await;
    let id = refused.header("x-request-id").to_owned();
    let problem = refused.expect_problem(403, "permission_denied");
    assert!(problem["what_to_do"].as_str().unwrap().contains("Restore"), "{problem}");
    let records = claviger_test_support::records_of(&world.gateway.data(), &id);
    assert!(
        records
            .iter()
            .any(|record| record["operation"] == "Restore" && record["key"] == key["id"]),
        "{records:#?}"
    );
    act(&with(world, &["Restore"]).await, &enable)
        .await
        .expect_problem(403, "permission_denied");
    let both = with(world, &["Enable", "Restore"]).await;
    assert_eq!(act(&both, &enable).await.expect_status(200)["state"], "enabled");
    world.bank.post(&format!("{ORDERS}/unwrap"), blob).await.expect_status(200);
    // Once enabled it is as every other key.
    act(&world.bank, &format!("{ORDERS}/disable")).await.expect_status(200);
    act(&with(world, &["Enable"]).await, &enable).await.expect_status(200);
}

#[tokio::test]
async fn a_key_that_was_detached_from_a_severed_connection_needs_restore() {
    let (world, blob) = with_key().await;
    act(&world.bank, "/v1/connections/main/sever").await.expect_status(200);
    world.bank.delete(ORDERS).await.expect_status(204);
    let listed = world.bank.get("/v1/keys?state=detached").await.expect_status(200);
    assert_eq!(listed["items"][0]["state"], "disabled");
    adopt(&world.bank, "orders", "main", "orders")
        .await
        .expect_problem(409, "connection_severed");
    adopt(&world.bank, "orders", "other", "orders").await.expect_status(201);
    needs_restore(&world, &blob).await;
}

#[tokio::test]
async fn a_connection_that_is_severed_after_the_detach_counts_as_well() {
    let (world, blob) = with_key().await;
    world.bank.delete(ORDERS).await.expect_status(204);
    act(&world.bank, "/v1/connections/main/sever").await.expect_status(200);
    let back = adopt(&world.bank, "orders", "other", "orders").await.expect_status(201);
    assert_eq!(back["state"], "disabled");
    needs_restore(&world, &blob).await;
}

#[tokio::test]
async fn a_severed_connection_that_was_deleted_counts_as_well() {
    let (world, blob) = with_key().await;
    world.bank.delete(ORDERS).await.expect_status(204);
    act(&world.bank, "/v1/connections/main/sever").await.expect_status(200);
    world.bank.delete("/v1/connections/main").await.expect_status(204);
    let back = adopt(&world.bank, "orders", "other", "orders").await.expect_status(201);
    assert_eq!(back["state"], "disabled");
    needs_restore(&world, &blob).await;
}

#[tokio::test]
async fn nothing_of_another_tenant_restricts_a_key() {
    let (world, _) = with_key().await;
    connect(&world.evil, "own", "bank", false).await;
    adopt(&world.evil, "orders", "own", "orders").await.expect_status(201);
    act(&world.evil, "/v1/connections/own/sever").await.expect_status(200);
    world.evil.delete(ORDERS).await.expect_status(204);
    world.bank.delete(ORDERS).await.expect_status(204);
    let back = adopt(&world.bank, "orders", "main", "orders").await.expect_status(201);
    assert_eq!(back["state"], "enabled");
}

#[tokio::test]
async fn a_detach_and_a_restore_at_the_same_time_leave_one_state() {
    let world = FakeWorld::start().await;
    let bank = &world.bank;
    let (enabler, restorer) = (with(&world, &["Enable"]).await, with(&world, &["Enable", "Restore"]).await);
    for round in 0..25 {
        // Each key with a connection of its own.
        let name = format!("k{round}");
        let (key, connection) = (format!("/v1/keys/{name}"), format!("/v1/connections/{name}"));
        connect(bank, &name, "bank", false).await;
        world.made("bank", &name).await;
        adopt(bank, &name, &name, &name).await.expect_status(201);
        let made = bank.post(&format!("{key}/data-keys"), &json!({})).await.expect_status(200);
        act(bank, &format!("{connection}/sever")).await.expect_status(200);

        let restore = format!("{connection}/restore");
        let (detached, restored) = if round % 2 == 0 {
            futures::join!(bank.delete(&key), act(bank, &restore))
        } else {
            let (restored, detached) = futures::join!(act(bank, &restore), bank.delete(&key));
            (detached, restored)
        };
        assert_eq!(
            (detached.status, restored.status),
            (204, 200),
            "{} {}",
            detached.text,
            restored.text
        );
        // What is stored, which lists show, is what is in memory.
        assert_eq!(bank.get(&connection).await.expect_status(200)["state"], "active");
        let stored = bank.list("/v1/connections").await;
        assert!(
            stored.iter().all(|connection| connection["state"] == "active"),
            "{round}: {stored:#?}"
        );

        let listed = bank.get("/v1/keys?state=detached").await.expect_status(200);
        assert_eq!(listed["items"][0]["name"], *name);
        let state = &listed["items"][0]["state"];
        assert_eq!(&adopt(bank, &name, &name, &name).await.expect_status(201)["state"], state);
        if state == "disabled" {
            let enable = format!("{key}/enable");
            act(&enabler, &enable).await.expect_problem(403, "permission_denied");
            act(&restorer, &enable).await.expect_status(200);
        }
        let wrapped = json!({"wrapped": made["wrapped"]});
        bank.post(&format!("{key}/unwrap"), &wrapped).await.expect_status(200);
    }
    let (_gateway, _started, bank) = world.restarted();
    let stored = bank.list("/v1/connections").await;
    assert_eq!(stored.len(), 26);
    assert!(stored.iter().all(|connection| connection["state"] == "active"), "{stored:#?}");
}
