//! Many callers at once.

use std::collections::BTreeSet;

use claviger_testkit::Fault;
use futures::future::join_all;
use serde_json::json;

use crate::bench::{Bench, data_key, until, unwrap};
use crate::{Case, Needs};

pub const CASES: &[Case] = &[
    ("64_callers_at_once", Needs::Keys, |bench| Box::pin(callers(bench))),
    // It waits until the gateway has 64 requests in hand: those of another case must not count.
    ("64_unwraps_of_one_blob_are_one_provider_call", Needs::FaultsAlone, |bench| {
        Box::pin(single_flight(bench))
    }),
    ("each_waiter_has_its_own_deadline", Needs::Faults, |bench| {
        Box::pin(own_deadlines(bench))
    }),
    ("16_items_of_a_batch_at_once", Needs::Faults, |bench| Box::pin(batch_lanes(bench))),
];

const CALLERS: usize = 64;

async fn callers(bench: Bench) {
    bench.key("orders").await;
    let one = async |at: usize| {
        let context = json!({"caller": at.to_string()});
        let mut seen = Vec::new();
        for _ in 0..3 {
            let body = json!({"context": context});
            let made = bench.client.post("/v1/keys/orders/data-keys", &body).await.expect_status(200);
            let body = json!({"wrapped": made["wrapped"], "context": context});
            let opened = bench.client.post("/v1/unwrap", &body).await.expect_status(200);
            assert_eq!(opened["plaintext"], made["plaintext"]);
            seen.push(made["plaintext"].as_str().expect("text").to_owned());
        }
        seen
    };
    let keys: BTreeSet<String> = join_all((0..CALLERS).map(one)).await.into_iter().flatten().collect();
    assert_eq!(keys.len(), CALLERS * 3, "no data key is made twice");
}

async fn single_flight(bench: Bench) {
    bench.key("orders").await;
    let made = data_key(&bench.client, "orders").await;
    bench.calls().await;
    bench.plan("unwrap_key", Fault::Slow, 0).await;
    let waiting = join_all((0..CALLERS).map(|_| unwrap(&bench.client, &made["wrapped"])));
    let opens = async {
        bench.at_gate(1).await;
        until("64 requests in hand", async || bench.in_hand().await >= CALLERS as u64).await;
        bench.clear().await;
    };
    let (answers, ()) = tokio::join!(waiting, opens);
    assert_eq!(bench.calls().await.of("unwrap_key"), 1);
    let records: Vec<_> = answers
        .iter()
        .map(|answer| {
            let mut records = bench.records_of(answer);
            assert_eq!(records.len(), 1, "each has a record of its own");
            records.remove(0)
        })
        .collect();
    let leaders: Vec<_> = records
        .iter()
        .filter(|record| record["cached"] == false && record["coalesced_with"].is_null())
        .collect();
    assert_eq!(leaders.len(), 1, "one made the call");
    let shared = records
        .iter()
        .filter(|record| record["coalesced_with"] == leaders[0]["request_id"])
        .count();
    // Whoever came only after the call had landed found it in the cache.
    let late = records.iter().filter(|record| record["cached"] == true).count();
    assert_eq!(1 + shared + late, CALLERS);
    assert!(shared > 0);
    for answer in answers {
        assert_eq!(answer.expect_status(200)["plaintext"], made["plaintext"]);
    }
}

async fn own_deadlines(bench: Bench) {
    bench.key("orders").await;
    let made = data_key(&bench.client, "orders").await;
    bench.plan("unwrap_key", Fault::Slow, 0).await;
    let patient = bench.client.clone();
    let hasty = bench.client.clone().with_header("claviger-timeout", "300ms");
    let leader = async {
        // The one with the short deadline makes the call, and what ends it is its own.
        unwrap(&hasty, &made["wrapped"]).await.expect_problem(504, "deadline_exceeded");
        bench.at_gate(1).await;
        bench.clear().await;
    };
    let follower = async {
        bench.at_gate(1).await;
        unwrap(&patient, &made["wrapped"]).await
    };
    let ((), answer) = tokio::join!(leader, follower);
    assert_eq!(answer.expect_status(200)["plaintext"], made["plaintext"]);
}

async fn batch_lanes(bench: Bench) {
    bench.key("orders").await;
    let items = vec![json!({"key": "orders"}); 48];
    let made = bench
        .client
        .post("/v1/batch/data-keys", &json!({"items": items}))
        .await
        .expect_status(200);
    // Named or not, they are items of one connection.
    let items: Vec<_> = (0..48)
        .map(|at| match at % 2 {
            0 => json!({"wrapped": made["items"][at]["wrapped"]}),
            _ => json!({"wrapped": made["items"][at]["wrapped"], "key": "orders"}),
        })
        .collect();
    bench.calls().await;
    bench.plan("unwrap_key", Fault::Slow, 0).await;
    let body = json!({"items": items});
    let batch = bench.client.post("/v1/batch/unwrap", &body);
    let opens = async {
        bench.at_gate(16).await;
        bench.clear().await;
    };
    let (answer, ()) = tokio::join!(batch, opens);
    let opened = answer.expect_status(200);
    for at in 0..48 {
        assert_eq!(opened["items"][at]["plaintext"], made["items"][at]["plaintext"]);
    }
    let calls = bench.calls().await;
    assert_eq!((calls.of("unwrap_key"), calls.most_at_once), (48, 16));
}
