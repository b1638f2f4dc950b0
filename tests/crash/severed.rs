//! A sever that comes into the middle of a rotate, and then SIGKILL: the start calls nothing through
//! the severed connection, and the rotate is told as interrupted.

use claviger_test_support::{Gateway, Tune, records};
use claviger_testkit::control::{Client as Control, Request};
use claviger_testkit::{Fault, Plan};
use libtest_mimic::Trial;
use serde_json::json;

use crate::run;

pub fn trials() -> Vec<Trial> {
    let absent = !cfg!(feature = "testkit");
    vec![Trial::test("severed::recovery_calls_nothing_through_a_severed_connection", || run(killed())).with_ignored_flag(absent)]
}

async fn control(file: &std::path::Path) -> Control {
    let address = std::fs::read_to_string(file).expect("the control port's address");
    let address = address.parse().expect("an address");
    Control::connect(address).await.expect("the control port")
}

async fn killed() {
    let gateway = Gateway::empty(crate::BINARY);
    let file = gateway.data().with_extension("control");
    let started = gateway.dev(&Tune::default(), &file);
    let client = started.with_tenant("acme").await;
    let connection = json!({"name": "there", "provider": "vault", "settings": {}});
    client.post("/v1/connections", &connection).await.expect_status(201);
    client
        .post("/v1/keys", &json!({"name": "orders", "connection": "there"}))
        .await
        .expect_status(201);
    let mut fake = control(&file).await;
    let plan = Plan {
        op: Some("rotate".to_owned()),
        fault: Fault::Slow,
        times: None,
    };
    fake.tell(&Request::Plan(plan)).await.expect("the fake does as told");
    let going = {
        let client = client.clone();
        tokio::spawn(async move {
            let request = client.request(http::Method::POST, "/v1/keys/orders/rotate").body("{}");
            client.try_send(request.header("content-type", "application/json")).await
        })
    };
    while fake.journal().await.expect("the journal").at_gate == 0 {
        tokio::task::yield_now().await;
    }
    client.post_empty("/v1/connections/there/sever").await.expect_status(200);
    assert_eq!(
        fake.journal().await.expect("the journal").at_gate,
        0,
        "the call is still under way after the sever was answered"
    );
    started.kill();
    drop(going.await);

    let started = gateway.dev(&Tune::default(), &file);
    let client = started.tenant("acme");
    let key = client.get("/v1/keys/orders").await.expect_status(200);
    assert_eq!(key["primary_version"], 1, "{key}");
    let log = records(&gateway.data());
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
    let calls = control(&file).await.journal().await.expect("the journal").calls;
    assert!(calls.is_empty(), "called through a severed connection: {calls:?}");
}
