//! Other network settings of a connection whose keys moved away, or are lost at the provider: what still proves the
//! server, and what the refusals name.

use std::time::{Duration, Instant};

use claviger_test_support::{Answer, Tune};
use serde_json::{Value, json};

use crate::Case;
use crate::front::{Front, Manner};
use crate::openbao::{DEV, Server, unique};
use crate::world::World;

const PATH: &str = "/v1/connections/kms";

pub fn cases() -> Vec<Case> {
    vec![
        Case::new("gone::old_versions_alone_prove_the_server", DEV, || Box::pin(moved_away())),
        Case::new("gone::a_replaced_key_does_not_block_the_others", DEV, || Box::pin(replaced())),
        Case::new("gone::a_lost_key_is_named_with_what_to_do", DEV, || Box::pin(lost())),
    ]
}

fn token() -> Value {
    json!({"token": Server::Dev.token()})
}

async fn renew(world: &World, front: &Front) -> Answer {
    let body = json!({"settings": {"address": front.address(), "ca": front.ca}, "secrets": token()});
    world.client.patch(PATH, "*", &body).await
}

/// Deletes a key of the server's, and makes another one under its name in another second if `again`.
fn delete(key: &Value, again: bool) {
    let name = key["provider_key"].as_str().unwrap().rsplit('/').next().unwrap();
    let path = format!("transit/keys/{name}");
    let created = || {
        let read: Value = serde_json::from_str(&Server::Dev.bao(&["read", "-format=json", &path], "")).unwrap();
        read["data"]["keys"]["1"].clone()
    };
    let (before, begin) = (created(), Instant::now());
    loop {
        Server::Dev.bao(&["write", &format!("{path}/config"), "deletion_allowed=true"], "");
        Server::Dev.bao(&["delete", &path], "");
        if !again {
            return;
        }
        Server::Dev.bao(&["write", "-f", &path], "");
        if created() != before {
            return;
        }
        assert!(begin.elapsed() < Duration::from_secs(60), "the server's clock stands still");
    }
}

async fn check(world: &World) {
    world.client.post_empty(&format!("{PATH}/check")).await.expect_status(200);
}

async fn warnings(world: &World, name: &str) -> Value {
    world.client.get(&format!("/v1/keys/{name}")).await.expect_status(200)["warnings"].clone()
}

async fn moved_away() {
    let mut front = Front::start(Manner::Honest).await;
    let world = World::new(Tune::default()).await;
    world.connect("vault", &front.settings(&token())).await;
    let other = json!({"name": "other", "provider": "vault", "settings": Server::Dev.settings(&token())});
    world.client.post("/v1/connections", &other).await.expect_status(201);
    for name in ["invoices", "orders"] {
        world.key(name, json!({})).await;
    }
    let made = world.client.post("/v1/keys/orders/data-keys", &json!({})).await.expect_status(200);
    for name in ["invoices", "orders"] {
        let path = format!("/v1/keys/{name}/rotate");
        world.client.post(&path, &json!({"connection": "other"})).await.expect_status(200);
    }
    let used = world.client.delete(PATH).await.expect_problem(409, "in_use");
    assert!(used["detail"].as_str().unwrap().contains("`invoices`"), "{used}");

    // A server without the old keys is refused, and the message names one of them.
    let stranger = Front::start(Manner::Stranger(unique("nowhere"))).await;
    let refused = renew(&world, &stranger).await.expect_problem(400, "connection_refused_at_check");
    assert!(refused["detail"].as_str().unwrap().contains("version 1 of the key"), "{refused}");
    front.renew();
    renew(&world, &front).await.expect_status(200);
    let opened = world.client.post("/v1/unwrap", &json!({"wrapped": made["wrapped"]})).await;
    assert_eq!(opened.expect_status(200)["plaintext"], made["plaintext"]);

    // Where the change is refused because no key uses the connection, it can be deleted.
    for name in ["invoices", "orders"] {
        world.client.delete(&format!("/v1/keys/{name}")).await.expect_status(204);
    }
    front.renew();
    let refused = renew(&world, &front).await.expect_problem(400, "connection_refused_at_check");
    assert!(refused["detail"].as_str().unwrap().contains("No key uses"), "{refused}");
    world.client.delete(PATH).await.expect_status(204);
}

async fn replaced() {
    let mut front = Front::start(Manner::Honest).await;
    let world = World::new(Tune::default()).await;
    world.connect("vault", &front.settings(&token())).await;
    let lost = world.key("lost", json!({})).await;
    world.client.post_empty("/v1/keys/lost/rotate").await.expect_status(200);
    delete(&lost, true);
    check(&world).await;
    assert_eq!(warnings(&world, "lost").await, json!(["replaced"]));
    // Alone, it shows nothing of the server.
    front.renew();
    let refused = renew(&world, &front).await.expect_problem(400, "connection_refused_at_check");
    let (detail, advice) = (refused["detail"].as_str().unwrap(), refused["what_to_do"].as_str().unwrap());
    assert!(detail.contains("of the key `lost`"), "{refused}");
    assert!(
        advice.contains("claviger keys rotate") && advice.contains("claviger keys delete"),
        "{refused}"
    );

    let mut front = Front::start(Manner::Honest).await;
    let world = World::new(Tune::default()).await;
    world.connect("vault", &front.settings(&token())).await;
    let lost = world.key("lost", json!({})).await;
    world.client.post_empty("/v1/keys/lost/rotate").await.expect_status(200);
    world.key("orders", json!({})).await;
    delete(&lost, true);
    check(&world).await;
    assert_eq!(warnings(&world, "lost").await, json!(["replaced"]));
    let stranger = Front::start(Manner::Stranger(unique("nowhere"))).await;
    let refused = renew(&world, &stranger).await.expect_problem(400, "connection_refused_at_check");
    // Which of the two is named depends on whose answer comes first.
    assert!(refused["detail"].as_str().unwrap().contains("does not open"), "{refused}");
    front.renew();
    renew(&world, &front).await.expect_status(200);
    world.client.post("/v1/keys/orders/data-keys", &json!({})).await.expect_status(200);
    // Nothing is wrapped under the other key.
    let refused = world.client.post("/v1/keys/lost/data-keys", &json!({})).await;
    refused.expect_problem(409, "key_state");
}

async fn lost() {
    let mut front = Front::start(Manner::Honest).await;
    let world = World::new(Tune::default()).await;
    world.connect("vault", &front.settings(&token())).await;
    let lost = world.key("lost", json!({})).await;
    world.key("orders", json!({})).await;
    delete(&lost, false);
    check(&world).await;
    front.renew();
    // It may come back there under the same name, and wrap: so it is not left out.
    let refused = renew(&world, &front).await.expect_problem(400, "connection_refused_at_check");
    let (detail, advice) = (refused["detail"].as_str().unwrap(), refused["what_to_do"].as_str().unwrap());
    assert!(detail.contains("of the key `lost`"), "{refused}");
    assert!(advice.contains("claviger keys delete"), "{refused}");
    world.client.delete("/v1/keys/lost").await.expect_status(204);
    renew(&world, &front).await.expect_status(200);
}
