//! SIGKILL while a key moves, after the provider was asked and before the store was written.

use claviger_test_support::records;
use libtest_mimic::Trial;
use serde_json::json;

use crate::held::Held;
use crate::run;

pub fn trials() -> Vec<Trial> {
    let absent = !cfg!(feature = "testkit");
    vec![Trial::test("moved::a_kill_leaves_the_key_where_it_was_and_its_end_untold", || run(killed())).with_ignored_flag(absent)]
}

async fn killed() {
    let (held, started, client) = Held::start("embedded").await;
    let made = client.post("/v1/keys/orders/data-keys", &json!({})).await.expect_status(200);
    let going = held.rotate(&client, "create_key", &json!({"connection": "there"})).await;
    started.kill();
    assert!(going.await.expect("the request ends").is_none(), "nothing was answered");

    let started = held.again();
    let client = started.tenant("acme");
    let log = records(&held.gateway.data());
    let intent = log
        .iter()
        .find(|record| record["kind"] == "intent" && record["change"]["verb"] == "move")
        .expect("the intent");
    let outcome = log
        .iter()
        .find(|record| record["kind"] == "outcome" && record["request_id"] == intent["request_id"])
        .expect("its outcome");
    // A provider key may have been made that nobody knows of: it is neither done nor undone.
    assert_eq!(outcome["result"], "interrupted", "{outcome}");
    // The intent says under which id, and the start's log does.
    let made_as = intent["change"]["made_as"].as_str().expect("an id");
    assert!(started.output().contains(made_as), "{}", started.output());
    let key = client.get("/v1/keys/orders").await.expect_status(200);
    assert_eq!((&key["connection"], &key["primary_version"]), (&json!("embedded"), &json!(1)));
    let opened = client.post("/v1/unwrap", &json!({"wrapped": made["wrapped"]})).await;
    assert_eq!(opened.expect_status(200)["plaintext"], made["plaintext"]);
    let moved = client.post("/v1/keys/orders/rotate", &json!({"connection": "there"})).await;
    assert_eq!(moved.expect_status(200)["primary_version"], 2);
    let opened = client.post("/v1/unwrap", &json!({"wrapped": made["wrapped"]})).await;
    assert_eq!(opened.expect_status(200)["version"], 1);
}
