//! Data keys of an external key are cached only where their owner turned that on.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use claviger_fake::{Act, Fault};
use claviger_test_support::{Client, records_of};
use serde_json::json;

use super::{External, KEY};
use crate::world::CONNECTION;

pub async fn cached() {
    let external = External::new().await;
    let made = external.data_key().await;
    external.requests();
    for _ in 0..2 {
        let opened = external.unwrap(&made["wrapped"]).await.expect_status(200);
        assert_eq!((&opened["plaintext"], &opened["cached"]), (&made["plaintext"], &json!(false)));
    }
    assert_eq!(external.decryptions(), (2, 2));

    let client = &external.world.client;
    let caching = json!({"cache": {"enabled": true}});
    let reason = |client: &Client| client.clone().with_header("claviger-justification", "the key manager is far away");
    reason(client)
        .patch(KEY, "*", &caching)
        .await
        .expect_problem(403, "permission_denied");
    external.fake.keys().make("bills");
    let body = json!({"name": "bills", "connection": CONNECTION, "provider_key": "bills", "cache": {"enabled": true}});
    reason(client)
        .post("/v1/keys", &body)
        .await
        .expect_problem(403, "permission_denied");
    let owner = external.world.owner(&["CreateKey", "UpdateKey", "Rotate", "ReadKey"]).await;
    let silent = owner.patch(KEY, "*", &caching).await.expect_problem(400, "invalid_request");
    assert_eq!(silent["errors"][0]["pointer"], "header:Claviger-Justification");
    owner.post("/v1/keys", &body).await.expect_problem(400, "invalid_request");
    let changed = reason(&owner).patch(KEY, "*", &caching).await;
    let record = records_of(&external.world.gateway.data(), changed.header("x-request-id"));
    assert_eq!(record[0]["justification"], "the key manager is far away");
    changed.expect_status(200);
    // Nor does an operator keep them longer, also by a detach and an adoption.
    let longer = json!({"cache": {"max_age": "300s"}});
    client.patch(KEY, "*", &longer).await.expect_problem(403, "permission_denied");
    assert_eq!(client.delete(KEY).await.status, 204);
    let back = json!({"name": "orders", "connection": CONNECTION, "provider_key": "orders"});
    let mut kept_longer = back.clone();
    kept_longer["cache"] = longer["cache"].clone();
    client.post("/v1/keys", &kept_longer).await.expect_problem(403, "permission_denied");
    client.post("/v1/keys", &back).await.expect_status(201);
    external.requests();
    for cached in [false, true] {
        let opened = external.unwrap(&made["wrapped"]).await.expect_status(200);
        assert_eq!((&opened["plaintext"], &opened["cached"]), (&made["plaintext"], &json!(cached)));
    }
    assert_eq!(external.decryptions(), (1, 1));

    // A key that the gateway caches comes into external custody only so, too.
    let local = json!({"name": "local", "provider": "local", "settings": {}});
    client.post("/v1/connections", &local).await.expect_status(201);
    let body = json!({"name": "ours", "connection": "local", "cache": {"enabled": true}});
    client.post("/v1/keys", &body).await.expect_status(201);
    let (path, to) = ("/v1/keys/ours/rotate", json!({"connection": CONNECTION, "provider_key": "bills"}));
    reason(client).post(path, &to).await.expect_problem(403, "permission_denied");
    owner.post(path, &to).await.expect_problem(400, "invalid_request");
    let moved = reason(&owner).post(path, &to).await.expect_status(200);
    assert_eq!(moved["custody"], "external");
}

/// The proxy chooses how long an adoption takes.
pub async fn cached_meanwhile() {
    let external = External::new().await;
    let client = &external.world.client;
    let local = json!({"name": "local", "provider": "local", "settings": {}});
    client.post("/v1/connections", &local).await.expect_status(201);
    let body = json!({"name": "ours", "connection": "local"});
    client.post("/v1/keys", &body).await.expect_status(201);
    let owner = external.world.owner(&["CreateKey", "Rotate", "ReadKey"]).await;
    external.fake.keys().make("bills");
    external.requests();
    let slow = Fault::once("/bills/metadata", Act::Delay { milliseconds: 4000 });
    external.fake.switches().faults.set(vec![slow]);
    let to = json!({"connection": CONNECTION, "provider_key": "bills"});
    let ended = AtomicBool::new(false);
    let rotated = async {
        let answer = owner.post("/v1/keys/ours/rotate", &to).await;
        ended.store(true, Ordering::Relaxed);
        answer
    };
    let journal = &external.fake.switches().journal;
    let (moved, turned_on) = tokio::join!(rotated, async {
        while journal.count("POST", "/bills/metadata") == 0 && !ended.load(Ordering::Relaxed) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let caching = json!({"cache": {"enabled": true}});
        client.patch("/v1/keys/ours", "*", &caching).await.status
    });
    // Whichever was first: what the operator turned on never applies to external custody.
    assert_eq!(moved.status, if turned_on == 200 { 400 } else { 200 }, "{moved:?}");
    let key = client.get("/v1/keys/ours").await.expect_status(200);
    assert_ne!((&key["custody"], &key["cache"]["enabled"]), (&json!("external"), &json!(true)));
}
