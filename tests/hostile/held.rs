//! A thief's requests wait for a key service when the credential ends.

use std::collections::BTreeSet;
use std::time::Duration;

use claviger_test_support::{Client, records};
use futures::future::join_all;
use serde_json::{Value, json};

use crate::cuts::{Cut, records_of_problem};
use crate::key_service::KeyService;
use crate::world::{PATIENCE, World};

async fn new_key(evil: &Client, name: &str) {
    let body = json!({"name": name, "connection": "remote"});
    evil.post("/v1/keys", &body).await.expect_status(201);
}

async fn what_waits_gets_nothing(cut: Cut) {
    let (world, control) = World::with_fake().await;
    let evil = &world.evil;
    let remote = json!({"name": "remote", "provider": "vault", "settings": {"server": KeyService::NAME, "shared": false}, "timeouts": {"attempt": "10s"}});
    evil.post("/v1/connections", &remote).await.expect_status(201);
    for name in ["used", "turning"] {
        new_key(evil, name).await;
    }
    let mut wrapped = Vec::new();
    for _ in 0..7 {
        let made = evil.post("/v1/keys/used/data-keys", &json!({})).await.expect_status(200);
        wrapped.push(json!({"wrapped": made["wrapped"]}));
    }
    let batch = json!({"items": wrapped[3..]});
    let requests = [
        ("/v1/unwrap", &wrapped[0]),
        ("/v1/keys/used/unwrap", &wrapped[1]),
        ("/v1/keys/used/rewrap", &wrapped[2]),
        ("/v1/keys/used/data-keys", &json!({})),
        ("/v1/keys/used/wrap", &json!({"plaintext": "AAAA"})),
        ("/v1/batch/unwrap", &batch),
        ("/v1/keys/turning/rotate", &json!({})),
        ("/v1/keys", &json!({"name": "loot", "connection": "remote"})),
    ];
    // Each makes one call, and the batch one for each of its 4 items.
    let calls = requests.len() as u64 + 3;
    let mut service = KeyService::at(control).await;
    let honest = world.honest().await;
    service.hold().await;
    let stolen = cut.stolen(evil).await;
    let thief = evil.with_token(&stolen.text);

    let answers = join_all(requests.iter().map(|(path, body)| thief.post(path, body)));
    let cutting = async {
        let all_wait = async {
            while service.waiting().await != calls {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, all_wait)
            .await
            .expect("all wait for the key service");
        cut.make(&world, &stolen).await;
        assert_eq!(service.waiting().await, calls, "the cut waited for nothing");
        service.release().await;
    };
    let (answers, ()) = tokio::join!(answers, cutting);
    for (answer, (path, _)) in answers.into_iter().zip(&requests) {
        cut.refused(path, &(answer.status, answer.body.clone()));
        let records = records_of_problem(&world, &answer.body);
        let outcomes: Vec<&Value> = records.iter().filter(|record| record["kind"] == "outcome").collect();
        assert!(!outcomes.is_empty(), "{path}");
        for outcome in outcomes {
            // What the key service has done is recorded as done, and its answer as withheld.
            let withheld = |record: &&Value| record["kind"] == "withheld" && record["withholds"] == outcome["sequence"];
            let withheld = records.iter().filter(withheld).count();
            let rotated = *path == "/v1/keys/turning/rotate";
            assert_eq!(
                (&outcome["result"] == "success", withheld),
                (rotated, usize::from(rotated)),
                "{path}: {records:#?}"
            );
        }
    }
    let turned = evil.get("/v1/keys/turning").await.expect_status(200);
    assert_eq!(turned["primary_version"], 2, "the key service has the version, so the row says so");
    if cut != Cut::Tenant {
        let used = evil.post("/v1/keys/turning/data-keys", &json!({})).await.expect_status(200);
        assert_eq!(used["version"], 2);
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
