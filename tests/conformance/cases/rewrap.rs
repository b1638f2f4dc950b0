//! Rewrap: under the primary version of the same key, or under another key.

use serde_json::{Value, json};

use crate::bench::{Bench, base64, data_key, unwrap, wrap};
use crate::blob::Parts;
use crate::{Case, Needs};

pub const CASES: &[Case] = &[
    ("same_key_keeps_the_data_key", Needs::Keys, |bench| Box::pin(same_key(bench))),
    ("another_key_makes_a_fresh_one", Needs::Keys, |bench| Box::pin(another_key(bench))),
    ("what_is_current_stays_as_it_is", Needs::Keys, |bench| Box::pin(current(bench))),
    ("an_unsealed_source_needs_leave_and_is_sealed", Needs::Keys, |bench| {
        Box::pin(unsealed(bench))
    }),
    ("a_wrong_source_is_refused", Needs::Keys, |bench| Box::pin(wrong_source(bench))),
    ("a_context_and_a_batch", Needs::Keys, |bench| Box::pin(batch(bench))),
];

/// One blob of each suite, with its plaintext.
async fn both_suites(bench: &Bench, key: &str) -> [(Value, Value); 2] {
    let made = data_key(&bench.client, key).await;
    let wrapped = wrap(&bench.client, key, b"a password of some length").await;
    [
        (made["wrapped"].clone(), made["plaintext"].clone()),
        (json!(wrapped), json!(base64(b"a password of some length"))),
    ]
}

async fn inspect(bench: &Bench, wrapped: &Value) -> Value {
    bench
        .client
        .post("/v1/inspect", &json!({"wrapped": wrapped}))
        .await
        .expect_status(200)
}

async fn same_key(bench: Bench) {
    bench.key("orders").await;
    let blobs = both_suites(&bench, "orders").await;
    bench.rotate("orders").await.expect_status(200);
    for (wrapped, plaintext) in blobs {
        let answer = bench.client.post("/v1/keys/orders/rewrap", &json!({"wrapped": wrapped})).await;
        let records = bench.records_of(&answer);
        let made = answer.expect_status(200);
        assert_eq!(
            (&made["key"], &made["version"], &made["changed"]),
            (&json!("orders"), &json!(2), &json!(true))
        );
        let (before, after) = (inspect(&bench, &wrapped).await, inspect(&bench, &made["wrapped"]).await);
        for member in ["dek_id", "suite", "created", "key_id", "plaintext_length"] {
            assert_eq!(before[member], after[member], "{member}");
        }
        assert_eq!((&after["sealed"], &after["recipients"][0]["version"]), (&json!(true), &json!(2)));
        for blob in [&wrapped, &made["wrapped"]] {
            assert_eq!(unwrap(&bench.client, blob).await.expect_status(200)["plaintext"], plaintext);
        }
        let rewrap = &records[0]["rewrap"];
        assert_eq!(
            (&rewrap["source"]["key_version"], &rewrap["target"]["key_version"]),
            (&json!(1), &json!(2))
        );
        assert_eq!(rewrap["source"]["dek_id"], rewrap["target"]["dek_id"]);
    }
}

async fn another_key(bench: Bench) {
    for key in ["orders", "people"] {
        bench.key(key).await;
    }
    for (wrapped, plaintext) in both_suites(&bench, "orders").await {
        let body = json!({"wrapped": wrapped, "to": "people"});
        let answer = bench.client.post("/v1/keys/orders/rewrap", &body).await;
        let records = bench.records_of(&answer);
        let made = answer.expect_status(200);
        assert_eq!(
            (&made["key"], &made["changed"], &made["inside_provider"]),
            (&json!("people"), &json!(true), &json!(false))
        );
        let (before, after) = (inspect(&bench, &wrapped).await, inspect(&bench, &made["wrapped"]).await);
        assert_ne!(before["dek_id"], after["dek_id"]);
        assert_eq!((&before["suite"], &after["key"]), (&after["suite"], &json!("people")));
        let opened = bench
            .client
            .post("/v1/keys/people/unwrap", &json!({"wrapped": made["wrapped"]}))
            .await
            .expect_status(200);
        assert_eq!(opened["plaintext"], plaintext);
        let rewrap = &records[0]["rewrap"];
        assert_ne!(rewrap["source"]["key"], rewrap["target"]["key"]);
        assert_eq!(
            (&rewrap["source"]["dek_id"], &rewrap["target"]["dek_id"]),
            (&before["dek_id"], &after["dek_id"])
        );
    }
}

async fn current(bench: Bench) {
    bench.key("orders").await;
    for (wrapped, plaintext) in both_suites(&bench, "orders").await {
        let made = bench
            .client
            .post("/v1/keys/orders/rewrap", &json!({"wrapped": wrapped}))
            .await
            .expect_status(200);
        if made["inside_provider"] == true {
            // It cannot be seen from outside whether the provider's version is the same.
            assert_eq!(made["changed"], true);
        } else {
            assert_eq!((&made["changed"], &made["wrapped"]), (&json!(false), &wrapped));
        }
        assert_eq!(
            unwrap(&bench.client, &made["wrapped"]).await.expect_status(200)["plaintext"],
            plaintext
        );
    }
}

async fn unsealed(bench: Bench) {
    for key in ["orders", "people"] {
        bench.key(key).await;
    }
    let plain = bench.limited(&["Rewrap", "RewrapFrom", "RewrapTo"]).await;
    let trusted = bench.limited(&["Rewrap", "RewrapFrom", "RewrapTo", "UnwrapUnsealed"]).await;
    let reader = bench.limited(&["Unwrap"]).await;
    for (wrapped, plaintext) in both_suites(&bench, "orders").await {
        let source = Parts::of(wrapped.as_str().expect("text")).unsealed().text();
        for to in ["orders", "people"] {
            let body = json!({"wrapped": source, "to": to});
            plain
                .post("/v1/keys/orders/rewrap", &body)
                .await
                .expect_problem(403, "permission_denied");
            let answer = trusted.post("/v1/keys/orders/rewrap", &body).await;
            let records = bench.records_of(&answer);
            assert_eq!(records[0]["operation"], "UnwrapUnsealed");
            let made = answer.expect_status(200);
            assert_eq!((&made["changed"], &made["inside_provider"]), (&json!(true), &json!(false)));
            assert_eq!(inspect(&bench, &made["wrapped"]).await["sealed"], true);
            let opened = unwrap(&reader, &made["wrapped"]).await.expect_status(200);
            assert_eq!((&opened["plaintext"], &opened["key"]), (&plaintext, &json!(to)));
        }
    }
}

async fn wrong_source(bench: Bench) {
    for key in ["orders", "people"] {
        bench.key(key).await;
    }
    bench.rotate("orders").await.expect_status(200);
    let seal_key = bench.seal_key().await;
    for (wrapped, _) in both_suites(&bench, "orders").await {
        let mut parts = Parts::of(wrapped.as_str().expect("text"));
        parts.commitment[31] ^= 1;
        // Sealed anew it may go inside a provider, which does not know the commitment; but
        // what comes out of there opens as little as what went in.
        let inside = bench.entry.inside;
        for (text, to, sealed) in [
            (parts.clone().text(), "orders", false),
            (parts.clone().unsealed().text(), "orders", false),
            (parts.clone().unsealed().text(), "people", false),
            (parts.clone().sealed(seal_key).text(), "orders", true),
            (parts.sealed(seal_key).text(), "people", false),
        ] {
            let body = json!({"wrapped": text, "to": to});
            let answer = bench.client.post("/v1/keys/orders/rewrap", &body).await;
            if sealed && inside {
                let made = answer.expect_status(200);
                unwrap(&bench.client, &made["wrapped"])
                    .await
                    .expect_problem(422, "ciphertext_rejected");
            } else {
                answer.expect_problem(422, "ciphertext_rejected");
            }
        }
        for to in ["orders", "people"] {
            let body = json!({"wrapped": wrapped, "to": to, "context": {"not": "this"}});
            bench
                .client
                .post("/v1/keys/orders/rewrap", &body)
                .await
                .expect_problem(422, "ciphertext_rejected");
            let body = json!({"wrapped": wrapped, "to": to});
            let answer = bench.client.post("/v1/keys/people/rewrap", &body).await;
            answer.expect_problem(422, "ciphertext_rejected");
        }
    }
}

async fn batch(bench: Bench) {
    for key in ["orders", "people"] {
        bench.key(key).await;
    }
    let context = json!({"table": "orders"});
    let body = json!({"items": vec![json!({"key": "orders", "context": context}); 20]});
    let made = bench.client.post("/v1/batch/data-keys", &body).await.expect_status(200);
    let items: Vec<_> = (0..20)
        .map(|at| {
            let to = if at % 2 == 0 { "people" } else { "orders" };
            json!({"key": "orders", "to": to, "wrapped": made["items"][at]["wrapped"], "context": context})
        })
        .collect();
    let rewrapped = bench
        .client
        .post("/v1/batch/rewrap", &json!({"items": items}))
        .await
        .expect_status(200);
    for at in 0..20 {
        let body = json!({"wrapped": rewrapped["items"][at]["wrapped"], "context": context});
        let opened = bench.client.post("/v1/unwrap", &body).await.expect_status(200);
        assert_eq!(opened["plaintext"], made["items"][at]["plaintext"]);
        assert_eq!(opened["key"], if at % 2 == 0 { "people" } else { "orders" });
    }
}
