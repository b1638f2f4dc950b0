//! Repeated SIGKILL under a mixed load, on one folder.

use std::time::Duration;

use claviger_test_support::{Client, Gateway, Tune};
use serde_json::json;

use crate::load::{self, PRINCIPAL, Shared, text, world};
use crate::random::{Random, count, seed};
use crate::verify::{self, Record};
use crate::world::{Blob, Rotated, Switch};

/// How many older wrapped keys are unwrapped again after each restart.
const SAMPLE: u64 = 40;

/// `CLAVIGER_TEST_ROUNDS` rounds, or as many as given, of a gateway that is started so.
pub async fn under_load(tune: Tune, rounds: u64) {
    let seed = seed("kill");
    let rounds = count("CLAVIGER_TEST_ROUNDS", rounds);
    let gateway = Gateway::new(&crate::measured());
    let shared = Shared::default();
    let mut record = Record::default();
    let mut choices = Random::new(seed, u64::MAX);
    let mut answers = 0;
    for round in 0..=rounds {
        let started = gateway.serve(&tune);
        let client = if round == 0 {
            furnish(&shared, started.with_tenant("acme").await).await
        } else {
            started.tenant("acme")
        };
        // The start's own record is durable before that of any response.
        client.get("/v1/keys").await.expect_status(200);
        let new = record.read_on(&gateway.data());
        assert_eq!(record.unclean, round, "one restarted record for each kill");
        record.assert_nothing_open();
        answers += world(&shared).answered.len();
        verify::recorded(&shared, &new);
        verify::holds(&shared, &started, &client).await;
        let last = round == rounds;
        if round % 500 == 0 && round > 0 {
            println!("kill: {round} of {rounds}");
        }
        let blobs = sample(&shared, &mut choices, last);
        verify::opens(&client, &blobs).await;
        if last {
            assert!(started.terminate(), "an end in order");
            break;
        }

        let tasks = load::start(&shared, &client, |stream| Random::new(seed ^ round, stream), round);
        tokio::time::sleep(Duration::from_millis(50 + choices.below(200))).await;
        world(&shared).killed = true;
        started.kill();
        tasks.join_all().await;
        world(&shared).killed = false;
    }
    let blobs = world(&shared).blobs.len();
    println!("kill: {rounds} kills, {answers} answers in the record, {blobs} wrapped keys opened");
    assert!(answers as u64 > rounds * 5, "the load was too thin to show anything");
}

/// Creates the keys, a wrapped key under each key that is disabled and enabled, and a principal.
pub async fn furnish(shared: &Shared, client: Client) -> Client {
    for name in ["plain-1", "plain-2", "turned-1", "turned-2", "switch-1", "switch-2"] {
        client
            .post("/v1/keys", &json!({"name": name, "connection": "embedded"}))
            .await
            .expect_status(201);
        let made = client
            .post(&format!("/v1/keys/{name}/data-keys"), &json!({}))
            .await
            .expect_status(200);
        let mut world = world(shared);
        world.blobs.push(Blob {
            key: name.to_owned(),
            wrapped: text(&made["wrapped"]),
            context: json!({}),
            plaintext: text(&made["plaintext"]),
        });
        match name.split_once('-').map_or(name, |(kind, _)| kind) {
            "plain" => world.plain.push(name.to_owned()),
            "turned" => {
                let fresh = Rotated {
                    answered: 1,
                    pending: false,
                };
                world.rotated.insert(name.to_owned(), fresh);
            }
            _ => {
                world.switched.insert(name.to_owned(), Switch::default());
            }
        }
    }
    client.post("/v1/principals", &json!({"name": PRINCIPAL})).await.expect_status(201);
    client
}

/// The wrapped keys since the last check and some older ones, or all. Those under keys that are
/// disabled and enabled have a check of their own.
fn sample(shared: &Shared, choices: &mut Random, all: bool) -> Vec<Blob> {
    let mut world = world(shared);
    let from = if all { 0 } else { world.opened };
    let mut blobs: Vec<Blob> = world.blobs[from..].to_vec();
    if !all {
        let older = &world.blobs[..from];
        blobs.extend((0..SAMPLE).filter_map(|_| choices.pick(older).cloned()));
    }
    world.opened = world.blobs.len();
    blobs.retain(|blob| !world.switched.contains_key(&blob.key));
    blobs
}
