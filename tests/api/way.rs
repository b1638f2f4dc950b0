//! The whole way once: key, data key, unwrap, cache, rotate, rewrap, disable; and that each
//! answer's record stands where its header says.

use claviger_test_support::{Gateway, Tune, records_of};
use serde_json::json;

#[tokio::test]
async fn a_data_key_comes_back_and_each_answer_is_recorded() {
    let gateway = Gateway::new(crate::BINARY);
    let started = gateway.serve(&Tune::default());
    let client = started.with_tenant("acme").await;
    let key = client
        .post("/v1/keys", &json!({"name": "orders", "connection": "embedded"}))
        .await
        .expect_status(201);
    assert_eq!(key["primary_version"], 1);

    let context = json!({"table": "orders"});
    let made = client
        .post("/v1/keys/orders/data-keys", &json!({"context": context}))
        .await
        .expect_status(200);
    let body = json!({"wrapped": made["wrapped"], "context": context});
    for cached in [false, true] {
        let answer = client.post("/v1/unwrap", &body).await;
        let index = answer.header("claviger-audit-index").to_owned();
        let request_id = answer.header("x-request-id").to_owned();
        let opened = answer.expect_status(200);
        assert_eq!((&opened["plaintext"], &opened["cached"]), (&made["plaintext"], &json!(cached)));
        let records = records_of(&gateway.data(), &request_id);
        assert_eq!(records.len(), 1, "one record for one answer");
        let record = &records[0];
        assert_eq!(
            (&record["operation"], &record["result"], &record["cached"]),
            (&json!("Unwrap"), &json!("success"), &json!(cached))
        );
        let place = format!(
            "{}/{}/{}#{}",
            record["installation"].as_str().unwrap(),
            record["node"].as_str().unwrap(),
            record["tenant"].as_str().unwrap(),
            record["sequence"]
        );
        assert_eq!(index, place);
    }
    assert!(started.terminate());
}
