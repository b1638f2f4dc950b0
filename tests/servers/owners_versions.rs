//! What only Transit's administrator can do to a key: raise its minimum versions, and trim it.

use claviger_test_support::{Answer, Tune, records_of};
use serde_json::{Value, json};

use crate::Case;
use crate::openbao::{DEV, Server, unique};
use crate::world::World;

pub fn cases() -> Vec<Case> {
    vec![Case::new(
        "owners_versions::minimum_versions_are_raised_and_the_key_is_trimmed",
        DEV,
        || Box::pin(raised()),
    )]
}

/// State at the provider of each version.
async fn states(world: &World) -> Vec<Value> {
    let versions = world.client.list("/v1/keys/orders/versions").await;
    versions.iter().map(|version| version["provider_state"].clone()).collect()
}

async fn raised() {
    let name = unique("theirs");
    let key = format!("transit/keys/{name}");
    Server::Dev.bao(&["write", "-f", &key], "");
    let world = World::new(Tune::default()).await;
    let auth = json!({"token": Server::Dev.token()});
    world.connect("vault", &Server::Dev.settings(&auth)).await;
    world.key("orders", json!({"provider_key": name})).await;
    let data_key = async || world.client.post("/v1/keys/orders/data-keys", &json!({})).await;
    let unwrap = async |made: &Value| -> Answer { world.client.post("/v1/unwrap", &json!({"wrapped": made["wrapped"]})).await };

    let first = data_key().await.expect_status(200);
    for _ in 0..2 {
        Server::Dev.bao(&["write", "-f", &format!("{key}/rotate")], "");
    }
    // Of what the first version wrapped, nothing may be opened any more, and nothing be wrapped with the second.
    let raised = ["min_decryption_version=2", "min_encryption_version=3"];
    Server::Dev.bao(&[&["write", &format!("{key}/config")][..], &raised].concat(), "");
    let third = data_key().await.expect_status(200);
    assert_eq!(third["version"], 3);
    unwrap(&third).await.expect_status(200);
    unwrap(&first).await.expect_problem(409, "key_state");
    assert_eq!(states(&world).await, ["disabled", "enabled", "enabled"]);

    Server::Dev.bao(&["write", &format!("{key}/trim"), "min_available_version=2"], "");
    world.client.post_empty("/v1/connections/kms/check").await.expect_status(200);
    assert_eq!(states(&world).await, ["destroyed", "enabled", "enabled"]);
    unwrap(&first).await.expect_problem(409, "key_state");

    // What its owner lets leave the server later.
    let key_now = async || world.client.get("/v1/keys/orders").await.expect_status(200);
    assert!(key_now().await.get("warnings").is_none());
    Server::Dev.bao(&["write", &format!("{key}/config"), "exportable=true"], "");
    world.client.post_empty("/v1/connections/kms/check").await.expect_status(200);
    assert_eq!(key_now().await["warnings"], json!(["exportable"]));

    // Transit enables no keys. The key is enabled here; what was not done is told and recorded, also at a repetition.
    world.client.post_empty("/v1/keys/orders/disable").await.expect_status(200);
    let once = world.client.clone().with_header("idempotency-key", "on");
    let enable = async || once.post("/v1/keys/orders/enable", &json!({"at_provider": true})).await;
    let first = enable().await;
    let records = records_of(&world.gateway.data(), first.header("x-request-id"));
    let outcomes = records.iter().filter(|record| record["kind"] == "outcome");
    let told: Vec<_> = outcomes.map(|record| (&record["result"], &record["code"])).collect();
    assert_eq!(told, [(&json!("success"), &Value::Null), (&json!("failed"), &json!("unsupported"))]);
    let first = first.expect_status(200);
    assert_eq!(
        (&first["state"], &first["at_provider"]["result"]),
        (&json!("enabled"), &json!("unsupported"))
    );
    assert_eq!(enable().await.expect_status(200), first);
}
