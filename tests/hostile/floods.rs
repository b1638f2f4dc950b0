//! Revocations while a hostile tenant has all under way that it can have.

use std::time::{Duration, Instant};

use claviger_test_support::attack::{STREAMS, half_sent};
use claviger_test_support::raw::{Http1, Http2};
use claviger_test_support::{Answer, Guard, Tune, Version, issue_tokens, p99, text_of};
use futures::StreamExt;
use serde_json::Value;

use crate::world::{PEAK, World};

/// Batches left half-sent at once: as many as the gateway has places.
const BATCHES: usize = 512;
/// Rounds of revocations meanwhile.
const ROUNDS: usize = 10;
/// How long a revocation may take at the 99th percentile on a busy machine. On an idle one it is 250 ms.
const LIMIT: Duration = Duration::from_secs(8);

/// One who revokes in the hostile tenant, and one in another.
async fn guards(world: &World) -> [Guard; 2] {
    [
        Guard::of(&world.evil).await,
        Guard::of(&world.started.with_tenant("other").await).await,
    ]
}

/// Both of them revoke, and then the operator revokes the token that attacks. Returns how long each revocation took.
async fn revoke_all(world: &World, guards: &[Guard], attack: &Value) -> Vec<Duration> {
    let mut took = Vec::new();
    for _ in 0..ROUNDS {
        for guard in guards {
            guard.round(&mut took).await;
        }
    }
    let begun = Instant::now();
    let path = format!("/v1/principals/attacker/tokens/{}", attack["id"].as_str().unwrap());
    world.evil.delete(&path).await.expect_status(204);
    took.push(begun.elapsed());
    took
}

fn within(limit: Duration, took: Vec<Duration>) {
    let slowest = p99(took);
    assert!(slowest < limit, "a revocation took {slowest:?}");
}

#[tokio::test]
async fn half_sent_batches_hold_up_no_revocation() {
    let world = World::start().await;
    let guards = guards(&world).await;
    let issued = world.evil_token("attacker", &["Unwrap"], None).await;
    let attack = text_of(&issued);
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
    within(LIMIT, revoke_all(&world, &guards, &issued).await);
    honest.end().await;
    world.holds(PEAK);
}

#[tokio::test]
async fn nor_do_those_over_http1() {
    // All of them come from one address.
    let tune = Tune::default().set("CLAVIGER_SERVER__LIMITS__MAX_CONNECTIONS_PER_SOURCE", "1024");
    let world = World::tuned(&tune).await;
    let guards = guards(&world).await;
    let issued = world.evil_token("attacker", &["Unwrap"], None).await;
    let honest = world.honest().await;
    let mut half = Vec::new();
    for _ in 0..BATCHES {
        let mut request = Http1::post(world.started.address(), text_of(&issued), "/v1/batch/unwrap", 4096).await;
        request.send(b"{\"ite").await;
        half.push(request);
    }
    world.under_way(BATCHES).await;
    within(LIMIT, revoke_all(&world, &guards, &issued).await);
    honest.end().await;
    world.holds(PEAK);
}

/// Revocations of a flood, and how many of them are under way at once: as many as one connection of HTTP/2 has streams.
const FLOOD: usize = 20 * STREAMS;
/// Each of so many of them ends a token, which is written. The others disable a key that is disabled.
const WRITTEN: usize = 10;

/// One tenant's flood of revocations takes turns among itself: another tenant's is answered, and another
/// credential's of the same tenant too. What is over the credential's bound is told to come again.
async fn a_flood_holds_up_no_other_revocation(version: Version) {
    let world = World::start().await;
    let guards = guards(&world).await;
    let issued = world.evil_token("attacker", &["Disable", "ManageTokens", "Unwrap"], None).await;
    let tokens = issue_tokens(&world.evil, "attacker", FLOOD / WRITTEN).await;
    let attack = world.evil.with_token(text_of(&issued)).over(version);
    let honest = world.honest().await;

    let flood = tokio::spawn(async move {
        let (attack, tokens) = (&attack, &tokens);
        let revocations = futures::stream::iter(0..FLOOD).map(async |number| match number % WRITTEN {
            0 => attack.delete(&tokens[number / WRITTEN]).await,
            _ => attack.post_empty("/v1/keys/orders/disable").await,
        });
        revocations.buffer_unordered(STREAMS).collect::<Vec<Answer>>().await
    });
    let mut took = Vec::new();
    while !flood.is_finished() {
        for guard in &guards {
            guard.round(&mut took).await;
        }
    }
    within(LIMIT, took);
    let (done, refused): (Vec<_>, Vec<_>) = flood
        .await
        .unwrap()
        .into_iter()
        .partition(|answer| matches!(answer.status, 200 | 204));
    let written = done.iter().filter(|answer| answer.status == 204).count();
    assert!(written > 0 && written < done.len(), "some of both kinds are carried out");
    assert!(!refused.is_empty(), "one credential has only so many that wait");
    for answer in refused {
        assert!(answer.header("retry-after").parse::<u64>().unwrap() >= 1, "{}", answer.text);
        answer.expect_problem(429, "rate_limited");
    }
    honest.end().await;
    world.holds(PEAK);
}

#[tokio::test]
async fn a_flood_of_revocations_holds_up_no_other_revocation() {
    a_flood_holds_up_no_other_revocation(Version::Http2).await;
}

#[tokio::test]
async fn a_flood_of_revocations_over_http1_holds_up_no_other_revocation() {
    a_flood_holds_up_no_other_revocation(Version::Http1).await;
}
