//! What a connection says that it can do is what happens.

use serde_json::{Value, json};

use crate::bench::{Bench, CONNECTION, data_key, unwrap};
use crate::{Case, Needs};

pub const CASES: &[Case] = &[
    ("specifications", Needs::Keys, |bench| Box::pin(specs(bench))),
    ("where_it_happens", Needs::Keys, |bench| Box::pin(places(bench))),
    ("rotation", Needs::Keys, |bench| Box::pin(rotation(bench))),
    ("state_at_the_provider", Needs::Keys, |bench| Box::pin(set_state(bench))),
    ("context_as_the_provider_sees_it", Needs::Keys, |bench| Box::pin(context(bench))),
];

async fn declared(bench: &Bench) -> Value {
    let path = format!("/v1/connections/{CONNECTION}/capabilities");
    bench.client.get(&path).await.expect_status(200)
}

async fn specs(bench: Bench) {
    let can = declared(&bench).await;
    let keys = can["keys"].as_array().expect("a list");
    for spec in ["aes-256", "rsa-3072", "rsa-4096"] {
        let body = json!({"name": spec, "connection": CONNECTION, "spec": spec});
        let answer = bench.client.post("/v1/keys", &body).await;
        if keys.iter().any(|keys| keys["spec"] == spec) && can["create_key"] == true {
            assert_eq!(answer.expect_status(201)["spec"], spec);
            let made = data_key(&bench.client, spec).await;
            unwrap(&bench.client, &made["wrapped"]).await.expect_status(200);
        } else {
            answer.expect_problem(501, "unsupported");
        }
    }
}

async fn places(bench: Bench) {
    let can = bench.capabilities().await;
    bench.key("orders").await;
    if bench.has_journal() {
        bench.calls().await;
    }
    let inside = can["generate_data_key"] == "inside_provider";
    let answer = bench.client.post("/v1/keys/orders/data-keys", &json!({})).await;
    let records = bench.records_of(&answer);
    assert_eq!(records[0]["inside_provider"], inside);
    let made = answer.expect_status(200);
    if bench.has_journal() {
        let op = if inside { "generate_data_key" } else { "wrap_key" };
        let calls = bench.calls().await;
        assert_eq!((calls.of(op), calls.total()), (1, 1));
    }
    // Not every emulator rotates. A rewrap does the same without.
    bench.rotate("orders").await;
    if bench.has_journal() {
        bench.calls().await;
    }
    let inside = can["rewrap"] == "inside_provider";
    let body = json!({"wrapped": made["wrapped"]});
    let answer = bench.client.post("/v1/keys/orders/rewrap", &body).await;
    let records = bench.records_of(&answer);
    assert_eq!(answer.expect_status(200)["inside_provider"], inside);
    assert_eq!(records[0]["inside_provider"], inside);
    if bench.has_journal() {
        let calls = bench.calls().await;
        let expected = if inside { (1, 0, 0) } else { (0, 1, 1) };
        assert_eq!((calls.of("rewrap_key"), calls.of("unwrap_key"), calls.of("wrap_key")), expected);
    }
}

async fn rotation(bench: Bench) {
    let can = bench.capabilities().await;
    bench.key("orders").await;
    let answer = bench.client.post_empty("/v1/keys/orders/rotate").await;
    let Some(how) = can["rotation"].as_str() else {
        answer.expect_problem(501, "unsupported");
        return;
    };
    let key = answer.expect_status(200);
    let versions = bench.client.get("/v1/keys/orders/versions").await.expect_status(200);
    let (first, second) = (&versions["items"][0], &versions["items"][1]);
    let same = first["provider_key"] == second["provider_key"];
    let named = !first["provider_version"].is_null();
    match how {
        "in_place" => assert!(same && named, "{versions}"),
        "in_place_unnamed" => assert!(same && !named, "{versions}"),
        "new_key" => assert!(!same, "{versions}"),
        other => panic!("a rotation that the contract does not name: {other}"),
    }
    assert_eq!(key["provider_key"], second["provider_key"]);
}

async fn set_state(bench: Bench) {
    let can = declared(&bench).await;
    bench.key("orders").await;
    let made = data_key(&bench.client, "orders").await;
    for (switch, state) in [("disable", "disabled"), ("enable", "enabled")] {
        let path = format!("/v1/keys/orders/{switch}");
        let answer = bench.client.post(&path, &json!({"at_provider": true})).await;
        if can["set_state"] == true {
            let key = answer.expect_status(200);
            let told = (&key["state"], &key["at_provider"]["result"]);
            assert_eq!(told, (&json!(state), &json!("done")), "{}", key["at_provider"]["detail"]);
            if switch == "disable" {
                // Enabled here alone, the provider goes on refusing.
                bench.client.post_empty("/v1/keys/orders/enable").await.expect_status(200);
                unwrap(&bench.client, &made["wrapped"]).await.expect_problem(409, "key_state");
            }
        } else {
            let key = answer.expect_status(200);
            assert_eq!(
                (&key["state"], &key["at_provider"]["result"]),
                (&json!(state), &json!("unsupported"))
            );
        }
    }
    bench.client.post_empty("/v1/keys/orders/enable").await.expect_status(200);
    unwrap(&bench.client, &made["wrapped"]).await.expect_status(200);
}

async fn context(bench: Bench) {
    let can = bench.capabilities().await;
    bench.key("orders").await;
    let made = data_key(&bench.client, "orders").await;
    let shown = bench
        .client
        .post("/v1/inspect", &json!({"wrapped": made["wrapped"]}))
        .await
        .expect_status(200);
    let sees = match can["context"].as_str() {
        Some("pairs") => "pairs",
        Some("associated_data") => "associated_data",
        Some("commitment_only") => "nothing",
        other => panic!("a binding that the contract does not name: {other:?}"),
    };
    assert_eq!(shown["recipients"][0]["provider_sees"], sees);
}
