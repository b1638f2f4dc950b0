//! The record names each call to the provider, so that its owner can match the provider's log.

use claviger_testkit::Fault;
use serde_json::{Value, json};

use crate::bench::{Bench, data_key, until, unwrap};
use crate::{Case, Needs};

pub const CASES: &[Case] = &[
    ("an_unwrap_has_its_calls", Needs::Keys, |bench| Box::pin(unwrapped(bench))),
    ("an_unwrap_has_the_providers_request_id", Needs::Faults, |bench| {
        Box::pin(request_id(bench))
    }),
    ("a_retried_call_has_every_attempt", Needs::Faults, |bench| Box::pin(retried(bench))),
    ("each_item_of_a_batch_has_its_own_calls", Needs::Faults, |bench| {
        Box::pin(batch(bench))
    }),
    ("background_calls_are_recorded", Needs::Faults, |bench| Box::pin(background(bench))),
];

/// The calls in a record.
fn calls(record: &Value) -> Vec<Value> {
    record["provider_calls"].as_array().cloned().unwrap_or_default()
}

async fn unwrapped(bench: Bench) {
    bench.key("orders").await;
    let made = data_key(&bench.client, "orders").await;
    let mut cached = false;
    for _ in 0..2 {
        let answer = unwrap(&bench.client, &made["wrapped"]).await;
        let record = bench.records_of(&answer).remove(0);
        cached = answer.expect_status(200)["cached"] == true;
        // The embedded provider calls nobody.
        if cached || bench.entry.provider == "local" {
            assert_eq!(record.get("provider_calls"), None, "{record:#}");
            continue;
        }
        let calls = calls(&record);
        assert!(!calls.is_empty(), "{record:#}");
        for call in &calls {
            assert!(call["operation"].as_str().is_some_and(|name| !name.is_empty()), "{call}");
            assert_eq!(call["result"], "ok", "{record:#}");
        }
    }
    assert!(cached, "the second unwrap is not cached");
}

async fn request_id(bench: Bench) {
    bench.key("orders").await;
    let answer = bench.client.post("/v1/keys/orders/data-keys", &json!({})).await;
    let record = bench.records_of(&answer).remove(0);
    let made = answer.expect_status(200);
    assert_eq!(calls(&record).len(), 1);
    assert_eq!(calls(&record)[0]["request_id"], record["provider_request_id"]);

    let answer = unwrap(&bench.client, &made["wrapped"]).await;
    let expected = json!([{
        "operation": "unwrap_key",
        "request_id": bench.journal().await.last_request_id,
        "result": "ok",
    }]);
    let record = bench.records_of(&answer).remove(0);
    answer.expect_status(200);
    assert_eq!(record["provider_calls"], expected);
}

async fn retried(bench: Bench) {
    bench.key("orders").await;
    let made = data_key(&bench.client, "orders").await;
    bench.plan("unwrap_key", Fault::Unavailable, 1).await;
    let answer = unwrap(&bench.client, &made["wrapped"]).await;
    let record = bench.records_of(&answer).remove(0);
    answer.expect_status(200);
    let results: Vec<_> = calls(&record).iter().map(|call| call["result"].clone()).collect();
    assert_eq!(results, [json!("upstream_unavailable"), json!("ok")]);
    assert_ne!(calls(&record)[0]["request_id"], calls(&record)[1]["request_id"]);

    // A request that fails has its calls too.
    let second = data_key(&bench.client, "orders").await;
    bench.plan("unwrap_key", Fault::Denied, 1).await;
    let answer = unwrap(&bench.client, &second["wrapped"]).await;
    let record = bench.records_of(&answer).remove(0);
    answer.expect_problem(424, "provider_denied");
    assert_eq!(calls(&record).len(), 1);
    assert_eq!(calls(&record)[0]["result"], "provider_denied");
}

async fn batch(bench: Bench) {
    bench.key("orders").await;
    let items: Vec<Value> = [data_key(&bench.client, "orders").await, data_key(&bench.client, "orders").await]
        .iter()
        .map(|made| json!({"wrapped": made["wrapped"]}))
        .collect();
    let answer = bench.client.post("/v1/batch/unwrap", &json!({"items": items})).await;
    let records = bench.records_of(&answer);
    answer.expect_status(200);
    assert_eq!(records.len(), 2);
    let ids: Vec<_> = records
        .iter()
        .map(|record| {
            assert_eq!(calls(record).len(), 1, "{record:#}");
            calls(record)[0]["request_id"].clone()
        })
        .collect();
    assert_ne!(ids[0], ids[1]);
}

async fn background(bench: Bench) {
    let key = bench.key("orders").await;
    bench.plan("rotate", Fault::Later, 1).await;
    if bench.capabilities().await["rotation"] == "new_key" {
        return;
    }
    // The gateway polls the provider until the rotation is finished.
    bench.client.post_empty("/v1/keys/orders/rotate").await.expect_status(202);
    let mut records = Vec::new();
    until("a record of the polling", async || {
        records = bench.records();
        // The version that it learns of has records of its own, without calls.
        records.retain(|record| record["operation"] == "Background" && record.get("provider_calls").is_some());
        !records.is_empty()
    })
    .await;
    let record = &records[0];
    assert_eq!((&record["authn"], &record["tenant"]), (&json!("gateway"), &key["tenant"]));
    assert_eq!((&record["kind"], &record["result"]), (&json!("outcome"), &json!("success")));
    assert!(record["connection"].as_str().is_some_and(|id| id.len() == 32), "{record:#}");
    assert_eq!((record.get("principal"), record.get("request_id")), (None, None));
    let calls = calls(record);
    assert_eq!(calls[0]["operation"], "describe");
    assert!(
        calls[0]["request_id"].as_str().is_some_and(|id| id.starts_with("fake-")),
        "{record:#}"
    );
}
