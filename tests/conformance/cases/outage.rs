//! A provider that does not answer.

use std::time::{Duration, Instant};

use claviger_testkit::Fault;
use claviger_testkit::control::Request;
use serde_json::json;

use crate::bench::{Bench, CONNECTION, data_key, until, unwrap};
use crate::{Case, Needs};

pub const CASES: &[Case] = &[
    ("unavailable_is_repeated_twice_then_503", Needs::Faults, |bench| {
        Box::pin(unavailable(bench))
    }),
    ("a_reset_is_repeated", Needs::Faults, |bench| Box::pin(reset(bench))),
    ("the_circuit_opens_and_closes_again", Needs::Faults, |bench| {
        Box::pin(circuit(bench))
    }),
    ("a_bad_key_stops_no_other", Needs::Faults, |bench| Box::pin(bad_key(bench))),
    ("a_moments_outage_opens_no_circuit", Needs::Faults, |bench| Box::pin(moment(bench))),
    ("a_hang_ends_at_the_deadline", Needs::Faults, |bench| Box::pin(hang(bench))),
    ("a_shorter_deadline_is_honoured", Needs::Faults, |bench| Box::pin(shorter(bench))),
    ("a_hang_is_tried_again_after_its_attempt", Needs::Faults, |bench| {
        Box::pin(one_hang(bench))
    }),
    ("a_batch_holds_its_deadline_too", Needs::Faults, |bench| Box::pin(batch(bench))),
    ("nothing_stale_is_answered", Needs::Faults, |bench| Box::pin(stale(bench))),
];

/// What an answer may take beyond the deadline: the record's sync and this machine.
const MARGIN: Duration = Duration::from_millis(1500);

async fn unavailable(bench: Bench) {
    bench.key("orders").await;
    let made = data_key(&bench.client, "orders").await;
    bench.calls().await;
    bench.plan("unwrap_key", Fault::Unavailable, 2).await;
    unwrap(&bench.client, &made["wrapped"]).await.expect_status(200);
    assert_eq!(bench.calls().await.of("unwrap_key"), 3);

    bench.plan("wrap_key", Fault::Unavailable, 0).await;
    let answer = bench.client.post("/v1/keys/orders/wrap", &json!({"plaintext": "AA=="})).await;
    assert_eq!(answer.header("retry-after"), "1");
    let problem = answer.expect_problem(503, "provider_unavailable");
    assert_eq!(
        (&problem["retryable"], &problem["provider"]),
        (&json!(true), &json!(bench.entry.provider))
    );
    assert_eq!(bench.calls().await.of("wrap_key"), 3);
}

async fn reset(bench: Bench) {
    bench.key("orders").await;
    let made = data_key(&bench.client, "orders").await;
    bench.calls().await;
    bench.plan("unwrap_key", Fault::Reset, 1).await;
    let opened = unwrap(&bench.client, &made["wrapped"]).await.expect_status(200);
    assert_eq!(opened["plaintext"], made["plaintext"]);
    assert_eq!(bench.calls().await.of("unwrap_key"), 2);
}

async fn circuit(bench: Bench) {
    bench.key("orders").await;
    bench.connection("second").await;
    bench
        .client
        .post("/v1/keys", &bench.new_key_with("elsewhere", json!({"connection": "second"})))
        .await
        .expect_status(201);
    let made = data_key(&bench.client, "orders").await;
    let other = data_key(&bench.client, "elsewhere").await;
    bench.calls().await;
    // What keeps calls from the provider is about the connection. Five failures in a row open its
    // circuit, whatever they are for; a call and its retries count once.
    for op in ["unwrap_key", "create_key"] {
        bench.plan(op, Fault::Unreachable, 0).await;
    }
    for at in 0..5 {
        let failed = match at {
            0 | 3 => unwrap(&bench.client, &made["wrapped"]).await,
            _ => bench.client.post("/v1/keys", &bench.new_key(&format!("never-{at}"))).await,
        };
        failed.expect_problem(503, "provider_unavailable");
    }
    let calls = bench.calls().await;
    assert_eq!((calls.of("create_key"), calls.of("unwrap_key")), (3, 6));
    for _ in 0..3 {
        let answer = unwrap(&bench.client, &made["wrapped"]).await;
        let wait: u64 = answer.header("retry-after").parse().expect("a number");
        assert!((1..=5).contains(&wait), "{wait}");
        assert_eq!(answer.expect_problem(503, "circuit_open")["retryable"], true);
    }
    assert_eq!(bench.calls().await.total(), 0, "it is left alone");
    // A check finds out why, so the circuit does not stop it.
    let checked = bench.client.post_empty(&format!("/v1/connections/{CONNECTION}/check")).await;
    assert_eq!(checked.expect_status(200)["reachable"], true);
    assert_eq!(bench.calls().await.of("probe"), 1);
    bench.clear().await;
    // Another connection has a circuit of its own.
    unwrap(&bench.client, &other["wrapped"]).await.expect_status(200);
    until("the circuit closes", async || {
        unwrap(&bench.client, &made["wrapped"]).await.status == 200
    })
    .await;
    data_key(&bench.client, "orders").await;
}

/// What names a key counts for that key: its circuit opens, and nothing else of the connection stops.
async fn bad_key(bench: Bench) {
    let bad = bench.key("bad").await;
    bench.key("good").await;
    let (opens, stays) = (data_key(&bench.client, "bad").await, data_key(&bench.client, "good").await);
    let id = bad["provider_key"].as_str().expect("a provider key").to_owned();
    let broken = |broken| Request::BreakKey { id: id.clone(), broken };
    bench.at_provider(&broken(true)).await;
    bench.calls().await;
    for call in 0..40 {
        let answer = unwrap(&bench.client, &opens["wrapped"]).await;
        // A call and its retries count once.
        let code = if call < 5 { "provider_unavailable" } else { "circuit_open" };
        let problem = answer.expect_problem(503, code);
        assert_eq!(
            call >= 5,
            problem["detail"].as_str().unwrap_or_default().contains("this key"),
            "{problem}"
        );
        unwrap(&bench.client, &stays["wrapped"]).await.expect_status(200);
        data_key(&bench.client, "good").await;
    }
    // Neither is anything stopped that finds out about keys, or mends one.
    let at_provider = json!({"at_provider": true});
    for key in ["good", "bad"] {
        for switch in ["disable", "enable"] {
            let path = format!("/v1/keys/{key}/{switch}");
            let switched = bench.client.post(&path, &at_provider).await.expect_status(200);
            assert_eq!(switched["at_provider"]["result"], "done", "{path}: {switched}");
        }
    }
    bench.client.delete("/v1/keys/bad").await.expect_status(204);
    let body = bench.new_key_with("back", json!({"provider_key": id}));
    bench.client.post("/v1/keys", &body).await.expect_status(201);
    bench.key("new").await;
    // One call at a time finds out whether the key works again.
    bench.at_provider(&broken(false)).await;
    until("the key's circuit closes", async || {
        unwrap(&bench.client, &opens["wrapped"]).await.status == 200
    })
    .await;
    data_key(&bench.client, "back").await;
}

/// Two calls in an outage of a moment are six attempts, and two failures.
async fn moment(bench: Bench) {
    bench.key("orders").await;
    let made = data_key(&bench.client, "orders").await;
    bench.plan("unwrap_key", Fault::Unavailable, 6).await;
    for _ in 0..2 {
        let failed = unwrap(&bench.client, &made["wrapped"]).await;
        failed.expect_problem(503, "provider_unavailable");
    }
    unwrap(&bench.client, &made["wrapped"]).await.expect_status(200);
}

async fn hang(bench: Bench) {
    bench.key("orders").await;
    let made = data_key(&bench.client, "orders").await;
    bench.plan("unwrap_key", Fault::Hang, 0).await;
    let begun = Instant::now();
    let answer = unwrap(&bench.client, &made["wrapped"]).await;
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(10) + MARGIN, "{took:?}");
    let records = bench.records_of(&answer);
    assert_eq!((records.len(), &records[0]["code"]), (1, &json!("deadline_exceeded")));
    let problem = answer.expect_problem(504, "deadline_exceeded");
    assert_eq!(
        (&problem["retryable"], &problem["provider"]),
        (&json!(true), &json!(bench.entry.provider))
    );
}

async fn shorter(bench: Bench) {
    bench.key("orders").await;
    let made = data_key(&bench.client, "orders").await;
    for op in ["unwrap_key", "wrap_key", "rotate"] {
        bench.plan(op, Fault::Hang, 0).await;
    }
    let hasty = bench.client.clone().with_header("claviger-timeout", "500ms");
    for (path, body) in [
        ("/v1/unwrap", json!({"wrapped": made["wrapped"]})),
        ("/v1/keys/orders/wrap", json!({"plaintext": "AA=="})),
        ("/v1/keys/orders/rotate", json!({})),
    ] {
        let begun = Instant::now();
        hasty.post(path, &body).await.expect_problem(504, "deadline_exceeded");
        let took = begun.elapsed();
        assert!(
            (Duration::from_millis(400)..Duration::from_millis(500) + MARGIN).contains(&took),
            "{path}: {took:?}"
        );
    }
}

async fn one_hang(bench: Bench) {
    bench.key("orders").await;
    let made = data_key(&bench.client, "orders").await;
    bench.calls().await;
    bench.plan("unwrap_key", Fault::Hang, 1).await;
    let opened = unwrap(&bench.client, &made["wrapped"]).await.expect_status(200);
    assert_eq!(opened["plaintext"], made["plaintext"]);
    assert_eq!(bench.calls().await.of("unwrap_key"), 2);
}

async fn batch(bench: Bench) {
    bench.key("orders").await;
    let body = json!({"items": vec![json!({"key": "orders"}); 40]});
    let made = bench.client.post("/v1/batch/data-keys", &body).await.expect_status(200);
    bench.plan("unwrap_key", Fault::Hang, 0).await;
    let items: Vec<_> = (0..40).map(|at| json!({"wrapped": made["items"][at]["wrapped"]})).collect();
    let hasty = bench.client.clone().with_header("claviger-timeout", "700ms");
    let begun = Instant::now();
    let answer = hasty.post("/v1/batch/unwrap", &json!({"items": items})).await;
    assert!(begun.elapsed() < Duration::from_millis(700) + MARGIN, "{:?}", begun.elapsed());
    let records = bench.records_of(&answer);
    assert_eq!(records.len(), 40);
    let answer = answer.expect_status(200);
    for at in 0..40 {
        assert_eq!(answer["items"][at]["error"]["code"], "deadline_exceeded");
    }
}

/// While the provider is down, what is in the cache is answered within its age, and nothing
/// beyond it.
async fn stale(bench: Bench) {
    let body = bench.new_key_with("orders", json!({"cache": {"max_age": "1s", "max_idle": "1s"}}));
    bench.client.post("/v1/keys", &body).await.expect_status(201);
    let made = data_key(&bench.client, "orders").await;
    let begun = Instant::now();
    unwrap(&bench.client, &made["wrapped"]).await.expect_status(200);
    bench.plan("unwrap_key", Fault::Unavailable, 0).await;
    let mut last_success = begun;
    until("the entry's age is over", async || {
        let sent = Instant::now();
        let answer = unwrap(&bench.client, &made["wrapped"]).await;
        if answer.status == 200 {
            last_success = sent;
        }
        answer.status != 200
    })
    .await;
    // The entry's age is counted from before the provider was asked.
    assert!(last_success.duration_since(begun) < Duration::from_secs(1) + MARGIN);
}
