//! Adopting by a name that is not the provider's own one.

use claviger_test_support::Tune;
use serde_json::json;

use crate::Case;
use crate::openbao::{DEV, Server, unique};
use crate::world::{CONNECTION, World};

pub fn cases() -> Vec<Case> {
    vec![Case::new(
        "adopting::a_short_name_of_a_detached_key_tells_the_name_that_brings_it_back",
        DEV,
        || Box::pin(short_name()),
    )]
}

async fn short_name() {
    let name = unique("theirs");
    Server::Dev.bao(&["write", "-f", &format!("transit/keys/{name}")], "");
    let world = World::new(Tune::default()).await;
    world
        .connect("vault", &Server::Dev.settings(&json!({"token": Server::Dev.token()})))
        .await;
    let key = world.key("orders", json!({"provider_key": name})).await;
    let full = key["provider_key"].as_str().unwrap();
    assert_ne!(full, name);
    world.client.delete("/v1/keys/orders").await.expect_status(204);

    let adopt = |provider_key: &str| json!({"name": "orders", "connection": CONNECTION, "provider_key": provider_key});
    let refused = world.client.post("/v1/keys", &adopt(&name)).await;
    let problem = refused.expect_problem(409, "provider_key_taken");
    assert!(problem["detail"].as_str().unwrap().contains(full), "{problem}");
    let back = world.client.post("/v1/keys", &adopt(full)).await.expect_status(201);
    assert_eq!(back["id"], key["id"]);
}
