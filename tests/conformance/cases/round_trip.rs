//! What was wrapped comes back, byte for byte.

use serde_json::json;

use crate::bench::{Bench, base64, bytes, unwrap};
use crate::{Case, Needs};

pub const CASES: &[Case] = &[
    ("data_keys_of_every_length", Needs::Keys, |bench| Box::pin(data_keys(bench))),
    ("wrapped_bytes_of_every_size", Needs::Keys, |bench| Box::pin(wrapped(bench))),
    ("a_data_key_without_plaintext", Needs::Keys, |bench| {
        Box::pin(without_plaintext(bench))
    }),
    ("batches_answer_in_order", Needs::Keys, |bench| Box::pin(batches(bench))),
];

async fn data_keys(bench: Bench) {
    bench.key("orders").await;
    for length in [16, 24, 32, 48, 64] {
        for context in [json!({}), json!({"table": "orders", "row": "π"})] {
            let body = json!({"bytes": length, "context": context});
            let made = bench.client.post("/v1/keys/orders/data-keys", &body).await.expect_status(200);
            assert_eq!((&made["key"], &made["version"]), (&json!("orders"), &json!(1)));
            assert_eq!(bytes(&made["plaintext"]).len(), length);
            let body = json!({"wrapped": made["wrapped"], "context": context});
            for path in ["/v1/keys/orders/unwrap", "/v1/unwrap"] {
                let opened = bench.client.post(path, &body).await.expect_status(200);
                assert_eq!(opened["plaintext"], made["plaintext"]);
                assert_eq!((&opened["key"], &opened["version"]), (&json!("orders"), &json!(1)));
            }
        }
    }
    for length in [0, 15, 33, 128] {
        bench
            .client
            .post("/v1/keys/orders/data-keys", &json!({"bytes": length}))
            .await
            .expect_problem(400, "invalid_request");
    }
}

async fn wrapped(bench: Bench) {
    bench.key("orders").await;
    for size in [1, 31, 32, 48, 49, 4096] {
        let plaintext: Vec<u8> = (0..size).map(|at| (at % 251) as u8).collect();
        let body = json!({"plaintext": base64(&plaintext), "context": {"size": size.to_string()}});
        let made = bench.client.post("/v1/keys/orders/wrap", &body).await.expect_status(200);
        let again = bench.client.post("/v1/keys/orders/wrap", &body).await.expect_status(200);
        assert_ne!(made["wrapped"], again["wrapped"]);
        let body = json!({"wrapped": made["wrapped"], "context": {"size": size.to_string()}});
        let opened = bench.client.post("/v1/unwrap", &body).await.expect_status(200);
        assert_eq!(bytes(&opened["plaintext"]), plaintext);
    }
    for size in [0, 4097] {
        let body = json!({"plaintext": base64(&vec![7; size])});
        bench
            .client
            .post("/v1/keys/orders/wrap", &body)
            .await
            .expect_problem(400, "invalid_request");
    }
}

async fn without_plaintext(bench: Bench) {
    bench.key("orders").await;
    let body = json!({"bytes": 48, "plaintext": false});
    let answer = bench.client.post("/v1/keys/orders/data-keys", &body).await;
    let records = bench.records_of(&answer);
    assert_eq!(records.len(), 1);
    assert_eq!(records[0]["operation"], "GenerateDataKeyWithoutPlaintext");
    let made = answer.expect_status(200);
    assert!(made.get("plaintext").is_none(), "{made}");
    let opened = unwrap(&bench.client, &made["wrapped"]).await.expect_status(200);
    assert_eq!(bytes(&opened["plaintext"]).len(), 48);
}

async fn batches(bench: Bench) {
    for key in ["orders", "people"] {
        bench.key(key).await;
    }
    let name = |at: usize| if at.is_multiple_of(3) { "people" } else { "orders" };
    let items: Vec<_> = (0..40)
        .map(|at| match at {
            7 => json!({"key": "nobody", "bytes": 32}),
            _ => json!({"key": name(at), "context": {"at": at.to_string()}}),
        })
        .collect();
    let made = bench
        .client
        .post("/v1/batch/data-keys", &json!({"items": items}))
        .await
        .expect_status(200);
    assert_eq!(made["items"][7]["error"]["code"], "not_found");
    let keep = |at: &usize| *at != 7;
    let items: Vec<_> = (0..40)
        .filter(keep)
        .map(|at| json!({"wrapped": made["items"][at]["wrapped"], "context": {"at": at.to_string()}}))
        .collect();
    let answer = bench.client.post("/v1/batch/unwrap", &json!({"items": items})).await;
    let records = bench.records_of(&answer);
    let opened = answer.expect_status(200);
    for (place, at) in (0..40).filter(keep).enumerate() {
        let item = &opened["items"][place];
        assert_eq!(
            (&item["plaintext"], &item["key"]),
            (&made["items"][at]["plaintext"], &json!(name(at)))
        );
        let place_of_record = item["audit_index"].as_str().expect("an index");
        let record = records.iter().find(|record| record["item"] == place).expect("a record of the item");
        assert!(place_of_record.ends_with(&format!("#{}", record["sequence"])));
    }
    assert_eq!(records.len(), 39);
}
