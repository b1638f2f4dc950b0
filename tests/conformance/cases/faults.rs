//! A provider that answers wrongly or says no.

use std::time::{Duration, Instant};

use claviger_testkit::Fault;
use serde_json::{Value, json};

use crate::bench::{Bench, data_key, unwrap, wrap};
use crate::{Case, Needs};

pub const CASES: &[Case] = &[
    ("denied_is_424_and_not_repeated", Needs::Faults, |bench| Box::pin(denied(bench))),
    ("throttled_is_repeated_then_429", Needs::Faults, |bench| Box::pin(throttled(bench))),
    ("the_providers_own_pause_is_kept", Needs::Faults, |bench| Box::pin(pause(bench))),
    ("wrong_bytes_do_not_pass_the_commitment", Needs::Faults, |bench| {
        Box::pin(wrong_bytes(bench))
    }),
    ("garbage_is_502", Needs::Faults, |bench| Box::pin(garbage(bench))),
    ("a_generated_key_of_another_length_is_502", Needs::FaultsInside, |bench| {
        Box::pin(wrong_length(bench))
    }),
    ("a_key_that_vanishes_in_the_middle_is_409", Needs::Faults, |bench| {
        Box::pin(vanished(bench))
    }),
    ("making_a_key_fails_as_it_is", Needs::Faults, |bench| Box::pin(making(bench))),
];

async fn denied(bench: Bench) {
    bench.key("orders").await;
    let made = data_key(&bench.client, "orders").await;
    bench.calls().await;
    bench.plan("unwrap_key", Fault::Denied, 0).await;
    let problem = unwrap(&bench.client, &made["wrapped"]).await.expect_problem(424, "provider_denied");
    assert_eq!(
        (&problem["retryable"], &problem["provider"]),
        (&json!(false), &json!(bench.entry.provider))
    );
    assert_eq!(bench.calls().await.of("unwrap_key"), 1);
    // A refusal is not remembered: a right that was granted meanwhile counts at once.
    bench.clear().await;
    unwrap(&bench.client, &made["wrapped"]).await.expect_status(200);
}

async fn throttled(bench: Bench) {
    bench.key("orders").await;
    let made = data_key(&bench.client, "orders").await;
    let throttled = Fault::Throttled { retry_after_ms: None };
    bench.calls().await;
    bench.plan("unwrap_key", throttled, 2).await;
    unwrap(&bench.client, &made["wrapped"]).await.expect_status(200);
    assert_eq!(bench.calls().await.of("unwrap_key"), 3);

    let second = data_key(&bench.client, "orders").await;
    bench.calls().await;
    bench.plan("unwrap_key", throttled, 0).await;
    let answer = unwrap(&bench.client, &second["wrapped"]).await;
    assert_eq!(answer.header("retry-after"), "1");
    let problem = answer.expect_problem(429, "rate_limited");
    assert_eq!(
        (&problem["retryable"], &problem["provider"]),
        (&json!(true), &json!(bench.entry.provider))
    );
    assert_eq!(bench.calls().await.of("unwrap_key"), 3, "at most two repetitions");
}

async fn pause(bench: Bench) {
    bench.key("orders").await;
    let made = data_key(&bench.client, "orders").await;
    let after = |ms| Fault::Throttled { retry_after_ms: Some(ms) };
    bench.plan("unwrap_key", after(400), 1).await;
    let begun = Instant::now();
    unwrap(&bench.client, &made["wrapped"]).await.expect_status(200);
    assert!(begun.elapsed() >= Duration::from_millis(400));

    // Longer than the deadline: it is told at once, with the provider's own number.
    let second = data_key(&bench.client, "orders").await;
    bench.calls().await;
    bench.plan("unwrap_key", after(42_000), 0).await;
    let begun = Instant::now();
    let answer = unwrap(&bench.client, &second["wrapped"]).await;
    assert!(begun.elapsed() < Duration::from_secs(5));
    assert_eq!(answer.header("retry-after"), "42");
    answer.expect_problem(429, "rate_limited");
    assert_eq!(bench.calls().await.of("unwrap_key"), 1);
}

async fn wrong_bytes(bench: Bench) {
    bench.key("orders").await;
    for fault in [Fault::WrongBytes, Fault::WrongLength] {
        let made = data_key(&bench.client, "orders").await;
        let wrapped = wrap(&bench.client, "orders", b"some bytes").await;
        bench.plan("unwrap_key", fault, 0).await;
        for blob in [&made["wrapped"], &json!(wrapped)] {
            unwrap(&bench.client, blob).await.expect_problem(422, "ciphertext_rejected");
            let body = json!({"wrapped": blob});
            if !bench.entry.inside {
                bench
                    .client
                    .post("/v1/keys/orders/rewrap", &body)
                    .await
                    .expect_problem(422, "ciphertext_rejected");
            }
        }
        bench.clear().await;
    }
}

async fn garbage(bench: Bench) {
    bench.key("orders").await;
    let made = data_key(&bench.client, "orders").await;
    let generate = if bench.entry.inside { "generate_data_key" } else { "wrap_key" };
    let calls: [(&str, &str, Value); 3] = [
        ("unwrap_key", "/v1/unwrap", json!({"wrapped": made["wrapped"]})),
        ("wrap_key", "/v1/keys/orders/wrap", json!({"plaintext": "AA=="})),
        (generate, "/v1/keys/orders/data-keys", json!({})),
    ];
    for (op, path, body) in calls {
        bench.calls().await;
        bench.plan(op, Fault::Garbage, 1).await;
        let problem = bench.client.post(path, &body).await.expect_problem(502, "provider_protocol");
        assert_eq!(problem["retryable"], false);
        let advice = problem["what_to_do"].as_str().unwrap_or_default();
        assert!(advice.contains("log") && advice.contains("request id"), "{problem}");
        assert_eq!(
            bench.calls().await.of(op),
            1,
            "an answer that makes no sense is not asked for again"
        );
        bench.client.post(path, &body).await.expect_status(200);
    }
}

async fn wrong_length(bench: Bench) {
    bench.key("orders").await;
    bench.plan("generate_data_key", Fault::WrongLength, 2).await;
    for plaintext in [true, false] {
        bench
            .client
            .post("/v1/keys/orders/data-keys", &json!({"plaintext": plaintext}))
            .await
            .expect_problem(502, "provider_protocol");
    }
    data_key(&bench.client, "orders").await;
}

async fn vanished(bench: Bench) {
    bench.key("orders").await;
    let made = data_key(&bench.client, "orders").await;
    for (fault, code) in [(Fault::KeyMissing, "key_state"), (Fault::KeyDisabled, "key_state")] {
        // The first refusal has the key described, and the call made once more.
        bench.plan("unwrap_key", fault, 2).await;
        unwrap(&bench.client, &made["wrapped"]).await.expect_problem(409, code);
        bench.clear().await;
    }
    unwrap(&bench.client, &made["wrapped"]).await.expect_status(200);
}

async fn making(bench: Bench) {
    let body = bench.new_key("orders");
    for (fault, status, code) in [
        (Fault::Denied, 424, "provider_denied"),
        (Fault::Unavailable, 503, "provider_unavailable"),
        (Fault::Garbage, 502, "provider_protocol"),
        (Fault::Reset, 503, "provider_unavailable"),
    ] {
        bench.plan("create_key", fault, 1).await;
        bench.calls().await;
        bench.client.post("/v1/keys", &body).await.expect_problem(status, code);
        assert_eq!(bench.calls().await.of("create_key"), 1, "making a key is never repeated");
        bench.client.get("/v1/keys/orders").await.expect_problem(404, "not_found");
    }
    bench.client.post("/v1/keys", &body).await.expect_status(201);
    data_key(&bench.client, "orders").await;
}
