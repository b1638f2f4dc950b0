//! What the owner of a provider key does to it at the provider itself.

use serde_json::{Value, json};

use crate::bench::{Bench, data_key, until, unwrap};
use crate::owner::{rotate, switch_first};
use crate::{Case, Needs};

pub const CASES: &[Case] = &[
    ("a_rotation_is_followed_by_the_next_wrap", Needs::OwnersVersions, |bench| {
        Box::pin(rotated(bench))
    }),
    ("a_rotation_is_wrapped_with_after_a_check", Needs::OwnersVersions, |bench| {
        Box::pin(rotated_and_checked(bench))
    }),
    ("a_version_that_is_disabled_and_enabled_again", Needs::OwnersVersions, |bench| {
        Box::pin(switched(bench))
    }),
];

/// Number and state at the provider of each version.
async fn versions(bench: &Bench) -> Value {
    let versions = bench.client.list("/v1/keys/orders/versions").await;
    let shown = |version: &Value| json!([version["number"], version["provider_state"]]);
    versions.iter().map(shown).collect()
}

async fn rotated(bench: Bench) {
    let key = bench.key("orders").await;
    let old = data_key(&bench.client, "orders").await;
    rotate(&bench, &key).await;
    let new = data_key(&bench.client, "orders").await;
    assert_eq!(new["version"], 2, "the wrap after the rotation");
    // The version was recorded before it was answered.
    let learned = |record: &Value| record["authn"] == "gateway" && record["key"] == key["id"] && !record["change"].is_null();
    let records: Vec<Value> = bench.records().into_iter().filter(learned).collect();
    let kinds: Vec<_> = records.iter().map(|record| (&record["kind"], &record["key_version"])).collect();
    assert_eq!(
        kinds,
        [(&json!("intent"), &Value::Null), (&json!("outcome"), &json!(2))],
        "{records:#?}"
    );
    assert_eq!(versions(&bench).await, json!([[1, "enabled"], [2, "enabled"]]));

    // A rewrap may be the first to meet a version.
    rotate(&bench, &key).await;
    for wrapped in [&old["wrapped"], &new["wrapped"]] {
        let body = json!({"wrapped": wrapped});
        let made = bench.client.post("/v1/keys/orders/rewrap", &body).await.expect_status(200);
        assert_eq!((&made["version"], &made["changed"]), (&json!(3), &json!(true)));
        unwrap(&bench.client, wrapped).await.expect_status(200);
        if made["inside_provider"] == true {
            continue;
        }
        let body = json!({"wrapped": made["wrapped"]});
        let again = bench.client.post("/v1/keys/orders/rewrap", &body).await.expect_status(200);
        assert_eq!((&again["wrapped"], &again["changed"]), (&made["wrapped"], &json!(false)));
    }
}

/// Also of keys that have no primary version at their service, which a wrap alone cannot show.
async fn rotated_and_checked(bench: Bench) {
    let key = bench.key("orders").await;
    let old = data_key(&bench.client, "orders").await;
    rotate(&bench, &key).await;
    let connection = key["connection"].as_str().expect("a connection");
    let check = format!("/v1/connections/{connection}/check");
    bench.client.post_empty(&check).await.expect_status(200);
    assert_eq!(versions(&bench).await, json!([[1, "enabled"], [2, "enabled"]]));
    assert_eq!(data_key(&bench.client, "orders").await["version"], 2);
    let opened = unwrap(&bench.client, &old["wrapped"]).await.expect_status(200);
    assert_eq!(opened["plaintext"], old["plaintext"]);
}

async fn switched(bench: Bench) {
    let key = bench.key("orders").await;
    let old = data_key(&bench.client, "orders").await;
    rotate(&bench, &key).await;
    switch_first(&bench, &key, false).await;
    unwrap(&bench.client, &old["wrapped"]).await.expect_problem(409, "key_state");
    assert_eq!(versions(&bench).await, json!([[1, "disabled"], [2, "enabled"]]));
    assert_eq!(data_key(&bench.client, "orders").await["version"], 2);
    switch_first(&bench, &key, true).await;
    until("the owner's change is noticed", async || {
        unwrap(&bench.client, &old["wrapped"]).await.status == 200
    })
    .await;
    let opened = unwrap(&bench.client, &old["wrapped"]).await.expect_status(200);
    assert_eq!(opened["plaintext"], old["plaintext"]);
    assert_eq!(versions(&bench).await, json!([[1, "enabled"], [2, "enabled"]]));
}
