//! What is in its owner's custody leaves it only where the tenant's administrator allowed it,
//! with a reason. The external key store is a fake.

use claviger_test_support::{Answer, Client, Gateway, Tune, records_of};
use serde_json::{Value, json};

#[cfg(feature = "testkit")]
use crate::fake_world::{FakeWorld, connect};
use crate::support::Api;

const KEY: &str = "/v1/keys/held";

async fn moved(client: &Client, from: &str, wrapped: &Value, to: &str) -> Answer {
    let body = json!({"wrapped": wrapped, "to": to});
    client.post(&format!("/v1/keys/{from}/rewrap"), &body).await
}

/// One of the tenant's own who may change keys, and decide where they are held.
async fn owner(client: &Client) -> Client {
    client.post("/v1/principals", &json!({"name": "owner"})).await.expect_status(201);
    let body = json!({"operations": ["UpdateKey", "CreateKey"], "expires_in": "1h"});
    let issued = client.post("/v1/principals/owner/tokens", &body).await.expect_status(201);
    client.with_token(issued["token"].as_str().unwrap())
}

#[tokio::test]
#[cfg_attr(not(feature = "testkit"), ignore = "the fake needs the feature testkit")]
async fn keys_leave_external_custody_only_where_that_was_allowed_with_a_reason() {
    let gateway = Gateway::empty(crate::BINARY);
    let control = gateway.data().with_extension("control");
    let started = gateway.dev(&Tune::default().set("CLAVIGER_TESTKIT_PLAYS", "external"), &control);
    let client = started.with_tenant("acme").await;
    let connection = json!({"name": "theirs", "provider": "xks", "settings": {}});
    client.post("/v1/connections", &connection).await.expect_status(201);
    for (name, connection) in [("held", "theirs"), ("ours", "embedded")] {
        let body = json!({"name": name, "connection": connection});
        client.post("/v1/keys", &body).await.expect_status(201);
    }
    let held = client.get(KEY).await.expect_status(200);
    assert_eq!((&held["custody"], &held["allow_export"]), (&json!("external"), &json!(false)));
    let made = client.post(&format!("{KEY}/data-keys"), &json!({})).await.expect_status(200);

    let refused = moved(&client, "held", &made["wrapped"], "ours").await;
    let problem = refused.expect_problem(403, "permission_denied");
    assert!(problem["what_to_do"].as_str().unwrap().contains("allow_export"), "{problem}");

    let allow = json!({"allow_export": true});
    let silent = client.patch(KEY, "*", &allow).await.expect_problem(400, "invalid_request");
    assert_eq!(silent["errors"][0]["pointer"], "header:Claviger-Justification");
    let expected = silent["errors"][0]["expected"].as_str().unwrap();
    assert!(expected.contains("(in the CLI: --justification)"), "{silent}");
    let with_reason = client.clone().with_header("claviger-justification", "move to the new vendor");
    with_reason.patch(KEY, "*", &allow).await.expect_problem(403, "permission_denied");
    let with_reason = owner(&client).await.with_header("claviger-justification", "move to the new vendor");
    let changed = with_reason.patch(KEY, "*", &allow).await;
    let id = changed.header("x-request-id").to_owned();
    assert_eq!(changed.expect_status(200)["allow_export"], true);
    let record = records_of(&gateway.data(), &id);
    assert!(
        record
            .iter()
            .any(|record| record["operation"] == "UpdateKey" && record["justification"] == "move to the new vendor"),
        "{record:?}"
    );

    let moved_out = moved(&client, "held", &made["wrapped"], "ours").await.expect_status(200);
    assert_eq!(moved_out["inside_provider"], false);
    let opened = client.post("/v1/unwrap", &json!({"wrapped": moved_out["wrapped"]})).await;
    assert_eq!(opened.expect_status(200)["plaintext"], made["plaintext"]);

    // Nobody's leave is needed to hand a key over, or to end the leave.
    moved(&client, "ours", &moved_out["wrapped"], "held").await.expect_status(200);
    let closed = client.patch(KEY, "*", &json!({"allow_export": false})).await.expect_status(200);
    assert_eq!(closed["allow_export"], false);
    moved(&client, "held", &made["wrapped"], "ours")
        .await
        .expect_problem(403, "permission_denied");
}

/// A world whose fakes are external key stores; bank has a key `held` at one, and a key `ours` at the
/// embedded provider. Answers a client of bank's own that may change keys, with a reason.
#[cfg(feature = "testkit")]
async fn held() -> (FakeWorld, Client) {
    let world = FakeWorld::external().await;
    let connection = json!({"name": "theirs", "provider": "xks", "settings": {"server": "theirs"}});
    world.bank.post("/v1/connections", &connection).await.expect_status(201);
    for (name, connection) in [("held", "theirs"), ("ours", "embedded")] {
        let body = json!({"name": name, "connection": connection});
        world.bank.post("/v1/keys", &body).await.expect_status(201);
    }
    let owner = owner(&world.bank).await.with_header("claviger-justification", "a new vendor");
    (world, owner)
}

#[cfg(feature = "testkit")]
#[tokio::test]
async fn the_end_of_the_leave_stops_a_rewrap_that_is_under_way() {
    let (world, owner) = held().await;
    let bank = &world.bank;
    let (allow, forbid) = (json!({"allow_export": true}), json!({"allow_export": false}));
    let made = bank.post(&format!("{KEY}/data-keys"), &json!({})).await.expect_status(200);
    owner.patch(KEY, "*", &allow).await.expect_status(200);
    bank.post(&format!("{KEY}/rotate"), &json!({"connection": "embedded"}))
        .await
        .expect_status(200);
    // To another key, and to the key's own new version.
    for body in [
        json!({"wrapped": made["wrapped"], "to": "ours"}),
        json!({"wrapped": made["wrapped"]}),
    ] {
        let path = format!("{KEY}/rewrap");
        let rewrapping = world.held_at("theirs", "unwrap_key", bank, &path, body.clone()).await;
        bank.patch(KEY, "*", &forbid).await.expect_status(200);
        let answer = world.released("theirs", rewrapping).await;
        answer.expect_problem(409, "key_state");
        bank.post(&path, &body).await.expect_problem(403, "permission_denied");
        owner.patch(KEY, "*", &allow).await.expect_status(200);
        bank.post(&path, &body).await.expect_status(200);
    }
}

#[cfg(feature = "testkit")]
#[tokio::test]
async fn the_end_of_the_leave_stops_a_move_that_is_at_the_provider() {
    let (world, owner) = held().await;
    let bank = &world.bank;
    connect(bank, "vault", "cloud", false).await;
    let (allow, forbid) = (json!({"allow_export": true}), json!({"allow_export": false}));
    let (path, out) = (format!("{KEY}/rotate"), json!({"connection": "vault"}));
    owner.patch(KEY, "*", &allow).await.expect_status(200);
    let moving = world.held_at("cloud", "create_key", bank, &path, out.clone()).await;
    bank.patch(KEY, "*", &forbid).await.expect_status(200);
    let refused = world.released("cloud", moving).await;
    refused.expect_problem(403, "permission_denied");
    let key = bank.get(KEY).await.expect_status(200);
    assert_eq!((&key["primary_version"], &key["custody"]), (&json!(1), &json!("external")));
    assert_eq!(bank.list(&format!("{KEY}/versions")).await.len(), 1);

    owner.patch(KEY, "*", &allow).await.expect_status(200);
    let moved = bank.post(&path, &out).await.expect_status(200);
    assert_eq!((&moved["primary_version"], &moved["custody"]), (&json!(2), &json!("provider")));
}

#[cfg(feature = "testkit")]
#[tokio::test]
async fn a_detach_and_an_adoption_do_not_lead_out_of_external_custody() {
    let (world, owner) = held().await;
    let bank = &world.bank;
    // A key that was in the provider's custody first has a provider key there to come back by.
    let ours = bank.get("/v1/keys/ours").await.expect_status(200);
    let into = json!({"connection": "theirs"});
    let moved = bank.post("/v1/keys/ours/rotate", &into).await.expect_status(200);
    assert_eq!(moved["custody"], "external");
    assert_eq!(bank.delete("/v1/keys/ours").await.status, 204);

    let out = json!({"name": "ours", "connection": "embedded", "provider_key": ours["provider_key"]});
    let refused = bank.post("/v1/keys", &out).await.expect_problem(403, "permission_denied");
    assert!(refused["what_to_do"].as_str().unwrap().contains("allow_export"), "{refused}");
    let same = json!({"name": "ours", "connection": "theirs", "provider_key": moved["provider_key"]});
    let back = bank.post("/v1/keys", &same).await.expect_status(201);
    assert_eq!((&back["id"], &back["custody"]), (&ours["id"], &json!("external")));

    owner
        .patch("/v1/keys/ours", "*", &json!({"allow_export": true}))
        .await
        .expect_status(200);
    assert_eq!(bank.delete("/v1/keys/ours").await.status, 204);
    let back = bank.post("/v1/keys", &out).await.expect_status(201);
    assert_eq!((&back["id"], &back["custody"]), (&ours["id"], &json!("provider")));
}

#[tokio::test]
async fn to_allow_export_takes_what_a_move_takes_beyond_the_key_itself() {
    let api = Api::with_key().await;
    let reason = ("claviger-justification", "a new vendor");
    let (allow, forbid) = (json!({"allow_export": true}), json!({"allow_export": false, "labels": {"a": "b"}}));
    let orders = "/v1/keys/orders";
    let (_, of_one_key) = api.token("one", &["UpdateKey", "CreateKey"], Some(&["orders"])).await;
    let (_, of_all_keys) = api.token("labels", &["UpdateKey"], None).await;
    for client in [of_one_key.clone(), of_all_keys] {
        let client = client.with_header(reason.0, reason.1);
        let refused = client.patch(orders, "*", &allow).await;
        api.recorded(&refused, "CreateKey", "denied");
        let refused = refused.expect_problem(403, "permission_denied");
        assert!(refused["what_to_do"].as_str().unwrap().contains("CreateKey"), "{refused}");
        // What else it changes, and the end of the leave, need no more than the key.
        client.patch(orders, "*", &forbid).await.expect_status(200);
    }
    let (_, creates) = api.token("creates", &["CreateKey"], None).await;
    let creates = creates.with_header(reason.0, reason.1);
    creates.patch(orders, "*", &allow).await.expect_problem(403, "permission_denied");

    let (_, owner) = api.token("owner", &["UpdateKey", "CreateKey"], None).await;
    let changed = owner.with_header(reason.0, reason.1).patch(orders, "*", &allow).await;
    let record = api.recorded(&changed, "UpdateKey", "success");
    assert_eq!(record["justification"], reason.1);
    assert_eq!(changed.expect_status(200)["allow_export"], true);
    let ended = of_one_key.patch(orders, "*", &forbid).await.expect_status(200);
    assert_eq!(ended["allow_export"], false);
}
