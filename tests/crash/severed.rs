//! A sever that comes into the middle of a rotate, and then SIGKILL: the start calls nothing through
//! the severed connection, and the rotate is told as interrupted.

use claviger_test_support::records;
use libtest_mimic::Trial;
use serde_json::json;

use crate::held::Held;
use crate::run;

pub fn trials() -> Vec<Trial> {
    let absent = !cfg!(feature = "testkit");
    vec![Trial::test("severed::recovery_calls_nothing_through_a_severed_connection", || run(killed())).with_ignored_flag(absent)]
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
