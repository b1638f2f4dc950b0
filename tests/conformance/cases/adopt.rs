//! One provider key stands behind one logical key, and comes back under its own id.

use claviger_testkit::control::Request;
use serde_json::{Value, json};

use crate::bench::{Bench, data_key, unwrap, with};
use crate::{Case, Needs};

pub const CASES: &[Case] = &[
    ("a_detached_key_comes_back_and_opens_its_blobs", Needs::Keys, |bench| {
        Box::pin(readopted(bench))
    }),
    ("a_provider_key_that_is_held_is_taken", Needs::Keys, |bench| Box::pin(held(bench))),
    ("another_tenant_s_provider_key_is_not_told", Needs::Keys, |bench| {
        Box::pin(held_elsewhere(bench))
    }),
    ("a_key_made_at_the_provider_is_adopted", Needs::Faults, |bench| {
        Box::pin(foreign(bench))
    }),
];

fn adopt(bench: &Bench, name: &str, provider_key: &Value) -> Value {
    bench.new_key_with(name, json!({"provider_key": provider_key}))
}

async fn readopted(bench: Bench) {
    let key = bench.key("orders").await;
    let mut blobs = vec![data_key(&bench.client, "orders").await];
    bench.rotate("orders").await.expect_status(200);
    blobs.push(data_key(&bench.client, "orders").await);
    for blob in &blobs {
        unwrap(&bench.client, &blob["wrapped"]).await.expect_status(200);
    }
    let now = bench.client.get("/v1/keys/orders").await.expect_status(200);
    for round in 0..2 {
        bench.client.delete("/v1/keys/orders").await.expect_status(204);
        bench.client.get("/v1/keys/orders").await.expect_problem(404, "not_found");
        for blob in &blobs {
            unwrap(&bench.client, &blob["wrapped"])
                .await
                .expect_problem(422, "ciphertext_rejected");
        }
        // What brings it back is told, and is taken as it is.
        let listed = bench.client.get("/v1/keys?state=detached").await.expect_status(200);
        let found = listed["items"]
            .as_array()
            .expect("a list")
            .iter()
            .find(|found| found["id"] == key["id"]);
        let mut body = found.expect("the detached key")["reattach"].clone();
        let told = json!({"wrapped": blobs[round]["wrapped"]});
        let told = bench.client.post("/v1/inspect", &told).await.expect_status(200);
        assert_eq!(told["reattach"], body);
        // Under the id that it had, told or not; and under no other.
        let with_id = |id: &Value| with(body.clone(), json!({"id": id}));
        let other = with_id(&json!("00000000000000000000000000000001"));
        bench
            .client
            .post("/v1/keys", &other)
            .await
            .expect_problem(409, "provider_key_taken");
        if round == 1 {
            body = with_id(&key["id"]);
        }
        let again = bench.client.post("/v1/keys", &body).await.expect_status(201);
        assert_eq!(again["id"], key["id"]);
        for blob in &blobs {
            let opened = unwrap(&bench.client, &blob["wrapped"]).await.expect_status(200);
            assert_eq!(
                (&opened["plaintext"], &opened["version"], &opened["cached"]),
                (&blob["plaintext"], &blob["version"], &json!(false))
            );
        }
        let made = data_key(&bench.client, "orders").await;
        assert_eq!(made["version"], now["primary_version"]);
    }
}

async fn held(bench: Bench) {
    let key = bench.key("orders").await;
    let body = adopt(&bench, "copy", &key["provider_key"]);
    bench.client.post("/v1/keys", &body).await.expect_problem(409, "provider_key_taken");
    bench.rotate("orders").await.expect_status(200);
    bench.client.post("/v1/keys", &body).await.expect_problem(409, "provider_key_taken");
    bench.client.get("/v1/keys/copy").await.expect_problem(404, "not_found");
    bench.key("copy").await;
}

async fn held_elsewhere(bench: Bench) {
    let other = bench.tenant("rival").await;
    let key = bench.key("orders").await;
    let made = data_key(&bench.client, "orders").await;
    // While it is in use, and when it was let go of: a service that takes the rival's own credential
    // for a proof lets him have it, another refuses him in the same words.
    let mut answers = Vec::new();
    for _ in 0..2 {
        let answer = other.post("/v1/keys", &adopt(&bench, "copy", &key["provider_key"])).await;
        assert_ne!(answer.body["code"], "provider_key_taken", "{}", answer.text);
        if answer.status == 201 {
            assert_ne!(answer.body["id"], key["id"]);
            unwrap(&other, &made["wrapped"]).await.expect_problem(422, "ciphertext_rejected");
            other.delete("/v1/keys/copy").await.expect_status(204);
        }
        answers.push((
            answer.status,
            answer.body["code"].clone(),
            answer.body["detail"].clone(),
            answer.body["what_to_do"].clone(),
        ));
        bench.client.delete("/v1/keys/orders").await;
    }
    assert_eq!(answers[0], answers[1]);
    other.post("/v1/keys", &adopt(&bench, "copy", &key["provider_key"])).await;
    bench
        .client
        .post("/v1/keys", &adopt(&bench, "orders", &key["provider_key"]))
        .await
        .expect_status(201);
    unwrap(&bench.client, &made["wrapped"]).await.expect_status(200);
}

async fn foreign(bench: Bench) {
    bench.at_provider(&Request::MakeKey { id: "theirs".to_owned() }).await;
    let body = adopt(&bench, "theirs", &json!("theirs"));
    let key = bench.client.post("/v1/keys", &body).await.expect_status(201);
    assert_eq!(key["provider_key"], "theirs");
    let made = data_key(&bench.client, "theirs").await;
    assert_eq!(
        unwrap(&bench.client, &made["wrapped"]).await.expect_status(200)["plaintext"],
        made["plaintext"]
    );
    bench
        .client
        .post("/v1/keys", &adopt(&bench, "absent", &json!("nobody's")))
        .await
        .expect_problem(409, "key_state");
}
