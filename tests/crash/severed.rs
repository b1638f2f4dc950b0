//! A sever that comes into the middle of a rotate, and then SIGKILL: the start calls nothing through
//! the severed connection, and the rotate is told as interrupted.

use claviger_test_support::records;
use libtest_mimic::Trial;
use serde_json::json;

use crate::answers::{kill_in, world};
use crate::held::Held;
use crate::lifted::append;
use crate::run;
use crate::service::Service;

pub fn trials() -> Vec<Trial> {
    let absent = !cfg!(feature = "testkit");
    vec![
        Trial::test("severed::recovery_calls_nothing_through_a_severed_connection", || run(killed())).with_ignored_flag(absent),
        Trial::test(
            "severed::a_sever_that_recovery_applies_comes_before_its_calls",
            || run(unanswered()),
        ),
    ]
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

/// The kill comes between the intents of a rotate and a sever and their outcomes. `dev` recovers before the
/// fake is there, so this key service outlives the gateway.
async fn unanswered() {
    let service = Service::start().await;
    let (gateway, started, client) = world(&service).await;
    let connection = client.get("/v1/connections/vault").await.expect_status(200)["id"].clone();
    kill_in(&service, started, client, "/v1/keys/on-vault/rotate", json!({})).await;
    let log = records(&gateway.data());
    let rotate = log
        .iter()
        .find(|record| record["kind"] == "intent" && record["change"]["verb"] == "rotate");
    let mut sever = rotate.expect("the intent").clone();
    let members = sever.as_object_mut().expect("a record");
    members.remove("key");
    members.insert("operation".to_owned(), json!("Sever"));
    let change = json!({"id": connection, "lifts": 0, "object": "connection", "verb": "sever"});
    members.insert("change".to_owned(), change);
    append(&gateway, sever);

    let calls = service.calls();
    let started = gateway.serve(&service.tune());
    let vault = started.tenant("acme").get("/v1/connections/vault").await.expect_status(200);
    assert_eq!(vault["state"], "severed");
    assert_eq!(service.calls(), calls, "called through a severed connection");
}
