//! Every row of the router once, with success: a row that is missing here stops the test.

use std::collections::BTreeSet;

use claviger::protocols::rest::endpoints::routes;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::Api;

/// One call: method, the row's path, body, status, recorded operation.
type Call = (Method, &'static str, Value, u16, &'static str);

fn calls(wrapped: &Value) -> Vec<Call> {
    let none = || Value::Null;
    let blob = || json!({"wrapped": wrapped});
    let of_key = |more: Value| {
        let mut item = json!({"key": "orders"});
        item.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({"items": [item]})
    };
    let (get, post, patch, delete) = (Method::GET, Method::POST, Method::PATCH, Method::DELETE);
    let connection = json!({"name": "spare", "provider": "local", "settings": {}});
    let plaintext = || json!({"plaintext": "AAAA"});
    vec![
        (post.clone(), "/v1/tenants", json!({"name": "globex"}), 201, "ManageTenants"),
        (get.clone(), "/v1/tenants", none(), 200, "ManageTenants"),
        (get.clone(), "/v1/tenants/{tenant}", none(), 200, "ManageTenants"),
        (post.clone(), "/v1/tenants/{tenant}/suspend", none(), 200, "ManageTenants"),
        (post.clone(), "/v1/tenants/{tenant}/resume", none(), 200, "ManageTenants"),
        (post.clone(), "/v1/connections", connection, 201, "CreateConnection"),
        (get.clone(), "/v1/connections", none(), 200, "ReadConnection"),
        (get.clone(), "/v1/connections/{connection}", none(), 200, "ReadConnection"),
        (
            patch.clone(),
            "/v1/connections/{connection}",
            json!({"labels": {"a": "b"}}),
            200,
            "UpdateConnection",
        ),
        (post.clone(), "/v1/connections/{connection}/check", none(), 200, "CheckConnection"),
        (
            get.clone(),
            "/v1/connections/{connection}/capabilities",
            none(),
            200,
            "ReadConnection",
        ),
        (post.clone(), "/v1/connections/{connection}/sever", none(), 200, "Sever"),
        (post.clone(), "/v1/connections/{connection}/restore", none(), 200, "Restore"),
        (delete.clone(), "/v1/connections/{connection}", none(), 204, "DeleteConnection"),
        (
            post.clone(),
            "/v1/keys",
            json!({"name": "sales", "connection": "embedded"}),
            201,
            "CreateKey",
        ),
        (get.clone(), "/v1/keys", none(), 200, "ReadKey"),
        (get.clone(), "/v1/keys/{key}", none(), 200, "ReadKey"),
        (patch, "/v1/keys/{key}", json!({"labels": {"a": "b"}}), 200, "UpdateKey"),
        (get.clone(), "/v1/keys/{key}/versions", none(), 200, "ReadKey"),
        (post.clone(), "/v1/keys/{key}/rotate", none(), 200, "Rotate"),
        (post.clone(), "/v1/keys/{key}/disable", none(), 200, "Disable"),
        (post.clone(), "/v1/keys/{key}/enable", none(), 200, "Enable"),
        (post.clone(), "/v1/keys/{key}/data-keys", json!({}), 200, "GenerateDataKey"),
        (post.clone(), "/v1/keys/{key}/wrap", plaintext(), 200, "Wrap"),
        (post.clone(), "/v1/keys/{key}/unwrap", blob(), 200, "Unwrap"),
        (post.clone(), "/v1/keys/{key}/rewrap", blob(), 200, "Rewrap"),
        (post.clone(), "/v1/unwrap", blob(), 200, "Unwrap"),
        (post.clone(), "/v1/inspect", blob(), 200, "Inspect"),
        (post.clone(), "/v1/batch/data-keys", of_key(json!({})), 200, "GenerateDataKey"),
        (post.clone(), "/v1/batch/wrap", of_key(plaintext()), 200, "Wrap"),
        (post.clone(), "/v1/batch/unwrap", of_key(blob()), 200, "Unwrap"),
        (post.clone(), "/v1/batch/rewrap", of_key(blob()), 200, "Rewrap"),
        (post.clone(), "/v1/declared/plan", none(), 200, "ManageTenants"),
        (post.clone(), "/v1/declared/apply", none(), 200, "ManageTenants"),
        (
            post.clone(),
            "/v1/declared/release",
            json!({"kind": "connection", "tenant": "acme", "name": "embedded"}),
            204,
            "ManageTenants",
        ),
        (post.clone(), "/v1/principals", json!({"name": "spare"}), 201, "ManagePrincipals"),
        (get.clone(), "/v1/principals", none(), 200, "ManagePrincipals"),
        (get.clone(), "/v1/principals/{principal}", none(), 200, "ManagePrincipals"),
        (
            post,
            "/v1/principals/{principal}/tokens",
            json!({"operations": ["Wrap"]}),
            201,
            "ManageTokens",
        ),
        (get.clone(), "/v1/principals/{principal}/tokens", none(), 200, "ManageTokens"),
        (get, "/v1/whoami", none(), 200, "ManageTokens"),
        (
            delete.clone(),
            "/v1/principals/{principal}/tokens/{token}",
            none(),
            204,
            "ManageTokens",
        ),
        (delete.clone(), "/v1/principals/{principal}", none(), 204, "ManagePrincipals"),
        (delete, "/v1/keys/{key}", none(), 204, "DeleteKey"),
    ]
}

#[tokio::test]
async fn each_row_answers_and_its_record_stands_where_the_answer_says() {
    let api = Api::with_key().await;
    let (issued, _) = api.token("ci", &["Wrap"], None).await;
    let token = issued["id"].as_str().unwrap();
    let made = api.data_key("orders").await;
    let mut called = BTreeSet::new();
    for (method, path, body, status, operation) in calls(&made["wrapped"]) {
        assert!(called.insert((method.to_string(), path)), "{method} {path} twice");
        let filled = path
            .replace("{tenant}", "acme")
            .replace("{connection}", "spare")
            .replace("{key}", "orders")
            .replace("{principal}", "ci")
            .replace("{token}", token);
        let request = api.client.request(method.clone(), &filled).header("if-match", "*");
        let answer = api.client.send(if body.is_null() { request } else { request.json(&body) }).await;
        assert_eq!(answer.status, status, "{method} {path}: {}", answer.text);
        if path.starts_with("/v1/batch/") {
            let item = answer.body["items"][0].clone();
            assert!(item.get("error").is_none(), "{path}: {item}");
            let record = api
                .log()
                .into_iter()
                .find(|record| crate::support::place(record) == item["audit_index"])
                .unwrap();
            assert_eq!(
                (&record["operation"], &record["result"]),
                (&json!(operation), &json!("success")),
                "{path}"
            );
        } else {
            api.recorded(&answer, operation, "success");
        }
    }
    let routed: BTreeSet<(String, &str)> = routes().iter().map(|row| (row.method.to_string(), row.path)).collect();
    assert_eq!(called, routed);
}
