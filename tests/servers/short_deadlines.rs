//! Callers that wait for less time than the provider takes: what becomes of them is not the provider's failure.

use std::time::{Duration, Instant};

use claviger_test_support::proxy::{Act, Fault, FaultProxy, Which};
use claviger_test_support::{Client, Tune, text_of, token};
use serde_json::json;

use crate::Case;
use crate::openbao::{DEV, Server};
use crate::world::World;

pub fn cases() -> Vec<Case> {
    vec![
        Case::new("short_deadlines::they_open_no_circuit", DEV, || Box::pin(they_open_no_circuit())),
        Case::new("short_deadlines::they_keep_no_circuit_open", DEV, || {
            Box::pin(they_keep_no_circuit_open())
        }),
    ]
}

/// A key behind a proxy, and a token for it alone whose holder waits for `patience`.
async fn bench(patience: &str) -> (World, FaultProxy, Client) {
    let proxy = FaultProxy::before(&Server::Dev.address());
    let world = World::new(Tune::default()).await;
    let settings = json!({"address": proxy.url(), "auth": {"token": Server::Dev.token()}});
    world.connect("vault", &settings).await;
    world.key("orders", json!({})).await;
    let issued = token(&world.client, "hasty", &["GenerateDataKey"], Some(&["orders"])).await;
    let hasty = world.client.with_token(text_of(&issued)).with_header("claviger-timeout", patience);
    (world, proxy, hasty)
}

async fn data_key(client: &Client) -> u16 {
    client.post("/v1/keys/orders/data-keys", &json!({})).await.status
}

fn encrypt(act: Act) -> Fault {
    Fault::on(Which::Named("encrypt".to_owned()), act)
}

async fn they_open_no_circuit() {
    let (world, proxy, hasty) = bench("1100ms").await;
    // It is slow, and well within the time of an attempt.
    proxy.set([encrypt(Act::Delay(Duration::from_millis(1300)))]);
    for _ in 0..6 {
        assert_eq!(data_key(&hasty).await, 504);
    }
    assert_eq!(data_key(&world.client).await, 200);
    let metrics = world.started.operator().get("/metrics").await.text;
    assert!(!metrics.contains("claviger_provider_breaker_transitions_total{"), "{metrics}");
}

async fn they_keep_no_circuit_open() {
    let (world, proxy, hasty) = bench("200ms").await;
    proxy.set([encrypt(Act::respond(500, "{\"errors\":[\"boom\"]}"))]);
    for _ in 0..5 {
        assert_eq!(data_key(&world.client).await, 503);
    }
    let metrics = world.started.operator().get("/metrics").await.text;
    assert!(metrics.contains("claviger_provider_breaker_transitions_total{"), "{metrics}");
    proxy.set([encrypt(Act::Delay(Duration::from_millis(300)))]);

    // Open for 5 s; then one of them is the trial.
    let end = Instant::now() + Duration::from_secs(15);
    while data_key(&hasty).await != 504 {
        assert!(Instant::now() < end, "no call was tried");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    proxy.forget_calls();
    let trial = tokio::spawn(async move { data_key(&hasty).await });
    while proxy.count_named("encrypt") == 0 {
        assert!(Instant::now() < end, "no call was tried");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(data_key(&world.client).await, 200, "beside the trial of a caller with less time");
    assert_eq!(trial.await.unwrap(), 504);
}
