//! Adopting by a name that is not the provider's own one, and keys that cannot be used or should not be.

use claviger_test_support::Tune;
use serde_json::json;

use crate::Case;
use crate::openbao::{DEV, Server, unique};
use crate::world::{CONNECTION, World};

pub fn cases() -> Vec<Case> {
    vec![
        Case::new("adopting::a_short_name_brings_a_detached_key_back", DEV, || Box::pin(short_name())),
        Case::new("adopting::a_key_that_the_identity_may_not_use_is_refused", DEV, || {
            Box::pin(unusable())
        }),
        Case::new("adopting::a_key_of_another_kind_is_named", DEV, || Box::pin(another_kind())),
        Case::new(
            "adopting::a_key_whose_material_can_leave_has_a_warning",
            DEV,
            || Box::pin(exposed()),
        ),
    ]
}

/// A world with a connection to the dev server.
async fn connected() -> World {
    let world = World::new(Tune::default()).await;
    world
        .connect("vault", &Server::Dev.settings(&json!({"token": Server::Dev.token()})))
        .await;
    world
}

async fn short_name() {
    let name = unique("theirs");
    Server::Dev.bao(&["write", "-f", &format!("transit/keys/{name}")], "");
    let world = connected().await;
    let key = world.key("orders", json!({"provider_key": name})).await;
    let full = key["provider_key"].as_str().unwrap();
    assert_ne!(full, name);
    let made = world.client.post("/v1/keys/orders/data-keys", &json!({})).await.expect_status(200);
    for given in [name.as_str(), full] {
        world.client.delete("/v1/keys/orders").await.expect_status(204);
        let adopt = json!({"name": "orders", "connection": CONNECTION, "provider_key": given});
        let back = world.client.post("/v1/keys", &adopt).await.expect_status(201);
        assert_eq!((&back["id"], &back["provider_key"]), (&key["id"], &key["provider_key"]));
        let unwrap = json!({"wrapped": made["wrapped"]});
        let opened = world.client.post("/v1/unwrap", &unwrap).await.expect_status(200);
        assert_eq!(opened["plaintext"], made["plaintext"]);
    }
}

async fn unusable() {
    let name = unique("theirs");
    Server::Dev.bao(&["write", "-f", &format!("transit/keys/{name}")], "");
    let reads = "path \"transit/keys/+\" { capabilities = [\"read\"] }\n";
    let may = |verb: &str| format!("path \"transit/{verb}/{name}\" {{ capabilities = [\"update\"] }}\n");
    let world = World::new(Tune::default()).await;
    for (at, more) in [String::new(), may("encrypt"), may("decrypt")].iter().enumerate() {
        let token = Server::Dev.limited(&format!("{reads}{more}"), &[]);
        let (connection, settings) = (format!("limited-{at}"), Server::Dev.settings(&json!({"token": token})));
        let body = json!({"name": connection, "provider": "vault", "settings": settings});
        world.client.post("/v1/connections", &body).await.expect_status(201);
        let adopt = json!({"name": "orders", "connection": connection, "provider_key": name});
        let refused = world.client.post("/v1/keys", &adopt).await.expect_problem(424, "provider_denied");
        let advice = refused["what_to_do"].as_str().unwrap();
        assert!(advice.contains("encrypt/NAME and decrypt/NAME"), "{more}: {refused}");
    }
    // As for a rotation to it, which is named, too.
    let all = Server::Dev.settings(&json!({"token": Server::Dev.token()}));
    let all = json!({"name": "all", "provider": "vault", "settings": all});
    world.client.post("/v1/connections", &all).await.expect_status(201);
    let moving = json!({"name": "moving", "connection": "all"});
    world.client.post("/v1/keys", &moving).await.expect_status(201);
    let rotate = json!({"connection": "limited-0", "provider_key": name});
    let refused = world
        .client
        .post("/v1/keys/moving/rotate", &rotate)
        .await
        .expect_problem(424, "provider_denied");
    assert!(
        refused["what_to_do"]
            .as_str()
            .unwrap()
            .contains("repeat the adoption, or the rotation"),
        "{refused}"
    );
    // Neither the name nor the provider key is taken.
    let token = Server::Dev.limited(&format!("{reads}{}{}", may("encrypt"), may("decrypt")), &[]);
    world.connect("vault", &Server::Dev.settings(&json!({"token": token}))).await;
    world.key("orders", json!({"provider_key": name})).await;
    world.client.post("/v1/keys/orders/data-keys", &json!({})).await.expect_status(200);
}

async fn another_kind() {
    let world = connected().await;
    for (kind, spec) in [("rsa-3072", "aes-256"), ("rsa-2048", "rsa-3072"), ("ed25519", "aes-256")] {
        let name = unique("other");
        Server::Dev.bao(&["write", &format!("transit/keys/{name}"), &format!("type={kind}")], "");
        let adopt = json!({"name": "orders", "connection": CONNECTION, "spec": spec, "provider_key": name});
        let problem = world.client.post("/v1/keys", &adopt).await.expect_problem(400, "invalid_request");
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.contains(&format!("`{kind}`")), "{problem}");
        assert!(problem["what_to_do"].as_str().unwrap().contains("rsa-3072"), "{problem}");
    }
}

async fn exposed() {
    let name = unique("exposed");
    Server::Dev.bao(&["write", &format!("transit/keys/{name}"), "exportable=true"], "");
    let world = connected().await;
    let key = world.key("orders", json!({"provider_key": name})).await;
    assert_eq!(key["warnings"], json!(["exportable"]));
    let plain = world.key("plain", json!({})).await;
    assert!(plain.get("warnings").is_none(), "{plain}");
    let check = format!("/v1/connections/{CONNECTION}/check");
    let report = world.client.post_empty(&check).await.expect_status(200);
    let told = report["rights"].as_array().unwrap().iter();
    let told: Vec<_> = told.filter(|right| right["operation"] == "export_key").collect();
    assert_eq!(told.len(), 1, "{report}");
    assert!(
        told[0]["how"].as_str().unwrap().contains(&name) && told[0]["what_to_do"].is_string(),
        "{report}"
    );
}
