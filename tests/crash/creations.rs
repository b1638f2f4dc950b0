//! Provider keys whose creation was not answered: the gateway looks for them at the key service, and
//! finishes the creation, or reports what became of it.

use std::time::{Duration, Instant};

use claviger_test_support::{Client, Gateway, records};
use libtest_mimic::Trial;
use serde_json::{Value, json};
use sqlx::Connection;

use crate::answers::{LOSSES, PATIENCE, kill_in, once, outcome, world};
use crate::media::store;
use crate::run;
use crate::service::{Loss, Service};

pub fn trials() -> Vec<Trial> {
    vec![
        Trial::test("creations::what_was_made_is_finished", || run(finished())),
        Trial::test("creations::what_was_made_before_a_kill_is_finished", || run(killed())),
        Trial::test("creations::what_was_not_made_is_forgotten_with_a_record", || run(not_made())),
        Trial::test("creations::what_cannot_be_finished_is_reported_with_the_provider_s_name", || {
            run(reported())
        }),
        Trial::test("creations::another_request_of_that_name_waits_for_the_first_one_s_end", || {
            run(another())
        }),
        Trial::test("creations::nothing_is_looked_for_through_a_severed_connection", || run(severed())),
        Trial::test(
            "creations::what_could_not_be_looked_for_is_looked_for_again",
            || run(looked_again()),
        ),
        Trial::test("creations::a_repetition_after_the_end_gets_the_same_key", || run(repeated())),
        Trial::test("creations::the_next_try_of_the_same_name_takes_up_what_the_first_one_made", || {
            run(next_try())
        }),
        Trial::test("creations::the_next_try_waits_until_the_first_one_s_key_shows", || {
            run(shows_later())
        }),
        Trial::test("creations::the_next_try_after_the_end_is_told_once", || run(told_once())),
    ]
}

/// Makes every creation due, as it is a minute after its begin.
pub async fn let_be_due(gateway: &Gateway) {
    let mut store = store(&gateway.data()).await;
    sqlx::query("UPDATE creations SET due = 0")
        .execute(&mut store)
        .await
        .expect("the rows change");
    store.close().await.expect("the store is closed");
}

/// The ids under which creations were begun that have not ended.
pub async fn begun(gateway: &Gateway) -> Vec<String> {
    let mut store = store(&gateway.data()).await;
    // What is finished and not told yet is due in a day.
    let begun = sqlx::query_scalar("SELECT lower(hex(made_as)) FROM creations WHERE due < begun + 3600000000 ORDER BY begun")
        .fetch_all(&mut store)
        .await
        .expect("the rows");
    store.close().await.expect("the store is closed");
    begun
}

/// Waits until every creation has ended.
pub async fn until_ended(gateway: &Gateway) {
    let until = Instant::now() + PATIENCE;
    loop {
        let left = begun(gateway).await;
        if left.is_empty() {
            return;
        }
        assert!(Instant::now() < until, "never ended: {left:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Sends a request whose answer gets lost, and checks what is recorded. Returns the outcome's record.
pub async fn lose(gateway: &Gateway, client: &Client, path: &str, body: &Value, code: &str) -> Value {
    let answer = client.post(path, body).await;
    assert_eq!(answer.body["code"], code, "{}", answer.text);
    let outcome = outcome(gateway, &answer);
    assert_eq!(outcome["result"], "interrupted", "{outcome}");
    outcome
}

/// The last record of what the gateway did on its own with this key.
pub fn found_out(gateway: &Gateway, key: &Value) -> Value {
    let all = records(&gateway.data());
    let own = |record: &&Value| record["operation"] == "Background" && record["kind"] == "outcome" && record["key"] == *key;
    all.iter().rfind(own).cloned().unwrap_or(Value::Null)
}

pub fn new_key(name: &str, connection: &str) -> Value {
    json!({"name": name, "connection": connection})
}

async fn finished() {
    let service = Service::start().await;
    let (gateway, _started, client) = world(&service).await;
    for (at, (loss, code)) in LOSSES.into_iter().enumerate() {
        for connection in ["vault", "aws"] {
            let name = format!("new-{at}-{connection}");
            service.lose(Some(loss));
            let lost = lose(&gateway, &client, "/v1/keys", &new_key(&name, connection), code).await;
            let path = format!("/v1/keys/{name}");
            client.get(&path).await.expect_problem(404, "not_found");
            // The key moves to the other connection.
            let (from, to) = if connection == "vault" {
                ("on-aws", "vault")
            } else {
                ("on-vault", "aws")
            };
            let moved = format!("/v1/keys/{from}");
            let before = client.get(&moved).await.expect_status(200);
            let moves = before["connection"] != to;
            if moves {
                lose(&gateway, &client, &format!("{moved}/rotate"), &json!({"connection": to}), code).await;
            }
            service.lose(None);
            let made = service.keys();
            let_be_due(&gateway).await;
            until_ended(&gateway).await;

            let key = client.get(&path).await.expect_status(200);
            assert_eq!(key["id"], lost["change"]["id"], "the id was drawn once");
            assert_eq!((&key["state"], &key["connection"]), (&json!("enabled"), &json!(connection)));
            let told = found_out(&gateway, &key["id"]);
            assert_eq!(
                (&told["change"]["verb"], &told["result"], &told["key_version"]),
                (&json!("create"), &json!("success"), &json!(1)),
                "{told}"
            );
            if moves {
                let after = client.get(&moved).await.expect_status(200);
                assert_eq!(
                    (&after["connection"], &after["primary_version"]),
                    (&json!(to), &json!(2)),
                    "{after}"
                );
                let told = found_out(&gateway, &after["id"]);
                assert_eq!(
                    (&told["change"]["verb"], &told["result"]),
                    (&json!("move"), &json!("success")),
                    "{told}"
                );
            }
            assert_eq!(service.keys(), made, "nothing was made for it");
        }
    }
}

async fn killed() {
    let service = Service::start().await;
    let (gateway, started, client) = world(&service).await;
    kill_in(&service, Loss::Silent, started, client, "/v1/keys", new_key("new", "vault")).await;
    let started = gateway.serve(&service.tune());
    let client = started.tenant("acme");
    kill_in(
        &service,
        Loss::Silent,
        started,
        client,
        "/v1/keys/on-aws/rotate",
        json!({"connection": "vault"}),
    )
    .await;
    let made = service.keys();
    let started = gateway.serve(&service.tune());
    let client = started.tenant("acme");
    client.get("/v1/keys/new").await.expect_problem(404, "not_found");
    let_be_due(&gateway).await;
    until_ended(&gateway).await;
    client.get("/v1/keys/new").await.expect_status(200);
    let moved = client.get("/v1/keys/on-aws").await.expect_status(200);
    assert_eq!(
        (&moved["connection"], &moved["primary_version"]),
        (&json!("vault"), &json!(2)),
        "{moved}"
    );
    assert_eq!(service.keys(), made);
}

async fn not_made() {
    let service = Service::start().await;
    let (gateway, _started, client) = world(&service).await;
    let made = service.keys();
    service.lose(Some(Loss::Unarrived));
    let code = "provider_unavailable";
    for (connection, from) in [("vault", "on-aws"), ("aws", "on-vault")] {
        let name = format!("new-{connection}");
        let lost = lose(&gateway, &client, "/v1/keys", &new_key(&name, connection), code).await;
        lose(
            &gateway,
            &client,
            &format!("/v1/keys/{from}/rotate"),
            &json!({"connection": connection}),
            code,
        )
        .await;
        let_be_due(&gateway).await;
        until_ended(&gateway).await;
        client.get(&format!("/v1/keys/{name}")).await.expect_problem(404, "not_found");
        let key = client.get(&format!("/v1/keys/{from}")).await.expect_status(200);
        assert_eq!(key["primary_version"], 1, "{key}");
        for id in [&lost["change"]["id"], &key["id"]] {
            let told = found_out(&gateway, id);
            assert_eq!((&told["result"], &told["code"]), (&json!("failed"), &json!("not_found")), "{told}");
        }
    }
    assert_eq!(service.keys(), made);
}

async fn reported() {
    let service = Service::start().await;
    let (gateway, started, client) = world(&service).await;
    for (connection, from) in [("vault", "on-aws"), ("aws", "on-vault")] {
        let (name, moved) = (format!("new-{connection}"), format!("/v1/keys/{from}/rotate"));
        let elsewhere = if connection == "vault" { "aws" } else { "vault" };
        let (create, to) = (new_key(&name, connection), json!({"connection": connection}));
        service.lose(Some(Loss::Closed));
        let lost = lose(&gateway, &client, "/v1/keys", &create, "provider_unavailable").await;
        let lost_move = lose(&gateway, &client, &moved, &to, "provider_unavailable").await;
        service.lose(None);
        // Through another connection, and without an idempotency key, the requests are others.
        let other = client.post("/v1/keys", &new_key(&name, elsewhere)).await.expect_status(201);
        client.post(&moved, &to).await.expect_status(200);
        let_be_due(&gateway).await;
        until_ended(&gateway).await;

        assert_eq!(client.get(&format!("/v1/keys/{name}")).await.expect_status(200)["id"], other["id"]);
        assert_eq!(found_out(&gateway, &lost["change"]["id"])["code"], "already_exists");
        let key = client.get(&format!("/v1/keys/{from}")).await.expect_status(200);
        assert_eq!(key["primary_version"], 2, "the second move stays: {key}");
        assert_eq!(found_out(&gateway, &key["id"])["code"], "key_state");
        for made_as in [&lost["change"]["id"], &lost_move["change"]["made_as"]] {
            let made_as = made_as.as_str().expect("an id");
            let named = service.name_of(made_as).expect("the service has it");
            let said = started.output();
            let line = said.lines().find(|line| line.contains("nothing uses") && line.contains(&named));
            assert!(line.is_some_and(|line| line.contains(made_as)), "{named} is not named: {said}");
        }
    }
}

async fn severed() {
    let service = Service::start().await;
    let (gateway, _started, client) = world(&service).await;
    service.lose(Some(Loss::Closed));
    lose(&gateway, &client, "/v1/keys", &new_key("new", "vault"), "provider_unavailable").await;
    service.lose(None);
    client.post_empty("/v1/connections/vault/sever").await.expect_status(200);
    let calls = service.calls();
    let_be_due(&gateway).await;
    // It waits for another minute.
    until_postponed(&gateway).await;
    assert_eq!(service.calls(), calls, "called through a severed connection");
    client.post_empty("/v1/connections/vault/restore").await.expect_status(200);
    let_be_due(&gateway).await;
    until_ended(&gateway).await;
    client.get("/v1/keys/new").await.expect_status(200);
}

async fn looked_again() {
    let service = Service::start().await;
    let (gateway, _started, client) = world(&service).await;
    service.lose(Some(Loss::Closed));
    lose(&gateway, &client, "/v1/keys", &new_key("new", "vault"), "provider_unavailable").await;
    service.lose(None);
    service.set_down(true);
    let_be_due(&gateway).await;
    until_postponed(&gateway).await;
    service.set_down(false);
    let_be_due(&gateway).await;
    until_ended(&gateway).await;
    client.get("/v1/keys/new").await.expect_status(200);
}

/// Waits until the only creation was looked at, and is to be looked at again.
async fn until_postponed(gateway: &Gateway) {
    let until = Instant::now() + PATIENCE;
    while due(gateway).await == 0 {
        assert!(Instant::now() < until, "never looked at");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// When the only creation is due.
async fn due(gateway: &Gateway) -> i64 {
    let mut store = store(&gateway.data()).await;
    let due = sqlx::query_scalar("SELECT due FROM creations")
        .fetch_one(&mut store)
        .await
        .expect("a row");
    store.close().await.expect("the store is closed");
    due
}

async fn repeated() {
    let service = Service::start().await;
    let (gateway, _started, client) = world(&service).await;
    for (connection, from) in [("vault", "on-aws"), ("aws", "on-vault")] {
        let (create, to) = (new_key(&format!("new-{connection}"), connection), json!({"connection": connection}));
        let moved = format!("/v1/keys/{from}/rotate");
        service.lose(Some(Loss::Closed));
        once(&client, "/v1/keys", &create).await.expect_problem(503, "provider_unavailable");
        once(&client, &moved, &to).await.expect_problem(503, "provider_unavailable");
        service.lose(None);
        let made = service.keys();
        let_be_due(&gateway).await;
        until_ended(&gateway).await;
        let key = client.get(&format!("/v1/keys/new-{connection}")).await.expect_status(200);
        for _ in 0..2 {
            let again = once(&client, "/v1/keys", &create).await;
            assert_eq!(again.expect_status(201)["id"], key["id"]);
            let again = once(&client, &moved, &to).await.expect_status(200);
            assert_eq!(again["primary_version"], 2, "{again}");
        }
        assert_eq!(service.keys(), made, "{connection}: the repetition made another key");
        assert!(begun(&gateway).await.is_empty());
    }
}

/// Repetitions without an idempotency key: tenant and name say that they are the same.
async fn next_try() {
    for (loss, code) in LOSSES {
        for restart in [false, true] {
            let service = Service::start().await;
            let (gateway, mut started, mut client) = world(&service).await;
            let made = service.keys();
            for (at, connection) in (1..).zip(["vault", "aws"]) {
                let name = format!("new-{connection}");
                service.lose(Some(loss));
                let lost = lose(&gateway, &client, "/v1/keys", &new_key(&name, connection), code).await;
                service.lose(None);
                if restart {
                    started.kill();
                    started = gateway.serve(&service.tune());
                    client = started.tenant("acme");
                }
                let key = client.post("/v1/keys", &new_key(&name, connection)).await.expect_status(201);
                assert_eq!(key["id"], lost["change"]["id"], "the id was drawn once");
                assert_eq!(service.keys(), made + at, "{connection}: the next try made another key");
                assert!(begun(&gateway).await.is_empty(), "the creation has ended");
                let again = client.post("/v1/keys", &new_key(&name, connection)).await;
                again.expect_problem(409, "already_exists");
            }
        }
    }
}

/// A key service is eventually consistent: a moment after the first try, neither its list nor a read has the key.
async fn shows_later() {
    let service = Service::start().await;
    let gateway = Gateway::new(crate::BINARY);
    let started = gateway.serve(&service.tune().set("CLAVIGER_PROVIDERS__CREATION_TIMEOUT", "30s"));
    let client = started.with_tenant("acme").await;
    for connection in service.connections() {
        client.post("/v1/connections", &connection).await.expect_status(201);
    }
    for connection in ["vault", "aws"] {
        let create = new_key(&format!("new-{connection}"), connection);
        service.hide_new_keys(3);
        service.lose(Some(Loss::Closed));
        let lost = lose(&gateway, &client, "/v1/keys", &create, "provider_unavailable").await;
        service.lose(None);
        let (made, hidden) = (service.keys(), service.hidden());
        let key = client.post("/v1/keys", &create).await.expect_status(201);
        assert_eq!(key["id"], lost["change"]["id"]);
        assert_eq!(service.keys(), made, "{connection}: the next try made another key");
        assert_eq!(service.hidden() - hidden, 3, "{connection}: the key was hidden");
    }
}

/// A creation of the same name with other labels or cache rules is another one, and gets no key with the first one's.
async fn another() {
    let service = Service::start().await;
    let (gateway, _started, client) = world(&service).await;
    for connection in ["vault", "aws"] {
        let name = format!("new-{connection}");
        let mut first = new_key(&name, connection);
        first["labels"] = json!({"team": "first"});
        service.lose(Some(Loss::Closed));
        let lost = lose(&gateway, &client, "/v1/keys", &first, "provider_unavailable").await;
        let made = service.keys();
        for other in [
            json!({"labels": {"team": "second"}}),
            json!({"labels": {"team": "first"}, "cache": {"enabled": false}}),
        ] {
            let mut second = new_key(&name, connection);
            second
                .as_object_mut()
                .expect("an object")
                .extend(other.as_object().expect("an object").clone());
            let refused = client.post("/v1/keys", &second).await.expect_problem(409, "in_progress");
            let detail = refused["detail"].as_str().expect("why");
            assert!(detail.contains("other labels or cache rules"), "{refused}");
        }
        service.lose(None);
        let_be_due(&gateway).await;
        until_ended(&gateway).await;
        let key = client.get(&format!("/v1/keys/{name}")).await.expect_status(200);
        assert_eq!((&key["id"], &key["labels"]["team"]), (&lost["change"]["id"], &json!("first")));
        assert_eq!(service.keys(), made);
    }
    // Where nothing was made, the other one is free to be made after the look.
    service.lose(Some(Loss::Unarrived));
    lose(&gateway, &client, "/v1/keys", &new_key("free", "vault"), "provider_unavailable").await;
    service.lose(None);
    let_be_due(&gateway).await;
    until_ended(&gateway).await;
    let mut second = new_key("free", "vault");
    second["labels"] = json!({"team": "second"});
    let key = client.post("/v1/keys", &second).await.expect_status(201);
    assert_eq!(key["labels"]["team"], "second");
}

async fn told_once() {
    let service = Service::start().await;
    let (gateway, _started, client) = world(&service).await;
    for connection in ["vault", "aws"] {
        let name = format!("new-{connection}");
        let create = new_key(&name, connection);
        service.lose(Some(Loss::Closed));
        let lost = lose(&gateway, &client, "/v1/keys", &create, "provider_unavailable").await;
        service.lose(None);
        let_be_due(&gateway).await;
        until_ended(&gateway).await;
        let made = service.keys();
        // Another request of that name is none of it.
        let mut labelled = create.clone();
        labelled["labels"] = json!({"team": "other"});
        let mut answer = client.post("/v1/keys", &labelled).await;
        // The gateway gives the name free a moment after the store has the key.
        while answer.body["code"] == "in_progress" {
            answer = client.post("/v1/keys", &labelled).await;
        }
        answer.expect_problem(409, "already_exists");
        let key = client.post("/v1/keys", &create).await.expect_status(201);
        assert_eq!(key["id"], lost["change"]["id"]);
        client.post("/v1/keys", &create).await.expect_problem(409, "already_exists");
        // A key that was detached since is not taken up.
        service.lose(Some(Loss::Closed));
        let second = new_key(&format!("{name}-2"), connection);
        let lost = lose(&gateway, &client, "/v1/keys", &second, "provider_unavailable").await;
        service.lose(None);
        let_be_due(&gateway).await;
        until_ended(&gateway).await;
        assert_eq!(client.delete(&format!("/v1/keys/{name}-2")).await.status, 204);
        let other = client.post("/v1/keys", &second).await.expect_status(201);
        assert_ne!(other["id"], lost["change"]["id"]);
        assert_eq!(service.keys(), made + 2);
    }
}
