//! Rotations that a kill interrupted, at a key service that hangs when the gateway starts again: neither the start
//! waits for it nor what a start finds out at other services.

use std::time::{Duration, Instant};

use claviger_test_support::{Client, Gateway, Started, Tune, records};
use libtest_mimic::Trial;
use serde_json::{Value, json};

use crate::answers::PATIENCE;
use crate::creations::new_key;
use crate::run;
use crate::service::{Loss, Service};

/// How many keys are at the service that hangs. One after the other, their looks take longer than a start may.
const KEYS: usize = 8;

pub fn trials() -> Vec<Trial> {
    vec![Trial::test(
        "hung::a_provider_that_hangs_holds_up_no_start_and_no_other_s_rotation",
        || run(hung()),
    )]
}

/// As long as a look may take, without another try, and however often it fails.
fn tune(service: &Service) -> Tune {
    service
        .tune()
        .set("CLAVIGER_PROVIDERS__ATTEMPT_TIMEOUT", "8s")
        .set("CLAVIGER_PROVIDERS__CREATION_TIMEOUT", "8s")
        .set("CLAVIGER_PROVIDERS__BREAKER__FAILURES", "1000")
}

/// A tenant with a connection to the service and so many keys on it.
async fn tenant(started: &Started, name: &str, service: &Service, keys: usize) -> Client {
    let client = started.with_tenant(name).await;
    let [vault, _] = service.connections();
    client.post("/v1/connections", &vault).await.expect_status(201);
    for key in 0..keys {
        client
            .post("/v1/keys", &new_key(&format!("key-{key}"), "vault"))
            .await
            .expect_status(201);
    }
    client
}

/// Begins to rotate the keys, which the service never answers, until all are announced.
async fn rotate(gateway: &Gateway, client: &Client, keys: usize) {
    let announced = || {
        let all = records(&gateway.data()).into_iter();
        all.filter(|record| record["kind"] == "intent" && record["change"]["verb"] == "rotate")
            .count()
    };
    let before = announced();
    for key in 0..keys {
        let client = client.clone();
        tokio::spawn(async move {
            let request = client.request(http::Method::POST, &format!("/v1/keys/key-{key}/rotate"));
            client.try_send(request.json(&json!({}))).await
        });
    }
    until(async || announced() == before + keys).await;
}

async fn until(so: impl AsyncFn() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !so().await {
        assert!(Instant::now() < until, "never so");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn keys(client: &Client) -> Vec<Value> {
    client.list("/v1/keys").await
}

/// What `/readyz` says of rotations.
async fn told(started: &Started) -> Option<String> {
    let ready = started.operator().get("/readyz").await.expect_status(200);
    let parts = ready["parts"].as_array().expect("parts").clone();
    let part = parts.into_iter().find(|part| part["name"] == "rotations")?;
    Some(part["state"].as_str().expect("a state").to_owned())
}

async fn hung() {
    let (hung, sound) = (Service::start().await, Service::start().await);
    let gateway = Gateway::new(crate::BINARY);
    let started = gateway.serve(&tune(&hung));
    let many = tenant(&started, "many", &hung, KEYS).await;
    let few = tenant(&started, "few", &sound, 1).await;
    hung.lose(Some(Loss::Silent));
    sound.lose(Some(Loss::Silent));
    // The log has those of the service that hangs first.
    rotate(&gateway, &many, KEYS).await;
    rotate(&gateway, &few, 1).await;
    until(async || hung.versions() == KEYS + 1 && sound.versions() == 2).await;
    started.kill();
    hung.set_hanging(true);
    hung.lose(None);
    sound.lose(None);

    let (before, tune) = (sound.calls(), tune(&hung));
    let starting = tokio::task::spawn_blocking(move || {
        let started = gateway.serve(&tune);
        (gateway, started)
    });
    until(async || sound.calls() > before).await;
    assert_eq!(
        hung.given_up(),
        0,
        "the look at another tenant's rotation waits for a provider that hangs"
    );
    let (gateway, started) = starting.await.expect("it starts");
    assert!(hung.given_up() < KEYS, "the start waits for each look");

    let outcomes = records(&gateway.data()).into_iter();
    let results: Vec<Value> = outcomes
        .filter(|record| record["kind"] == "outcome" && record["change"]["verb"] == "rotate")
        .map(|record| record["result"].clone())
        .collect();
    assert_eq!(
        results.iter().filter(|result| **result == "interrupted").count(),
        KEYS,
        "{results:?}"
    );
    assert_eq!(results.iter().filter(|result| **result == "success").count(), 1, "{results:?}");
    let [few] = &keys(&started.tenant("few")).await[..] else {
        panic!("one key")
    };
    assert_eq!((&few["primary_version"], &few["rotation"]["state"]), (&json!(2), &json!("idle")));
    let many = started.tenant("many");
    for key in keys(&many).await {
        assert_eq!(
            (&key["primary_version"], &key["rotation"]["state"]),
            (&json!(1), &json!("in_progress")),
            "{key}"
        );
    }
    let state = told(&started).await.expect("the part");
    assert!(state.contains("whose answer was lost"), "{state}");

    // It answers again: what it did is found.
    hung.set_hanging(false);
    until(async || {
        let rotated = keys(&many).await.into_iter().filter(|key| key["primary_version"] == 2);
        rotated.filter(|key| key["rotation"]["state"] == "idle").count() == 1
    })
    .await;
}
