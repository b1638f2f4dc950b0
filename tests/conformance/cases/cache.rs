//! The cache as it is seen from outside: it saves the provider call and nothing else.

use serde_json::{Value, json};

use crate::bench::{Bench, CONNECTION, data_key, unwrap, wrap};
use crate::{Case, Needs};

pub const CASES: &[Case] = &[
    ("a_cut_empties_it_and_what_follows_asks_the_provider", Needs::Keys, |bench| {
        Box::pin(cuts(bench))
    }),
    ("only_unwrap_fills_and_reads_it", Needs::Faults, |bench| {
        Box::pin(only_unwrap(bench))
    }),
    ("a_key_whose_cache_is_off_asks_each_time", Needs::Keys, |bench| Box::pin(off(bench))),
    ("uses_are_counted", Needs::Keys, |bench| Box::pin(uses(bench))),
];

async fn cached(bench: &Bench, made: &Value) -> bool {
    let answer = unwrap(&bench.client, &made["wrapped"]).await;
    let records = bench.records_of(&answer);
    let opened = answer.expect_status(200);
    assert_eq!(opened["plaintext"], made["plaintext"]);
    assert_eq!(
        (records.len(), &records[0]["cached"]),
        (1, &opened["cached"]),
        "each hit is recorded"
    );
    opened["cached"].as_bool().expect("a boolean")
}

async fn calls(bench: &Bench) -> u64 {
    bench.calls().await.of("unwrap_key")
}

/// Has the owner of a key in external custody turn its cache on, with these settings. It is on elsewhere.
async fn turn_on(bench: &Bench, mut cache: Value) {
    cache["enabled"] = json!(true);
    bench.owner_decides(&["orders"], &json!({"cache": cache})).await;
}

async fn cuts(bench: Bench) {
    bench.key("orders").await;
    turn_on(&bench, json!({})).await;
    // An operator restores no connection to an external key manager.
    let owner = bench.limited(&["Restore", "Enable"]).await;
    let made = data_key(&bench.client, "orders").await;
    let connection = format!("/v1/connections/{CONNECTION}");
    for (cut, undo) in [
        ("/v1/keys/orders/disable".to_owned(), "/v1/keys/orders/enable".to_owned()),
        (format!("{connection}/sever"), format!("{connection}/restore")),
    ] {
        for expected in [false, true, true] {
            assert_eq!(cached(&bench, &made).await, expected);
        }
        if bench.has_journal() {
            assert_eq!(calls(&bench).await, 1);
        }
        bench.client.post_empty(&cut).await.expect_status(200);
        assert_eq!(unwrap(&bench.client, &made["wrapped"]).await.status, 409);
        owner.post_empty(&undo).await.expect_status(200);
        if bench.has_journal() {
            assert_eq!(calls(&bench).await, 0, "nothing is loaded ahead");
        }
    }
    assert!(!cached(&bench, &made).await);
}

async fn only_unwrap(bench: Bench) {
    bench.key("orders").await;
    let made = data_key(&bench.client, "orders").await;
    assert!(!cached(&bench, &made).await, "what was just made is not in it");
    assert!(cached(&bench, &made).await);
    bench.calls().await;
    let body = json!({"wrapped": made["wrapped"]});
    bench.client.post("/v1/keys/orders/rewrap", &body).await.expect_status(200);
    assert!(bench.calls().await.total() > 0, "rewrap asks the provider");
    let wrapped = wrap(&bench.client, "orders", b"something").await;
    let rewrapped = bench
        .client
        .post("/v1/keys/orders/rewrap", &json!({"wrapped": wrapped}))
        .await
        .expect_status(200);
    let opened = unwrap(&bench.client, &rewrapped["wrapped"]).await.expect_status(200);
    assert_eq!(opened["cached"], false, "neither wrap nor rewrap fills it");
}

async fn off(bench: Bench) {
    let body = bench.new_key_with("orders", json!({"cache": {"enabled": false}}));
    bench.client.post("/v1/keys", &body).await.expect_status(201);
    let made = data_key(&bench.client, "orders").await;
    for _ in 0..3 {
        assert!(!cached(&bench, &made).await);
    }
    if bench.has_journal() {
        assert_eq!(calls(&bench).await, 3);
    }
}

async fn uses(bench: Bench) {
    let twice = json!({"max_uses": 2});
    let body = bench.new_key_with("orders", json!({"cache": twice}));
    bench.client.post("/v1/keys", &body).await.expect_status(201);
    turn_on(&bench, twice).await;
    let made = data_key(&bench.client, "orders").await;
    for expected in [false, true, true, false, true, true, false] {
        assert_eq!(cached(&bench, &made).await, expected);
    }
}
