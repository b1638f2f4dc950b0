//! A wrapped key opens under the very tenant, key and context that it was wrapped under.

use serde_json::{Value, json};

use crate::bench::{Bench, base64, data_key, unwrap};
use crate::{Case, Needs};

pub const CASES: &[Case] = &[
    ("another_context_is_refused", Needs::Keys, |bench| Box::pin(another_context(bench))),
    ("another_key_in_the_path_is_refused", Needs::Keys, |bench| {
        Box::pin(another_key(bench))
    }),
    ("a_blob_of_another_tenant_is_refused", Needs::Keys, |bench| {
        Box::pin(another_tenant(bench))
    }),
    ("every_refusal_reads_the_same", Needs::Keys, |bench| Box::pin(one_message(bench))),
];

async fn another_context(bench: Bench) {
    bench.key("orders").await;
    let context = json!({"table": "orders", "row": "1"});
    let others = [
        json!({"table": "orders", "row": "2"}),
        json!({"table": "orders"}),
        json!({"table": "orders", "row": "1", "more": "x"}),
        json!({"table": "orders", "Row": "1"}),
        json!({"table": "1", "row": "orders"}),
        json!({}),
    ];
    let generated = bench
        .client
        .post("/v1/keys/orders/data-keys", &json!({"context": context}))
        .await
        .expect_status(200);
    let body = json!({"plaintext": base64(b"a password"), "context": context});
    let wrapped = bench.client.post("/v1/keys/orders/wrap", &body).await.expect_status(200);
    for blob in [&generated["wrapped"], &wrapped["wrapped"]] {
        // Before it is in the cache, and while it is.
        for _ in 0..2 {
            for other in &others {
                bench
                    .client
                    .post("/v1/unwrap", &json!({"wrapped": blob, "context": other}))
                    .await
                    .expect_problem(422, "ciphertext_rejected");
            }
            let body = json!({"wrapped": blob, "context": context});
            bench.client.post("/v1/unwrap", &body).await.expect_status(200);
        }
    }
}

async fn another_key(bench: Bench) {
    for key in ["orders", "people"] {
        bench.key(key).await;
    }
    let made = data_key(&bench.client, "orders").await;
    let body = json!({"wrapped": made["wrapped"]});
    for _ in 0..2 {
        bench
            .client
            .post("/v1/keys/people/unwrap", &body)
            .await
            .expect_problem(422, "ciphertext_rejected");
        bench.client.post("/v1/keys/orders/unwrap", &body).await.expect_status(200);
    }
    bench
        .client
        .post("/v1/keys/nobody/unwrap", &body)
        .await
        .expect_problem(404, "not_found");
}

async fn another_tenant(bench: Bench) {
    let other = bench.tenant("rival").await;
    bench.key("orders").await;
    bench.key_of(&other, "orders").await;
    let made = data_key(&bench.client, "orders").await;
    let body = json!({"wrapped": made["wrapped"]});
    unwrap(&bench.client, &made["wrapped"]).await.expect_status(200);
    for path in ["/v1/unwrap", "/v1/keys/orders/unwrap", "/v1/keys/orders/rewrap"] {
        other.post(path, &body).await.expect_problem(422, "ciphertext_rejected");
    }
}

/// No oracle: whatever is wrong with a blob after decoding, the answer is the same but for
/// the request's id.
async fn one_message(bench: Bench) {
    let other = bench.tenant("rival").await;
    for key in ["orders", "people"] {
        bench.key(key).await;
    }
    bench.key_of(&other, "orders").await;
    let made = data_key(&bench.client, "orders").await;
    let foreign = data_key(&other, "orders").await;
    let mut forged = crate::blob::Parts::of(made["wrapped"].as_str().expect("text"));
    forged.commitment[0] ^= 1;
    let sealed = forged.clone().sealed(bench.seal_key().await);
    let mut answers: Vec<Value> = Vec::new();
    for (path, body) in [
        ("/v1/unwrap", json!({"wrapped": made["wrapped"], "context": {"a": "b"}})),
        ("/v1/keys/people/unwrap", json!({"wrapped": made["wrapped"]})),
        ("/v1/unwrap", json!({"wrapped": foreign["wrapped"]})),
        ("/v1/unwrap", json!({"wrapped": forged.text()})),
        ("/v1/unwrap", json!({"wrapped": sealed.text()})),
    ] {
        let mut problem = bench.client.post(path, &body).await.expect_problem(422, "ciphertext_rejected");
        problem["request_id"].take();
        answers.push(problem);
    }
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:#?}");
}
