//! Keys and connections that may not be used: here, or at the provider.

use claviger_testkit::control::Request;
use serde_json::{Value, json};

use crate::bench::{Bench, CONNECTION, data_key, until, unwrap};
use crate::{Case, Needs};

pub const CASES: &[Case] = &[
    ("a_disabled_key_does_nothing", Needs::Keys, |bench| Box::pin(disabled(bench))),
    ("a_severed_connection_does_nothing", Needs::Keys, |bench| Box::pin(severed(bench))),
    ("a_key_that_is_missing_at_the_provider", Needs::Faults, |bench| {
        Box::pin(missing(bench))
    }),
    ("a_key_that_is_disabled_at_the_provider", Needs::Faults, |bench| {
        Box::pin(disabled_at_provider(bench))
    }),
    ("a_disable_at_the_provider_takes_every_version", Needs::Faults, |bench| {
        Box::pin(every_version(bench))
    }),
];

/// Every use of the key, with a blob of its own.
fn uses(wrapped: &Value) -> Vec<(&'static str, Value)> {
    vec![
        ("/v1/keys/orders/data-keys", json!({})),
        ("/v1/keys/orders/data-keys", json!({"plaintext": false})),
        ("/v1/keys/orders/wrap", json!({"plaintext": "AA=="})),
        ("/v1/keys/orders/unwrap", json!({"wrapped": wrapped})),
        ("/v1/unwrap", json!({"wrapped": wrapped})),
        ("/v1/keys/orders/rewrap", json!({"wrapped": wrapped})),
        ("/v1/keys/orders/rewrap", json!({"wrapped": wrapped, "to": "people"})),
    ]
}

async fn all_refused(bench: &Bench, wrapped: &Value, status: u16, code: &str) {
    for (path, body) in uses(wrapped) {
        let problem = bench.client.post(path, &body).await;
        assert_eq!(
            (problem.status, &problem.body["code"]),
            (status, &json!(code)),
            "{path} {body}: {}",
            problem.text
        );
        problem.expect_problem(status, code);
    }
}

async fn all_answered(bench: &Bench, wrapped: &Value) {
    for (path, body) in uses(wrapped) {
        bench.client.post(path, &body).await.expect_status(200);
    }
}

async fn disabled(bench: Bench) {
    for key in ["orders", "people"] {
        bench.key(key).await;
    }
    bench.owner_decides(&["orders", "people"], &json!({"allow_export": true})).await;
    let made = data_key(&bench.client, "orders").await;
    let other = data_key(&bench.client, "people").await;
    all_answered(&bench, &made["wrapped"]).await;
    for _ in 0..2 {
        let key = bench.client.post_empty("/v1/keys/orders/disable").await.expect_status(200);
        assert_eq!(key["state"], "disabled");
        all_refused(&bench, &made["wrapped"], 409, "key_disabled").await;
        bench.rotate("orders").await.expect_problem(409, "key_disabled");
    }
    let to_disabled = json!({"wrapped": other["wrapped"], "to": "orders"});
    bench
        .client
        .post("/v1/keys/people/rewrap", &to_disabled)
        .await
        .expect_problem(409, "key_disabled");
    unwrap(&bench.client, &other["wrapped"]).await.expect_status(200);
    for _ in 0..2 {
        let key = bench.client.post_empty("/v1/keys/orders/enable").await.expect_status(200);
        assert_eq!(key["state"], "enabled");
        all_answered(&bench, &made["wrapped"]).await;
    }
}

async fn severed(bench: Bench) {
    for key in ["orders", "people"] {
        bench.key(key).await;
    }
    bench.connection("second").await;
    bench
        .client
        .post("/v1/keys", &bench.new_key_with("elsewhere", json!({"connection": "second"})))
        .await
        .expect_status(201);
    let leave = json!({"allow_export": true});
    bench.owner_decides(&["orders", "people", "elsewhere"], &leave).await;
    let made = data_key(&bench.client, "orders").await;
    let other = data_key(&bench.client, "elsewhere").await;
    all_answered(&bench, &made["wrapped"]).await;
    let (sever, restore) = (
        format!("/v1/connections/{CONNECTION}/sever"),
        format!("/v1/connections/{CONNECTION}/restore"),
    );
    bench.client.post_empty(&sever).await.expect_status(200);
    all_refused(&bench, &made["wrapped"], 409, "connection_severed").await;
    let check = format!("/v1/connections/{CONNECTION}/check");
    for refused in [bench.rotate("orders").await, bench.client.post_empty(&check).await] {
        refused.expect_problem(409, "connection_severed");
    }
    bench
        .client
        .post("/v1/keys", &bench.new_key("new"))
        .await
        .expect_problem(409, "connection_severed");
    for switch in ["enable", "disable"] {
        // A key can be switched here while nothing passes; not at the provider.
        bench
            .client
            .post_empty(&format!("/v1/keys/people/{switch}"))
            .await
            .expect_status(200);
        let path = format!("/v1/keys/people/{switch}");
        let answer = bench.client.post(&path, &json!({"at_provider": true})).await;
        if switch == "disable" {
            assert_eq!(answer.expect_status(200)["at_provider"]["result"], "pending");
        } else {
            answer.expect_problem(409, "connection_severed");
        }
    }
    unwrap(&bench.client, &other["wrapped"]).await.expect_status(200);
    let to_severed = json!({"wrapped": other["wrapped"], "to": "orders"});
    bench
        .client
        .post("/v1/keys/elsewhere/rewrap", &to_severed)
        .await
        .expect_problem(409, "connection_severed");
    // An operator restores no connection to an external key manager.
    bench.limited(&["Restore"]).await.post_empty(&restore).await.expect_status(200);
    bench.client.post_empty("/v1/keys/people/enable").await.expect_status(200);
    let opened = unwrap(&bench.client, &made["wrapped"]).await.expect_status(200);
    assert_eq!((&opened["plaintext"], &opened["cached"]), (&made["plaintext"], &json!(false)));
    all_answered(&bench, &made["wrapped"]).await;
}

async fn missing(bench: Bench) {
    let key = bench.key("orders").await;
    bench.key("people").await;
    let made = data_key(&bench.client, "orders").await;
    let id = key["provider_key"].as_str().expect("a name").to_owned();
    bench.at_provider(&Request::RemoveKey { id }).await;
    all_refused(&bench, &made["wrapped"], 409, "key_state").await;
    data_key(&bench.client, "people").await;
}

async fn disabled_at_provider(bench: Bench) {
    let key = bench.key("orders").await;
    bench.key("people").await;
    let made = data_key(&bench.client, "orders").await;
    let id = key["provider_key"].as_str().expect("a name").to_owned();
    let switch = |enabled| Request::ChangeState { id: id.clone(), enabled };
    bench.at_provider(&switch(false)).await;
    all_refused(&bench, &made["wrapped"], 409, "key_state").await;
    bench.at_provider(&switch(true)).await;
    until("the owner's change is noticed", async || {
        unwrap(&bench.client, &made["wrapped"]).await.status == 200
    })
    .await;
    all_answered(&bench, &made["wrapped"]).await;
    assert_eq!(
        unwrap(&bench.client, &made["wrapped"]).await.expect_status(200)["plaintext"],
        made["plaintext"]
    );
}

async fn every_version(bench: Bench) {
    bench.key("orders").await;
    let mut blobs = Vec::new();
    for _ in 0..3 {
        blobs.push(data_key(&bench.client, "orders").await);
        bench.rotate("orders").await.expect_status(200);
    }
    let everywhere = json!({"at_provider": true});
    bench.client.post("/v1/keys/orders/disable", &everywhere).await.expect_status(200);
    // Here alone it is enabled again: what refuses now is the provider.
    bench.client.post_empty("/v1/keys/orders/enable").await.expect_status(200);
    for blob in &blobs {
        let refused = unwrap(&bench.client, &blob["wrapped"]).await;
        refused.expect_problem(409, "key_state");
    }
    bench.client.post("/v1/keys/orders/enable", &everywhere).await.expect_status(200);
    for blob in &blobs {
        let opened = unwrap(&bench.client, &blob["wrapped"]).await.expect_status(200);
        assert_eq!(opened["plaintext"], blob["plaintext"]);
    }
}
