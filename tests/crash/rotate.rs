//! SIGKILL in the middle of a rotate leaves the old version or the new one, never a part of it.

use std::time::Duration;

use claviger_test_support::{Gateway, Tune};
use serde_json::json;
use tokio::task::JoinSet;

use crate::load::{self, Shared, text, world};
use crate::random::{Random, count, seed};
use crate::verify::{self, Record};
use crate::world::{Blob, Rotated};

const KEYS: u64 = 6;

/// Rotates several keys concurrently, and kills the gateway at a random moment.
pub async fn storms() {
    let seed = seed("rotate");
    let rounds = count("CLAVIGER_TEST_ROUNDS", 25).div_ceil(4);
    let gateway = Gateway::new(&crate::measured());
    let shared = Shared::default();
    let mut record = Record::default();
    let mut choices = Random::new(seed, 7);
    let mut finished = 0;
    for round in 0..=rounds {
        let started = gateway.serve(&Tune::default());
        let client = if round == 0 {
            started.with_tenant("acme").await
        } else {
            started.tenant("acme")
        };
        if round == 0 {
            for number in 0..KEYS {
                let name = format!("turned-{number}");
                client
                    .post("/v1/keys", &json!({"name": name, "connection": "embedded"}))
                    .await
                    .expect_status(201);
                let fresh = Rotated {
                    answered: 1,
                    pending: false,
                };
                world(&shared).rotated.insert(name, fresh);
            }
        }
        let new = record.read_on(&gateway.data());
        record.assert_nothing_open();
        finished += new
            .iter()
            .filter(|record| record["operation"] == "Rotate" && record["kind"] == "outcome" && record["result"] == "success")
            .count();
        verify::recorded(&shared, &new);
        verify::rotations(&shared, &client).await;
        let blobs = world(&shared).blobs.clone();
        verify::opens(&client, &blobs).await;
        if round == rounds {
            break;
        }
        // One more wrapped key under the current version of each key.
        let names: Vec<String> = world(&shared).rotated.keys().cloned().collect();
        for name in names {
            let made = client
                .post(&format!("/v1/keys/{name}/data-keys"), &json!({}))
                .await
                .expect_status(200);
            world(&shared).blobs.push(Blob {
                key: name,
                wrapped: text(&made["wrapped"]),
                context: json!({}),
                plaintext: text(&made["plaintext"]),
            });
        }
        let mut tasks = JoinSet::new();
        let names: Vec<String> = world(&shared).rotated.keys().cloned().collect();
        for (name, stream) in names.into_iter().zip(0..) {
            let random = Random::new(seed ^ round, stream);
            tasks.spawn(load::rotate(shared.clone(), client.clone(), name, random));
        }
        tokio::time::sleep(Duration::from_micros(20_000 + choices.below(80_000))).await;
        world(&shared).killed = true;
        started.kill();
        tasks.join_all().await;
        world(&shared).killed = false;
    }
    println!("rotate: {rounds} kills, {finished} rotates in the record");
    assert!(finished as u64 > rounds, "the storm was too thin to show anything");
}
