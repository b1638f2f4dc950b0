//! Data keys, row by row: what is answered, and what is recorded.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::support::Api;

fn context() -> Value {
    json!({"table": "orders", "row": "17"})
}

#[tokio::test]
async fn a_data_key_has_the_length_that_was_asked_for() {
    let api = Api::with_key().await;
    for (bytes, length) in [
        (None, 32),
        (Some(16), 16),
        (Some(24), 24),
        (Some(32), 32),
        (Some(48), 48),
        (Some(64), 64),
    ] {
        let body = bytes.map_or_else(|| json!({}), |bytes| json!({"bytes": bytes}));
        let made = api.client.post("/v1/keys/orders/data-keys", &body).await.expect_status(200);
        let plaintext = STANDARD.decode(made["plaintext"].as_str().unwrap()).unwrap();
        assert_eq!(plaintext.len(), length);
        assert_eq!((&made["key"], &made["version"]), (&json!("orders"), &json!(1)));
    }
    for bytes in [json!(0), json!(33), json!(65_536), json!(-1), json!("32")] {
        api.client
            .post("/v1/keys/orders/data-keys", &json!({"bytes": bytes}))
            .await
            .expect_problem(400, "invalid_request");
    }
}

#[tokio::test]
async fn the_plaintext_is_left_out_on_request_and_recorded_as_another_operation() {
    let api = Api::with_key().await;
    let with = api.client.post("/v1/keys/orders/data-keys", &json!({"context": context()})).await;
    let record = api.recorded(&with, "GenerateDataKey", "success");
    assert!(
        record["dek_id"].is_string() && record["wrapped_sha256"].is_string() && record["context_hash"]["hash"].is_string(),
        "{record:#}"
    );
    let without = api.client.post("/v1/keys/orders/data-keys", &json!({"plaintext": false})).await;
    api.recorded(&without, "GenerateDataKeyWithoutPlaintext", "success");
    let without = without.expect_status(200);
    assert!(without.get("plaintext").is_none());
    let opened = api
        .client
        .post("/v1/unwrap", &json!({"wrapped": without["wrapped"]}))
        .await
        .expect_status(200);
    assert_eq!(STANDARD.decode(opened["plaintext"].as_str().unwrap()).unwrap().len(), 32);
    // The permission for the one is not the permission for the other.
    let (_, blind) = api.token("backup", &["GenerateDataKeyWithoutPlaintext"], None).await;
    blind
        .post("/v1/keys/orders/data-keys", &json!({"plaintext": false}))
        .await
        .expect_status(200);
    let refused = blind.post("/v1/keys/orders/data-keys", &json!({})).await;
    api.recorded(&refused, "GenerateDataKey", "denied");
    refused.expect_problem(403, "permission_denied");
}

#[tokio::test]
async fn wrapped_bytes_come_back_from_1_to_4096() {
    let api = Api::with_key().await;
    for length in [1, 31, 4096] {
        let plaintext = STANDARD.encode(vec![7; length]);
        let wrapped = api
            .client
            .post("/v1/keys/orders/wrap", &json!({"plaintext": plaintext, "context": context()}))
            .await;
        let record = api.recorded(&wrapped, "Wrap", "success");
        assert_eq!(record["key_version"], 1);
        let wrapped = wrapped.expect_status(200);
        assert!(wrapped["wrapped"].as_str().unwrap().len() <= 22 << 10);
        let body = json!({"wrapped": wrapped["wrapped"], "context": context()});
        for path in ["/v1/keys/orders/unwrap", "/v1/unwrap"] {
            let opened = api.client.post(path, &body).await;
            api.recorded(&opened, "Unwrap", "success");
            let opened = opened.expect_status(200);
            assert_eq!((&opened["plaintext"], &opened["key"]), (&json!(plaintext), &json!("orders")));
        }
    }
    for (plaintext, status, code) in [(vec![], 400, "invalid_request"), (vec![7; 4097], 400, "invalid_request")] {
        let body = json!({"plaintext": STANDARD.encode(plaintext)});
        api.client.post("/v1/keys/orders/wrap", &body).await.expect_problem(status, code);
    }
}

#[tokio::test]
async fn a_rewrap_says_whether_anything_changed() {
    let api = Api::with_key().await;
    api.key("sales").await;
    let made = api
        .client
        .post("/v1/keys/orders/data-keys", &json!({"context": context()}))
        .await
        .expect_status(200);
    let body = json!({"wrapped": made["wrapped"], "context": context()});
    let same = api.client.post("/v1/keys/orders/rewrap", &body).await;
    api.recorded(&same, "Rewrap", "success");
    let same = same.expect_status(200);
    assert_eq!(
        (&same["changed"], &same["version"], &same["key"]),
        (&json!(false), &json!(1), &json!("orders"))
    );
    api.client.post_empty("/v1/keys/orders/rotate").await.expect_status(200);
    let moved = api.client.post("/v1/keys/orders/rewrap", &body).await;
    let record = api.recorded(&moved, "Rewrap", "success");
    assert!(
        record["rewrap"]["source"]["wrapped_sha256"] != record["rewrap"]["target"]["wrapped_sha256"],
        "{record:#}"
    );
    let moved = moved.expect_status(200);
    assert_eq!((&moved["changed"], &moved["version"]), (&json!(true), &json!(2)));
    assert!(moved["inside_provider"].is_boolean());
    let mut other = body.clone();
    other["to"] = json!("sales");
    let other = api.client.post("/v1/keys/orders/rewrap", &other).await;
    let record = api.outcome(&other);
    assert!(
        ["RewrapFrom", "RewrapTo"].contains(&record["operation"].as_str().unwrap()),
        "{record:#}"
    );
    let other = other.expect_status(200);
    assert_eq!((&other["key"], &other["changed"]), (&json!("sales"), &json!(true)));
    for wrapped in [&made["wrapped"], &moved["wrapped"], &other["wrapped"]] {
        let opened = api
            .client
            .post("/v1/unwrap", &json!({"wrapped": wrapped, "context": context()}))
            .await;
        assert_eq!(opened.expect_status(200)["plaintext"], made["plaintext"]);
    }
    // A blob of one key does not open under the path of another.
    let foreign = json!({"wrapped": made["wrapped"], "context": context()});
    for path in ["/v1/keys/sales/unwrap", "/v1/keys/sales/rewrap"] {
        api.client.post(path, &foreign).await.expect_problem(422, "ciphertext_rejected");
    }
}

#[tokio::test]
async fn a_rewrap_to_another_key_needs_both_permissions() {
    let api = Api::with_key().await;
    api.key("sales").await;
    let made = api.data_key("orders").await;
    let body = json!({"wrapped": made["wrapped"], "to": "sales"});
    for (principal, operations) in [("a", &["RewrapFrom"][..]), ("b", &["RewrapTo"]), ("c", &["Rewrap"])] {
        let (_, client) = api.token(principal, operations, None).await;
        client
            .post("/v1/keys/orders/rewrap", &body)
            .await
            .expect_problem(403, "permission_denied");
    }
    let (_, both) = api.token("d", &["RewrapFrom", "RewrapTo"], None).await;
    both.post("/v1/keys/orders/rewrap", &body).await.expect_status(200);
    both.post("/v1/keys/orders/rewrap", &json!({"wrapped": made["wrapped"]}))
        .await
        .expect_problem(403, "permission_denied");
    let (_, half) = api.token("e", &["RewrapFrom", "RewrapTo"], Some(&["orders"])).await;
    half.post("/v1/keys/orders/rewrap", &body)
        .await
        .expect_problem(403, "permission_denied");
}

#[tokio::test]
async fn inspect_tells_everything_but_the_secret() {
    let api = Api::with_key().await;
    let key = api.client.get("/v1/keys/orders").await.expect_status(200);
    let made = api
        .client
        .post("/v1/keys/orders/data-keys", &json!({"context": context()}))
        .await
        .expect_status(200);
    let body = json!({"wrapped": made["wrapped"], "context": context()});
    let shown = api.client.post("/v1/inspect", &body).await;
    let record = api.recorded(&shown, "Inspect", "success");
    assert!(!shown.text.contains(made["plaintext"].as_str().unwrap()));
    let shown = shown.expect_status(200);
    assert_eq!((&shown["dek_id"], &shown["key_id"]), (&record["dek_id"], &key["id"]));
    let expected = [
        ("key", json!("orders")),
        ("tenant", key["tenant"].clone()),
        ("sealed", json!(true)),
        ("plaintext_length", json!(32)),
    ];
    for (member, value) in expected {
        assert_eq!(shown[member], value, "{member}");
    }
    assert_eq!(shown["scope"], Value::Null);
    assert_eq!(
        (&shown["context"]["table"], &shown["context"]["claviger:key"]),
        (&json!("orders"), &key["id"])
    );
    let recipient = &shown["recipients"][0];
    assert_eq!(
        (&recipient["provider"], &recipient["provider_key"], &recipient["algorithm"]),
        (&json!("local"), &key["provider_key"], &json!(6))
    );
    assert!(STANDARD.decode(recipient["ciphertext"].as_str().unwrap()).is_ok());
    assert!(STANDARD.decode(shown["context_bytes"].as_str().unwrap()).is_ok());
    assert!(!shown["without_claviger"].as_array().unwrap().is_empty());
    // It works on a disabled key, too: nothing is opened.
    api.client.post_empty("/v1/keys/orders/disable").await.expect_status(200);
    api.client.post("/v1/inspect", &body).await.expect_status(200);
}

#[tokio::test]
async fn a_scope_is_unsupported_until_there_are_bindings() {
    let api = Api::with_key().await;
    for (path, body) in [
        ("/v1/keys/orders/data-keys", json!({"scope": "eu"})),
        ("/v1/keys/orders/wrap", json!({"plaintext": "AAAA", "scope": "eu"})),
    ] {
        let answer = api.client.post(path, &body).await;
        assert_eq!(api.outcome(&answer)["code"], "unsupported");
        answer.expect_problem(501, "unsupported");
    }
}
