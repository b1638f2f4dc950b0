//! A flipped bit at every position of a wrapped key: as it is, with the seal made anew, and
//! without a seal under `UnwrapUnsealed`.

use std::collections::BTreeSet;

use claviger_provider::Secret;
use serde_json::{Value, json};

use crate::bench::{Bench, base64, unwrap, unwrap_many, wrap};
use crate::blob::{Parts, binary, text};
use crate::{Case, Needs};

pub const CASES: &[Case] = &[
    ("a_flipped_bit_of_a_data_key", Needs::Keys, |bench| Box::pin(direct(bench))),
    ("a_flipped_bit_of_wrapped_bytes", Needs::Keys, |bench| Box::pin(sealed(bench))),
];

async fn direct(bench: Bench) {
    bench.key("orders").await;
    let made = bench
        .client
        .post("/v1/keys/orders/data-keys", &json!({"bytes": 16}))
        .await
        .expect_status(200);
    let wrapped = made["wrapped"].as_str().expect("text").to_owned();
    every_bit(&bench, &wrapped, &made["plaintext"]).await;
}

async fn sealed(bench: Bench) {
    bench.key("orders").await;
    let wrapped = wrap(&bench.client, "orders", b"a pin").await;
    every_bit(&bench, &wrapped, &json!(base64(b"a pin"))).await;
}

/// A changed blob and the bit that was flipped in it.
type Flipped = (usize, String);

async fn every_bit(bench: &Bench, wrapped: &str, plaintext: &Value) {
    let plain = bench.limited(&["Unwrap"]).await;
    let trusted = bench.limited(&["Unwrap", "UnwrapUnsealed"]).await;
    let seal_key = bench.seal_key().await;
    let honest = binary(wrapped);
    let (as_is, resealed, unsealed) = flips(&honest, seal_key);
    let seal_at = (honest.len() - 40) * 8;
    let seal_name: BTreeSet<usize> = (seal_at..seal_at + 64).collect();
    assert_eq!(as_is.len(), honest.len() * 8);

    // Under a seal of a name that this installation does not know, it is an unsealed one.
    if bench.has_journal() {
        bench.calls().await;
    }
    let opened = opened(&plain, &as_is, plaintext, &seal_name).await;
    assert_eq!(opened, BTreeSet::new(), "as it is");
    if bench.has_journal() {
        assert_eq!(bench.calls().await.total(), 0, "nothing that is not ours costs a provider call");
    }
    assert_eq!(
        self::opened(&trusted, &as_is, plaintext, &BTreeSet::new()).await,
        seal_name,
        "as it is, trusted"
    );

    // The commitment binds neither the recipients nor the role that they say they have. A recovery recipient opens
    // nothing here.
    assert!(resealed.len() > honest.len() * 5, "{} of {} bits", resealed.len(), honest.len() * 8);
    assert_eq!(
        self::opened(&plain, &resealed, plaintext, &BTreeSet::new()).await,
        BTreeSet::new(),
        "sealed anew"
    );
    assert_eq!(
        self::opened(&trusted, &unsealed, plaintext, &BTreeSet::new()).await,
        BTreeSet::new(),
        "unsealed"
    );
    let everywhere: BTreeSet<usize> = unsealed.iter().map(|(bit, _)| *bit).collect();
    let readable = self::opened(&plain, &unsealed, plaintext, &everywhere).await;
    assert_eq!(readable, BTreeSet::new(), "unsealed without leave");

    let honest = unwrap(&plain, &json!(wrapped)).await.expect_status(200);
    assert_eq!(honest["plaintext"], *plaintext);
}

/// Every single-bit change, and where it can still be taken apart and is no change of the
/// seal alone, the same under a new seal and under none.
fn flips(honest: &[u8], seal_key: &Secret) -> (Vec<Flipped>, Vec<Flipped>, Vec<Flipped>) {
    let parts = Parts::read(honest).expect("a wrapped key");
    let (mut as_is, mut resealed, mut unsealed) = (Vec::new(), Vec::new(), Vec::new());
    for bit in 0..honest.len() * 8 {
        let mut changed = honest.to_vec();
        changed[bit / 8] ^= 1 << (bit % 8);
        as_is.push((bit, text(&changed)));
        let Some(changed) = Parts::read(&changed).filter(|changed| !changed.same_but_for_the_seal(&parts)) else {
            continue;
        };
        resealed.push((bit, changed.clone().sealed(seal_key).text()));
        unsealed.push((bit, changed.unsealed().text()));
    }
    (as_is, resealed, unsealed)
}

/// Which of them open; those that do must open to the right bytes, the others must be
/// refused as what they are. `denied` are those that only another permission opens.
async fn opened(
    client: &claviger_test_support::Client,
    changed: &[Flipped],
    plaintext: &Value,
    denied: &BTreeSet<usize>,
) -> BTreeSet<usize> {
    let texts: Vec<String> = changed.iter().map(|(_, text)| text.clone()).collect();
    let mut opened = BTreeSet::new();
    for ((bit, _), item) in changed.iter().zip(unwrap_many(client, &texts).await) {
        assert!(item["audit_index"].is_string(), "bit {bit}: {item}");
        match item["error"]["code"].as_str() {
            None => {
                assert_eq!(item["plaintext"], *plaintext, "bit {bit} opens to something else");
                opened.insert(*bit);
            }
            Some("invalid_envelope" | "envelope_version_unsupported" | "ciphertext_rejected") => {}
            Some("permission_denied") if denied.contains(bit) => {}
            Some(code) => panic!("bit {bit}: {code}"),
        }
    }
    opened
}
