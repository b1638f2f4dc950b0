//! A version that is stored as disabled at its provider is asked for anew. What comes meanwhile counts,
//! and nothing is asked for a request that is refused anyway.

use claviger_test_support::Client;
use claviger_testkit::Fault;
use serde_json::{Value, json};

use crate::fake_world::{FakeWorld, adopt, connect};

const SERVER: &str = "bank";

/// A world in which bank has a connection `own`.
async fn start() -> FakeWorld {
    let world = FakeWorld::start().await;
    connect(&world.bank, "own", SERVER, false).await;
    world
}

/// Makes a key of bank's on the provider key of the same name. Answers a request to open what it wrapped.
async fn with_key(world: &FakeWorld, name: &str) -> Value {
    world.made(SERVER, name).await;
    adopt(&world.bank, name, "own", name).await.expect_status(201);
    wrapped(&world.bank, name).await
}

/// As [`with_key`]; the gateway has stored that the key is disabled at the server.
async fn with_disabled_key(world: &FakeWorld, name: &str) -> Value {
    let body = with_key(world, name).await;
    world.learns_disabled(&world.bank, name, SERVER, name).await;
    body
}

async fn wrapped(client: &Client, key: &str) -> Value {
    let made = client.post(&format!("/v1/keys/{key}/data-keys"), &json!({})).await;
    json!({"wrapped": made.expect_status(200)["wrapped"]})
}

/// How often a key was used at the server.
async fn uses(world: &FakeWorld) -> u64 {
    world.calls(SERVER, "unwrap_key").await + world.calls(SERVER, "wrap_key").await
}

#[tokio::test]
async fn a_disable_that_comes_while_the_provider_is_asked_stops_the_request() {
    let world = start().await;
    for what in ["unwrap", "rewrap", "data-keys", "wrap"] {
        let blob = with_disabled_key(&world, what).await;
        let body = match what {
            "data-keys" => json!({}),
            "wrap" => json!({"plaintext": "AAAA"}),
            _ => blob,
        };
        // Its owner has enabled it again, so the answer to the question permits the use.
        world.switched(SERVER, what, true).await;
        let used = uses(&world).await;
        let path = format!("/v1/keys/{what}/{what}");
        let asking = world.held_at(SERVER, "describe", &world.bank, &path, body).await;
        world.bank.post_empty(&format!("/v1/keys/{what}/disable")).await.expect_status(200);
        let answer = world.released(SERVER, asking).await;
        answer.expect_problem(409, "key_disabled");
        assert_eq!(uses(&world).await, used, "{what}");
    }
}

#[tokio::test]
async fn a_disable_of_either_key_while_the_target_s_provider_is_asked_stops_a_rewrap() {
    let world = start().await;
    for disabled in ["source", "target"] {
        let [source, target] = ["source", "target"].map(|of| format!("{disabled}-{of}"));
        let blob = with_key(&world, &source).await;
        with_disabled_key(&world, &target).await;
        world.switched(SERVER, &target, true).await;
        let used = uses(&world).await;
        let body = json!({"wrapped": blob["wrapped"], "to": target});
        let path = format!("/v1/keys/{source}/rewrap");
        let asking = world.held_at(SERVER, "describe", &world.bank, &path, body).await;
        let path = format!("/v1/keys/{disabled}-{disabled}/disable");
        world.bank.post_empty(&path).await.expect_status(200);
        let answer = world.released(SERVER, asking).await;
        answer.expect_problem(409, "key_disabled");
        assert_eq!(uses(&world).await, used, "{disabled}");
    }
}

#[tokio::test]
async fn a_rotation_does_not_wait_for_the_answer_that_it_would_itself_delay() {
    let world = start().await;
    with_disabled_key(&world, "orders").await;
    let asked = world.calls(SERVER, "describe").await;
    let rotate = || world.bank.post_empty("/v1/keys/orders/rotate");
    // It is the provider that refuses, not the deadline of a request that waits for its own turn.
    rotate().await.expect_problem(409, "key_state");
    assert_eq!(world.calls(SERVER, "rotate").await, 1);
    world.switched(SERVER, "orders", true).await;
    assert_eq!(rotate().await.expect_status(200)["primary_version"], 3);
    // Each looks at the key first, whatever was asked before: another one may have its name.
    assert_eq!(world.calls(SERVER, "describe").await, asked + 2);
}

#[tokio::test]
async fn a_forged_seal_costs_no_question_to_a_provider() {
    let world = start().await;
    let blob = with_disabled_key(&world, "orders").await;
    with_disabled_key(&world, "sales").await;
    let text = blob["wrapped"].as_str().unwrap();
    // The seal's code ends the envelope.
    let at = text.len() - 10;
    let other = if text.as_bytes()[at] == b'A' { "B" } else { "A" };
    let forged = format!("{}{other}{}", &text[..at], &text[at + 1..]);
    let called = world.all_calls(SERVER).await;
    for (path, body) in [
        ("unwrap", json!({"wrapped": forged})),
        ("rewrap", json!({"wrapped": forged})),
        ("rewrap", json!({"wrapped": forged, "to": "sales"})),
    ] {
        let answer = world.bank.post(&format!("/v1/keys/orders/{path}"), &body).await;
        answer.expect_problem(422, "ciphertext_rejected");
        assert_eq!(world.all_calls(SERVER).await, called, "{path} {body}");
    }
    // The same with its own seal asks.
    world
        .bank
        .post("/v1/keys/orders/unwrap", &blob)
        .await
        .expect_problem(409, "key_state");
    assert_eq!(world.all_calls(SERVER).await, called + 1);
}

#[tokio::test]
async fn questions_for_one_provider_key_do_not_use_up_those_for_another() {
    let world = start().await;
    let old = with_disabled_key(&world, "orders").await;
    world.made(SERVER, "new").await;
    let moving = json!({"provider_key": "new"});
    world.bank.post("/v1/keys/orders/rotate", &moving).await.expect_status(200);
    let new = wrapped(&world.bank, "orders").await;
    world.learns_disabled(&world.bank, "orders", SERVER, "new").await;

    let asked = world.calls(SERVER, "describe").await;
    for _ in 0..5 {
        world.bank.post("/v1/unwrap", &new).await.expect_problem(409, "key_state");
    }
    assert_eq!(world.calls(SERVER, "describe").await, asked + 1);
    world.switched(SERVER, "orders", true).await;
    let opened = world.bank.post("/v1/unwrap", &old).await.expect_status(200);
    assert_eq!(opened["version"], 1);
    assert_eq!(world.calls(SERVER, "describe").await, asked + 2);
    world.bank.post("/v1/unwrap", &new).await.expect_problem(409, "key_state");
}

#[tokio::test]
async fn callers_without_time_for_the_answer_do_not_ask_more_often() {
    let world = start().await;
    let blob = with_disabled_key(&world, "orders").await;
    let hasty = world.bank.clone().with_header("claviger-timeout", "150ms");
    world.fault(SERVER, "describe", Fault::Hang, 100).await;
    let asked = world.calls(SERVER, "describe").await;
    let unwrap = || hasty.post("/v1/keys/orders/unwrap", &blob);
    unwrap().await.expect_problem(504, "deadline_exceeded");
    for _ in 0..5 {
        unwrap().await.expect_problem(409, "key_state");
        hasty
            .post("/v1/keys/orders/data-keys", &json!({}))
            .await
            .expect_problem(409, "key_state");
    }
    assert_eq!(world.calls(SERVER, "describe").await, asked + 1);
}
