//! What a key is at its provider, as far as its owner decides it: its names, its end, and how its material can leave.

use claviger_testkit::control::Request;
use serde_json::{Value, json};

use crate::fake_world::{FakeWorld, adopt, connect};

const ORDERS: &str = "/v1/keys/orders";

#[tokio::test]
async fn a_short_name_brings_a_detached_key_back_under_its_id() {
    let world = FakeWorld::start().await;
    connect(&world.bank, "own", "bank", false).await;
    let create = json!({"name": "orders", "connection": "own"});
    let key = world.bank.post("/v1/keys", &create).await.expect_status(201);
    let short = key["provider_key"].as_str().unwrap().strip_prefix("fake/").unwrap().to_owned();
    let made = world.bank.post(&format!("{ORDERS}/data-keys"), &json!({})).await.expect_status(200);
    let blob = json!({"wrapped": made["wrapped"]});
    // While it is in use, it is taken, whichever name is given.
    let other = world.bank.post("/v1/keys", &json!({"name": "other", "connection": "own"})).await;
    other.expect_status(201);
    world.bank.delete("/v1/keys/other").await.expect_status(204);
    adopt(&world.bank, "copy", "own", &short)
        .await
        .expect_problem(409, "provider_key_taken");

    world.bank.delete(ORDERS).await.expect_status(204);
    // Under no other id, and under its own one whether it is named or not.
    let mut body = json!({"name": "orders", "connection": "own", "provider_key": short, "id": "00000000000000000000000000000001"});
    world.bank.post("/v1/keys", &body).await.expect_problem(409, "provider_key_taken");
    for id in [Value::Null, key["id"].clone()] {
        body["id"] = id;
        if body["id"].is_null() {
            body.as_object_mut().unwrap().remove("id");
        }
        let back = world.bank.post("/v1/keys", &body).await.expect_status(201);
        assert_eq!((&back["id"], &back["provider_key"]), (&key["id"], &key["provider_key"]));
        let opened = world.bank.post("/v1/unwrap", &blob).await.expect_status(200);
        assert_eq!(opened["plaintext"], made["plaintext"]);
        world.bank.delete(ORDERS).await.expect_status(204);
    }
}

#[tokio::test]
async fn a_name_that_never_existed_is_told_apart_from_a_key_that_is_gone() {
    let world = FakeWorld::start().await;
    connect(&world.bank, "own", "bank", false).await;
    world.made("bank", "orders").await;
    adopt(&world.bank, "orders", "own", "orders").await.expect_status(201);
    let made = world.bank.post(&format!("{ORDERS}/data-keys"), &json!({})).await.expect_status(200);
    world.at("bank", Request::RemoveKey { id: "orders".to_owned() }).await;
    let uses = [
        ("wrap", json!({"plaintext": "AAAA"})),
        ("unwrap", json!({"wrapped": made["wrapped"]})),
        ("rewrap", json!({"wrapped": made["wrapped"]})),
        ("rotate", json!({})),
    ];
    for (operation, body) in uses {
        let answer = world.bank.post(&format!("{ORDERS}/{operation}"), &body).await;
        let gone = answer.expect_problem(409, "key_state");
        assert!(gone["detail"].as_str().unwrap().contains("not at the provider any more"), "{gone}");
        assert!(gone.get("errors").is_none() && gone["what_to_do"].is_string(), "{gone}");
    }
    // Also once the tenant has a detached key, whose name it could be.
    for _ in 0..2 {
        let answer = adopt(&world.bank, "new", "own", "nobodys").await;
        let unknown = answer.expect_problem(409, "key_state");
        assert!(unknown["detail"].as_str().unwrap().contains("no such key"), "{unknown}");
        assert_eq!(unknown["errors"][0]["pointer"], "/provider_key");
        world.bank.delete(ORDERS).await;
    }
}

#[tokio::test]
async fn a_key_whose_material_can_leave_the_provider_has_warnings() {
    let world = FakeWorld::start().await;
    connect(&world.bank, "own", "bank", false).await;
    for id in ["orders", "plain"] {
        world.made("bank", id).await;
    }
    world.at("bank", Request::ExposeKey { id: "orders".to_owned() }).await;
    let (both, warned) = (json!(["exportable", "plaintext_backup"]), |key: &Value| key["warnings"].clone());
    let key = adopt(&world.bank, "orders", "own", "orders").await.expect_status(201);
    assert_eq!(warned(&key), both);
    let plain = adopt(&world.bank, "plain", "own", "plain").await.expect_status(201);
    assert!(plain.get("warnings").is_none(), "{plain}");
    assert_eq!(warned(&world.bank.get(ORDERS).await.expect_status(200)), both);
    let listed = world.bank.list("/v1/keys").await;
    let listed: Vec<&Value> = listed.iter().filter(|key| key.get("warnings").is_some()).collect();
    assert_eq!((listed.len(), &listed[0]["name"]), (1, &json!("orders")));
    let check = world.bank.post_empty("/v1/connections/own/check").await.expect_status(200);
    let told: Vec<&Value> = check["rights"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|right| right["operation"] == "export_key")
        .collect();
    assert_eq!((told.len(), &told[0]["finding"]), (1, &json!("excessive")), "{check}");
    assert!(
        told[0]["how"].as_str().unwrap().starts_with("orders is exportable and allows"),
        "{check}"
    );
    assert!(told[0]["what_to_do"].is_string(), "{check}");

    // What the owner switches on later is told once the key is described: at a check, for one.
    world.made("bank", "later").await;
    let later = adopt(&world.bank, "later", "own", "later").await.expect_status(201);
    assert!(later.get("warnings").is_none(), "{later}");
    world.at("bank", Request::ExposeKey { id: "later".to_owned() }).await;
    world.bank.post_empty("/v1/connections/own/check").await.expect_status(200);
    assert_eq!(warned(&world.bank.get("/v1/keys/later").await.expect_status(200)), both);
    let line = "the owner of a key lets a version's material leave the provider now";
    assert_eq!(world.started().output().matches(line).count(), 1);

    // An older version that can leave is told as such.
    world.at("bank", Request::RotateKey { id: "later".to_owned() }).await;
    world.bank.post_empty("/v1/connections/own/check").await.expect_status(200);
    let later = world.bank.get("/v1/keys/later").await.expect_status(200);
    assert!(later["primary_version"] == 2 && later.get("warnings").is_none(), "{later}");
    let versions = world.bank.list("/v1/keys/later/versions").await;
    let of_versions: Vec<Option<&Value>> = versions.iter().map(|version| version.get("warnings")).collect();
    assert_eq!(of_versions, [Some(&both), None]);

    // A detached key that was exposed meanwhile says so when it comes back; a key that moves away does not any more.
    world.bank.delete("/v1/keys/plain").await.expect_status(204);
    world.at("bank", Request::ExposeKey { id: "plain".to_owned() }).await;
    let back = adopt(&world.bank, "plain", "own", "plain").await.expect_status(201);
    assert_eq!((&back["id"], warned(&back)), (&plain["id"], both.clone()));
    world.made("bank", "safe").await;
    let moved = world.bank.post(&format!("{ORDERS}/rotate"), &json!({"provider_key": "safe"})).await;
    let moved = moved.expect_status(200);
    assert!(moved.get("warnings").is_none() && moved["primary_version"] == 2, "{moved}");
    // It is stored.
    let (_gateway, _started, bank) = world.restarted();
    assert_eq!(warned(&bank.get("/v1/keys/plain").await.expect_status(200)), both);
    assert!(bank.get(ORDERS).await.expect_status(200).get("warnings").is_none());
}
