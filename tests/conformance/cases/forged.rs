//! Recipients that were put in place of the true one: as it is, with the seal made anew, and
//! without a seal under `UnwrapUnsealed`.

use serde_json::{Value, json};

use crate::bench::{Bench, data_key, unwrap, wrap};
use crate::blob::{Parts, Recipient};
use crate::{Case, Needs};

pub const CASES: &[Case] = &[
    ("a_forged_recipient_does_not_open", Needs::Keys, |bench| Box::pin(forged(bench))),
    ("parts_of_two_blobs_do_not_mix", Needs::Keys, |bench| Box::pin(mixed(bench))),
    ("an_unknown_recipient_beside_the_true_one_is_passed_over", Needs::Keys, |bench| {
        Box::pin(beside(bench))
    }),
    ("a_seal_of_another_installation_is_none", Needs::Keys, |bench| {
        Box::pin(another_seal(bench))
    }),
];

fn text(value: &Value) -> &str {
    value.as_str().expect("text")
}

/// Stops unless all three forms of it are refused.
async fn refused(bench: &Bench, what: &str, parts: Parts) {
    let seal_key = bench.seal_key().await;
    for (form, parts) in [
        ("as it is", parts.clone()),
        ("sealed anew", parts.clone().sealed(seal_key)),
        ("unsealed", parts.unsealed()),
    ] {
        let answer = unwrap(&bench.client, &json!(parts.text())).await;
        assert_eq!(
            (answer.status, &answer.body["code"]),
            (422, &json!("ciphertext_rejected")),
            "{what}, {form}: {}",
            answer.text
        );
    }
}

async fn forged(bench: Bench) {
    let rival = bench.tenant("rival").await;
    for key in ["orders", "people"] {
        bench.key(key).await;
    }
    bench.key_of(&rival, "orders").await;
    let honest = Parts::of(text(&data_key(&bench.client, "orders").await["wrapped"]));
    let own = honest.recipient();
    let of = async |client, key| Parts::of(text(&data_key(client, key).await["wrapped"])).recipient();
    let second = of(&bench.client, "orders").await;
    let neighbour = of(&bench.client, "people").await;
    let foreign = of(&rival, "orders").await;
    bench.rotate("orders").await.expect_status(200);
    let rotated = of(&bench.client, "orders").await;
    assert_ne!((&rotated.key, &rotated.version), (&own.key, &own.version));

    let variants = [
        ("another data key of the same key", second.clone()),
        ("another key of the tenant", neighbour.clone()),
        ("another tenant's key", foreign.clone()),
        ("another version's data key", rotated.clone()),
        (
            "the ciphertext of another data key",
            Recipient {
                ciphertext: second.ciphertext,
                ..own.clone()
            },
        ),
        (
            "the ciphertext of another key",
            Recipient {
                ciphertext: neighbour.ciphertext,
                ..own.clone()
            },
        ),
        (
            "the name of another key",
            Recipient {
                key: neighbour.key,
                ..own.clone()
            },
        ),
        (
            "the name of a key that nobody has",
            Recipient {
                key: format!("{}x", own.key),
                ..own.clone()
            },
        ),
        (
            "another version",
            Recipient {
                key: rotated.key,
                version: rotated.version,
                ..own.clone()
            },
        ),
        (
            "a version that does not exist",
            Recipient {
                version: "99".to_owned(),
                ..own.clone()
            },
        ),
        (
            "no version",
            Recipient {
                version: String::new(),
                ..own.clone()
            },
        ),
        (
            "another provider",
            Recipient {
                provider: own.provider % 8 + 1,
                ..own.clone()
            },
        ),
        (
            "an unknown provider",
            Recipient {
                provider: 9,
                ..own.clone()
            },
        ),
        (
            "another algorithm",
            Recipient {
                // AES-GCM, or another one where that is the key's own.
                algorithm: if own.algorithm == 5 { 4 } else { 5 },
                ..own.clone()
            },
        ),
        (
            "no ciphertext",
            Recipient {
                ciphertext: Vec::new(),
                ..own.clone()
            },
        ),
    ];
    for (what, recipient) in variants {
        if what == "no version" && own.version.is_empty() {
            // Of a provider that names no versions, that is the honest one.
            continue;
        }
        refused(&bench, what, honest.clone().with_recipients(&[recipient])).await;
    }
    unwrap(&bench.client, &json!(honest.text())).await.expect_status(200);
}

async fn mixed(bench: Bench) {
    bench.key("orders").await;
    let [a, b] = [
        Parts::of(&wrap(&bench.client, "orders", b"first").await),
        Parts::of(&wrap(&bench.client, "orders", b"other").await),
    ];
    let header = Parts {
        header: b.header.clone(),
        ..a.clone()
    };
    let commitment = Parts {
        commitment: b.commitment.clone(),
        ..a.clone()
    };
    let recipients = Parts {
        recipients: b.recipients.clone(),
        ..a.clone()
    };
    let payload = Parts {
        payload: b.payload.clone(),
        ..a.clone()
    };
    for (what, parts) in [
        ("header", header),
        ("commitment", commitment),
        ("recipients", recipients),
        ("payload", payload),
    ] {
        refused(&bench, what, parts).await;
    }
    let seal = Parts {
        seal: b.seal.clone(),
        ..a.clone()
    };
    unwrap(&bench.client, &json!(seal.text()))
        .await
        .expect_problem(422, "ciphertext_rejected");
}

async fn beside(bench: Bench) {
    for key in ["orders", "people"] {
        bench.key(key).await;
    }
    let made = data_key(&bench.client, "orders").await;
    let honest = Parts::of(text(&made["wrapped"]));
    let own = honest.recipient();
    let neighbour = Parts::of(text(&data_key(&bench.client, "people").await["wrapped"])).recipient();
    let seal_key = bench.seal_key().await;
    for recipients in [[neighbour.clone(), own.clone()], [own, neighbour]] {
        let parts = honest.clone().with_recipients(&recipients);
        unwrap(&bench.client, &json!(parts.text()))
            .await
            .expect_problem(422, "ciphertext_rejected");
        let opened = unwrap(&bench.client, &json!(parts.sealed(seal_key).text()))
            .await
            .expect_status(200);
        assert_eq!(opened["plaintext"], made["plaintext"]);
    }
}

async fn another_seal(bench: Bench) {
    bench.key("orders").await;
    let made = data_key(&bench.client, "orders").await;
    let stranger = claviger_provider::Secret::random(40);
    let parts = Parts::of(text(&made["wrapped"])).sealed(&stranger);
    let body = json!({"wrapped": parts.text()});
    let plain = bench.limited(&["Unwrap"]).await;
    plain.post("/v1/unwrap", &body).await.expect_problem(403, "permission_denied");
    let answer = bench.client.post("/v1/unwrap", &body).await;
    let records = bench.records_of(&answer);
    assert_eq!((records.len(), &records[0]["operation"]), (1, &json!("UnwrapUnsealed")));
    assert_eq!(answer.expect_status(200)["plaintext"], made["plaintext"]);
    // It is in the cache now, and the permission is asked for all the same.
    plain.post("/v1/unwrap", &body).await.expect_problem(403, "permission_denied");
    assert_eq!(unwrap(&bench.client, &body["wrapped"]).await.expect_status(200)["cached"], true);
}
