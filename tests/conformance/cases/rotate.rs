//! Rotation: the new version wraps, the old ones open.

use claviger_testkit::Fault;
use claviger_testkit::control::Request;
use serde_json::{Value, json};

use crate::bench::{Bench, data_key, until, unwrap, wrap};
use crate::{Case, Needs};

pub const CASES: &[Case] = &[
    ("old_versions_still_open", Needs::Keys, |bench| Box::pin(old_versions(bench))),
    ("a_version_made_at_the_provider_gets_its_row_first", Needs::Faults, |bench| {
        Box::pin(at_the_provider(bench))
    }),
    ("a_rotation_that_is_not_finished_is_waited_for", Needs::Faults, |bench| {
        Box::pin(not_finished(bench))
    }),
    ("a_rotation_whose_answer_was_lost_is_made_up_for", Needs::Faults, |bench| {
        Box::pin(lost_answer(bench))
    }),
];

async fn old_versions(bench: Bench) {
    bench.key("orders").await;
    let mut blobs = Vec::new();
    for version in 1..=4 {
        let made = data_key(&bench.client, "orders").await;
        assert_eq!(made["version"], version);
        let bytes = [version; 40];
        blobs.push((json!(version), made["wrapped"].clone(), made["plaintext"].clone()));
        let wrapped = wrap(&bench.client, "orders", &bytes).await;
        blobs.push((json!(version), json!(wrapped), json!(crate::bench::base64(&bytes))));
        for (version, wrapped, plaintext) in &blobs {
            let opened = unwrap(&bench.client, wrapped).await.expect_status(200);
            assert_eq!((&opened["plaintext"], &opened["version"]), (plaintext, version));
        }
        let key = bench.rotate("orders").await.expect_status(200);
        assert_eq!(key["primary_version"], version + 1);
    }
    let versions = bench.client.get("/v1/keys/orders/versions").await.expect_status(200);
    let numbers: Vec<_> = versions["items"]
        .as_array()
        .expect("items")
        .iter()
        .map(|item| item["number"].clone())
        .collect();
    assert_eq!(numbers, [1, 2, 3, 4, 5]);
}

async fn at_the_provider(bench: Bench) {
    let key = bench.key("orders").await;
    let before = data_key(&bench.client, "orders").await;
    let id = key["provider_key"].as_str().expect("a name").to_owned();
    bench.at_provider(&Request::RotateKey { id }).await;
    bench.calls().await;
    let made = data_key(&bench.client, "orders").await;
    assert_eq!(made["version"], 2, "the answer names the version's row");
    assert_eq!(bench.calls().await.of("describe"), 1);
    let key = bench.client.get("/v1/keys/orders").await.expect_status(200);
    assert_eq!(key["primary_version"], 2);
    data_key(&bench.client, "orders").await;
    assert_eq!(bench.calls().await.of("describe"), 0, "it is known now");
    for (blob, version) in [(&before, 1), (&made, 2)] {
        let opened = unwrap(&bench.client, &blob["wrapped"]).await.expect_status(200);
        assert_eq!((&opened["plaintext"], &opened["version"]), (&blob["plaintext"], &json!(version)));
    }
    let rewrapped = bench
        .client
        .post("/v1/keys/orders/rewrap", &json!({"wrapped": before["wrapped"]}))
        .await
        .expect_status(200);
    assert_eq!((&rewrapped["version"], &rewrapped["changed"]), (&json!(2), &json!(true)));
}

async fn not_finished(bench: Bench) {
    bench.key("orders").await;
    let before = data_key(&bench.client, "orders").await;
    bench.plan("rotate", Fault::Later, 1).await;
    if bench.capabilities().await["rotation"] == "new_key" {
        let nonsense = bench.client.post_empty("/v1/keys/orders/rotate").await;
        nonsense.expect_problem(502, "provider_protocol");
        let key = bench.client.get("/v1/keys/orders").await.expect_status(200);
        assert_eq!(key["rotation"]["state"], "idle");
        return;
    }
    // The look before the rotation is answered.
    if bench.entry.provider == "vault" {
        bench.plan("describe", Fault::Later, 1).await;
    }
    // Enough that no question of the gateway's is answered before the end.
    bench.plan("describe", Fault::Denied, 100_000).await;
    let accepted = bench.client.post_empty("/v1/keys/orders/rotate").await.expect_status(202);
    let shown = |key: &Value| (key["primary_version"].clone(), key["rotation"]["state"].clone());
    assert_eq!(shown(&accepted), (json!(1), json!("in_progress")));
    let again = bench.client.post_empty("/v1/keys/orders/rotate").await;
    again.expect_problem(409, "in_progress");
    let read = bench.client.get("/v1/keys/orders").await.expect_status(200);
    assert_eq!(read, accepted);

    bench.clear().await;
    let mut finished = accepted.clone();
    until("the rotation is finished", async || {
        finished = bench.client.get("/v1/keys/orders").await.expect_status(200);
        finished["rotation"]["state"] == "idle"
    })
    .await;
    assert_eq!(shown(&finished), (json!(2), json!("idle")));
    // The request's own record was written when it was accepted: what the gateway does later has its own.
    let of_gateway = |record: &Value| record["authn"] == "gateway" && record["key"] == finished["id"] && !record["change"].is_null();
    let mut records = Vec::new();
    until("the finished rotation is recorded", async || {
        records = bench.records();
        records.retain(of_gateway);
        records.iter().any(|record| record["kind"] == "outcome")
    })
    .await;
    let [intent, outcome] = records.as_slice() else {
        panic!("{records:#?}");
    };
    assert_eq!((&intent["kind"], &intent["change"]["verb"]), (&json!("intent"), &json!("update")));
    assert_eq!(
        (&outcome["intent"], &outcome["result"], &outcome["key_version"]),
        (&intent["sequence"], &json!("success"), &json!(2)),
        "{outcome}"
    );
    assert_ne!(finished["etag"], accepted["etag"]);
    let opened = unwrap(&bench.client, &before["wrapped"]).await.expect_status(200);
    assert_eq!(opened["plaintext"], before["plaintext"]);
    let next = bench.client.post_empty("/v1/keys/orders/rotate").await.expect_status(200);
    assert_eq!(shown(&next), (json!(3), json!("idle")));
}

async fn lost_answer(bench: Bench) {
    bench.key("orders").await;
    let before = data_key(&bench.client, "orders").await;
    bench.plan("rotate", Fault::Reset, 1).await;
    bench
        .client
        .post_empty("/v1/keys/orders/rotate")
        .await
        .expect_problem(503, "provider_unavailable");
    assert_eq!(bench.calls().await.of("rotate"), 1, "a rotation is never repeated");
    let mut key = json!(null);
    if bench.capabilities().await["rotation"] == "new_key" {
        // No question about the old key tells of a new one: the version stays, and it can be
        // rotated again.
        assert_eq!(data_key(&bench.client, "orders").await["version"], 1);
        key = bench.client.post_empty("/v1/keys/orders/rotate").await.expect_status(200);
    } else {
        // Whether the provider did it is not known yet: the gateway finds out, and takes the
        // version.
        until("the rotation is found out", async || {
            key = bench.client.get("/v1/keys/orders").await.expect_status(200);
            key["rotation"]["state"] == "idle"
        })
        .await;
    }
    let primary = key["primary_version"].as_u64().expect("a number");
    assert_eq!(primary, 2, "{key}");
    let made = data_key(&bench.client, "orders").await;
    assert_eq!(made["version"], primary);
    for blob in [&before, &made] {
        let opened = unwrap(&bench.client, &blob["wrapped"]).await.expect_status(200);
        assert_eq!(opened["plaintext"], blob["plaintext"]);
    }
}
