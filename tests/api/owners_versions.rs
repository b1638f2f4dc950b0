//! What the owner of a provider key does to it there: rotations are followed by the next wrap, and a refusal
//! has the key described once and the call made once more.

use std::time::{Duration, Instant};

use claviger_testkit::Fault;
use claviger_testkit::control::Request;
use serde_json::{Value, json};

use crate::fake_world::{FakeWorld, adopt, connect};
use crate::support::PATIENCE;

const SERVER: &str = "bank";
const ORDERS: &str = "/v1/keys/orders";
const ID: &str = "orders";

/// A world in which bank has a key `orders` on the provider key of that name, and the wrapped key that it made.
async fn start() -> (FakeWorld, Value) {
    let world = FakeWorld::start().await;
    connect(&world.bank, "own", SERVER, false).await;
    world.made(SERVER, ID).await;
    adopt(&world.bank, "orders", "own", ID).await.expect_status(201);
    let made = made(&world).await;
    (world, json!({"wrapped": made["wrapped"]}))
}

async fn made(world: &FakeWorld) -> Value {
    world.bank.post(&format!("{ORDERS}/data-keys"), &json!({})).await.expect_status(200)
}

async fn rotated(world: &FakeWorld) {
    world.at(SERVER, Request::RotateKey { id: ID.to_owned() }).await;
}

async fn switched(world: &FakeWorld, version: usize, enabled: bool) {
    let id = ID.to_owned();
    world.at(SERVER, Request::ChangeVersion { id, version, enabled }).await;
}

/// Number, own state and state at the provider of each version.
async fn versions(world: &FakeWorld) -> Value {
    let versions = world.bank.list(&format!("{ORDERS}/versions")).await;
    let shown = |version: &Value| json!([version["number"], version["state"], version["provider_state"]]);
    versions.iter().map(shown).collect()
}

#[tokio::test]
async fn the_next_wrap_and_rewrap_follow_a_rotation() {
    let (world, first) = start().await;
    rotated(&world).await;
    // A rewrap is the first to meet the new version.
    let rewrap = format!("{ORDERS}/rewrap");
    let new = world.bank.post(&rewrap, &first).await.expect_status(200);
    assert_eq!((&new["version"], &new["changed"]), (&json!(2), &json!(true)));
    let again = world
        .bank
        .post(&rewrap, &json!({"wrapped": new["wrapped"]}))
        .await
        .expect_status(200);
    assert_eq!(
        (&again["version"], &again["changed"], &again["wrapped"]),
        (&json!(2), &json!(false), &new["wrapped"])
    );
    rotated(&world).await;
    assert_eq!(made(&world).await["version"], 3);
    assert_eq!(world.bank.get(ORDERS).await.expect_status(200)["primary_version"], 3);
    for wrapped in [&first["wrapped"], &new["wrapped"]] {
        world.bank.post("/v1/unwrap", &json!({"wrapped": wrapped})).await.expect_status(200);
    }
    // What is stored of it costs no further question.
    let asked = world.calls(SERVER, "describe").await;
    made(&world).await;
    assert_eq!(world.calls(SERVER, "describe").await, asked);
}

#[tokio::test]
async fn an_old_version_that_is_disabled_is_known_after_one_refusal() {
    let (world, first) = start().await;
    rotated(&world).await;
    switched(&world, 1, false).await;
    // Wraps go on, with the version that the owner made.
    assert_eq!(made(&world).await["version"], 2);
    assert_eq!(
        versions(&world).await,
        json!([[1, "enabled", "disabled"], [2, "enabled", "enabled"]])
    );
    switched(&world, 1, true).await;
    let unwrap = async || world.bank.post("/v1/unwrap", &first).await;
    until_opened(&unwrap).await;

    // While it is in use, the refusal alone tells.
    let second = json!({"wrapped": made(&world).await["wrapped"]});
    switched(&world, 2, false).await;
    let (asked, used) = (world.calls(SERVER, "describe").await, world.calls(SERVER, "unwrap_key").await);
    let unwrap = async || world.bank.post("/v1/unwrap", &second).await;
    let begin = Instant::now();
    // The question about the first version counts for the provider key: the next one may have to wait.
    while versions(&world).await[1][2] != "disabled" {
        unwrap().await.expect_problem(409, "key_state");
        assert!(begin.elapsed() < PATIENCE, "the refusals do not tell");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(world.calls(SERVER, "describe").await, asked + 1);
    // From then on, nothing is sent.
    let used = (used, world.calls(SERVER, "unwrap_key").await);
    assert!(used.1 > used.0);
    unwrap().await.expect_problem(409, "key_state");
    assert_eq!(world.calls(SERVER, "unwrap_key").await, used.1);
    switched(&world, 2, true).await;
    until_opened(&unwrap).await;
}

/// Waits until an unwrap succeeds.
async fn until_opened(unwrap: &impl AsyncFn() -> claviger_test_support::Answer) {
    let begin = Instant::now();
    loop {
        let answer = unwrap().await;
        if answer.status == 200 {
            return;
        }
        assert!(begin.elapsed() < PATIENCE, "{}", answer.text);
        answer.expect_problem(409, "key_state");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn a_refusal_costs_one_question_and_one_more_call() {
    for (op, path) in [("wrap_key", "data-keys"), ("unwrap_key", "unwrap")] {
        for (refusals, calls, status) in [(1, 2, 200), (2, 2, 409)] {
            let (world, first) = start().await;
            let body = if op == "wrap_key" { json!({}) } else { first };
            let before = world.calls(SERVER, op).await;
            world.fault(SERVER, op, Fault::KeyDisabled, refusals).await;
            let path = format!("{ORDERS}/{path}");
            assert_eq!(world.bank.post(&path, &body).await.status, status, "{op} {refusals}");
            assert_eq!(world.calls(SERVER, op).await, before + calls, "{op} {refusals}");
            assert_eq!(world.calls(SERVER, "describe").await, 1, "{op} {refusals}");
            // The next refusal is too soon for another question, and without one nothing is repeated.
            world.at(SERVER, Request::Clear).await;
            world.fault(SERVER, op, Fault::KeyDisabled, 1).await;
            if op == "unwrap_key" && status == 200 {
                // It is in the cache.
                continue;
            }
            world.bank.post(&path, &body).await.expect_problem(409, "key_state");
            assert_eq!(world.calls(SERVER, op).await, before + calls + 1, "{op} {refusals}");
            assert_eq!(world.calls(SERVER, "describe").await, 1, "{op} {refusals}");
        }
    }
}

#[tokio::test]
async fn a_question_that_fails_leaves_the_refusal() {
    let (world, first) = start().await;
    world.fault(SERVER, "describe", Fault::Denied, 10).await;
    world.fault(SERVER, "unwrap_key", Fault::KeyDisabled, 1).await;
    world.bank.post("/v1/unwrap", &first).await.expect_problem(409, "key_state");
    assert_eq!(world.calls(SERVER, "unwrap_key").await, 1);
    world.bank.post("/v1/unwrap", &first).await.expect_status(200);
}

#[tokio::test]
async fn a_disable_while_the_question_is_out_is_not_passed() {
    let (world, first) = start().await;
    world.fault(SERVER, "unwrap_key", Fault::KeyDisabled, 1).await;
    let asking = world
        .held_at(SERVER, "describe", &world.bank, &format!("{ORDERS}/unwrap"), first)
        .await;
    world.bank.post_empty(&format!("{ORDERS}/disable")).await.expect_status(200);
    world.released(SERVER, asking).await.expect_problem(409, "key_disabled");
    assert_eq!(world.calls(SERVER, "unwrap_key").await, 1);
}

#[tokio::test]
async fn a_check_takes_over_states_and_versions() {
    let (world, _) = start().await;
    rotated(&world).await;
    switched(&world, 1, false).await;
    assert_eq!(versions(&world).await, json!([[1, "enabled", "enabled"]]));
    world.bank.post_empty("/v1/connections/own/check").await.expect_status(200);
    assert_eq!(
        versions(&world).await,
        json!([[1, "enabled", "disabled"], [2, "enabled", "enabled"]])
    );
    // Also of a key that has moved away, for the versions that are reached through the connection.
    connect(&world.bank, "next", "next", false).await;
    let moved = world.bank.post(&format!("{ORDERS}/rotate"), &json!({"connection": "next"})).await;
    assert_eq!(moved.expect_status(200)["primary_version"], 3);
    switched(&world, 2, false).await;
    world.bank.post_empty("/v1/connections/next/check").await.expect_status(200);
    assert_eq!(versions(&world).await[1][2], "enabled", "not through this one");
}

#[tokio::test]
async fn checks_that_follow_each_other_do_not_look_each_time() {
    let (world, _) = start().await;
    for enabled in [false, true].into_iter().cycle().take(20) {
        switched(&world, 1, enabled).await;
        world.bank.post_empty("/v1/connections/own/check").await.expect_status(200);
    }
    let asked = world.calls(SERVER, "describe").await;
    assert!((8..=10).contains(&asked), "{asked}");
}

#[tokio::test]
async fn a_check_of_a_provider_that_describes_nothing_has_its_report_in_time() {
    let (world, _) = start().await;
    world.fault(SERVER, "describe", Fault::Hang, 1000).await;
    let begin = Instant::now();
    let report = world.bank.post_empty("/v1/connections/own/check").await.expect_status(200);
    assert_eq!(report["reachable"], true, "{report}");
    assert!(begin.elapsed() < Duration::from_secs(10));
}

#[tokio::test]
async fn those_who_wait_while_one_asks_share_what_it_learns() {
    let (world, _) = start().await;
    let before = world.calls(SERVER, "wrap_key").await;
    world.fault(SERVER, "wrap_key", Fault::KeyDisabled, 8).await;
    world.fault(SERVER, "describe", Fault::Slow, 1).await;
    let requests: Vec<_> = (0..8)
        .map(|_| {
            let client = world.bank.clone();
            tokio::spawn(async move { client.post(&format!("{ORDERS}/data-keys"), &json!({})).await })
        })
        .collect();
    // All are refused, and the first one asks.
    let begin = Instant::now();
    while world.calls(SERVER, "wrap_key").await < before + 8 || world.calls(SERVER, "describe").await < 1 {
        assert!(begin.elapsed() < PATIENCE, "the calls do not come");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    world.at(SERVER, Request::OpenGate).await;
    for request in requests {
        request.await.unwrap().expect_status(200);
    }
    assert_eq!(world.calls(SERVER, "describe").await, 1);
    assert_eq!(world.calls(SERVER, "wrap_key").await, before + 16);
}

#[tokio::test]
async fn a_provider_that_names_a_new_version_with_every_wrap_is_slowed_down() {
    let (world, _) = start().await;
    let mut wraps = 0;
    let refused = loop {
        rotated(&world).await;
        let answer = world.bank.post(&format!("{ORDERS}/data-keys"), &json!({})).await;
        if answer.status != 200 {
            break answer;
        }
        wraps += 1;
        assert!(wraps < 100, "every version is taken over");
    };
    assert!(wraps >= 32, "{wraps}");
    assert_eq!(refused.header("retry-after"), "10");
    refused.expect_problem(409, "key_state");
    let asked = world.calls(SERVER, "describe").await;
    assert!(asked <= wraps + 1, "{asked} questions in {wraps} wraps");
}

#[tokio::test]
async fn a_key_whose_description_hangs_keeps_a_check_from_no_other_key() {
    let (world, _) = start().await;
    // The keys are looked at in the order of their names.
    world.made(SERVER, "archive").await;
    adopt(&world.bank, "archive", "own", "archive").await.expect_status(201);
    rotated(&world).await;
    world.fault(SERVER, "describe", Fault::Hang, 1).await;
    world.bank.post_empty("/v1/connections/own/check").await.expect_status(200);
    let orders = world.bank.get(ORDERS).await.expect_status(200);
    assert_eq!(orders["primary_version"], 2);
}
