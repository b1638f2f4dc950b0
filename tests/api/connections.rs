//! `/v1/connections`, row by row: what is answered, and what is recorded.

use serde_json::{Value, json};

use crate::support::Api;

const PATH: &str = "/v1/connections/second";

async fn second(api: &Api) -> Value {
    let body = json!({"name": "second", "provider": "local", "settings": {}, "labels": {"team": "storage"}});
    let answer = api.client.post("/v1/connections", &body).await;
    let record = api.recorded(&answer, "CreateConnection", "success");
    assert_eq!(answer.header("etag"), answer.body["etag"]);
    let made = answer.expect_status(201);
    assert_eq!((&record["connection"], &record["provider"]), (&made["id"], &json!("local")));
    made
}

#[tokio::test]
async fn a_connection_is_made_read_listed_and_deleted() {
    let api = Api::start().await;
    let made = second(&api).await;
    let members = [
        ("name", json!("second")),
        ("provider", json!("local")),
        ("settings", json!({})),
        ("state", json!("active")),
    ];
    for (member, value) in members {
        assert_eq!(made[member], value, "{member}");
    }
    assert_eq!(made["labels"], json!({"team": "storage"}));
    assert_eq!(made["managed_by"], Value::Null);
    let external = made["external_id"].as_str().unwrap();
    assert!(
        external.len() == 32 && external.bytes().all(|b| b.is_ascii_hexdigit()),
        "{external}"
    );

    let read = api.client.get(PATH).await;
    api.recorded(&read, "ReadConnection", "success");
    assert_eq!(read.expect_status(200), made);
    let listed = api.client.get("/v1/connections").await;
    api.recorded(&listed, "ReadConnection", "success");
    let names: Vec<Value> = listed.expect_status(200)["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| item["name"].clone())
        .collect();
    assert_eq!(names, ["embedded", "second"]);

    let deleted = api.client.delete(PATH).await;
    let record = api.recorded(&deleted, "DeleteConnection", "success");
    assert_eq!(record["connection"], made["id"]);
    assert_eq!((deleted.status, deleted.text.as_str()), (204, ""));
    api.client.get(PATH).await.expect_problem(404, "not_found");
    api.client.delete(PATH).await.expect_problem(404, "not_found");
}

#[tokio::test]
async fn labels_change_under_the_etag_that_was_seen_and_nothing_else_does() {
    let api = Api::start().await;
    let made = second(&api).await;
    let etag = made["etag"].as_str().unwrap();
    let missing = api.client.request(reqwest::Method::PATCH, PATH).json(&json!({"labels": {}}));
    api.client.send(missing).await.expect_problem(400, "invalid_request");
    for wrong in ["\"999\"", "W/\"1\"", "nonsense"] {
        api.client
            .patch(PATH, wrong, &json!({"labels": {}}))
            .await
            .expect_problem(412, "precondition_failed");
    }
    assert_eq!(api.client.get(PATH).await.body, made);
    let changed = api.client.patch(PATH, etag, &json!({"labels": {"team": "search"}})).await;
    api.recorded(&changed, "UpdateConnection", "success");
    let changed = changed.expect_status(200);
    assert_eq!(changed["labels"], json!({"team": "search"}));
    assert_ne!(changed["etag"], made["etag"]);
    api.client
        .patch(PATH, etag, &json!({"labels": {}}))
        .await
        .expect_problem(412, "precondition_failed");
    // Where a connection leads never changes.
    for body in [json!({"provider": "aws"}), json!({"name": "third"}), json!({"external_id": "00"})] {
        api.client.patch(PATH, "*", &body).await.expect_problem(400, "invalid_request");
    }
    assert_eq!(
        api.client.patch(PATH, "*", &json!({})).await.expect_status(200)["labels"],
        changed["labels"]
    );
}

#[tokio::test]
async fn a_connection_in_use_stays() {
    let api = Api::with_key().await;
    let refused = api.client.delete("/v1/connections/embedded").await;
    let record = api.recorded(&refused, "DeleteConnection", "failed");
    assert_eq!(record["code"], "in_use");
    refused.expect_problem(409, "in_use");
    api.data_key("orders").await;
    api.client.delete("/v1/keys/orders").await.expect_status(204);
    api.client.delete("/v1/connections/embedded").await.expect_status(204);
}

#[tokio::test]
async fn a_check_names_each_right_and_capabilities_each_operation() {
    let api = Api::start().await;
    let checked = api.client.post_empty("/v1/connections/embedded/check").await;
    api.recorded(&checked, "CheckConnection", "success");
    let report = checked.expect_status(200);
    assert_eq!(report["reachable"], true);
    for right in report["rights"].as_array().unwrap() {
        let finding = right["finding"].as_str().unwrap();
        assert!(["granted", "denied", "excessive", "not_testable"].contains(&finding));
        assert!(!right["how"].as_str().unwrap().is_empty() && !right["operation"].as_str().unwrap().is_empty());
    }
    let can = api.client.get("/v1/connections/embedded/capabilities").await;
    api.recorded(&can, "ReadConnection", "success");
    let can = can.expect_status(200);
    assert_eq!(can["create_key"], true);
    for key in can["keys"].as_array().unwrap() {
        assert_eq!(key["wrap"], "through_memory", "{key}");
    }
    assert_eq!(can["keys"][0]["spec"], "aes-256");
}

#[tokio::test]
async fn sever_cuts_and_restore_mends() {
    let api = Api::with_key().await;
    let made = api.data_key("orders").await;
    let wrapped = json!({"wrapped": made["wrapped"]});
    api.client.post("/v1/unwrap", &wrapped).await.expect_status(200);
    let severed = api.client.post_empty("/v1/connections/embedded/sever").await;
    api.recorded(&severed, "Sever", "success");
    assert_eq!(severed.expect_status(200)["state"], "severed");
    for path in ["/v1/unwrap", "/v1/keys/orders/unwrap", "/v1/keys/orders/rewrap"] {
        api.client.post(path, &wrapped).await.expect_problem(409, "connection_severed");
    }
    let create = json!({"name": "another", "connection": "embedded"});
    api.client.post("/v1/keys", &create).await.expect_problem(409, "connection_severed");
    api.client
        .post_empty("/v1/connections/embedded/check")
        .await
        .expect_problem(409, "connection_severed");
    let restored = api.client.post_empty("/v1/connections/embedded/restore").await;
    api.recorded(&restored, "Restore", "success");
    assert_eq!(restored.expect_status(200)["state"], "active");
    assert_eq!(
        api.client.post("/v1/unwrap", &wrapped).await.expect_status(200)["plaintext"],
        made["plaintext"]
    );
}

#[tokio::test]
async fn settings_and_families_that_cannot_be_are_refused_with_their_place() {
    let api = Api::start().await;
    let before = api.state().await;
    let new = |provider: &str, settings: Value| json!({"name": "second", "provider": provider, "settings": settings});
    for settings in [json!({"region": "x"}), json!([]), json!("text"), json!(null)] {
        let problem = api
            .client
            .post("/v1/connections", &new("local", settings))
            .await
            .expect_problem(400, "invalid_request");
        assert!(
            problem["errors"][0]["pointer"].as_str().unwrap().starts_with("/settings"),
            "{problem}"
        );
    }
    let twice = r#"{"name":"second","provider":"local","settings":{"a":1,"a":2}}"#;
    api.client
        .post_raw("/v1/connections", twice)
        .await
        .expect_problem(400, "invalid_request");
    api.client
        .post("/v1/connections", &new("pkcs11", json!({"module": "/m.so"})))
        .await
        .expect_problem(400, "operator_only_setting");
    api.client
        .post("/v1/connections", &new("abacus", json!({})))
        .await
        .expect_problem(400, "invalid_request");
    let taken = json!({"name": "embedded", "provider": "local", "settings": {}});
    api.client
        .post("/v1/connections", &taken)
        .await
        .expect_problem(409, "already_exists");
    assert_eq!(api.state().await, before);
}
