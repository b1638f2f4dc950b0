//! A thief's requests wait for a key service when the credential ends.

use std::collections::BTreeSet;
use std::time::Duration;

use claviger_test_support::{Client, records};
use futures::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};

use crate::cuts::{Cut, records_of_problem};
use crate::key_service::KeyService;
use crate::routes::{Call, Names, calls};
use crate::transit::{Mood, Transit};
use crate::world::{PATIENCE, World, key_service_on_loopback};

/// A call that waits for the key service when the credential ends, on a connection and a key of its own.
struct Waiting {
    call: Call,
    key: String,
    connection: String,
}

impl Waiting {
    async fn prepare(evil: &Client, number: usize, mut call: Call, like: &Value) -> Self {
        let (key, connection) = (format!("key-{number}"), format!("connection-{number}"));
        let mut body = like.clone();
        body["name"] = json!(connection);
        evil.post("/v1/connections", &body).await.expect_status(201);
        let body = json!({"name": key, "connection": connection});
        evil.post("/v1/keys", &body).await.expect_status(201);
        let made = evil.post(&format!("/v1/keys/{key}/data-keys"), &json!({})).await.expect_status(200);
        let names = Names {
            connection: &connection,
            new: "loot",
            ..Names::of_evil(&key, "0", &made["wrapped"])
        };
        let (method, route) = (call.method, call.route);
        let mut all = calls(&names).into_iter();
        call = all.find(|call| call.method == method && call.route == route).unwrap();
        if switches(&call) {
            call.body = json!({"at_provider": true});
        }
        if call.route.ends_with("/enable") {
            evil.post(&format!("/v1/keys/{key}/disable"), &json!({"at_provider": true}))
                .await
                .expect_status(200);
        }
        if call.restores() {
            let path = format!("/v1/connections/{connection}/sever");
            evil.post_empty(&path).await.expect_status(200);
        }
        Self { call, key, connection }
    }
}

/// Whether it changes a key's state at its provider.
fn switches(call: &Call) -> bool {
    call.route.ends_with("/disable") || call.route.ends_with("/enable")
}

/// The key service of the key that is rotated.
const ROTATING: &str = "rotating";

/// Whether it rotates a key.
fn rotates(call: &Call) -> bool {
    call.route.ends_with("/rotate")
}

/// Every call of a tenant that asks a key service: a route that is new is tried, too. Network settings are changed in
/// a test of their own.
fn asking() -> Vec<Call> {
    let all = calls(&Names::of_evil("", "", &Value::Null)).into_iter();
    all.filter(|call| call.asks_key_service() && !call.is_operators() && call.method != Method::PATCH)
        .collect()
}

async fn what_waits_gets_nothing(cut: Cut) {
    let (world, control) = World::with_fake().await;
    let evil = &world.evil;
    let mut waiting = Vec::new();
    for (number, call) in asking().into_iter().enumerate() {
        // A rotation looks at the key before it asks for a version: it has a service of its own, which holds the
        // second of its calls.
        let server = if rotates(&call) { ROTATING } else { KeyService::NAME };
        let mut like = KeyService::connection(server, call.route);
        like["timeouts"] = json!({"attempt": "10s"});
        waiting.push(Waiting::prepare(evil, number, call, &like).await);
    }
    let mut service = KeyService::at(control).await;
    let mut rotating = KeyService::named(control, ROTATING).await;
    let honest = world.honest().await;
    service.hold().await;
    rotating.hold_only("rotate").await;
    let stolen = cut.stolen(evil).await;
    let thief = evil.with_token(&stolen.text);

    let answers = join_all(waiting.iter().map(|one| one.call.send(&thief)));
    let cutting = async {
        let all_wait = async {
            // Each makes one call.
            while service.waiting().await + rotating.waiting().await != waiting.len() as u64 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, all_wait)
            .await
            .expect("all wait for the key service");
        cut.make(&world, &stolen).await;
        let still = service.waiting().await + rotating.waiting().await;
        assert_eq!(still, waiting.len() as u64, "the cut waited for nothing");
        service.release().await;
        rotating.release().await;
    };
    let (answers, ()) = tokio::join!(answers, cutting);
    for (answer, one) in answers.into_iter().zip(&waiting) {
        let name = one.call.name();
        cut.refused(&name, &(answer.status, answer.body.clone()));
        let records = records_of_problem(&world, &answer.body);
        let outcomes: Vec<&Value> = records.iter().filter(|record| record["kind"] == "outcome").collect();
        // What the key service has done is recorded as done, and its answer as withheld.
        let withheld = |outcome: &Value| {
            let of_it = records.iter();
            of_it
                .filter(|record| record["kind"] == "withheld" && record["withholds"] == outcome["sequence"])
                .count()
        };
        let found: Vec<_> = outcomes
            .iter()
            .map(|outcome| (outcome["result"] == "success", withheld(outcome)))
            .collect();
        let expected = match one.call.route {
            _ if rotates(&one.call) => vec![(true, 1)],
            // Here, before the credential ended, and then there.
            "/v1/keys/{key}/disable" => vec![(true, 0), (true, 1)],
            _ => vec![(false, 0)],
        };
        assert_eq!(found, expected, "{name}: {records:#?}");
    }
    for one in &waiting {
        let key = evil.get(&format!("/v1/keys/{}", one.key)).await.expect_status(200);
        let connection = evil.get(&format!("/v1/connections/{}", one.connection)).await.expect_status(200);
        let state = if switches(&one.call) { "disabled" } else { "enabled" };
        let connected = if one.call.restores() { "severed" } else { "active" };
        // The key service has the version, so the row says so.
        let version = if rotates(&one.call) { 2 } else { 1 };
        assert_eq!(
            (&key["state"], &key["primary_version"], &connection["state"]),
            (&json!(state), &json!(version), &json!(connected)),
            "{}: {key}",
            one.call.name()
        );
        if version == 2 && cut != Cut::Tenant {
            let path = format!("/v1/keys/{}/data-keys", one.key);
            assert_eq!(evil.post(&path, &json!({})).await.expect_status(200)["version"], 2);
        }
    }
    evil.get("/v1/keys/loot").await.expect_problem(404, "not_found");
    honest.end().await;
}

#[tokio::test]
async fn a_revoked_token_gets_nothing_that_a_key_service_still_had_to_answer() {
    what_waits_gets_nothing(Cut::Token).await;
}

#[tokio::test]
async fn a_token_below_a_revoked_one_gets_nothing_that_a_key_service_still_had_to_answer() {
    what_waits_gets_nothing(Cut::Ancestor).await;
}

#[tokio::test]
async fn a_deleted_principal_gets_nothing_that_a_key_service_still_had_to_answer() {
    what_waits_gets_nothing(Cut::Principal).await;
}

#[tokio::test]
async fn a_suspended_tenant_gets_nothing_that_a_key_service_still_had_to_answer() {
    what_waits_gets_nothing(Cut::Tenant).await;
}

#[tokio::test]
async fn an_expired_token_gets_nothing_that_a_key_service_still_had_to_answer() {
    what_waits_gets_nothing(Cut::Expiry).await;
}

/// Other network settings are tried on what was wrapped before. They are not stored for a credential that ends
/// while the key service has not answered.
#[tokio::test]
async fn a_credential_that_ends_changes_no_network_settings() {
    for cut in [Cut::Token, Cut::Ancestor, Cut::Principal, Cut::Tenant] {
        let world = World::tuned(&key_service_on_loopback()).await;
        let transit = Transit::start().await;
        transit.connected(&world.evil, "own").await;
        let honest = world.honest().await;
        let before = world.evil.get("/v1/connections/own").await.expect_status(200);
        let stolen = cut.stolen(&world.evil).await;
        let thief = world.evil.with_token(&stolen.text);
        transit.is(Mood::Hangs);
        let patch = transit.patch();
        let changing = tokio::spawn(async move { thief.patch("/v1/connections/own", "*", &patch).await });
        transit.until_waiting(1).await;
        cut.make(&world, &stolen).await;
        assert!(!changing.is_finished(), "the cut waited for nothing");
        transit.is(Mood::Works);
        let answer = changing.await.unwrap();
        cut.refused("a change of network settings", &(answer.status, answer.body));
        assert_eq!(world.evil.get("/v1/connections/own").await.expect_status(200), before);
        honest.end().await;
    }
}

/// What a repetition of a request would find is a row, too: it is not kept for a credential that ended while the key
/// service had not answered.
#[tokio::test]
async fn a_credential_that_ends_keeps_nothing_for_a_repetition() {
    for cut in [Cut::Token, Cut::Ancestor, Cut::Principal, Cut::Tenant] {
        let world = World::tuned(&key_service_on_loopback()).await;
        let transit = Transit::start().await;
        transit.connected(&world.evil, "own").await;
        let honest = world.honest().await;
        let stolen = cut.stolen(&world.evil).await;
        let thief = world.evil.with_token(&stolen.text).with_header("idempotency-key", "stolen");
        transit.is(Mood::Hangs);
        // It looks at the key before it keeps that it begins.
        let rotating = tokio::spawn(async move { thief.post("/v1/keys/own/rotate", &json!({})).await });
        transit.until_waiting(1).await;
        cut.make(&world, &stolen).await;
        transit.is(Mood::Works);
        let answer = rotating.await.unwrap();
        cut.refused("a rotation", &(answer.status, answer.body));
        assert_eq!(kept(&world, "stolen").await, 0, "{cut:?}");
        let key = world.evil.get("/v1/keys/own").await.expect_status(200);
        assert_eq!(key["primary_version"], 1, "{key}");
        honest.end().await;
    }
}

/// How many rows the store keeps for requests with this idempotency key.
async fn kept(world: &World, key: &str) -> i64 {
    let count = sqlx::query_scalar("SELECT count(*) FROM idempotency WHERE key = ?1").bind(key);
    count.fetch_one(&mut world.database().await).await.unwrap()
}

/// How often a token is revoked in the middle of its load.
const ROUNDS: usize = 60;
/// How many callers make the load.
const CALLERS: usize = 6;

/// Nothing is handed over to a revoked token after its revocation was recorded, however many of its
/// requests are between two steps.
#[tokio::test]
async fn a_revocation_comes_between_any_two_steps_of_a_request() {
    let world = World::start().await;
    let made = world.evil.post("/v1/keys/orders/data-keys", &json!({})).await.expect_status(200);
    let one = json!({"wrapped": made["wrapped"]});
    let several = json!({"items": vec![one.clone(); 3]});
    let honest = world.honest().await;
    let mut ended = BTreeSet::new();
    for _ in 0..ROUNDS {
        let stolen = Cut::Token.stolen(&world.evil).await;
        let thief = world.evil.with_token(&stolen.text);
        let callers = join_all((0..CALLERS).map(|caller| {
            let (thief, one, several) = (&thief, &one, &several);
            async move {
                let (path, body) = if caller % 3 == 0 {
                    ("/v1/batch/unwrap", several)
                } else {
                    ("/v1/unwrap", one)
                };
                loop {
                    let answer = thief.post(path, body).await;
                    if answer.status != 200 {
                        assert!(!answer.text.contains("plaintext"), "{}", answer.text);
                        answer.expect_problem(401, "unauthenticated");
                        return;
                    }
                }
            }
        }));
        let revoking = async {
            // Different places of the load, without a clock: after a request of our own.
            thief.post("/v1/unwrap", &one).await.expect_status(200);
            Cut::Token.make(&world, &stolen).await;
        };
        tokio::join!(callers, revoking);
        ended.insert(stolen.id.as_str().unwrap().to_owned());
        for principal in ["issuer", "thief"] {
            assert_eq!(world.evil.delete(&format!("/v1/principals/{principal}")).await.status, 204);
        }
    }
    honest.end().await;

    let records = records(&world.gateway.data());
    let withheld: Vec<&Value> = records.iter().filter(|record| record["kind"] == "withheld").collect();
    let mut revoked = BTreeSet::new();
    for record in records
        .iter()
        .filter(|record| record["kind"] == "outcome" && record["result"] == "success")
    {
        if record["change"]["verb"] == "revoke" {
            revoked.insert(record["change"]["id"].as_str().unwrap().to_owned());
        }
        let by_revoked = record["token_id"].as_str().is_some_and(|token| revoked.contains(token));
        let is_withheld = || {
            withheld
                .iter()
                .any(|other| other["withholds"] == record["sequence"] && other["tenant"] == record["tenant"])
        };
        assert!(!by_revoked || is_withheld(), "handed over after the revocation: {record}");
    }
    assert!(ended.is_subset(&revoked), "each revocation is in the log");
}
