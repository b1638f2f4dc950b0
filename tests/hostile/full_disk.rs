//! What the audit log cannot record is not done at a key service.

use serde_json::json;

use crate::key_service::KeyService;
use crate::world::World;

#[tokio::test]
async fn no_key_service_is_called_while_the_log_cannot_record() {
    let (world, control) = World::with_fake().await;
    let evil = &world.evil;
    let connection = json!({"name": "remote", "provider": "vault", "settings": {"server": KeyService::NAME, "shared": false}});
    evil.post("/v1/connections", &connection).await.expect_status(201);
    evil.post("/v1/keys", &json!({"name": "theirs", "connection": "remote"}))
        .await
        .expect_status(201);
    let made = evil.post("/v1/keys/theirs/data-keys", &json!({})).await.expect_status(200);
    let unwrap = json!({"wrapped": made["wrapped"]});
    let item = json!({"items": [unwrap]});
    let mut service = KeyService::at(control).await;

    world.fill_disk();
    // The log finds out with the first record that it cannot write.
    evil.get("/v1/whoami").await.expect_problem(503, "audit_unavailable");
    service.forget().await;
    for (path, body) in [
        ("/v1/keys/theirs/data-keys", &json!({})),
        ("/v1/keys/theirs/wrap", &json!({"plaintext": "AAAA"})),
        ("/v1/unwrap", &unwrap),
        ("/v1/keys/theirs/unwrap", &unwrap),
        ("/v1/keys/theirs/rewrap", &unwrap),
        ("/v1/batch/unwrap", &item),
        ("/v1/keys/theirs/rotate", &json!({})),
    ] {
        evil.post(path, body).await.expect_problem(503, "audit_unavailable");
    }
    assert_eq!(service.calls().await, 0);
    world.has_room().await;
    evil.post("/v1/unwrap", &unwrap).await.expect_status(200);
}
