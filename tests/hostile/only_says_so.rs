//! A key service that answers `done` to a disable or an enable, and did nothing.

use claviger_test_support::Client;
use serde_json::{Value, json};

use crate::key_service::KeyService;
use crate::world::World;

/// The service of both tenants.
const SERVER: &str = "liar";

/// A connection of this tenant to the service.
async fn connect(tenant: &Client) {
    let mut connection = KeyService::connection(SERVER, "");
    connection["name"] = json!("own");
    tenant.post("/v1/connections", &connection).await.expect_status(201);
}

/// Disables or enables the key, here and at the service; returns the answer's `at_provider`.
async fn switch(tenant: &Client, verb: &str) -> Value {
    let path = format!("/v1/keys/theirs/{verb}");
    let switched = tenant.post(&path, &json!({"at_provider": true})).await.expect_status(200);
    let state = if verb == "disable" { "disabled" } else { "enabled" };
    assert_eq!(switched["state"], state, "{switched}");
    assert_eq!(tenant.get("/v1/keys/theirs").await.expect_status(200)["state"], state);
    switched["at_provider"].clone()
}

/// The answer to a disable says what the service said. The key is disabled here, whatever that was worth; and an enable
/// that the service only claims gives no plaintext either.
#[tokio::test]
async fn a_key_service_that_says_done_and_did_nothing_keeps_no_key_usable() {
    let (world, control) = World::with_fake().await;
    let evil = &world.evil;
    let mut service = KeyService::named(control, SERVER).await;
    connect(evil).await;
    let body = json!({"name": "theirs", "connection": "own"});
    let made = evil.post("/v1/keys", &body).await.expect_status(201);
    // Another tenant with the same key shows what state it has at the service.
    let bank = world.started.tenant("bank");
    connect(&bank).await;
    let body = json!({"name": "same", "connection": "own", "provider_key": made["provider_key"]});
    bank.post("/v1/keys", &body).await.expect_status(201);
    let at_service = async || bank.post("/v1/keys/same/data-keys", &json!({})).await.status;
    let data_key = evil.post("/v1/keys/theirs/data-keys", &json!({})).await.expect_status(200);
    let unwrap = async || evil.post("/v1/unwrap", &json!({"wrapped": data_key["wrapped"]})).await;
    for _ in ["at the service", "from the cache"] {
        assert_eq!(unwrap().await.expect_status(200)["plaintext"], data_key["plaintext"]);
    }
    let honest = world.honest().await;
    let done = json!({"result": "done", "detail": null});

    service.only_says_so().await;
    service.forget().await;
    assert_eq!(switch(evil, "disable").await, done);
    assert_eq!(service.calls_of("set_state").await, 1);
    assert_eq!(at_service().await, 200, "the key is enabled there");
    service.forget().await;
    unwrap().await.expect_problem(409, "key_disabled");
    let refused = evil.post("/v1/keys/theirs/data-keys", &json!({})).await;
    refused.expect_problem(409, "key_disabled");
    assert_eq!(service.calls().await, 0, "nobody is asked for a key that is disabled here");

    // Disabled there, too.
    service.release().await;
    assert_eq!(switch(evil, "disable").await, done);
    assert_eq!(at_service().await, 409);
    service.only_says_so().await;
    assert_eq!(switch(evil, "enable").await, done);
    let refused = unwrap().await.expect_problem(409, "key_state");
    assert!(refused.get("plaintext").is_none(), "{refused}");

    service.release().await;
    assert_eq!(switch(evil, "enable").await, done);
    assert_eq!(unwrap().await.expect_status(200)["plaintext"], data_key["plaintext"]);
    honest.end().await;
}
