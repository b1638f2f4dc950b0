//! What only Transit's administrator can do to a key: raise its minimum versions, and trim it.

use std::time::{Duration, Instant};

use claviger_test_support::{Answer, Tune};
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
    // A version that is stored as disabled is asked about again, at most once in 10 seconds.
    let begin = Instant::now();
    while states(&world).await != ["destroyed", "enabled", "enabled"] {
        unwrap(&first).await.expect_problem(409, "key_state");
        assert!(begin.elapsed() < Duration::from_secs(30), "the trim is not noticed");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
