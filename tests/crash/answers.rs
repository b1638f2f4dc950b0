//! Changes that a key service made and whose answers were lost: they are recorded as interrupted, then
//! finished, also by a later process, and a repeated creation makes no second key.

use std::time::{Duration, Instant};

use claviger_test_support::{Answer, Client, Gateway, Started, free_address, records};
use libtest_mimic::Trial;
use serde_json::{Value, json};
use sqlx::Connection;

use crate::aside::placed;
use crate::creations::{lose, new_key};
use crate::media::store;
use crate::run;
use crate::service::{Loss, Service};

/// How long the gateway may take to find out what became of a change.
pub const PATIENCE: Duration = Duration::from_secs(20);
/// The losses after which the service may have made the change, with what the caller is answered.
pub const LOSSES: [(Loss, &str); 3] = [
    (Loss::Closed, "provider_unavailable"),
    (Loss::Silent, "deadline_exceeded"),
    (Loss::BadGateway, "provider_unavailable"),
];

pub fn trials() -> Vec<Trial> {
    vec![
        Trial::test("answers::a_lost_rotation_is_finished_in_the_background", || run(rotations())),
        Trial::test("answers::a_lost_rotation_is_finished_after_a_restart", || run(restarted())),
        Trial::test("answers::a_kill_in_a_rotation_that_shows_later_leaves_it_to_be_finished", || {
            run(killed())
        }),
        Trial::test("answers::a_rotation_that_is_carried_out_after_the_next_start_is_finished", || {
            run(queued())
        }),
        Trial::test("answers::a_rotation_that_never_shows_is_given_up", || run(given_up())),
        Trial::test("answers::a_lost_rotation_of_a_key_that_was_deleted_is_given_up", || run(deleted())),
        Trial::test("answers::what_a_clock_noted_that_was_set_back_is_found_out_nevertheless", || {
            run(set_back())
        }),
        Trial::test("answers::a_repeated_creation_finds_what_the_first_one_made", || run(creations())),
        Trial::test("answers::a_repeated_rotation_makes_no_second_version", || run(repeated_rotation())),
        Trial::test("answers::a_repeated_move_finds_what_the_first_one_made", || run(moves())),
        Trial::test("answers::what_was_interrupted_is_settled_before_the_next_start", || run(settled())),
        Trial::test("answers::what_was_refused_or_never_sent_failed", || run(refused())),
    ]
}

/// A gateway with both connections to the service, and a key on each.
pub async fn world(service: &Service) -> (Gateway, Started, Client) {
    let gateway = Gateway::new(crate::BINARY);
    let started = gateway.serve(&service.tune());
    let client = started.with_tenant("acme").await;
    for connection in service.connections() {
        client.post("/v1/connections", &connection).await.expect_status(201);
        let key = json!({"name": format!("on-{}", connection["name"].as_str().expect("a name")), "connection": connection["name"]});
        client.post("/v1/keys", &key).await.expect_status(201);
    }
    (gateway, started, client)
}

/// The outcome of the request that this answers.
pub fn outcome(gateway: &Gateway, answer: &Answer) -> Value {
    let id = answer.header("x-request-id").to_owned();
    let mut all = records(&gateway.data()).into_iter();
    all.find(|record| record["kind"] == "outcome" && record["request_id"] == id.as_str())
        .expect("an outcome")
}

/// Waits until the key has this primary version, and no rotation under way.
async fn until(client: &Client, key: &str, version: u64) {
    let until = Instant::now() + PATIENCE;
    loop {
        let row = client.get(&format!("/v1/keys/{key}")).await.expect_status(200);
        if row["primary_version"] == version && row["rotation"]["state"] == "idle" {
            return;
        }
        assert!(Instant::now() < until, "version {version} never came: {row}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Rotates a key, and checks that the answer got lost and what is recorded.
async fn lose_rotation(gateway: &Gateway, client: &Client, key: &str, code: &str) {
    let answer = client.post(&format!("/v1/keys/{key}/rotate"), &json!({})).await;
    assert_eq!(answer.body["code"], code, "{}", answer.text);
    let outcome = outcome(gateway, &answer);
    assert_eq!(outcome["result"], "interrupted", "{outcome}");
    // While it is not known, another one could make two versions of one request.
    let again = client.post(&format!("/v1/keys/{key}/rotate"), &json!({})).await;
    assert_eq!(again.body["code"], "in_progress", "{}", again.text);
}

async fn rotations() {
    let service = Service::start().await;
    let (gateway, _started, client) = world(&service).await;
    for key in ["on-vault", "on-aws"] {
        for (version, (loss, code)) in (2..).zip(LOSSES) {
            service.lose(Some(loss));
            lose_rotation(&gateway, &client, key, code).await;
            service.lose(None);
            service.finish();
            until(&client, key, version).await;
            // The new primary version has a record.
            let number = json!(version);
            let told = records(&gateway.data())
                .into_iter()
                .any(|record| record["operation"] == "Background" && record["key_version"] == number && record["result"] == "success");
            assert!(told, "version {version} of {key} has no record");
        }
    }
    assert_eq!(service.versions(), 8, "each request made one version");
}

async fn restarted() {
    for loss in [Loss::Closed, Loss::Silent] {
        let service = Service::start().await;
        let (gateway, started, client) = world(&service).await;
        service.lose(Some(loss));
        let code = if loss == Loss::Closed {
            "provider_unavailable"
        } else {
            "deadline_exceeded"
        };
        lose_rotation(&gateway, &client, "on-aws", code).await;
        started.kill();
        service.lose(None);
        let started = gateway.serve(&service.tune());
        let client = started.tenant("acme");
        let row = client.get("/v1/keys/on-aws").await.expect_status(200);
        assert_eq!(row["rotation"]["state"], "in_progress", "{row}");
        service.finish();
        until(&client, "on-aws", 2).await;
        // Nothing is waited for after another start.
        started.kill();
        let started = gateway.serve(&service.tune());
        let row = started.tenant("acme").get("/v1/keys/on-aws").await.expect_status(200);
        assert_eq!(
            (&row["primary_version"], &row["rotation"]["state"]),
            (&json!(2), &json!("idle")),
            "{row}"
        );
    }
}

/// Kills the gateway while the service has the request, whose answer gets lost in this way.
pub async fn kill_in(service: &Service, loss: Loss, started: Started, client: Client, path: &'static str, body: Value) {
    service.lose(Some(loss));
    let changes = service.changes();
    let going = tokio::spawn(async move {
        let request = client.request(http::Method::POST, path).body(body.to_string());
        client.try_send(request.header("content-type", "application/json")).await
    });
    while service.changes() == changes {
        tokio::task::yield_now().await;
    }
    started.kill();
    assert!(going.await.expect("the request ends").is_none(), "nothing was answered");
    service.lose(None);
}

async fn killed() {
    let service = Service::start().await;
    let (gateway, started, client) = world(&service).await;
    kill_in(&service, Loss::Silent, started, client, "/v1/keys/on-aws/rotate", json!({})).await;
    let started = gateway.serve(&service.tune());
    assert_eq!(rotated(&gateway)["result"], "interrupted");
    service.finish();
    until(&started.tenant("acme"), "on-aws", 2).await;
}

/// The outcome of the only rotation.
fn rotated(gateway: &Gateway) -> Value {
    let mut all = records(&gateway.data()).into_iter();
    all.find(|record| record["kind"] == "outcome" && record["change"]["verb"] == "rotate")
        .expect("an outcome")
}

/// The service carries out a rotation only after the start that follows the kill.
async fn queued() {
    let service = Service::start().await;
    let (gateway, started, client) = world(&service).await;
    let key = client.get("/v1/keys/on-vault").await.expect_status(200);
    kill_in(&service, Loss::Queued, started, client, "/v1/keys/on-vault/rotate", json!({})).await;
    let started = gateway.serve(&service.tune());
    let outcome = rotated(&gateway);
    assert_eq!(outcome["result"], "interrupted", "{outcome}");
    let provider_key = key["provider_key"].as_str().expect("an id");
    service.rotate(provider_key.trim_start_matches("transit/"));
    until(&started.tenant("acme"), "on-vault", 2).await;
}

/// As if the lost rotations had begun so many seconds earlier. The gateway is not running.
async fn age_rotations(gateway: &Gateway, seconds: i64) {
    let mut store = store(&gateway.data()).await;
    // Negative: the answer was lost.
    sqlx::query("UPDATE keys SET rotating = rotating + ?1 WHERE rotating < 0")
        .bind(seconds * 1_000_000)
        .execute(&mut store)
        .await
        .expect("the rows change");
    store.close().await.expect("the store is closed");
}

async fn given_up() {
    let service = Service::start().await;
    let (gateway, started, client) = world(&service).await;
    service.lose(Some(Loss::Unarrived));
    for key in ["on-vault", "on-aws"] {
        lose_rotation(&gateway, &client, key, "provider_unavailable").await;
    }
    service.lose(None);
    started.kill();
    age_rotations(&gateway, 60).await;
    let started = gateway.serve(&service.tune());
    let client = started.tenant("acme");
    until(&client, "on-vault", 1).await;
    let aws = client.get("/v1/keys/on-aws").await.expect_status(200);
    assert_eq!(aws["rotation"]["state"], "in_progress", "AWS may show it later: {aws}");
    let told = |key: &Value| {
        let mut all = records(&gateway.data()).into_iter();
        all.any(|record| {
            record["operation"] == "Background" && record["kind"] == "outcome" && record["key"] == *key && record["result"] == "success"
        })
    };
    let vault = client.get("/v1/keys/on-vault").await.expect_status(200);
    assert!(told(&vault["id"]) && !told(&aws["id"]), "each end has a record");
    started.kill();
    age_rotations(&gateway, 14 * 60).await;
    let started = gateway.serve(&service.tune());
    let client = started.tenant("acme");
    until(&client, "on-aws", 1).await;
    assert!(told(&aws["id"]));
    for key in ["on-vault", "on-aws"] {
        client.post(&format!("/v1/keys/{key}/rotate"), &json!({})).await;
        service.finish();
        until(&client, key, 2).await;
    }
}

/// The owner deletes the key before the gateway can find out what became of its rotation.
async fn deleted() {
    let service = Service::start().await;
    let (gateway, started, client) = world(&service).await;
    let key = client.get("/v1/keys/on-vault").await.expect_status(200);
    service.lose(Some(Loss::Unarrived));
    lose_rotation(&gateway, &client, "on-vault", "provider_unavailable").await;
    service.lose(None);
    service.delete(key["provider_key"].as_str().expect("an id").trim_start_matches("transit/"));
    started.kill();
    age_rotations(&gateway, 60).await;
    let started = gateway.serve(&service.tune());
    let client = started.tenant("acme");
    until(&client, "on-vault", 1).await;
    // A tenant's key is no failure of the installation's.
    let ready = started.operator().get("/readyz").await.expect_status(200);
    let jobs = ready["jobs"].as_array().expect("jobs").iter();
    let failing: Vec<&Value> = jobs.filter(|job| job["failing"] == true).collect();
    assert!(failing.is_empty(), "{failing:?}");
    // The way out.
    let body = json!({"connection": "aws"});
    client.post("/v1/keys/on-vault/rotate", &body).await.expect_status(200);
}

/// As if the clock had been a year ahead while a rotation and a creation were lost, and was set back.
async fn set_back() {
    const YEAR: i64 = 365 * 24 * 3600;
    let service = Service::start().await;
    let (gateway, started, client) = world(&service).await;
    service.lose(Some(Loss::Unarrived));
    lose_rotation(&gateway, &client, "on-vault", "provider_unavailable").await;
    service.lose(Some(Loss::Closed));
    lose(&gateway, &client, "/v1/keys", &new_key("new", "vault"), "provider_unavailable").await;
    service.lose(None);
    started.kill();
    age_rotations(&gateway, -YEAR).await;
    let mut store = store(&gateway.data()).await;
    sqlx::query("UPDATE creations SET begun = begun + ?1, due = due + ?1")
        .bind(YEAR * 1_000_000)
        .execute(&mut store)
        .await
        .expect("the rows change");
    let started = gateway.serve(&service.tune());
    let client = started.tenant("acme");
    let end = Instant::now() + PATIENCE;
    let ahead = "SELECT COUNT(*) FROM keys WHERE abs(rotating) > unixepoch() * 1000000 + 3600000000";
    loop {
        let waited_for: i64 = sqlx::query_scalar(ahead).fetch_one(&mut store).await.expect("a number");
        if waited_for == 0 && client.get("/v1/keys/new").await.status == 200 {
            break;
        }
        assert!(Instant::now() < end, "a year is waited for");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    store.close().await.expect("the store is closed");
    started.kill();
    // It is waited for as long as another one.
    age_rotations(&gateway, 60).await;
    let started = gateway.serve(&service.tune());
    until(&started.tenant("acme"), "on-vault", 1).await;
}

/// Sends a request with an idempotency key, which is the request itself.
pub async fn once(client: &Client, path: &str, body: &Value) -> Answer {
    let key = format!("{path}{body}").replace(' ', "");
    let request = client.request(http::Method::POST, path).body(body.to_string());
    let request = request.header("content-type", "application/json").header("idempotency-key", &key);
    client.try_send(request).await.expect("an answer")
}

async fn creations() {
    for (loss, code) in LOSSES {
        for restart in [false, true] {
            let service = Service::start().await;
            let (gateway, mut started, mut client) = world(&service).await;
            let made = service.keys();
            for (at, connection) in (1..).zip(["vault", "aws"]) {
                let body = json!({"name": format!("new-on-{connection}"), "connection": connection});
                service.lose(Some(loss));
                let first = once(&client, "/v1/keys", &body).await;
                assert_eq!(first.body["code"], code, "{}", first.text);
                let interrupted = outcome(&gateway, &first);
                assert_eq!(interrupted["result"], "interrupted", "{interrupted}");
                service.lose(None);
                if restart {
                    started.kill();
                    started = gateway.serve(&service.tune());
                    client = started.tenant("acme");
                }
                let second = once(&client, "/v1/keys", &body).await.expect_status(201);
                assert_eq!(second["id"], interrupted["change"]["id"], "the id was drawn once");
                assert_eq!(service.keys(), made + at, "{connection}: the repetition made another key");
                let third = once(&client, "/v1/keys", &body).await.expect_status(201);
                assert_eq!(third, second);
            }
        }
    }
}

async fn repeated_rotation() {
    let service = Service::start().await;
    let (_gateway, _started, client) = world(&service).await;
    for (at, key) in (1..).zip(["on-vault", "on-aws"]) {
        let path = format!("/v1/keys/{key}/rotate");
        service.lose(Some(Loss::Closed));
        let first = once(&client, &path, &json!({})).await;
        assert_eq!(first.body["code"], "provider_unavailable", "{}", first.text);
        service.lose(None);
        service.finish();
        until(&client, key, 2).await;
        let second = once(&client, &path, &json!({})).await.expect_status(200);
        assert_eq!(second["primary_version"], 2, "{second}");
        assert_eq!(service.versions(), 2 + at, "the repetition made another version");
    }
}

async fn moves() {
    let service = Service::start().await;
    let (gateway, _started, client) = world(&service).await;
    let made = service.keys();
    for (at, (from, to)) in (1..).zip([("on-aws", "vault"), ("on-vault", "aws")]) {
        let (path, body) = (format!("/v1/keys/{from}/rotate"), json!({"connection": to}));
        service.lose(Some(Loss::Closed));
        let first = once(&client, &path, &body).await;
        let interrupted = outcome(&gateway, &first);
        assert_eq!(interrupted["result"], "interrupted", "{interrupted}");
        service.lose(None);
        let moved = once(&client, &path, &body).await.expect_status(200);
        assert_eq!((&moved["connection"], &moved["primary_version"]), (&json!(to), &json!(2)));
        assert_eq!(service.keys(), made + at, "the repetition made another key");
    }
}

async fn refused() {
    let service = Service::start().await;
    let (gateway, _started, client) = world(&service).await;
    service.lose(Some(Loss::Refused));
    for key in ["on-vault", "on-aws"] {
        let answer = client.post(&format!("/v1/keys/{key}/rotate"), &json!({})).await;
        assert_eq!(outcome(&gateway, &answer)["result"], "failed", "{}", answer.text);
        let row = client.get(&format!("/v1/keys/{key}")).await.expect_status(200);
        assert_eq!(row["rotation"]["state"], "idle", "{row}");
    }
    service.lose(None);
    // What exists under the id is not what the first attempt made.
    let id = "00112233445566778899aabbccddeeff";
    service.make(&format!("claviger-{id}"));
    let body = json!({"name": "taken", "connection": "vault", "id": id});
    for _ in 0..2 {
        let answer = once(&client, "/v1/keys", &body).await;
        assert_eq!(answer.status, 409, "{}", answer.text);
        assert_eq!(outcome(&gateway, &answer)["result"], "failed");
    }
    // Nobody listens there.
    let nobody = json!({"address": format!("http://{}", free_address()), "auth": {"token": "any"}});
    let nobody = json!({"name": "nobody", "provider": "vault", "settings": nobody});
    client.post("/v1/connections", &nobody).await.expect_status(201);
    let answer = client.post("/v1/keys", &json!({"name": "none", "connection": "nobody"})).await;
    assert_eq!(answer.body["code"], "provider_unavailable", "{}", answer.text);
    assert_eq!(outcome(&gateway, &answer)["result"], "failed");
}

/// A start finds none of the interrupted changes missing in the store.
async fn settled() {
    let service = Service::start().await;
    let (gateway, _started, client) = world(&service).await;
    service.lose(Some(Loss::Closed));
    for number in 0..3 {
        let new = new_key(&format!("new-{number}"), "vault");
        lose(&gateway, &client, "/v1/keys", &new, "provider_unavailable").await;
    }
    let enable = json!({"at_provider": true});
    lose(&gateway, &client, "/v1/keys/on-aws/enable", &enable, "provider_unavailable").await;
    lose_rotation(&gateway, &client, "on-vault", "provider_unavailable").await;
    let mut store = store(&gateway.data()).await;
    let applied: Vec<i64> = sqlx::query_scalar("SELECT position FROM applied")
        .fetch_all(&mut store)
        .await
        .expect("positions");
    store.close().await.expect("the store is closed");
    let placed = placed(&gateway.data());
    let interrupted = placed.iter().filter(|(_, record)| record["result"] == "interrupted");
    let intents: Vec<_> = interrupted.map(|(_, outcome)| (&outcome["tenant"], &outcome["intent"])).collect();
    assert_eq!(intents.len(), 5);
    for (at, intent) in placed
        .iter()
        .filter(|(_, record)| intents.contains(&(&record["tenant"], &record["sequence"])))
    {
        assert!(applied.contains(&(*at as i64)), "a start has to settle {intent}");
    }
}
