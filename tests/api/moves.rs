//! A key that moves: each version through its own connection, and who may move it.

use claviger_test_support::{Answer, Client, Gateway, Tune};
use serde_json::{Value, json};

use crate::support::Api;

const KEY: &str = "/v1/keys/orders";
const ROTATE: &str = "/v1/keys/orders/rotate";

/// With a key `orders` at `embedded`, and a connection `second`.
async fn start() -> Api {
    let api = Api::with_key().await;
    connect(&api.client, "second").await;
    api
}

async fn connect(client: &Client, name: &str) {
    let body = json!({"name": name, "provider": "local", "settings": {}});
    client.post("/v1/connections", &body).await.expect_status(201);
}

async fn moved(api: &Api) -> Value {
    api.client.post(ROTATE, &json!({"connection": "second"})).await.expect_status(200)
}

async fn switch(api: &Api, connection: &str, verb: &str) {
    let path = format!("/v1/connections/{connection}/{verb}");
    api.client.post_empty(&path).await.expect_status(200);
}

async fn unwrap(api: &Api, made: &Value) -> Answer {
    api.client.post("/v1/unwrap", &json!({"wrapped": made["wrapped"]})).await
}

async fn rewrap(api: &Api, made: &Value) -> Answer {
    let path = format!("{KEY}/rewrap");
    api.client.post(&path, &json!({"wrapped": made["wrapped"]})).await
}

/// Stops the test unless it opens, with this version.
async fn opens(api: &Api, made: &Value, version: u32) {
    let opened = unwrap(api, made).await.expect_status(200);
    assert_eq!((&opened["plaintext"], &opened["version"]), (&made["plaintext"], &json!(version)));
}

async fn names(api: &Api, connection: &str) -> Vec<Value> {
    let page = api
        .client
        .get(&format!("/v1/keys?connection={connection}"))
        .await
        .expect_status(200);
    page["items"].as_array().unwrap().iter().map(|key| key["name"].clone()).collect()
}

#[tokio::test]
async fn a_moved_key_wraps_at_its_new_connection_and_opens_what_the_old_one_wrapped() {
    let api = start().await;
    let before = api.client.get(KEY).await.expect_status(200);
    let first = api.data_key("orders").await;
    api.client.post_empty(ROTATE).await.expect_status(200);
    let second = api.data_key("orders").await;

    let answer = api.client.post(ROTATE, &json!({"connection": "second"})).await;
    let record = api.recorded(&answer, "Rotate", "success");
    let connection = api.client.get("/v1/connections/second").await.expect_status(200);
    assert_eq!((&record["key_version"], &record["connection"]), (&json!(3), &connection["id"]));
    let intents: Vec<Value> = api
        .log()
        .into_iter()
        .filter(|record| record["kind"] == "intent" && record["change"]["verb"] == "move")
        .collect();
    assert_eq!((intents.len(), &intents[0]["change"]["id"]), (1, &before["id"]));
    let key = answer.expect_status(200);
    assert_eq!(
        (&key["id"], &key["connection"], &key["primary_version"]),
        (&before["id"], &json!("second"), &json!(3))
    );
    assert_ne!((&key["provider_key"], &key["etag"]), (&before["provider_key"], &before["etag"]));
    assert_eq!(api.client.get(KEY).await.expect_status(200), key);

    let third = api.data_key("orders").await;
    assert_eq!(third["version"], 3);
    for (made, version) in [(&first, 1), (&second, 2), (&third, 3)] {
        opens(&api, made, version).await;
    }
    let versions = api.client.list(&format!("{KEY}/versions")).await;
    let told: Vec<_> = versions
        .iter()
        .map(|version| (&version["number"], &version["connection"]))
        .collect();
    let embedded = json!("embedded");
    assert_eq!(
        told,
        [(&json!(1), &embedded), (&json!(2), &embedded), (&json!(3), &json!("second"))]
    );
    let expected = json!({"provider": "local", "provider_key": key["provider_key"], "provider_version": "1", "spec": "aes-256",
        "custody": "provider", "state": "enabled", "provider_state": "enabled", "material": "provider", "expires": null});
    for (member, value) in expected.as_object().unwrap() {
        assert_eq!(&versions[2][member], value, "{member}");
    }
    // It is listed where its primary version is, and both connections are in use.
    assert_eq!(
        (names(&api, "second").await, names(&api, "embedded").await),
        (vec![json!("orders")], vec![])
    );
    for connection in ["embedded", "second"] {
        let refused = api.client.delete(&format!("/v1/connections/{connection}")).await;
        refused.expect_problem(409, "in_use");
    }
    // From here on it rotates in place where it is, and moves back under another provider key.
    let rotated = api.client.post(ROTATE, &json!({"connection": "second"})).await.expect_status(200);
    assert_eq!(
        (&rotated["primary_version"], &rotated["provider_key"]),
        (&json!(4), &key["provider_key"])
    );
    let back = api.client.post(ROTATE, &json!({"connection": "embedded"})).await.expect_status(200);
    assert_eq!((&back["primary_version"], &back["connection"]), (&json!(5), &embedded));
    assert_ne!(back["provider_key"], before["provider_key"]);
    for (made, version) in [(&first, 1), (&third, 3)] {
        opens(&api, made, version).await;
    }
    // A restart finds the same.
    let Api { gateway, started, .. } = api;
    started.kill();
    let started = gateway.serve(&Tune::default());
    let client = started.tenant("acme");
    let api = Api { gateway, started, client };
    for (made, version) in [(&first, 1), (&second, 2), (&third, 3)] {
        opens(&api, made, version).await;
    }
    assert_eq!(api.data_key("orders").await["version"], 5);
}

#[tokio::test]
async fn a_sever_stops_the_versions_on_its_connection_alone() {
    let api = start().await;
    let old = api.data_key("orders").await;
    moved(&api).await;
    let new = api.data_key("orders").await;
    for (made, version) in [(&old, 1), (&new, 2)] {
        opens(&api, made, version).await;
        assert_eq!(unwrap(&api, made).await.expect_status(200)["cached"], true);
    }
    let id = |name: &'static str| {
        let client = &api.client;
        async move { client.get(&format!("/v1/connections/{name}")).await.expect_status(200)["id"].clone() }
    };
    switch(&api, "embedded", "sever").await;
    let refused = unwrap(&api, &old).await;
    let record = api.recorded(&refused, "Unwrap", "failed");
    assert_eq!(record["connection"], id("embedded").await);
    refused.expect_problem(409, "connection_severed");
    opens(&api, &new, 2).await;
    assert_eq!(api.data_key("orders").await["version"], 2);
    // It is not wrapped anew without being opened at the severed connection, nor at another one.
    rewrap(&api, &old).await.expect_problem(409, "connection_severed");
    let inspected = api
        .client
        .post("/v1/inspect", &json!({"wrapped": old["wrapped"]}))
        .await
        .expect_status(200);
    assert_eq!(inspected["recipients"][0]["version"], 1);

    switch(&api, "embedded", "restore").await;
    switch(&api, "second", "sever").await;
    opens(&api, &old, 1).await;
    let opened = unwrap(&api, &old).await;
    let record = api.recorded(&opened, "Unwrap", "success");
    assert_eq!((&record["connection"], &record["key_version"]), (&id("embedded").await, &json!(1)));
    unwrap(&api, &new).await.expect_problem(409, "connection_severed");
    rewrap(&api, &old).await.expect_problem(409, "connection_severed");
    let refused = api.client.post(&format!("{KEY}/data-keys"), &json!({})).await;
    refused.expect_problem(409, "connection_severed");

    switch(&api, "second", "restore").await;
    let rewrapped = rewrap(&api, &old).await;
    let record = api.recorded(&rewrapped, "Rewrap", "success");
    assert_eq!(record["connection"], id("second").await);
    let rewrapped = rewrapped.expect_status(200);
    assert_eq!((&rewrapped["version"], &rewrapped["changed"]), (&json!(2), &json!(true)));
    switch(&api, "embedded", "sever").await;
    let opened = unwrap(&api, &rewrapped).await.expect_status(200);
    assert_eq!(opened["plaintext"], old["plaintext"]);
    // Items of one batch stand for themselves.
    let items = json!({"items": [
        {"key": "orders", "wrapped": old["wrapped"]}, {"key": "orders", "wrapped": new["wrapped"]}
    ]});
    let batch = api.client.post("/v1/batch/unwrap", &items).await.expect_status(200);
    assert_eq!(batch["items"][0]["error"]["code"], "connection_severed");
    assert_eq!(batch["items"][1]["plaintext"], new["plaintext"]);
}

#[tokio::test]
async fn a_key_is_switched_at_every_provider_that_one_of_its_versions_is_at() {
    let api = start().await;
    let old = api.data_key("orders").await;
    moved(&api).await;
    let new = api.data_key("orders").await;
    let at_provider = json!({"at_provider": true});
    let disable = || api.client.post("/v1/keys/orders/disable", &at_provider);
    disable().await.expect_status(200);
    api.client.post_empty("/v1/keys/orders/enable").await.expect_status(200);
    for made in [&old, &new] {
        unwrap(&api, made).await.expect_problem(409, "key_state");
    }
    api.client.post("/v1/keys/orders/enable", &at_provider).await.expect_status(200);
    for (made, version) in [(&old, 1), (&new, 2)] {
        opens(&api, made, version).await;
    }
    // One that cannot be reached keeps no other from it, and is told of.
    switch(&api, "embedded", "sever").await;
    let key = disable().await.expect_status(200);
    let told = &key["at_provider"];
    assert_eq!((&key["state"], &told["result"]), (&json!("disabled"), &json!("pending")));
    assert!(told["detail"].as_str().unwrap().starts_with("embedded: "), "{told}");
    switch(&api, "embedded", "restore").await;
    api.client.post_empty("/v1/keys/orders/enable").await.expect_status(200);
    opens(&api, &old, 1).await;
    unwrap(&api, &new).await.expect_problem(409, "key_state");
}

#[tokio::test]
async fn a_move_takes_the_permissions_of_a_rotation_and_of_a_creation() {
    let api = start().await;
    let there = json!({"connection": "second"});
    let others = [
        json!({"provider_key": "any"}),
        json!({"spec": "rsa-3072"}),
        json!({"connection": "absent"}),
    ];
    let (_, rotates) = api.token("rotates", &["Rotate"], None).await;
    let (_, of_one_key) = api.token("of-one-key", &["Rotate", "CreateKey"], Some(&["orders"])).await;
    for client in [&rotates, &of_one_key] {
        for body in others.iter().chain([&there]) {
            let refused = client.post(ROTATE, body).await;
            api.recorded(&refused, "CreateKey", "denied");
            refused.expect_problem(403, "permission_denied");
        }
    }
    let (_, creates) = api.token("creates", &["CreateKey"], None).await;
    let refused = creates.post(ROTATE, &there).await;
    api.recorded(&refused, "Rotate", "denied");
    refused.expect_problem(403, "permission_denied");
    assert_eq!(api.client.get(KEY).await.expect_status(200)["primary_version"], 1);
    // In place, the permission to rotate is enough, whatever is named that is there already.
    for body in [json!({}), json!({"connection": "embedded", "spec": "aes-256"})] {
        rotates.post(ROTATE, &body).await.expect_status(200);
    }
    let (_, moves) = api.token("moves", &["Rotate", "CreateKey"], None).await;
    let key = moves.post(ROTATE, &there).await.expect_status(200);
    assert_eq!((&key["primary_version"], &key["connection"]), (&json!(4), &json!("second")));
    moves
        .post(ROTATE, &json!({"connection": "absent"}))
        .await
        .expect_problem(404, "not_found");
}

#[tokio::test]
async fn impossible_moves_are_refused_and_change_nothing() {
    let api = start().await;
    let globex = api.started.with_tenant("globex").await;
    connect(&globex, "theirs").await;
    let sales = api.key("sales").await;
    let key = api.client.get(KEY).await.expect_status(200);
    let before = api.state().await;
    let cases = [
        (json!({"connection": "nowhere"}), 404, "not_found"),
        // Another tenant's connection is none.
        (json!({"connection": "theirs"}), 404, "not_found"),
        (json!({"connection": ""}), 400, "invalid_request"),
        (json!({"connection": 7}), 400, "invalid_request"),
        (json!({"provider_key": ""}), 400, "invalid_request"),
        (json!({"provider_key": "x".repeat(513)}), 400, "invalid_request"),
        (json!({"provider_key": "nothing"}), 400, "invalid_request"),
        (json!({"spec": "aes-512"}), 400, "invalid_request"),
        (json!({"to": "second"}), 400, "invalid_request"),
        (json!([]), 400, "invalid_request"),
        // Its own provider key, at its own connection and at another one; and another key's.
        (json!({"provider_key": key["provider_key"]}), 409, "provider_key_taken"),
        (
            json!({"connection": "second", "provider_key": key["provider_key"]}),
            409,
            "provider_key_taken",
        ),
        (
            json!({"connection": "second", "provider_key": sales["provider_key"]}),
            409,
            "provider_key_taken",
        ),
    ];
    for (body, status, code) in cases {
        api.client.post(ROTATE, &body).await.expect_problem(status, code);
        assert_eq!(api.state().await, before, "{body}");
    }
    // Another tenant's key is none, and has no connection of ours.
    globex
        .post(ROTATE, &json!({"connection": "theirs"}))
        .await
        .expect_problem(404, "not_found");

    let there = json!({"connection": "second"});
    for connection in ["embedded", "second"] {
        switch(&api, connection, "sever").await;
        api.client.post(ROTATE, &there).await.expect_problem(409, "connection_severed");
        switch(&api, connection, "restore").await;
    }
    api.client.post_empty("/v1/keys/orders/disable").await.expect_status(200);
    api.client.post(ROTATE, &there).await.expect_problem(409, "key_disabled");
    api.client.post_empty("/v1/keys/orders/enable").await.expect_status(200);
    assert_eq!(api.client.list(&format!("{KEY}/versions")).await.len(), 1);
    // Nothing of a refused move is claimed: the provider key of a detached key is free to its own id.
    moved(&api).await;
}

#[tokio::test]
async fn a_key_takes_another_specification_by_a_new_provider_key() {
    let api = Api::with_key().await;
    let old = api.data_key("orders").await;
    let before = api.client.get(KEY).await.expect_status(200);
    let key = api.client.post(ROTATE, &json!({"spec": "rsa-3072"})).await.expect_status(200);
    assert_eq!((&key["spec"], &key["connection"]), (&json!("rsa-3072"), &json!("embedded")));
    assert_ne!(key["provider_key"], before["provider_key"]);
    let new = api.data_key("orders").await;
    opens(&api, &old, 1).await;
    opens(&api, &new, 2).await;
    let specs: Vec<Value> = api
        .client
        .list(&format!("{KEY}/versions"))
        .await
        .iter()
        .map(|v| v["spec"].clone())
        .collect();
    assert_eq!(specs, ["aes-256", "rsa-3072"]);
}

#[tokio::test]
async fn a_detached_key_that_moved_comes_back_with_both_sides() {
    let api = start().await;
    let old = api.data_key("orders").await;
    let key = moved(&api).await;
    let new = api.data_key("orders").await;
    api.client.delete(KEY).await;
    unwrap(&api, &old).await.expect_problem(422, "ciphertext_rejected");
    let body = json!({"name": "orders", "connection": "second", "provider_key": key["provider_key"]});
    let back = api.client.post("/v1/keys", &body).await.expect_status(201);
    assert_eq!((&back["id"], &back["primary_version"]), (&key["id"], &json!(2)));
    opens(&api, &old, 1).await;
    opens(&api, &new, 2).await;
    // Nothing shows that a version's key is reached through another connection, until it is adopted.
    api.client.delete(KEY).await;
    assert_eq!(api.client.delete("/v1/connections/embedded").await.status, 204);
    api.client.post("/v1/keys", &body).await.expect_status(201);
    let versions = api.client.list(&format!("{KEY}/versions")).await;
    assert_eq!(
        (&versions[0]["connection"], &versions[1]["connection"]),
        (&Value::Null, &json!("second"))
    );
    unwrap(&api, &old).await.expect_problem(409, "key_state");
    opens(&api, &new, 2).await;
    api.client.delete(KEY).await;
    let body = json!({"name": "orders", "connection": "second", "provider_key": versions[0]["provider_key"]});
    api.client.post("/v1/keys", &body).await.expect_status(201);
    opens(&api, &old, 1).await;
    opens(&api, &new, 2).await;
}

#[tokio::test]
async fn a_repeated_move_has_one_effect() {
    let api = start().await;
    let once = api.client.clone().with_header("idempotency-key", "move-1");
    let first = once.post(ROTATE, &json!({"connection": "second"})).await.expect_status(200);
    assert_eq!(once.post(ROTATE, &json!({"connection": "second"})).await.expect_status(200), first);
    once.post(ROTATE, &json!({})).await.expect_problem(409, "idempotency_mismatch");
    assert_eq!(api.client.list(&format!("{KEY}/versions")).await.len(), 2);
}

#[tokio::test]
async fn a_connection_that_cannot_be_used_leaves_the_others_versions_usable() {
    let api = start().await;
    let old = api.data_key("orders").await;
    moved(&api).await;
    let new = api.data_key("orders").await;
    let Api { gateway, started, .. } = api;
    started.kill();
    // Its settings are none of that provider's.
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(gateway.data().join("claviger.db"));
    let mut store = sqlx::ConnectOptions::connect(&options).await.unwrap();
    let update = sqlx::query("UPDATE connections SET provider = 8 WHERE name = 'second'");
    assert_eq!(update.execute(&mut store).await.unwrap().rows_affected(), 1);
    sqlx::Connection::close(store).await.unwrap();
    let started = gateway.serve(&Tune::default());
    let client = started.tenant("acme");
    let api = Api { gateway, started, client };

    opens(&api, &old, 1).await;
    unwrap(&api, &new).await.expect_problem(424, "connection_misconfigured");
    let key = api.client.get(KEY).await.expect_status(200);
    assert_eq!((&key["connection"], &key["primary_version"]), (&json!("second"), &json!(2)));
    assert_eq!(api.client.list("/v1/keys").await.len(), 1);
    let inspected = api.client.post("/v1/inspect", &json!({"wrapped": new["wrapped"]})).await;
    inspected.expect_status(200);
    api.client.post_empty("/v1/keys/orders/disable").await.expect_status(200);
    api.client.post_empty("/v1/keys/orders/enable").await.expect_status(200);
    // It can move away from there.
    let back = api.client.post(ROTATE, &json!({"connection": "embedded"})).await.expect_status(200);
    assert_eq!((&back["connection"], &back["primary_version"]), (&json!("embedded"), &json!(3)));
    api.data_key("orders").await;
}

/// A gateway with the testkit's fake as an external key manager; with key `held` at it.
#[cfg(feature = "testkit")]
async fn external() -> Api {
    let gateway = Gateway::empty(crate::BINARY);
    let control = gateway.data().with_extension("control");
    let started = gateway.dev(&Tune::default().set("CLAVIGER_TESTKIT_PLAYS", "external"), &control);
    let client = started.with_tenant("acme").await;
    let connection = json!({"name": "theirs", "provider": "xks", "settings": {}});
    client.post("/v1/connections", &connection).await.expect_status(201);
    client
        .post("/v1/keys", &json!({"name": "orders", "connection": "theirs"}))
        .await
        .expect_status(201);
    Api { gateway, started, client }
}

#[cfg(feature = "testkit")]
#[tokio::test]
async fn a_key_leaves_external_custody_only_with_its_owner_s_leave() {
    let api = external().await;
    let out = json!({"connection": "embedded"});
    let old = api.data_key("orders").await;
    let refused = api.client.post(ROTATE, &out).await.expect_problem(403, "permission_denied");
    assert!(refused["what_to_do"].as_str().unwrap().contains("allow_export"), "{refused}");
    assert_eq!(api.client.get(KEY).await.expect_status(200)["primary_version"], 1);

    let allow = json!({"allow_export": true});
    let operator = api.client.clone().with_header("claviger-justification", "ours now");
    operator.patch(KEY, "*", &allow).await.expect_problem(403, "permission_denied");
    let (_, owner) = api.token("owner", &["UpdateKey", "CreateKey"], None).await;
    let owner = owner.with_header("claviger-justification", "move to the new vendor");
    owner.patch(KEY, "*", &allow).await.expect_status(200);
    let key = api.client.post(ROTATE, &out).await.expect_status(200);
    assert_eq!((&key["custody"], &key["primary_version"]), (&json!("provider"), &json!(2)));
    let versions = api.client.list(&format!("{KEY}/versions")).await;
    assert_eq!(
        (&versions[0]["custody"], &versions[0]["material"], &versions[1]["material"]),
        (&json!("external"), &json!("external"), &json!("provider"))
    );

    // The cache follows the version: what the key manager opens is asked of it each time.
    let new = api.data_key("orders").await;
    for (made, cached) in [(&old, false), (&new, true)] {
        unwrap(&api, made).await.expect_status(200);
        assert_eq!(unwrap(&api, made).await.expect_status(200)["cached"], cached);
    }
    rewrap(&api, &old).await.expect_status(200);
    // An operator may end the leave. What is in external custody still stays there then.
    api.client.patch(KEY, "*", &json!({"allow_export": false})).await.expect_status(200);
    let refused = rewrap(&api, &old).await;
    api.recorded(&refused, "Rewrap", "denied");
    refused.expect_problem(403, "permission_denied");
    opens(&api, &old, 1).await;
    // To the same custody, and into it, no leave is needed.
    let back = api.client.post(ROTATE, &json!({"connection": "theirs"})).await.expect_status(200);
    assert_eq!(back["custody"], "external");
    let rewrapped = rewrap(&api, &old).await.expect_status(200);
    assert_eq!((&rewrapped["version"], &rewrapped["changed"]), (&json!(3), &json!(true)));
    rewrap(&api, &new).await.expect_status(200);
    let lacking = api.client.post(ROTATE, &json!({"connection": "theirs", "spec": "rsa-3072"})).await;
    lacking.expect_problem(501, "unsupported");
}

#[cfg(feature = "testkit")]
#[tokio::test]
async fn another_key_is_another_custodian_s_even_in_external_custody() {
    let api = external().await;
    api.client
        .post("/v1/keys", &json!({"name": "sales", "connection": "theirs"}))
        .await
        .expect_status(201);
    let made = api.data_key("orders").await;
    let body = json!({"wrapped": made["wrapped"], "to": "sales"});
    let refused = api.client.post("/v1/keys/orders/rewrap", &body).await;
    refused.expect_problem(403, "permission_denied");
}
