//! `/v1/keys`, row by row: what is answered, and what is recorded.

use claviger_test_support::{Answer, Gateway, Tune};
use serde_json::{Value, json};

use crate::support::Api;

#[tokio::test]
async fn a_key_is_made_with_every_member_of_the_contract() {
    let api = Api::start().await;
    let body = json!({"name": "orders", "connection": "embedded", "spec": "aes-256", "labels": {"env": "prod"},
        "cache": {"enabled": true, "max_age": "30s", "max_uses": 5}});
    let answer = api.client.post("/v1/keys", &body).await;
    let record = api.recorded(&answer, "CreateKey", "success");
    assert_eq!(answer.header("etag"), answer.body["etag"]);
    let made = answer.expect_status(201);
    assert_eq!((&record["key"], &record["key_version"]), (&made["id"], &json!(1)));
    let expected = json!({"name": "orders", "connection": "embedded", "provider": "local", "spec": "aes-256", "state": "enabled",
        "custody": "provider", "allow_export": false, "primary_version": 1, "rotation": {"state": "idle"}, "labels": {"env": "prod"},
        "managed_by": null});
    for (member, value) in expected.as_object().unwrap() {
        assert_eq!(&made[member], value, "{member}");
    }
    assert_eq!((&made["cache"]["max_age"], &made["cache"]["max_uses"]), (&json!("30s"), &json!(5)));
    for member in ["id", "tenant", "provider_key", "created", "updated", "etag"] {
        assert!(made[member].as_str().is_some_and(|text| !text.is_empty()), "{member}");
    }
    let read = api.client.get("/v1/keys/orders").await;
    let record = api.recorded(&read, "ReadKey", "success");
    assert_eq!(record["key"], made["id"]);
    assert_eq!(read.header("etag"), made["etag"]);
    assert_eq!(read.expect_status(200), made);
    api.client.post("/v1/keys", &body).await.expect_problem(409, "already_exists");
}

#[tokio::test]
async fn impossible_keys_are_refused_when_they_are_made() {
    let api = Api::start().await;
    let before = api.state().await;
    let refused = |body: Value, status: u16, code: &'static str| {
        let api = &api;
        async move { api.client.post("/v1/keys", &body).await.expect_problem(status, code) }
    };
    let new = |more: Value| {
        let mut body = json!({"name": "orders", "connection": "embedded"});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    };
    refused(new(json!({"spec": "aes-512"})), 400, "invalid_request").await;
    refused(new(json!({"connection": "nowhere"})), 404, "not_found").await;
    refused(new(json!({"provider_key": ""})), 400, "invalid_request").await;
    refused(new(json!({"provider_key": "x".repeat(513)})), 400, "invalid_request").await;
    refused(new(json!({"id": "00"})), 400, "invalid_request").await;
    for cache in [
        json!({"max_age": "301s"}),
        json!({"max_age": "0s"}),
        json!({"max_idle": "1500ms"}),
        json!({"max_uses": 0}),
        json!({"size": 1}),
    ] {
        refused(new(json!({"cache": cache})), 400, "invalid_request").await;
    }
    let many: serde_json::Map<_, _> = (0..65).map(|n| (format!("l{n}"), json!("x"))).collect();
    for labels in [
        json!({"UPPER": "x"}),
        json!({"a": "x".repeat(257)}),
        json!({"a": 1}),
        Value::Object(many),
    ] {
        refused(new(json!({"labels": labels})), 400, "invalid_request").await;
    }
    assert_eq!(api.state().await, before);
}

#[tokio::test]
async fn name_labels_and_cache_rules_change_under_the_etag() {
    let api = Api::with_key().await;
    api.key("taken").await;
    let made = api.client.get("/v1/keys/orders").await.expect_status(200);
    let etag = made["etag"].as_str().unwrap();
    let missing = api
        .client
        .request(reqwest::Method::PATCH, "/v1/keys/orders")
        .json(&json!({"name": "sales"}));
    let problem = api.client.send(missing).await.expect_problem(400, "invalid_request");
    assert_eq!(problem["errors"][0]["pointer"], "header:If-Match");
    api.client
        .patch("/v1/keys/orders", "\"77\"", &json!({"name": "sales"}))
        .await
        .expect_problem(412, "precondition_failed");
    api.client
        .patch("/v1/keys/orders", etag, &json!({"name": "taken"}))
        .await
        .expect_problem(409, "already_exists");
    assert_eq!(api.client.get("/v1/keys/orders").await.body, made);

    let body = json!({"name": "sales", "labels": {"env": "test"}, "cache": {"enabled": false}});
    let changed = api.client.patch("/v1/keys/orders", etag, &body).await;
    let record = api.recorded(&changed, "UpdateKey", "success");
    assert_eq!(record["key"], made["id"]);
    let changed = changed.expect_status(200);
    assert_eq!(
        (&changed["id"], &changed["name"], &changed["cache"]),
        (&made["id"], &json!("sales"), &json!({"enabled": false}))
    );
    api.client.get("/v1/keys/orders").await.expect_problem(404, "not_found");
    api.client
        .patch("/v1/keys/sales", etag, &json!({"labels": {}}))
        .await
        .expect_problem(412, "precondition_failed");
    assert_eq!(api.client.get("/v1/keys/sales").await.body, changed);
    // The old name is free again.
    assert_ne!(api.key("orders").await["id"], made["id"]);
}

#[tokio::test]
async fn a_detached_key_can_be_adopted_again_under_its_id() {
    let api = Api::with_key().await;
    let made = api.client.get("/v1/keys/orders").await.expect_status(200);
    let data_key = api.data_key("orders").await;
    let adopt = json!({"name": "again", "connection": "embedded", "provider_key": made["provider_key"]});
    api.client.post("/v1/keys", &adopt).await.expect_problem(409, "provider_key_taken");
    let deleted = api.client.delete("/v1/keys/orders").await;
    let record = api.recorded(&deleted, "DeleteKey", "success");
    assert_eq!((deleted.status, &record["key"]), (204, &made["id"]));
    for answer in [api.client.get("/v1/keys/orders").await, api.client.delete("/v1/keys/orders").await] {
        answer.expect_problem(404, "not_found");
    }
    let wrapped = json!({"wrapped": data_key["wrapped"]});
    api.client
        .post("/v1/unwrap", &wrapped)
        .await
        .expect_problem(422, "ciphertext_rejected");
    let again = api.client.post("/v1/keys", &adopt).await.expect_status(201);
    assert_eq!(again["id"], made["id"]);
    assert_eq!(
        api.client.post("/v1/unwrap", &wrapped).await.expect_status(200)["plaintext"],
        data_key["plaintext"]
    );
}

#[tokio::test]
async fn rotate_makes_a_new_primary_and_the_versions_tell_both() {
    let api = Api::with_key().await;
    let old = api.data_key("orders").await;
    let rotated = api.client.post_empty("/v1/keys/orders/rotate").await;
    let record = api.recorded(&rotated, "Rotate", "success");
    let rotated = rotated.expect_status(200);
    assert_eq!((&rotated["primary_version"], &record["key"]), (&json!(2), &rotated["id"]));
    let versions = api.client.get("/v1/keys/orders/versions").await;
    api.recorded(&versions, "ReadKey", "success");
    let versions = versions.expect_status(200);
    let numbers: Vec<Value> = versions["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|version| version["number"].clone())
        .collect();
    assert_eq!(numbers, [1, 2]);
    for version in versions["items"].as_array().unwrap() {
        assert_eq!(
            (&version["state"], &version["provider_key"]),
            (&json!("enabled"), &rotated["provider_key"])
        );
        assert!(
            version["created"].is_string() && version.get("provider_version").is_some(),
            "{version}"
        );
    }
    let opened = api
        .client
        .post("/v1/unwrap", &json!({"wrapped": old["wrapped"]}))
        .await
        .expect_status(200);
    assert_eq!((&opened["version"], &opened["plaintext"]), (&json!(1), &old["plaintext"]));
    assert_eq!(api.data_key("orders").await["version"], 2);
}

#[tokio::test]
async fn disable_is_effective_at_the_next_request_and_enable_undoes_it() {
    let api = Api::with_key().await;
    let made = api.data_key("orders").await;
    let wrapped = json!({"wrapped": made["wrapped"]});
    for at_provider in [false, true] {
        api.client.post("/v1/unwrap", &wrapped).await.expect_status(200);
        let disabled = api
            .client
            .post("/v1/keys/orders/disable", &json!({"at_provider": at_provider}))
            .await;
        assert_eq!(disabled.clone().expect_status(200)["state"], "disabled");
        for path in ["/v1/unwrap", "/v1/keys/orders/unwrap", "/v1/keys/orders/rewrap"] {
            let refused = api.client.post(path, &wrapped).await;
            assert_eq!(api.outcome(&refused)["code"], "key_disabled");
            refused.expect_problem(409, "key_disabled");
        }
        api.client
            .post("/v1/keys/orders/data-keys", &json!({}))
            .await
            .expect_problem(409, "key_disabled");
        api.client
            .post("/v1/keys/orders/wrap", &json!({"plaintext": "AAAA"}))
            .await
            .expect_problem(409, "key_disabled");
        api.client
            .post_empty("/v1/keys/orders/rotate")
            .await
            .expect_problem(409, "key_disabled");
        let enabled = api
            .client
            .post("/v1/keys/orders/enable", &json!({"at_provider": at_provider}))
            .await;
        api.recorded(&enabled, "Enable", "success");
        assert_eq!(enabled.expect_status(200)["state"], "enabled");
    }
    let bare = api.client.post_empty("/v1/keys/orders/disable").await;
    let record = api.recorded(&bare, "Disable", "success");
    assert_eq!(record["key"], bare.body["id"]);
    api.client.post_empty("/v1/keys/orders/enable").await.expect_status(200);
    assert_eq!(
        api.client.post("/v1/unwrap", &wrapped).await.expect_status(200)["plaintext"],
        made["plaintext"]
    );
}

#[tokio::test]
async fn a_state_of_a_newer_release_is_not_used_and_the_answer_says_so() {
    let api = Api::with_key().await;
    let wrapped = json!({"wrapped": api.data_key("orders").await["wrapped"]});
    let Api { gateway, started, .. } = api;
    assert!(started.terminate());
    for (state, said) in [("sleeping", "newer release"), ("archived", "`archived`")] {
        set_state(&gateway, "UPDATE keys SET state = ?1", state).await;
        let started = gateway.serve(&Tune::default());
        let client = started.tenant("acme");
        for answer in [
            client.post("/v1/unwrap", &wrapped).await,
            client.post("/v1/keys/orders/data-keys", &json!({})).await,
        ] {
            let problem = answer.expect_problem(409, "key_state");
            let detail = problem["detail"].as_str().unwrap();
            assert!(detail.contains(said) && !detail.contains("unrecognized"), "{problem}");
            assert!(problem["what_to_do"].is_string(), "{problem}");
        }
        assert!(started.terminate());
    }
}

/// Writes a state into the store of a gateway that is stopped, by a statement that changes one row.
async fn set_state(gateway: &Gateway, statement: &'static str, state: &str) {
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(gateway.data().join("claviger.db"));
    let mut store = sqlx::ConnectOptions::connect(&options).await.unwrap();
    let changed = sqlx::query(statement).bind(state).execute(&mut store).await.unwrap();
    assert_eq!(changed.rows_affected(), 1);
    sqlx::Connection::close(store).await.unwrap();
}

#[tokio::test]
async fn a_version_s_own_state_forbids_its_use_in_a_key_that_is_enabled() {
    for (state, said) in [
        ("decrypt_only", "`decrypt_only`"),
        ("disabled", "`disabled`"),
        ("archived", "`archived`"),
        ("sleeping", "newer release"),
    ] {
        let api = Api::with_key().await;
        api.key("other").await;
        let made = api.data_key("orders").await;
        let wrapped = json!({"wrapped": made["wrapped"]});
        let Api { gateway, started, .. } = api;
        assert!(started.terminate());
        let statement = "UPDATE key_versions SET state = ?1 WHERE key = (SELECT id FROM keys WHERE name = 'orders')";
        set_state(&gateway, statement, state).await;
        let started = gateway.serve(&Tune::default());
        let client = started.tenant("acme");
        assert_eq!(client.get("/v1/keys/orders").await.expect_status(200)["state"], "enabled");
        let refused = |answer: Answer| {
            let problem = answer.expect_problem(409, "key_state");
            let detail = problem["detail"].as_str().unwrap();
            assert!(detail.contains("ersion 1") && detail.contains(said), "{problem}");
        };
        refused(client.post("/v1/keys/orders/data-keys", &json!({})).await);
        refused(client.post("/v1/keys/orders/wrap", &json!({"plaintext": "AAAA"})).await);
        refused(client.post("/v1/keys/orders/rewrap", &wrapped).await);
        let other = client.post("/v1/keys/other/data-keys", &json!({})).await.expect_status(200);
        let into = json!({"wrapped": other["wrapped"], "to": "orders"});
        refused(client.post("/v1/keys/other/rewrap", &into).await);
        let opened = async || {
            let opened = client.post("/v1/unwrap", &wrapped).await;
            match state {
                "decrypt_only" => assert_eq!(opened.expect_status(200)["plaintext"], made["plaintext"]),
                _ => refused(opened),
            }
        };
        opened().await;
        // A rotation takes the key to a version that is enabled; the old one's state stays.
        client.post_empty("/v1/keys/orders/rotate").await.expect_status(200);
        client.post("/v1/keys/orders/data-keys", &json!({})).await.expect_status(200);
        opened().await;
    }
}
