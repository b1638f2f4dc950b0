//! `Idempotency-Key`: one effect and one answer for each key.

use claviger_test_support::{Answer, Client, Tune};
use reqwest::Method;
use serde_json::{Value, json};
use sqlx::{ConnectOptions, Connection};

use crate::support::Api;

async fn post(client: &Client, path: &str, key: &str, body: &Value) -> Answer {
    client
        .send(client.request(Method::POST, path).header("idempotency-key", key).json(body))
        .await
}

#[tokio::test]
async fn every_control_plane_post_answers_a_repetition_alike() {
    let api = Api::with_key().await;
    api.client.post("/v1/principals", &json!({"name": "ci"})).await.expect_status(201);
    let calls = [
        ("/v1/connections", json!({"name": "second", "provider": "local", "settings": {}})),
        ("/v1/keys", json!({"name": "sales", "connection": "embedded"})),
        ("/v1/keys/orders/rotate", json!({})),
        ("/v1/keys/orders/enable", json!({})),
        ("/v1/connections/second/restore", json!({})),
        ("/v1/principals", json!({"name": "indexer"})),
        ("/v1/tenants", json!({"name": "globex"})),
    ];
    for (path, body) in &calls {
        let first = post(&api.client, path, "once", body).await;
        assert!([200, 201].contains(&first.status), "{path}: {}", first.text);
        let again = post(&api.client, path, "once", body).await;
        assert_eq!((again.status, &again.body), (first.status, &first.body), "{path}");
        assert_eq!(again.header("etag"), first.header("etag"), "{path}");
        assert_ne!(again.header("x-request-id"), first.header("x-request-id"), "{path}");
        // The repetition is recorded as a request of its own.
        let (one, two) = (api.outcome(&first), api.outcome(&again));
        assert_eq!(
            (&one["operation"], &two["result"]),
            (&two["operation"], &json!("success")),
            "{path}"
        );
        let mut other = body.clone();
        other["labels"] = json!({});
        other["at_provider"] = json!(false);
        let text = body.to_string() + " ";
        let request = api.client.request(Method::POST, path).header("idempotency-key", "once");
        let mismatch = api.client.send(request.header("content-type", "application/json").body(text)).await;
        mismatch.expect_problem(409, "idempotency_mismatch");
    }
    // One effect each.
    assert_eq!(api.client.get("/v1/keys/orders").await.body["primary_version"], 2);
}

/// The two revocations that are POSTs, and what undoes them: (object, revoke, undo, states).
const REVOCATIONS: [(&str, &str, &str, [&str; 2]); 2] = [
    ("/v1/keys/orders", "disable", "enable", ["disabled", "enabled"]),
    ("/v1/connections/embedded", "sever", "restore", ["severed", "active"]),
];

#[tokio::test]
async fn a_revocation_is_carried_out_each_time() {
    let api = Api::with_key().await;
    let wrapped = json!({"wrapped": api.data_key("orders").await["wrapped"]});
    for (object, revoke, undo, [revoked, active]) in REVOCATIONS {
        let path = format!("{object}/{revoke}");
        let first = post(&api.client, &path, "once", &json!({})).await.expect_status(200);
        assert_eq!(first["state"], revoked, "{path}");
        let undone = api.client.post_empty(&format!("{object}/{undo}")).await.expect_status(200);
        assert_eq!(undone["state"], active, "{path}");
        let again = post(&api.client, &path, "once", &json!({})).await;
        assert_eq!(again.expect_status(200)["state"], revoked, "{path}");
        assert_eq!(api.client.get(object).await.expect_status(200)["state"], revoked, "{path}");
        let refused = api.client.post("/v1/unwrap", &wrapped).await;
        assert_eq!(refused.status, 409, "{path}: {}", refused.text);
        api.client.post_empty(&format!("{object}/{undo}")).await.expect_status(200);
    }
    // A key that cannot be used elsewhere, or that another body was sent with, stops none either.
    for key in ["once", "two words", &"k".repeat(300)] {
        let body = json!({"at_provider": false});
        post(&api.client, "/v1/keys/orders/disable", key, &body).await.expect_status(200);
    }
}

#[tokio::test]
async fn what_undoes_a_revocation_is_never_carried_out_again() {
    let api = Api::with_key().await;
    let wrapped = json!({"wrapped": api.data_key("orders").await["wrapped"]});
    for (object, revoke, undo, [revoked, active]) in REVOCATIONS {
        let (revoke, undo) = (format!("{object}/{revoke}"), format!("{object}/{undo}"));
        api.client.post_empty(&revoke).await.expect_status(200);
        let first = post(&api.client, &undo, "once", &json!({})).await.expect_status(200);
        assert_eq!(first["state"], active, "{undo}");
        api.client.post_empty(&revoke).await.expect_status(200);
        // The late repetition changes nothing and tells what is, not what was.
        let again = post(&api.client, &undo, "once", &json!({})).await;
        api.outcome(&again);
        let present = api.client.get(object).await;
        assert_eq!(again.header("etag"), present.header("etag"), "{undo}");
        let present = present.expect_status(200);
        assert_eq!(present["state"], revoked, "{undo}");
        assert_eq!(again.expect_status(200), present, "{undo}");
        let refused = api.client.post("/v1/unwrap", &wrapped).await;
        assert_eq!(refused.status, 409, "{undo}: {}", refused.text);
        post(&api.client, &undo, "twice", &json!({})).await.expect_status(200);
        assert_eq!(api.client.get(object).await.expect_status(200)["state"], active, "{undo}");
    }
}

/// The release before kept the answers of revocations.
#[tokio::test]
async fn a_kept_answer_of_a_revocation_is_ignored() {
    let Api { gateway, started, client } = Api::with_key().await;
    post(&client, "/v1/keys/orders/rotate", "once", &json!({})).await.expect_status(200);
    assert!(started.terminate());
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(gateway.data().join("claviger.db"));
    let mut database = options.connect().await.unwrap();
    let kept = "UPDATE idempotency SET route = 'POST /v1/keys/orders/disable', body = '{\"state\":\"disabled\"}'";
    assert_eq!(sqlx::query(kept).execute(&mut database).await.unwrap().rows_affected(), 1);
    database.close().await.unwrap();
    let started = gateway.serve(&Tune::default());
    let client = started.tenant("acme");
    let disabled = post(&client, "/v1/keys/orders/disable", "once", &json!({}))
        .await
        .expect_status(200);
    assert_eq!((&disabled["name"], &disabled["state"]), (&json!("orders"), &json!("disabled")));
    client
        .post("/v1/keys/orders/data-keys", &json!({}))
        .await
        .expect_problem(409, "key_disabled");
}

#[tokio::test]
async fn a_kept_answer_outlives_the_process() {
    let api = Api::start().await;
    let body = json!({"name": "orders", "connection": "embedded"});
    let first = post(&api.client, "/v1/keys", "once", &body).await.expect_status(201);
    let Api { gateway, started, .. } = api;
    started.kill();
    let again = gateway.serve(&Tune::default());
    let repeated = post(&again.tenant("acme"), "/v1/keys", "once", &body).await;
    assert_eq!(repeated.expect_status(201), first);
}

#[tokio::test]
async fn a_token_s_creation_is_never_repeated() {
    let api = Api::start().await;
    api.client.post("/v1/principals", &json!({"name": "ci"})).await.expect_status(201);
    let path = "/v1/principals/ci/tokens";
    let body = json!({"operations": ["ReadKey"]});
    let first = post(&api.client, path, "once", &body).await.expect_status(201);
    let again = post(&api.client, path, "once", &body).await;
    assert!(!again.text.contains(first["token"].as_str().unwrap()));
    let again = again.expect_problem(409, "already_created");
    assert!(again["detail"].as_str().unwrap().contains(first["id"].as_str().unwrap()), "{again}");
    assert_eq!(again["created_id"], first["id"]);
    assert_eq!(api.client.get(path).await.body["items"].as_array().unwrap().len(), 1);
    post(&api.client, path, "once", &json!({"operations": ["Wrap"]}))
        .await
        .expect_problem(409, "idempotency_mismatch");
}

#[tokio::test]
async fn a_key_is_of_one_tenant_principal_and_route() {
    let api = Api::start().await;
    let other = api.started.with_tenant("globex").await;
    let body = json!({"name": "orders", "connection": "embedded"});
    let ours = post(&api.client, "/v1/keys", "once", &body).await.expect_status(201);
    let theirs = post(&other, "/v1/keys", "once", &body).await.expect_status(201);
    assert_ne!(ours["id"], theirs["id"]);
    let (_, maker) = api.token("maker", &["CreateKey"], None).await;
    post(&maker, "/v1/keys", "once", &body).await.expect_problem(409, "already_exists");
    post(&api.client, "/v1/principals", "once", &json!({"name": "ci"}))
        .await
        .expect_status(201);
}

/// The answer of the first request shows a key that the token of the second one must not see.
#[tokio::test]
async fn a_key_is_of_the_object_that_had_the_name() {
    let api = Api::with_key().await;
    let rotate = "/v1/keys/orders/rotate";
    let first = post(&api.client, rotate, "once", &json!({})).await.expect_status(200);
    api.client
        .patch("/v1/keys/orders", "*", &json!({"name": "secret"}))
        .await
        .expect_status(200);
    let body = json!({"name": "orders", "connection": "embedded"});
    let second = api.client.post("/v1/keys", &body).await.expect_status(201);
    assert_ne!(first["id"], second["id"]);
    post(&api.client, rotate, "once", &json!({}))
        .await
        .expect_problem(409, "idempotency_mismatch");
    assert_eq!(api.client.get("/v1/keys/orders").await.body["primary_version"], 1);
    let again = post(&api.client, rotate, "another", &json!({})).await.expect_status(200);
    assert_eq!(again["id"], second["id"]);
}

#[tokio::test]
async fn access_is_decided_again_at_a_repetition() {
    let api = Api::start().await;
    let (issued, maker) = api.token("maker", &["CreateKey"], None).await;
    let (_, reader) = api.token("maker", &["ReadKey"], None).await;
    let body = json!({"name": "orders", "connection": "embedded"});
    post(&maker, "/v1/keys", "once", &body).await.expect_status(201);
    // The same principal, with a credential that may not.
    post(&reader, "/v1/keys", "once", &body)
        .await
        .expect_problem(403, "permission_denied");
    let path = format!("/v1/principals/maker/tokens/{}", issued["id"].as_str().unwrap());
    assert_eq!(api.client.delete(&path).await.status, 204);
    post(&maker, "/v1/keys", "once", &body).await.expect_problem(401, "unauthenticated");
}

#[tokio::test]
async fn requests_at_the_same_time_have_one_effect() {
    let api = Api::with_key().await;
    let mut under_way = Vec::new();
    for _ in 0..16 {
        let client = api.client.clone();
        under_way.push(tokio::spawn(async move {
            post(&client, "/v1/keys/orders/rotate", "once", &json!({})).await
        }));
    }
    let mut answers = Vec::new();
    for task in under_way {
        answers.push(task.await.unwrap());
    }
    let good: Vec<&Answer> = answers.iter().filter(|answer| answer.status == 200).collect();
    assert!(!good.is_empty());
    assert!(good.iter().all(|answer| answer.body == good[0].body));
    for answer in answers.iter().filter(|answer| answer.status != 200) {
        let problem = answer.clone().expect_problem(409, "in_progress");
        assert_eq!(problem["retryable"], true);
    }
    assert!(good.len() < answers.len(), "sixteen at once, and none met another");
    assert_eq!(api.client.get("/v1/keys/orders").await.body["primary_version"], 2);
}

#[tokio::test]
async fn a_failure_is_not_kept() {
    let api = Api::start().await;
    let body = json!({"name": "sales", "connection": "second"});
    post(&api.client, "/v1/keys", "once", &body).await.expect_problem(404, "not_found");
    let second = json!({"name": "second", "provider": "local", "settings": {}});
    api.client.post("/v1/connections", &second).await.expect_status(201);
    post(&api.client, "/v1/keys", "once", &body).await.expect_status(201);
}

#[tokio::test]
async fn data_operations_ignore_the_key_and_a_bad_one_is_refused_elsewhere() {
    let api = Api::with_key().await;
    let path = "/v1/keys/orders/data-keys";
    let first = post(&api.client, path, "once", &json!({})).await.expect_status(200);
    let second = post(&api.client, path, "once", &json!({"bytes": 16})).await.expect_status(200);
    assert_ne!(first["wrapped"], second["wrapped"]);
    post(&api.client, path, &"k".repeat(300), &json!({})).await.expect_status(200);
    for key in ["", "two words", &"k".repeat(256)] {
        let refused = post(&api.client, "/v1/keys/orders/rotate", key, &json!({})).await;
        let problem = refused.expect_problem(400, "invalid_request");
        assert_eq!(problem["errors"][0]["pointer"], "header:Idempotency-Key");
    }
    let twice = api.client.request(Method::POST, "/v1/keys/orders/rotate");
    let twice = twice.header("idempotency-key", "a").header("idempotency-key", "b");
    api.client.send(twice).await.expect_problem(400, "invalid_request");
    assert_eq!(api.client.get("/v1/keys/orders").await.body["primary_version"], 1);
}

#[tokio::test]
async fn an_encoded_path_is_the_same_request() {
    let api = Api::with_key().await;
    post(&api.client, "/v1/keys/orders/enable", "once", &json!({}))
        .await
        .expect_status(200);
    api.client.post("/v1/keys/orders/disable", &json!({})).await.expect_status(200);
    // `%6f` is `o`: this is the enable of before, and undoes no disable.
    let again = post(&api.client, "/v1/keys/%6frders/enable", "once", &json!({})).await;
    assert_eq!(again.expect_status(200)["state"], "disabled");
    let refused = api.client.post("/v1/keys/orders/data-keys", &json!({})).await;
    refused.expect_problem(409, "key_disabled");
}
