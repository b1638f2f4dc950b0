//! A body that may be left out: none, null and an empty object are the same request.

use claviger_test_support::Answer;
use reqwest::Method;
use serde_json::json;

use crate::support::Api;

/// The ways in which clients leave out a body.
const FORMS: [&str; 3] = ["", "null", "{}"];

/// What makes an object ready for a request, and the request.
const POSTS: [(&str, &str); 10] = [
    ("", "/v1/keys/orders/rotate"),
    ("", "/v1/keys/orders/disable"),
    ("/v1/keys/orders/disable", "/v1/keys/orders/enable"),
    ("", "/v1/connections/embedded/check"),
    ("", "/v1/connections/embedded/sever"),
    ("/v1/connections/embedded/sever", "/v1/connections/embedded/restore"),
    ("", "/v1/tenants/globex/suspend"),
    ("/v1/tenants/globex/suspend", "/v1/tenants/globex/resume"),
    ("", "/v1/declared/plan"),
    ("", "/v1/declared/apply"),
];

async fn post(api: &Api, path: &str, key: &str, body: &'static str) -> Answer {
    let client = match path.starts_with("/v1/declared/") {
        true => &api.started.operator(),
        false => &api.client,
    };
    let mut request = client.request(Method::POST, path).header("idempotency-key", key);
    if !body.is_empty() {
        request = request.header("content-type", "application/json").body(body);
    }
    client.send(request).await
}

#[tokio::test]
async fn each_form_has_the_same_effect() {
    let api = Api::with_key().await;
    api.client.post("/v1/tenants", &json!({"name": "globex"})).await.expect_status(201);
    for (before, path) in POSTS {
        let mut states = Vec::new();
        for form in FORMS {
            if !before.is_empty() {
                api.client.post_empty(before).await.expect_status(200);
            }
            let key = format!("{path} {form}").replace(' ', "-");
            let done = post(&api, path, &key, form).await.expect_status(200);
            states.push((done["state"].clone(), done["at_provider"].clone()));
        }
        assert!(states.iter().all(|state| *state == states[0]), "{path}: {states:?}");
    }
    assert_eq!(api.client.get("/v1/keys/orders").await.body["primary_version"], 4);
}

#[tokio::test]
async fn each_form_repeats_the_others_under_an_idempotency_key() {
    let api = Api::with_key().await;
    for form in FORMS {
        let done = post(&api, "/v1/keys/orders/rotate", "once", form).await.expect_status(200);
        assert_eq!(done["primary_version"], 2, "{form}");
    }
}

#[tokio::test]
async fn null_is_a_member_that_is_left_out() {
    let api = Api::with_key().await;
    let disabled = api.client.post("/v1/keys/orders/disable", &json!({"at_provider": null})).await;
    assert_eq!(disabled.expect_status(200)["state"], "disabled");
    let key =
        json!({"name": "sales", "connection": "embedded", "spec": null, "provider_key": null, "labels": null, "cache": null, "id": null});
    api.client.post("/v1/keys", &key).await.expect_status(201);
    let rotated = json!({"connection": null, "provider_key": null, "spec": null});
    api.client.post("/v1/keys/sales/rotate", &rotated).await.expect_status(200);
    let generated = json!({"bytes": null, "context": null, "plaintext": null});
    let made = api.client.post("/v1/keys/sales/data-keys", &generated).await.expect_status(200);
    let wrapped = json!({"wrapped": made["wrapped"], "context": null, "to": null});
    api.client.post("/v1/keys/sales/rewrap", &wrapped).await.expect_status(200);
    let principal = json!({"name": "indexer", "kind": null});
    api.client.post("/v1/principals", &principal).await.expect_status(201);
    let token = json!({"operations": ["Wrap"], "keys": null, "expires_in": null, "kind": null});
    api.client.post("/v1/principals/indexer/tokens", &token).await.expect_status(201);
    let nothing = json!({"name": null, "labels": null, "cache": null, "allow_export": null});
    api.client.patch("/v1/keys/sales", "*", &nothing).await.expect_status(200);
}

#[tokio::test]
async fn a_required_body_is_not_null_and_an_optional_one_is_nothing_else() {
    let api = Api::with_key().await;
    for path in ["/v1/keys", "/v1/keys/orders/data-keys", "/v1/unwrap", "/v1/principals"] {
        api.client.post_raw(path, "null").await.expect_problem(400, "invalid_request");
    }
    for body in ["nul", "null null", "[null]", " ", "false", "[]", "\"\""] {
        for path in ["/v1/keys/orders/disable", "/v1/connections/embedded/sever"] {
            api.client.post_raw(path, body).await.expect_problem(400, "invalid_request");
        }
    }
    assert_eq!(api.client.get("/v1/keys/orders").await.body["state"], "enabled");
}
