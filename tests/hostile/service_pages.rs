//! The service endpoints, which need no credential, asked without end.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use claviger_test_support::{Client, Tune, Version, p99, text_of, token};
use serde_json::json;
use tokio::task::JoinSet;

use crate::every_route::everything;
use crate::transit::Transit;
use crate::world::{PATIENCE, World, key_service_on_loopback};

/// Longer than a call takes on a busy machine.
const LIMIT: Duration = Duration::from_secs(5);
/// The attacker's clients, and the requests that each has under way: over HTTP/2 they share a connection, over HTTP/1.1
/// they are as many connections as one address may have.
const CLIENTS: usize = 4;
const REQUESTS: usize = 60;
/// Probes that the operator sends meanwhile.
const PROBES: usize = 25;

async fn one_source_asks_without_end(version: Version) {
    let world = World::tuned(&Tune::default().set("CLAVIGER_SERVER__OPERATOR__LISTEN", "127.0.0.1:0")).await;
    let honest = world.honest().await;
    let refused = Arc::new(AtomicUsize::new(0));
    let mut attack = JoinSet::new();
    for _ in 0..CLIENTS {
        let endpoint = world.started.endpoint().from_source(Ipv4Addr::new(127, 0, 0, 2)).over(version);
        let client = Client::new(endpoint, "", None).without_header("authorization");
        for path in ["/readyz", "/metrics"].into_iter().cycle().take(REQUESTS) {
            let (client, refused) = (client.clone(), Arc::clone(&refused));
            attack.spawn(async move {
                loop {
                    if client.get(path).await.status == 429 {
                        refused.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
    }
    let operator = Client::new(world.started.operator_address(), world.started.token(), None);
    let mut took = Vec::new();
    for _ in 0..PROBES {
        let begun = Instant::now();
        operator.get("/readyz").await.expect_status(200);
        took.push(begun.elapsed());
        // A probe from another source on the listener that is attacked.
        world.started.watcher().get("/readyz").await.expect_status(200);
    }
    assert!(attack.try_join_next().is_none(), "each of them is answered");
    attack.shutdown().await;
    let probes = p99(took);
    assert!(probes < LIMIT, "{probes:?}");
    assert!(refused.load(Ordering::Relaxed) > 0, "more than its share is refused");
    let slowest = p99(honest.end().await);
    assert!(slowest < LIMIT, "an honest tenant waited {slowest:?}");
}

#[tokio::test]
async fn one_source_that_asks_without_end_is_refused_and_others_probe() {
    one_source_asks_without_end(Version::Http2).await;
}

#[tokio::test]
async fn one_source_that_asks_without_end_over_http1_is_refused_and_others_probe() {
    one_source_asks_without_end(Version::Http1).await;
}

/// Whoever may be a tenant is told the same of the gateway before and while the key service of another one fails. A
/// platform operator is told of it.
#[tokio::test]
async fn readyz_shows_nobody_that_another_tenants_key_service_fails() {
    let world = World::tuned(&key_service_on_loopback()).await;
    let transit = Transit::start().await;
    transit.connected(&world.evil, "own").await;
    let bank = world.started.tenant("bank");
    let issued = token(&bank, "worker", &everything(), None).await;
    let askers = [
        world.started.watcher(),
        bank.with_token(text_of(&issued)),
        bank.with_token("clv_nothing"),
    ];
    let honest = world.honest().await;
    let asked = async || {
        let mut answers = Vec::new();
        for asker in &askers {
            answers.push(asker.get("/readyz").await.expect_status(200));
        }
        answers
    };
    let before = asked().await;
    drop(transit);
    let opens = async { while world.evil.post("/v1/keys/own/data-keys", &json!({})).await.body["code"] != "circuit_open" {} };
    tokio::time::timeout(PATIENCE, opens).await.expect("the circuit opens");
    assert_eq!(asked().await, before);
    assert!(before.iter().all(|answer| *answer == before[0]), "{before:?}");
    let parts = world.started.operator().get("/readyz").await.expect_status(200)["parts"].clone();
    let of_providers = parts.as_array().unwrap().iter().find(|part| part["name"] == "providers");
    let state = of_providers.unwrap()["state"].as_str().unwrap();
    assert!(state.contains("1 with an open circuit"), "{state}");
    honest.end().await;
}
