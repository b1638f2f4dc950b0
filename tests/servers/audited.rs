//! What a key's owner finds of a call in the key service's own audit log.

use claviger_test_support::Tune;
use serde_json::{Value, json};

use crate::Case;
use crate::openbao::{Server, TLS};
use crate::world::World;

pub fn cases() -> Vec<Case> {
    vec![Case::new("audited::the_context_of_a_call_is_found_in_openbaos_log", TLS, || {
        Box::pin(found())
    })]
}

async fn found() {
    let server = Server::Tls;
    let world = World::new(Tune::default()).await;
    world.connect("vault", &server.settings(&json!({"token": server.token()}))).await;
    let key = world.key("orders", json!({})).await;
    let context = json!({"table": "orders"});
    let made = world
        .client
        .post("/v1/keys/orders/data-keys", &json!({"context": context}))
        .await
        .expect_status(200);
    let inspect = json!({"wrapped": made["wrapped"], "context": context});
    let shown = world.client.post("/v1/inspect", &inspect).await.expect_status(200);

    let input = format!("input={}", shown["context_bytes"].as_str().unwrap());
    let hash = server.bao(&["write", "-field=hash", "sys/audit-hash/records", &input], "");
    let log = server.file("audit.log");
    let calls: Vec<Value> = log
        .lines()
        .filter(|line| line.contains(hash.trim()))
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let name = key["provider_key"].as_str().unwrap().rsplit('/').next().unwrap();
    let paths = calls.iter().map(|call| call["request"]["path"].as_str().unwrap());
    // To ask for the HMAC is a call with the same value.
    let paths: Vec<_> = paths.filter(|path| !path.starts_with("sys/audit-hash/")).collect();
    assert!(
        !paths.is_empty() && paths.iter().all(|path| *path == format!("transit/encrypt/{name}")),
        "{hash}: {paths:?}"
    );
}
