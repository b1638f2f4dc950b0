//! A key service that is slow, that shows a new key a moment later, or that cannot do what is asked: what the
//! caller is told meanwhile.

use std::time::{Duration, Instant};

use claviger_test_support::{Answer, Client, Gateway, Started, Tune};
use libtest_mimic::Trial;
use serde_json::{Value, json};

use crate::answers::{PATIENCE, outcome};
use crate::creations::{begun, lose, new_key};
use crate::run;
use crate::service::{Loss, Service};

/// Both connections of a world.
const CONNECTIONS: [&str; 2] = ["vault", "aws"];

pub fn trials() -> Vec<Trial> {
    vec![
        Trial::test("late::a_creation_of_three_seconds_is_waited_for", || run(slow())),
        Trial::test("late::a_creation_of_twelve_seconds_goes_on_after_its_request", || run(very_slow())),
        Trial::test("late::a_creation_that_is_never_answered_is_taken_up_by_the_next_try", || {
            run(never())
        }),
        Trial::test("late::a_creation_that_still_waits_when_its_request_ends_is_never_sent", || {
            run(waiting())
        }),
        Trial::test("late::creations_that_go_on_leave_a_connection_its_calls", || run(crowded())),
        Trial::test("late::a_key_that_is_not_found_at_first_is_created_all_the_same", || run(hidden())),
        Trial::test("late::a_key_is_switched_where_it_can_be_and_the_answer_says_where", || {
            run(switched())
        }),
    ]
}

/// A gateway with both connections to the service, whose creations may take this long.
async fn patient(service: &Service, creation: &str) -> (Gateway, Started, Client) {
    with_calls(service, creation, 64).await
}

/// As [`patient`], with so many calls of a connection at once.
async fn with_calls(service: &Service, creation: &str, calls: usize) -> (Gateway, Started, Client) {
    let gateway = Gateway::new(crate::BINARY);
    let tune: Tune = service.tune().set("CLAVIGER_PROVIDERS__CREATION_TIMEOUT", creation);
    let started = gateway.serve(&tune.set("CLAVIGER_PROVIDERS__CONCURRENCY", calls.to_string()));
    let client = started.with_tenant("acme").await;
    for connection in service.connections() {
        client.post("/v1/connections", &connection).await.expect_status(201);
    }
    (gateway, started, client)
}

/// Sends a request until it is no longer under way.
async fn until_over(client: &Client, path: &str, body: &Value) -> Answer {
    let until = Instant::now() + PATIENCE;
    loop {
        let answer = client.post(path, body).await;
        if answer.body["code"] != "in_progress" {
            return answer;
        }
        assert!(Instant::now() < until, "still under way: {}", answer.text);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn slow() {
    let service = Service::start().await;
    let (_gateway, _started, client) = patient(&service, "30s").await;
    // More than an attempt may take.
    service.slow(Duration::from_millis(3200));
    for connection in CONNECTIONS {
        let key = client.post("/v1/keys", &new_key(connection, connection)).await.expect_status(201);
        assert_eq!(key["state"], "enabled");
    }
    assert_eq!(service.keys(), 2);
}

async fn very_slow() {
    let service = Service::start().await;
    let (gateway, _started, client) = patient(&service, "30s").await;
    service.slow(Duration::from_secs(12));
    let of = async |connection: &str| {
        let create = new_key(connection, connection);
        let begin = Instant::now();
        let lost = lose(&gateway, &client, "/v1/keys", &create, "deadline_exceeded").await;
        assert!(begin.elapsed() < Duration::from_secs(11), "{:?}", begin.elapsed());
        client.post("/v1/keys", &create).await.expect_problem(409, "in_progress");
        // Nobody repeats it.
        let (path, until) = (format!("/v1/keys/{connection}"), Instant::now() + PATIENCE);
        while client.get(&path).await.status != 200 {
            assert!(Instant::now() < until, "{connection}: never finished");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let key = client.post("/v1/keys", &create).await.expect_status(201);
        assert_eq!(key["id"], lost["change"]["id"], "the id was drawn once");
        client.post("/v1/keys", &create).await.expect_problem(409, "already_exists");
    };
    futures::future::join(of(CONNECTIONS[0]), of(CONNECTIONS[1])).await;
    assert_eq!(service.keys(), 2, "each was made once");
    assert!(begun(&gateway).await.is_empty());
}

async fn never() {
    let service = Service::start().await;
    let (gateway, _started, client) = patient(&service, "4s").await;
    let hasty = client.clone().with_header("claviger-timeout", "1s");
    for (at, connection) in (1..).zip(CONNECTIONS) {
        let create = new_key(connection, connection);
        service.lose(Some(Loss::Silent));
        let lost = hasty.post("/v1/keys", &create).await;
        assert_eq!(lost.body["code"], "deadline_exceeded", "{}", lost.text);
        let lost = outcome(&gateway, &lost);
        assert_eq!(lost["result"], "interrupted", "{lost}");
        // The provider may still be at work: a second key would be one too many.
        client.post("/v1/keys", &create).await.expect_problem(409, "in_progress");
        service.lose(None);
        let key = until_over(&client, "/v1/keys", &create).await.expect_status(201);
        assert_eq!(key["id"], lost["change"]["id"], "the id was drawn once");
        assert_eq!(service.keys(), at, "{connection}: the next try made another key");
        assert!(begun(&gateway).await.is_empty());
    }
}

/// The first creation has the connection's only call; the second one waits for it, and nobody waits for the second.
async fn waiting() {
    for connection in CONNECTIONS {
        let service = Service::start().await;
        let (gateway, _started, client) = with_calls(&service, "5s", 1).await;
        service.lose(Some(Loss::Silent));
        let patient = client.clone().with_header("claviger-timeout", "4s");
        let first = async { lose(&gateway, &patient, "/v1/keys", &new_key("first", connection), "deadline_exceeded").await };
        let second = async {
            while service.changes() == 0 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            let hasty = client.clone().with_header("claviger-timeout", "1s");
            hasty.post("/v1/keys", &new_key("second", connection)).await
        };
        let (_, second) = futures::future::join(first, second).await;
        assert_eq!(second.body["code"], "deadline_exceeded", "{}", second.text);
        let second = outcome(&gateway, &second);
        assert_eq!(second["result"], "failed", "nothing was asked: {second}");
        service.lose(None);
        // It waits behind what waited before.
        client.post("/v1/keys", &new_key("third", connection)).await.expect_status(201);
        let id = second["change"]["id"].as_str().expect("an id");
        assert_eq!((service.name_of(id), service.changes()), (None, 2), "{connection}");
    }
}

async fn crowded() {
    let service = Service::start().await;
    let (gateway, _started, client) = with_calls(&service, "30s", 4).await;
    client.post("/v1/keys", &new_key("orders", "aws")).await.expect_status(201);
    let hasty = client.clone().with_header("claviger-timeout", "1s");
    service.lose(Some(Loss::Silent));
    let creations = ["a", "b", "c", "d"].map(async |name| {
        let answer = hasty.post("/v1/keys", &new_key(name, "aws")).await;
        assert_eq!(answer.body["code"], "deadline_exceeded", "{}", answer.text);
        assert_eq!(outcome(&gateway, &answer)["result"], "interrupted");
    });
    futures::future::join_all(creations).await;
    assert_eq!(service.changes(), 5, "all were at the service");
    // One of them goes on, and no more.
    let made = hasty.post("/v1/keys/orders/data-keys", &json!({})).await;
    made.expect_status(200);
    let mut going_on = 0;
    for name in ["a", "b", "c", "d"] {
        let answer = hasty.post("/v1/keys", &new_key(name, "aws")).await;
        going_on += usize::from(answer.body["code"] == "in_progress");
    }
    assert_eq!(going_on, 1);
}

async fn hidden() {
    let service = Service::start().await;
    let (_gateway, _started, client) = patient(&service, "30s").await;
    service.hide_new_keys(3);
    for (at, connection) in (1..).zip(CONNECTIONS) {
        let key = client.post("/v1/keys", &new_key(connection, connection)).await.expect_status(201);
        assert_eq!(key["state"], "enabled");
        assert_eq!(service.hidden(), 3 * at, "{connection}: the key was waited for");
    }
    let made = client.post("/v1/keys/aws/data-keys", &json!({})).await.expect_status(200);
    assert_eq!(made["version"], 1);
    assert_eq!(service.keys(), 2);
}

async fn switched() {
    let service = Service::start().await;
    let (_gateway, _started, client) = patient(&service, "30s").await;
    client.post("/v1/keys", &new_key("orders", "aws")).await.expect_status(201);
    client
        .post("/v1/keys/orders/rotate", &json!({"connection": "vault"}))
        .await
        .expect_status(200);
    client.post("/v1/keys", &new_key("alone", "vault")).await.expect_status(201);
    for (action, state, call) in [("disable", "disabled", "DisableKey"), ("enable", "enabled", "EnableKey")] {
        // Transit has no switch: known without asking. AWS has one, and is asked.
        for key in ["orders", "alone"] {
            let (asked, path) = (service.switches().len(), format!("/v1/keys/{key}/{action}"));
            let key = client.post(&path, &json!({"at_provider": true})).await.expect_status(200);
            let told = &key["at_provider"];
            assert_eq!((&key["state"], &told["result"]), (&json!(state), &json!("unsupported")), "{key}");
            let detail = told["detail"].as_str().expect("why");
            assert!(detail.contains("vault: ") && !detail.contains("aws: "), "{detail}");
            assert_eq!(service.switches().len() - asked, usize::from(key["name"] == "orders"), "{path}");
        }
        assert_eq!(service.switches().last().map(String::as_str), Some(call));
    }
}
