//! A sever that comes into the middle of a rotate, and then SIGKILL: the start calls nothing through
//! the severed connection, and the rotate is told as interrupted.

use std::time::{Duration, Instant};

use claviger_test_support::{Client, Gateway, log_end, records};
use libtest_mimic::Trial;
use serde_json::{Value, json};
use sqlx::Connection;

use crate::held::Held;
use crate::media::lock_store;
use crate::removed::KILL_FILE;
use crate::run;

pub fn trials() -> Vec<Trial> {
    let absent = !cfg!(feature = "testkit");
    vec![
        Trial::test("severed::recovery_calls_nothing_through_a_severed_connection", || run(killed())).with_ignored_flag(absent),
        Trial::test("severed::recovery_asks_nothing_for_a_suspended_tenant", || run(suspended())).with_ignored_flag(absent),
        Trial::test("severed::recovery_severs_before_it_finishes_an_earlier_rotate", || {
            run(severed_first(Medium::Log))
        })
        .with_ignored_flag(absent),
        Trial::test("severed::recovery_reads_the_kill_file_before_it_finishes_a_rotate", || {
            run(severed_first(Medium::KillFile))
        })
        .with_ignored_flag(absent),
    ]
}

/// What alone has the sever.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Medium {
    Log,
    KillFile,
}

/// Both have the intent of the rotate before the sever, and the store has neither. If recovery took them in this
/// order, it would ask the provider what became of the rotate.
async fn severed_first(medium: Medium) {
    let (held, started, client) = Held::start("there").await;
    if medium == Medium::KillFile {
        fill_beyond_kill_file(&held.gateway, &client).await;
    }
    let going = held.rotate(&client, "rotate", &json!({})).await;
    let store = lock_store(&held.gateway.data()).await;
    if medium == Medium::KillFile {
        started.limit_files(Some(log_end(&held.gateway.data()).1));
    }
    let sever = tokio::spawn(async move {
        let request = client.request(http::Method::POST, "/v1/connections/there/sever").body("{}");
        client.try_send(request.header("content-type", "application/json")).await
    });
    let is_announced = || {
        let all = records(&held.gateway.data()).into_iter();
        all.filter(|record| record["kind"] == "intent")
            .any(|record| record["change"]["verb"] == "sever")
    };
    match medium {
        Medium::Log => {
            let end = Instant::now() + Duration::from_secs(20);
            while !is_announced() {
                assert!(Instant::now() < end, "the sever is not announced");
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            started.kill();
            drop(sever.await);
        }
        Medium::KillFile => {
            let answer = sever.await.expect("the request ends").expect("an answer");
            answer.expect_problem(503, "effective_not_recorded");
            started.kill();
        }
    }
    store.close().await.expect("the store is free");
    drop(going.await);
    assert_eq!(is_announced(), medium == Medium::Log);
    let log = records(&held.gateway.data());
    assert!(
        !log.iter()
            .any(|record| record["kind"] == "outcome" && record["operation"] == "Sever"),
        "the sever was done"
    );

    let started = held.again();
    let client = started.tenant("acme");
    let connection = client.get("/v1/connections/there").await.expect_status(200);
    assert_eq!(connection["state"], "severed", "{connection}");
    let calls = held.control().await.journal().await.expect("the journal").calls;
    assert!(calls.is_empty(), "called before the sever: {calls:?}");
    let key = client.get("/v1/keys/orders").await.expect_status(200);
    assert_eq!(key["primary_version"], 1, "{key}");
}

/// A log that is longer than a kill file, which can be written then where the log cannot.
/// Makes the log longer than the kill file, so that a limit on the length of files can stop the log alone.
pub async fn fill_beyond_kill_file(gateway: &Gateway, client: &Client) {
    let filler = json!({"name": "filler", "connection": "embedded"});
    client.post("/v1/keys", &filler).await.expect_status(201);
    let items: Vec<Value> = (0..300).map(|_| json!({"key": "filler"})).collect();
    while log_end(&gateway.data()).1 < KILL_FILE + 4096 {
        client
            .post("/v1/batch/data-keys", &json!({"items": items}))
            .await
            .expect_status(200);
    }
}

async fn suspended() {
    let (held, started, client) = Held::start("there").await;
    let going = held.rotate(&client, "rotate", &json!({})).await;
    started.operator().post_empty("/v1/tenants/acme/suspend").await.expect_status(200);
    started.kill();
    drop(going.await);
    assert_is_interrupted(&held).await;
}

async fn killed() {
    let (held, started, client) = Held::start("there").await;
    let going = held.rotate(&client, "rotate", &json!({})).await;
    client.post_empty("/v1/connections/there/sever").await.expect_status(200);
    assert_eq!(
        held.control().await.journal().await.expect("the journal").at_gate,
        0,
        "the call is still under way after the sever was answered"
    );
    started.kill();
    drop(going.await);
    assert_is_interrupted(&held).await;
}

/// Starts the gateway again, which calls no provider, and leaves open what became of the rotate.
async fn assert_is_interrupted(held: &Held) {
    let started = held.again();
    let client = started.tenant("acme");
    let key = client.get("/v1/keys/orders").await.expect_status(200);
    assert_eq!(key["primary_version"], 1, "{key}");
    let log = records(&held.gateway.data());
    let intent = log
        .iter()
        .find(|record| record["kind"] == "intent" && record["change"]["verb"] == "rotate" && record["provider"] == "vault")
        .expect("the intent");
    let outcomes: Vec<_> = log
        .iter()
        .filter(|record| record["kind"] == "outcome" && record["request_id"] == intent["request_id"])
        .collect();
    // The provider may have made a version that nobody knows of: it is neither done nor undone.
    assert_eq!(outcomes.len(), 1, "{outcomes:?}");
    assert_eq!(outcomes[0]["result"], "interrupted", "{outcomes:?}");
    let calls = held.control().await.journal().await.expect("the journal").calls;
    assert!(calls.is_empty(), "called through a severed connection: {calls:?}");
}
