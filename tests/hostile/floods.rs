//! Revocations while a hostile tenant has all under way that it can have.

use std::time::{Duration, Instant};

use bytes::Bytes;
use claviger_test_support::attack::{STREAMS, half_sent};
use claviger_test_support::raw::{Http1, Http2, answer_of};
use claviger_test_support::{Client, Tune, p99};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use http::Method;
use serde_json::json;

use crate::world::{PEAK, World, token};

/// Batches left half-sent at once: as many as the gateway has places.
const BATCHES: usize = 512;
/// Times that each revocation is made meanwhile.
const TIMES: usize = 20;
/// How long a revocation may take at the 99th percentile on a busy machine. On an idle one it is 250 ms.
const LIMIT: Duration = Duration::from_secs(8);

async fn timed(took: &mut Vec<Duration>, client: &Client, path: &str) {
    let begun = Instant::now();
    client.post(path, &json!({})).await.expect_status(200);
    took.push(begun.elapsed());
}

/// Disables a key of the hostile tenant, severs a connection of another tenant, and revokes tokens of the
/// hostile principal, the one that attacks last. Gives back how long each took.
async fn revoke_all(world: &World, attacker: &str, attack: &str) -> Vec<Duration> {
    let other = world.started.with_tenant("other").await;
    let mut took = Vec::new();
    for _ in 0..TIMES {
        timed(&mut took, &world.evil, "/v1/keys/orders/disable").await;
        timed(&mut took, &other, "/v1/connections/embedded/sever").await;
        let issued = world.evil_token(attacker, &["Unwrap"], None).await;
        revoke(&mut took, world, attacker, issued["id"].as_str().unwrap()).await;
    }
    revoke(&mut took, world, attacker, attack).await;
    took
}

async fn revoke(took: &mut Vec<Duration>, world: &World, attacker: &str, id: &str) {
    let begun = Instant::now();
    let path = format!("/v1/principals/{attacker}/tokens/{id}");
    world.evil.delete(&path).await.expect_status(204);
    took.push(begun.elapsed());
}

fn within(limit: Duration, took: Vec<Duration>) {
    let slowest = p99(took);
    assert!(slowest < limit, "a revocation took {slowest:?}");
}

#[tokio::test]
async fn half_sent_batches_hold_up_no_revocation() {
    let world = World::start().await;
    let issued = world.evil_token("attacker", &["Unwrap"], None).await;
    let attack = issued["token"].as_str().unwrap();
    let honest = world.honest().await;
    let mut connections = Vec::new();
    let mut half = Vec::new();
    for _ in 0..BATCHES / STREAMS {
        let connection = Http2::connect(world.started.address(), 65_535).await;
        for _ in 0..STREAMS {
            half.push(half_sent(&connection, attack, "/v1/batch/unwrap").await.unwrap());
        }
        connections.push(connection);
    }
    world.under_way(BATCHES).await;
    within(LIMIT, revoke_all(&world, "attacker", issued["id"].as_str().unwrap()).await);
    honest.end().await;
    world.holds(PEAK);
}

#[tokio::test]
async fn nor_do_those_over_http1() {
    // All of them come from one address.
    let tune = Tune::default().set("CLAVIGER_SERVER__LIMITS__MAX_CONNECTIONS_PER_SOURCE", "1024");
    let world = World::tuned(&tune).await;
    let issued = world.evil_token("attacker", &["Unwrap"], None).await;
    let honest = world.honest().await;
    let mut half = Vec::new();
    for _ in 0..BATCHES {
        let mut request = Http1::post(world.started.address(), issued["token"].as_str().unwrap(), "/v1/batch/unwrap", 4096).await;
        request.send(b"{\"ite").await;
        half.push(request);
    }
    world.under_way(BATCHES).await;
    within(LIMIT, revoke_all(&world, "attacker", issued["id"].as_str().unwrap()).await);
    honest.end().await;
    world.holds(PEAK);
}

/// One tenant's flood of revocations takes turns among itself: another tenant's is answered, and another
/// credential's of the same tenant too. What is over the credential's bound is told to come again.
#[tokio::test]
async fn a_flood_of_revocations_holds_up_no_other_revocation() {
    let world = World::start().await;
    let issued = world.evil_token("attacker", &["Disable"], None).await;
    let attack = issued["token"].as_str().unwrap();
    let admin = token(&world.evil, "admin", &["Disable"], None).await;
    let admin = world.evil.with_token(admin["token"].as_str().unwrap());
    let other = world.started.with_tenant("other").await;
    let owner = token(&other, "owner", &["Sever"], None).await;
    let owner = other.with_token(owner["token"].as_str().unwrap());
    let honest = world.honest().await;

    let connection = Http2::connect(world.started.address(), 65_535).await;
    let flood = tokio::spawn({
        let attack = attack.to_owned();
        async move {
            let mut statuses = Vec::new();
            let mut open = FuturesUnordered::new();
            for _ in 0..20 * STREAMS {
                let (response, mut body) = connection.open(Method::POST, &attack, "/v1/keys/orders/disable").await;
                body.send_data(Bytes::new(), true).unwrap();
                open.push(answer_of(response));
                if open.len() == STREAMS {
                    statuses.push(open.next().await.unwrap());
                }
            }
            while let Some(answer) = open.next().await {
                statuses.push(answer);
            }
            statuses
        }
    });
    let mut took = Vec::new();
    while !flood.is_finished() {
        timed(&mut took, &owner, "/v1/connections/embedded/sever").await;
        timed(&mut took, &admin, "/v1/keys/orders/disable").await;
    }
    within(LIMIT, took);
    let answers = flood.await.unwrap();
    assert!(answers.iter().any(|(status, _)| *status == 200), "some are carried out");
    assert!(
        answers
            .iter()
            .any(|(status, answer)| *status == 429 && answer["code"] == "rate_limited"),
        "one credential has only so many that wait"
    );
    for (status, answer) in &answers {
        assert!([200, 429].contains(status), "{status} {answer}");
    }
    honest.end().await;
    world.holds(PEAK);
}
