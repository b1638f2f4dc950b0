//! The limit of wraps, with a server that draws the nonces.

use claviger_test_support::Tune;
use serde_json::json;

use crate::Case;
use crate::openbao::{DEV, Server, unique};
use crate::world::World;

pub fn cases() -> Vec<Case> {
    ["aes256-gcm96", "chacha20-poly1305"]
        .into_iter()
        .map(|kind| {
            Case::new(format!("wrap_limit::the_wraps_of_a_version_are_counted_{kind}"), DEV, move || {
                Box::pin(counted(kind))
            })
        })
        .collect()
}

async fn counted(kind: &str) {
    let name = unique("theirs");
    Server::Dev.bao(&["write", "-f", &format!("transit/keys/{name}"), &format!("type={kind}")], "");
    let world = World::new(Tune::default()).await;
    let mut settings = Server::Dev.settings(&json!({"token": Server::Dev.token()}));
    settings["symmetric_key_type"] = json!(kind);
    world.connect("vault", &settings).await;
    world.key("orders", json!({"provider_key": name})).await;
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(world.gateway.data().join("claviger.db"));
    let mut store = sqlx::ConnectOptions::connect(&options).await.unwrap();
    let seed = sqlx::query("UPDATE key_versions SET wraps_reserved = 4294967296 - 2");
    assert_eq!(seed.execute(&mut store).await.unwrap().rows_affected(), 1);
    sqlx::Connection::close(store).await.unwrap();

    let wrap = async || world.client.post("/v1/keys/orders/data-keys", &json!({})).await;
    let wrapped = wrap().await.expect_status(200);
    // A check wraps random bytes under the key, while it may.
    world.client.post_empty("/v1/connections/kms/check").await.expect_status(200);
    wrap().await.expect_problem(409, "key_state");
    let checked = world.client.post_empty("/v1/connections/kms/check").await.expect_status(200);
    assert_eq!(checked["reachable"], true, "{checked}");
    let body = json!({"wrapped": wrapped["wrapped"]});
    let opened = world.client.post("/v1/unwrap", &body).await.expect_status(200);
    assert_eq!(opened["plaintext"], wrapped["plaintext"]);
    world.client.post_empty("/v1/keys/orders/rotate").await.expect_status(200);
    assert_eq!(wrap().await.expect_status(200)["version"], 2);
}
