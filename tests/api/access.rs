//! Who may do what: tenants apart from each other, and names that tell nothing.

use claviger_test_support::Client;
use serde_json::{Value, json};

use crate::support::Api;

/// What two answers have in common when they must not tell a difference.
fn told(mut problem: Value) -> Value {
    problem.as_object_mut().unwrap().remove("request_id");
    problem
}

#[tokio::test]
async fn a_token_limited_to_keys_cannot_tell_an_unknown_name_from_a_foreign_one() {
    let api = Api::with_key().await;
    api.key("sales").await;
    let operations = [
        "ReadKey",
        "UpdateKey",
        "DeleteKey",
        "Rotate",
        "Enable",
        "Disable",
        "GenerateDataKey",
        "Wrap",
        "Unwrap",
        "Rewrap",
    ];
    let (_, limited) = api.token("limited", &operations, Some(&["orders"])).await;
    let (_, unlimited) = api.token("unlimited", &operations, None).await;
    let wrapped = json!({"wrapped": api.data_key("orders").await["wrapped"]});
    let calls: [(&str, &str, Value); 9] = [
        ("GET", "", Value::Null),
        ("GET", "/versions", Value::Null),
        ("DELETE", "", Value::Null),
        ("POST", "/rotate", json!({})),
        ("POST", "/enable", json!({})),
        ("POST", "/disable", json!({})),
        ("POST", "/data-keys", json!({})),
        ("POST", "/unwrap", wrapped.clone()),
        ("POST", "/rewrap", wrapped),
    ];
    for (method, end, body) in calls {
        let call = |client: Client, name: &'static str| {
            let request = client.request(method.parse().unwrap(), &format!("/v1/keys/{name}{end}"));
            let request = if body.is_null() { request } else { request.json(&body) };
            async move { client.send(request).await }
        };
        let foreign = call(limited.clone(), "sales").await;
        assert_eq!(api.outcome(&foreign)["result"], "denied");
        let foreign = foreign.expect_problem(403, "permission_denied");
        let absent = call(limited.clone(), "absent").await.expect_problem(403, "permission_denied");
        assert_eq!(told(foreign), told(absent), "{method} {end}");
        let absent = call(unlimited.clone(), "absent").await;
        assert_eq!(api.outcome(&absent)["result"], "failed");
        absent.expect_problem(404, "not_found");
    }
    // A list shows what is reached, and a new key is in no named set.
    let names = limited.get("/v1/keys").await.expect_status(200);
    assert_eq!(
        names["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(|key| key["name"].clone())
            .collect::<Vec<_>>(),
        ["orders"]
    );
    let (_, maker) = api.token("maker", &["CreateKey"], Some(&["orders"])).await;
    let body = json!({"name": "new", "connection": "embedded"});
    maker.post("/v1/keys", &body).await.expect_problem(403, "permission_denied");
}

#[tokio::test]
async fn without_the_operation_nothing_is_told_of_any_name() {
    let api = Api::with_key().await;
    let (_, nobody) = api.token("nobody", &["Explain"], None).await;
    let calls = [
        ("GET", "/v1/keys/NAME", "ReadKey"),
        ("GET", "/v1/keys", "ReadKey"),
        ("DELETE", "/v1/keys/NAME", "DeleteKey"),
        ("PATCH", "/v1/keys/NAME", "UpdateKey"),
        ("POST", "/v1/keys/NAME/rotate", "Rotate"),
        ("POST", "/v1/keys/NAME/wrap", "Wrap"),
        ("POST", "/v1/unwrap", "Unwrap"),
        ("POST", "/v1/inspect", "Inspect"),
        ("GET", "/v1/connections/NAME", "ReadConnection"),
        ("DELETE", "/v1/connections/NAME", "DeleteConnection"),
        ("POST", "/v1/connections/NAME/check", "CheckConnection"),
        ("POST", "/v1/connections/NAME/sever", "Sever"),
        ("POST", "/v1/connections/NAME/restore", "Restore"),
        ("GET", "/v1/principals/NAME", "ManagePrincipals"),
        ("GET", "/v1/principals/NAME/tokens", "ManageTokens"),
        ("GET", "/v1/tenants", "ManageTenants"),
    ];
    for (method, path, operation) in calls {
        let mut all = Vec::new();
        for name in ["orders", "embedded", "nobody", "absent", "NOT.A.NAME"] {
            let request = nobody
                .request(method.parse().unwrap(), &path.replace("NAME", name))
                .header("if-match", "*");
            let answer = nobody
                .send(if method == "GET" || method == "DELETE" {
                    request
                } else {
                    request.json(&json!({"bad": 1}))
                })
                .await;
            api.recorded(&answer, operation, "denied");
            all.push(told(answer.expect_problem(403, "permission_denied")));
        }
        let detail = all[0]["detail"].as_str().unwrap();
        assert!(detail.contains(&format!("the operation {operation} ")), "{method} {path}: {detail}");
        assert!(all.windows(2).all(|pair| pair[0] == pair[1]), "{method} {path}: {all:#?}");
    }
}

#[tokio::test]
async fn another_tenant_s_names_behave_as_absent() {
    let api = Api::with_key().await;
    let made = api.data_key("orders").await;
    let other = api.started.with_tenant("globex").await;
    for path in ["/v1/keys/orders", "/v1/keys/orders/versions", "/v1/connections/second"] {
        other.get(path).await.expect_problem(404, "not_found");
    }
    other.delete("/v1/keys/orders").await.expect_problem(404, "not_found");
    other.post_empty("/v1/keys/orders/disable").await.expect_problem(404, "not_found");
    other
        .post("/v1/keys/orders/data-keys", &json!({}))
        .await
        .expect_problem(404, "not_found");
    assert_eq!(other.get("/v1/keys").await.expect_status(200)["items"], json!([]));
    let wrapped = json!({"wrapped": made["wrapped"]});
    for path in ["/v1/unwrap", "/v1/inspect"] {
        other.post(path, &wrapped).await.expect_problem(422, "ciphertext_rejected");
    }
    // The same name is free there, and is another key.
    let key = other
        .post("/v1/keys", &json!({"name": "orders", "connection": "embedded"}))
        .await
        .expect_status(201);
    assert_ne!(key["id"], api.client.get("/v1/keys/orders").await.body["id"]);
    for path in ["/v1/keys/orders/unwrap", "/v1/keys/orders/rewrap"] {
        other.post(path, &wrapped).await.expect_problem(422, "ciphertext_rejected");
    }
    // Its key's material is in reach of nobody else.
    let ours = api.client.get("/v1/keys/orders").await.expect_status(200);
    let steal = json!({"name": "mine", "connection": "embedded", "provider_key": ours["provider_key"]});
    other.post("/v1/keys", &steal).await.expect_problem(400, "invalid_request");
    assert_eq!(
        api.client.post("/v1/unwrap", &wrapped).await.expect_status(200)["plaintext"],
        made["plaintext"]
    );
}

#[tokio::test]
async fn a_tenant_s_credential_names_no_tenant() {
    let api = Api::with_key().await;
    let (_, client) = api.token("reader", &["ReadKey"], None).await;
    api.started.with_tenant("globex").await;
    // Its own, another and an absent one: one answer, so that it learns of none.
    let mut all = Vec::new();
    for tenant in ["acme", "globex", "absent", "NOT.A.NAME"] {
        let answer = client.clone().with_header("claviger-tenant", tenant).get("/v1/keys").await;
        all.push(told(answer.expect_problem(403, "permission_denied")));
    }
    assert!(all.windows(2).all(|pair| pair[0] == pair[1]), "{all:#?}");
    let advice = all[0]["what_to_do"].as_str().unwrap();
    assert!(advice.contains("Leave out the header"), "{advice}");
    client.get("/v1/keys").await.expect_status(200);
}

#[tokio::test]
async fn an_operator_names_a_tenant_or_has_no_keys() {
    let api = Api::with_key().await;
    let operator = api.started.operator();
    let wrapped = json!({"wrapped": api.data_key("orders").await["wrapped"]});
    for answer in [
        operator.get("/v1/keys").await,
        operator.get("/v1/keys/orders").await,
        operator.get("/v1/connections").await,
        operator.get("/v1/connections/embedded").await,
        operator.post("/v1/unwrap", &wrapped).await,
        operator.post("/v1/inspect", &wrapped).await,
        operator.post("/v1/batch/unwrap", &json!({"items": [wrapped]})).await,
        operator
            .post("/v1/connections", &json!({"name": "x", "provider": "local", "settings": {}}))
            .await,
        operator.post("/v1/keys", &json!({"name": "x", "connection": "embedded"})).await,
    ] {
        let problem = answer.expect_problem(400, "invalid_request");
        assert_eq!(problem["errors"][0]["pointer"], "header:Claviger-Tenant");
    }
    for tenant in ["absent", "ACME", "../acme", ""] {
        let named = operator.clone().with_header("claviger-tenant", tenant);
        for answer in [
            named.get("/v1/keys").await,
            named.post_empty("/v1/keys/orders/disable").await,
            named.get("/v1/tenants").await,
        ] {
            let problem = answer.expect_problem(404, "not_found");
            assert!(problem["detail"].as_str().unwrap().contains("Claviger-Tenant"), "{problem}");
            assert!(
                problem["what_to_do"].as_str().unwrap().contains("claviger tenants list"),
                "{problem}"
            );
        }
    }
    // Two names are none.
    let twice = api
        .client
        .request(reqwest::Method::GET, "/v1/keys")
        .header("claviger-tenant", "acme");
    api.client.send(twice).await.expect_problem(404, "not_found");
}

#[tokio::test]
async fn an_operator_learns_that_a_tenant_does_not_exist_and_a_tenant_does_not() {
    let api = Api::start().await;
    let operator = api.started.operator();
    let (_, own) = api.token("manager", &["ManageTenants"], None).await;
    for (method, path) in [
        ("GET", "/v1/tenants/absent"),
        ("POST", "/v1/tenants/absent/suspend"),
        ("POST", "/v1/tenants/absent/resume"),
    ] {
        let call = |client: &Client, path: &str| client.request(method.parse().unwrap(), path);
        let answer = operator.send(call(&operator, path)).await;
        let problem = answer.expect_problem(404, "not_found");
        assert!(
            problem["what_to_do"].as_str().unwrap().contains("claviger tenants list"),
            "{problem}"
        );
        // To a tenant, even its own name behaves as one that is absent.
        let existing = path.replace("absent", "acme");
        let of_absent = told(own.send(call(&own, path)).await.expect_problem(403, "permission_denied"));
        let of_own = told(own.send(call(&own, &existing)).await.expect_problem(403, "permission_denied"));
        assert_eq!(of_absent, of_own, "{method} {path}");
    }
}

#[tokio::test]
async fn an_operator_who_forgot_the_tenant_is_told_where_the_request_looked() {
    let api = Api::start().await;
    api.client.post("/v1/principals", &json!({"name": "app"})).await.expect_status(201);
    let operator = api.started.operator();
    let token = json!({"operations": ["Unwrap"]});
    for answer in [
        operator.get("/v1/principals/app").await,
        operator.get("/v1/principals/app/tokens").await,
        operator.post("/v1/principals/app/tokens", &token).await,
        operator.delete("/v1/principals/app").await,
    ] {
        let problem = answer.expect_problem(404, "not_found");
        assert!(problem["detail"].as_str().unwrap().contains("operator"), "{problem}");
        assert!(problem["what_to_do"].as_str().unwrap().contains("Claviger-Tenant"), "{problem}");
    }
    let absent = api.client.get("/v1/principals/absent").await.expect_problem(404, "not_found");
    assert!(absent["detail"].as_str().unwrap().contains("in this tenant"), "{absent}");
}

#[tokio::test]
async fn only_an_operator_gives_a_key_its_id() {
    let api = Api::start().await;
    let body = json!({"name": "orders", "connection": "embedded", "id": "0198c0de000070008000000000000001"});
    let (_, tenant) = api.token("maker", &["CreateKey"], None).await;
    let refused = tenant.post("/v1/keys", &body).await.expect_problem(400, "operator_only_setting");
    assert_eq!(refused["errors"][0]["pointer"], "/id");
    let made = api.client.post("/v1/keys", &body).await.expect_status(201);
    assert_eq!(made["id"], body["id"]);
    let twin = json!({"name": "twin", "connection": "embedded", "id": body["id"]});
    api.client.post("/v1/keys", &twin).await.expect_problem(409, "already_exists");
    api.client.get("/v1/keys/twin").await.expect_problem(404, "not_found");
}
