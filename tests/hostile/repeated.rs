//! Revocations that are repeated while they are in force: each costs the log a record, and the store's writer nothing.

use claviger_test_support::{Answer, Client, Tune, Version, records};
use reqwest::Method;
use serde_json::Value;

use crate::world::{HOSTILE, World};

/// Sends a revocation, which is carried out or was.
async fn revoke(by: &Client, (method, path): &(Method, String)) -> Answer {
    let answer = by.send(by.request(method.clone(), path)).await;
    assert!(matches!(answer.status, 200 | 204), "{method} {path}: {}", answer.text);
    answer
}

/// The position in the log of the last change that the store has.
async fn last_change(world: &World) -> i64 {
    let last = sqlx::query_scalar("SELECT max(position) FROM applied");
    last.fetch_one(&mut world.database().await).await.unwrap()
}

/// The records of the request with this answer.
fn records_of(world: &World, answer: &Answer) -> Vec<Value> {
    let mut all = records(&world.gateway.data());
    all.retain(|record| record["request_id"] == answer.header("x-request-id"));
    all
}

#[tokio::test]
async fn a_revocation_that_is_in_force_is_repeated_without_a_row() {
    let world = World::start().await;
    let issued = world.evil_token("thief", &["ReadKey"], None).await;
    let honest = world.honest().await;
    let post = |path: &str| (Method::POST, path.to_owned());
    let disable = post("/v1/keys/orders/disable");
    let token = format!("/v1/principals/thief/tokens/{}", issued["id"].as_str().unwrap());
    let (evil, operator) = (world.evil.clone(), world.started.operator());
    for (by, revocation) in [
        (&evil, disable.clone()),
        (&evil, post("/v1/connections/embedded/sever")),
        (&evil, (Method::DELETE, token)),
        (&evil, (Method::DELETE, "/v1/principals/thief".to_owned())),
        (&operator, post(&format!("/v1/tenants/{HOSTILE}/suspend"))),
    ] {
        let first = revoke(by, &revocation).await;
        let before = last_change(&world).await;
        for version in Version::ALL {
            let again = revoke(&by.over(version), &revocation).await;
            let state = ["state", "etag", "updated"].map(|member| (&first.body[member], &again.body[member]));
            assert!(state.iter().all(|(first, again)| first == again), "{}", again.text);
            let records = records_of(&world, &again);
            let [record] = &records[..] else {
                panic!("{revocation:?}: {records:#?}")
            };
            assert_eq!(
                (&record["kind"], &record["result"]),
                (&"outcome".into(), &"success".into()),
                "{record}"
            );
            assert!(record["intent"].is_null() && record["change"].is_null(), "{record}");
        }
        assert_eq!(last_change(&world).await, before, "{revocation:?} was written again");
    }
    operator
        .post_empty(&format!("/v1/tenants/{HOSTILE}/resume"))
        .await
        .expect_status(200);
    evil.post_empty("/v1/connections/embedded/restore").await.expect_status(200);
    evil.post_empty("/v1/keys/orders/enable").await.expect_status(200);
    // What was lifted is revoked anew.
    let before = last_change(&world).await;
    let anew = revoke(&evil, &disable).await;
    assert!(last_change(&world).await > before);
    assert_eq!(records_of(&world, &anew).len(), 2, "an intent and its outcome");
    revoke(&evil, &disable).await;
    honest.end().await;

    // It is what a gateway finds that starts after a crash.
    let World { gateway, started, .. } = world;
    started.kill();
    let started = gateway.serve(&Tune::default());
    let key = started.tenant(HOSTILE).get("/v1/keys/orders").await.expect_status(200);
    assert_eq!(key["state"], "disabled");
}
