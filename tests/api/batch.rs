//! `/v1/batch/*`: order, one decision and record for each item, and the limits.

use serde_json::{Value, json};

use claviger_test_support::records_of;

use crate::support::{Api, place};

fn items(answer: &Value) -> Vec<Value> {
    answer["items"].as_array().unwrap().clone()
}

/// Each item names its own record: of this request, at this place of the batch.
#[track_caller]
fn each_recorded(api: &Api, request_id: &str, items: &[Value]) -> Vec<Value> {
    let all = records_of(&api.gateway.data(), request_id);
    assert_eq!(all.len(), items.len());
    for (at, item) in items.iter().enumerate() {
        let record = all.iter().find(|record| record["item"] == at).unwrap();
        assert_eq!(item["audit_index"], place(record), "item {at}");
    }
    all
}

#[tokio::test]
async fn items_are_answered_in_order_each_with_its_record_and_its_own_end() {
    let api = Api::with_key().await;
    api.key("off").await;
    api.client.post_empty("/v1/keys/off/disable").await.expect_status(200);
    let bytes = [16, 64, 24, 7, 32];
    let mut body = json!({"items": bytes.map(|bytes| json!({"key": "orders", "bytes": bytes, "context": {"n": "x"}}))});
    body["items"].as_array_mut().unwrap().push(json!({"key": "off"}));
    body["items"].as_array_mut().unwrap().push(json!({"key": "absent"}));
    body["items"].as_array_mut().unwrap().push(json!({"key": "orders", "scope": "eu"}));
    body["items"]
        .as_array_mut()
        .unwrap()
        .push(json!({"key": "orders", "context": {"claviger:x": "y"}}));
    let answer = api.client.post("/v1/batch/data-keys", &body).await;
    assert_eq!(answer.header("claviger-audit-index"), "", "each item has its own");
    let request_id = answer.header("x-request-id").to_owned();
    let answers = items(&answer.expect_status(200));
    let codes: Vec<&str> = answers.iter().map(|item| item["error"]["code"].as_str().unwrap_or("ok")).collect();
    assert_eq!(
        codes,
        [
            "ok",
            "ok",
            "ok",
            "invalid_request",
            "ok",
            "key_disabled",
            "not_found",
            "unsupported",
            "invalid_request"
        ]
    );
    let records = each_recorded(&api, &request_id, &answers);
    for (item, code) in answers.iter().zip(&codes) {
        let record = records
            .iter()
            .find(|record| place(record) == item["audit_index"].as_str().unwrap())
            .unwrap();
        assert_eq!(record["code"].as_str().unwrap_or("ok"), *code);
        if *code != "ok" {
            assert_eq!(item["error"]["request_id"], request_id);
            assert_eq!(item.as_object().unwrap().len(), 2, "an error and its place alone: {item}");
        }
    }
    let good: Vec<&Value> = answers.iter().filter(|item| item.get("error").is_none()).collect();
    let unwraps = json!({"items": good.iter().map(|item| json!({"wrapped": item["wrapped"], "context": {"n": "x"}})).collect::<Vec<_>>()});
    let opened = items(&api.client.post("/v1/batch/unwrap", &unwraps).await.expect_status(200));
    for (made, opened) in good.iter().zip(&opened) {
        assert_eq!((&made["plaintext"], &opened["key"]), (&opened["plaintext"], &json!("orders")));
    }
}

#[tokio::test]
async fn wrap_unwrap_and_rewrap_in_batches() {
    let api = Api::with_key().await;
    api.key("sales").await;
    let wraps = json!({"items": [{"key": "orders", "plaintext": "AAAA"}, {"key": "sales", "plaintext": "BBBB"}]});
    let wrapped = items(&api.client.post("/v1/batch/wrap", &wraps).await.expect_status(200));
    let unwraps = json!({"items": [
        {"wrapped": wrapped[0]["wrapped"]},
        {"key": "sales", "wrapped": wrapped[1]["wrapped"]},
        {"key": "sales", "wrapped": wrapped[0]["wrapped"]},
        {"wrapped": "clv1.Q0xWAQ"},
    ]});
    let opened = items(&api.client.post("/v1/batch/unwrap", &unwraps).await.expect_status(200));
    assert_eq!((&opened[0]["plaintext"], &opened[1]["plaintext"]), (&json!("AAAA"), &json!("BBBB")));
    assert_eq!(opened[2]["error"]["code"], "ciphertext_rejected");
    assert_eq!(opened[3]["error"]["code"], "invalid_envelope");
    let rewraps = json!({"items": [
        {"key": "orders", "wrapped": wrapped[0]["wrapped"], "to": "sales"},
        {"key": "sales", "wrapped": wrapped[1]["wrapped"]},
    ]});
    let moved = items(&api.client.post("/v1/batch/rewrap", &rewraps).await.expect_status(200));
    assert_eq!((&moved[0]["key"], &moved[0]["changed"]), (&json!("sales"), &json!(true)));
    assert_eq!((&moved[1]["key"], &moved[1]["changed"]), (&json!("sales"), &json!(false)));
}

#[tokio::test]
async fn each_item_is_decided_on_its_own() {
    let api = Api::with_key().await;
    api.key("sales").await;
    let (_, limited) = api.token("reader", &["Wrap"], Some(&["orders"])).await;
    let body = json!({"items": [
        {"key": "orders", "plaintext": "AAAA"}, {"key": "sales", "plaintext": "AAAA"}, {"key": "absent", "plaintext": "AAAA"},
    ]});
    let answer = limited.post("/v1/batch/wrap", &body).await;
    let request_id = answer.header("x-request-id").to_owned();
    let answers = items(&answer.expect_status(200));
    assert!(answers[0]["wrapped"].is_string());
    let (foreign, absent) = (&answers[1]["error"], &answers[2]["error"]);
    assert_eq!(
        (&foreign["code"], foreign),
        (&json!("permission_denied"), absent),
        "a name tells nothing"
    );
    let records = each_recorded(&api, &request_id, &answers);
    let denied = records.iter().filter(|record| record["result"] == "denied").count();
    assert_eq!(denied, 2);
    limited
        .post("/v1/batch/unwrap", &json!({"items": [{"wrapped": answers[0]["wrapped"]}]}))
        .await
        .expect_problem(403, "permission_denied");
}

#[tokio::test]
async fn a_thousand_items_are_taken_and_one_more_is_not() {
    let api = Api::with_key().await;
    let batch = |count: usize| json!({"items": vec![json!({"key": "orders", "plaintext": false}); count]});
    let answer = api.client.post("/v1/batch/data-keys", &batch(1000)).await;
    let request_id = answer.header("x-request-id").to_owned();
    let answers = items(&answer.expect_status(200));
    assert_eq!(answers.len(), 1000);
    assert!(answers.iter().all(|item| item["wrapped"].is_string()));
    each_recorded(&api, &request_id, &answers);
    for count in [0, 1001] {
        let refused = api.client.post("/v1/batch/data-keys", &batch(count)).await;
        api.recorded(&refused, "GenerateDataKey", "failed");
        let problem = refused.expect_problem(400, "invalid_request");
        assert_eq!(problem["errors"][0]["pointer"], "/items");
    }
}

#[tokio::test]
async fn a_batch_may_be_larger_than_a_request_but_not_than_16_mib() {
    let api = Api::with_key().await;
    let item = json!({"key": "orders", "plaintext": "A".repeat(5460)});
    let answer = api.client.post("/v1/batch/wrap", &json!({"items": vec![item; 100]})).await;
    assert_eq!(items(&answer.expect_status(200)).len(), 100);
    for (path, bytes) in [("/v1/batch/wrap", (16 << 20) + 1), ("/v1/keys/orders/wrap", (64 << 10) + 1)] {
        let head = api.head(
            &format!("POST {path}"),
            &format!("content-type: application/json\r\ncontent-length: {bytes}\r\n"),
        );
        let mut request = head.into_bytes();
        request.resize(request.len() + bytes, b' ');
        let (status, problem) = crate::support::parts(&api.exchange(&request).await);
        assert_eq!((status, &problem["code"]), (413, &json!("too_large")), "{path}");
    }
    api.serves().await;
}

#[tokio::test]
async fn a_batch_that_is_no_batch_is_refused_as_a_whole() {
    let api = Api::with_key().await;
    for body in [
        json!({}),
        json!({"items": {}}),
        json!({"items": [{"key": "orders", "plaintext": "not base64!"}]}),
        json!({"items": [{"plaintext": "AAAA"}]}),
        json!({"items": [{"key": "orders", "plaintext": "AAAA", "surprise": 1}]}),
        json!({"items": [{"key": "../orders", "plaintext": "AAAA"}]}),
    ] {
        let refused = api.client.post("/v1/batch/wrap", &body).await;
        api.recorded(&refused, "Wrap", "failed");
        refused.expect_problem(400, "invalid_request");
    }
}
