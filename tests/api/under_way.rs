//! What comes while a change of a key is at its provider.

use claviger_test_support::records;
use claviger_testkit::Fault;
use claviger_testkit::control::Request;
use serde_json::{Value, json};

use crate::fake_world::{FakeWorld, adopt, connect, connect_cloud};
use crate::support::PATIENCE;

const ORDERS: &str = "/v1/keys/orders";
const ROTATE: &str = "/v1/keys/orders/rotate";

/// A world in which bank has a key `orders` on the server `here`, and a connection `second` to `there`.
async fn start() -> FakeWorld {
    let world = FakeWorld::start().await;
    connect(&world.bank, "first", "here", false).await;
    connect(&world.bank, "second", "there", false).await;
    world.made("here", "orders").await;
    adopt(&world.bank, "orders", "first", "orders").await.expect_status(201);
    world
}

/// A world in which bank has a key `orders` on the server `here` of a cloud.
async fn cloud() -> FakeWorld {
    let world = FakeWorld::cloud().await;
    connect_cloud(&world.bank, "first", "here").await;
    world.made("here", "orders").await;
    adopt(&world.bank, "orders", "first", "orders").await.expect_status(201);
    world
}

#[tokio::test]
async fn a_detach_while_a_version_is_learned_leaves_a_log_that_the_next_start_accepts() {
    let world = start().await;
    let id = world.bank.get(ORDERS).await.expect_status(200)["id"].clone();
    let rotated = Request::RotateKey { id: "orders".to_owned() };
    world.at("here", rotated).await;
    let path = format!("{ORDERS}/data-keys");
    let wrapping = world.held_at("here", "describe", &world.bank, &path, json!({})).await;
    assert_eq!(world.bank.delete(ORDERS).await.status, 204);
    world.released("here", wrapping).await.expect_problem(404, "not_found");
    let learned = |record: &Value| record["authn"] == "gateway" && record["key"] == id && !record["change"].is_null();
    let kinds: Vec<Value> = records(&world.gateway.data())
        .into_iter()
        .filter(learned)
        .map(|record| record["kind"].clone())
        .collect();
    assert_eq!(kinds, ["intent", "outcome"]);
    let (_gateway, _started, bank) = world.restarted();
    let detached = bank.get("/v1/keys?state=detached").await.expect_status(200);
    assert_eq!(detached["items"][0]["id"], id);
}

#[tokio::test]
async fn a_sever_of_either_connection_while_a_key_moves_refuses_the_move() {
    let world = start().await;
    let before = world.bank.get(ORDERS).await.expect_status(200);
    for severed in ["second", "first"] {
        let moving = world
            .held_at("there", "create_key", &world.bank, ROTATE, json!({"connection": "second"}))
            .await;
        let connection = format!("/v1/connections/{severed}");
        world.bank.post_empty(&format!("{connection}/sever")).await.expect_status(200);
        let answer = world.released("there", moving).await;
        answer.expect_problem(409, "connection_severed");
        assert_eq!(world.bank.get(ORDERS).await.expect_status(200), before, "{severed}");
        assert_eq!(world.bank.list(&format!("{ORDERS}/versions")).await.len(), 1);
        // The provider made a key that nothing uses: the intent names it.
        assert_eq!(moves(&world).last().unwrap()["change"]["made_as"].as_str().unwrap().len(), 32);
        world.bank.post_empty(&format!("{connection}/restore")).await.expect_status(200);
    }
    let made = world.bank.post(&format!("{ORDERS}/data-keys"), &json!({})).await;
    assert_eq!(made.expect_status(200)["version"], 1);
}

#[tokio::test]
async fn another_provider_key_of_a_rotation_is_not_used_for_a_token_that_was_revoked_meanwhile() {
    let world = FakeWorld::capable().await;
    connect(&world.bank, "first", "here", false).await;
    world.made("here", "orders").await;
    adopt(&world.bank, "orders", "first", "orders").await.expect_status(201);
    world
        .bank
        .post("/v1/principals", &json!({"name": "thief"}))
        .await
        .expect_status(201);
    let may = json!({"operations": ["ReadKey", "Rotate"]});
    let issued = world.bank.post("/v1/principals/thief/tokens", &may).await.expect_status(201);
    let thief = world.started().tenant("bank").with_token(issued["token"].as_str().unwrap());
    let rotating = world.held_at("here", "rotate", &thief, ROTATE, json!({})).await;
    assert_eq!(world.bank.delete("/v1/principals/thief").await.status, 204);
    world.released("here", rotating).await.expect_problem(401, "unauthenticated");
    let key = world.bank.get(ORDERS).await.expect_status(200);
    assert_eq!((&key["primary_version"], &key["provider_key"]), (&json!(1), &json!("orders")));
    let said = world.started().output();
    let told = |line: &str| line.contains("a rotation made and that nothing uses") && line.contains("orders.2");
    assert!(said.lines().any(told), "{said}");
    // For a token in force it is used.
    world.bank.post_empty(ROTATE).await.expect_status(200);
    assert_eq!(world.bank.get(ORDERS).await.expect_status(200)["primary_version"], 2);
}

#[tokio::test]
async fn an_adoption_has_the_time_of_any_call() {
    let world = FakeWorld::start().await;
    let settings = json!({"server": "here"});
    let connection = json!({"name": "first", "provider": "vault", "settings": settings, "timeouts": {"attempt": "300ms"}});
    world.bank.post("/v1/connections", &connection).await.expect_status(201);
    world.made("here", "orders").await;
    world.fault("here", "create_key", Fault::Hang, 1).await;
    let begin = std::time::Instant::now();
    let refused = adopt(&world.bank, "orders", "first", "orders").await;
    refused.expect_problem(504, "deadline_exceeded");
    // A request has 10 s.
    assert!(begin.elapsed().as_secs() < 7, "{:?}", begin.elapsed());
    adopt(&world.bank, "orders", "first", "orders").await.expect_status(201);
}

/// A creation would find its name taken once the provider has made its key.
#[tokio::test]
async fn a_rename_takes_no_name_under_which_a_key_is_being_made() {
    let world = start().await;
    let to = async |name: &str| world.bank.patch(ORDERS, "*", &json!({"name": name})).await;
    let create = json!({"name": "new", "connection": "second"});
    let creating = world.held_at("there", "create_key", &world.bank, "/v1/keys", create).await;
    to("new").await.expect_problem(409, "in_progress");
    let made = world.released("there", creating).await.expect_status(201);
    assert_eq!(made["name"], "new");
    to("new").await.expect_problem(409, "already_exists");
    let key = world.bank.get(ORDERS).await.expect_status(200);
    assert_eq!(to("old").await.expect_status(200)["id"], key["id"]);
}

/// The intents of moves so far.
fn moves(world: &FakeWorld) -> Vec<Value> {
    let all = records(&world.gateway.data()).into_iter();
    all.filter(|record| record["kind"] == "intent" && record["change"]["verb"] == "move")
        .collect()
}

#[tokio::test]
async fn the_intent_of_a_move_names_the_provider_key_that_it_makes() {
    let world = start().await;
    let there = json!({"connection": "second"});
    let moved = world.bank.post(ROTATE, &there).await.expect_status(200);
    let change = &moves(&world)[0]["change"];
    assert_eq!((&change["id"], &change["at_provider"]), (&moved["id"], &json!(true)));
    // As the fake names what it makes.
    let made_as = change["made_as"].as_str().unwrap();
    assert_eq!(moved["provider_key"], format!("fake/{made_as}"));
    // One that exists already is not made.
    world.made("there", "theirs").await;
    let adopting = json!({"connection": "second", "provider_key": "theirs"});
    world.bank.post(ROTATE, &adopting).await.expect_status(200);
    assert!(moves(&world)[1]["change"].get("made_as").is_none());
}

#[tokio::test]
async fn what_a_provider_said_in_a_check_is_not_handed_over_after_a_sever() {
    let world = start().await;
    let second = "/v1/connections/second";
    let (check, sever, restore) = (format!("{second}/check"), format!("{second}/sever"), format!("{second}/restore"));
    for restored in [false, true] {
        let checking = world.held_at("there", "probe", &world.bank, &check, json!({})).await;
        world.bank.post_empty(&sever).await.expect_status(200);
        if restored {
            world.bank.post_empty(&restore).await.expect_status(200);
        }
        let answer = world.released("there", checking).await;
        answer.expect_problem(409, "connection_severed");
        world.bank.post_empty(&restore).await.expect_status(200);
    }
    world.bank.post_empty(&check).await.expect_status(200);
}

/// When a background job of the gateway last ended.
async fn last_run(world: &FakeWorld, job: &str) -> Value {
    let ready = world.started().operator().get("/readyz").await.expect_status(200);
    let jobs = ready["jobs"].as_array().unwrap();
    jobs.iter().find(|state| state["name"] == job).unwrap()["last_run"].clone()
}

/// Waits until a background job has begun and ended anew.
async fn runs_anew(world: &FakeWorld, job: &str) {
    // The run that ends first may have begun before.
    for _ in 0..2 {
        let before = last_run(world, job).await;
        until(async || last_run(world, job).await != before).await;
    }
}

/// Waits until this is so.
async fn until(so: impl AsyncFn() -> bool) {
    let waiting = async {
        while !so().await {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.expect("it is so in time");
}

/// Whether a rotation of bank's key is no longer under way.
async fn is_idle(world: &FakeWorld) -> bool {
    world.bank.get(ORDERS).await.expect_status(200)["rotation"]["state"] == "idle"
}

#[tokio::test]
async fn no_provider_is_asked_about_a_suspended_tenant_s_rotation_until_the_resume() {
    let world = cloud().await;
    world.fault("here", "rotate", Fault::Later, 1).await;
    // The provider has not finished.
    world.fault("here", "describe", Fault::Denied, 10_000).await;
    world.bank.post_empty(ROTATE).await.expect_status(202);
    let operator = world.started().operator();
    operator.post_empty("/v1/tenants/bank/suspend").await.expect_status(200);
    // A call that was under way may end still.
    runs_anew(&world, "rotations").await;
    world.at("here", Request::Clear).await;
    let called = world.all_calls("here").await;
    runs_anew(&world, "rotations").await;
    assert_eq!(world.all_calls("here").await, called);

    operator.post_empty("/v1/tenants/bank/resume").await.expect_status(200);
    until(async || is_idle(&world).await).await;
    assert_eq!(world.bank.get(ORDERS).await.expect_status(200)["primary_version"], 2);
}

/// How many of evil's rotations hang: each for about 10 s, and as many as hold up a round of the job for longer
/// than [`PATIENCE`] where eight of any tenant are asked about at once.
const HUNG: usize = 40;

#[tokio::test]
async fn hung_rotations_of_a_tenant_do_not_hold_up_another_s() {
    let world = cloud().await;
    // One connection for each, so that no circuit breaker ends the calls early.
    for number in 0..HUNG {
        let name = format!("k{number}");
        connect_cloud(&world.evil, &name, "evil").await;
        world.made("evil", &name).await;
        adopt(&world.evil, &name, &name, &name).await.expect_status(201);
    }
    world.fault("evil", "rotate", Fault::Later, HUNG as u32).await;
    world.fault("evil", "describe", Fault::Hang, 1_000_000).await;
    for number in 0..HUNG {
        let path = format!("/v1/keys/k{number}/rotate");
        world.evil.post_empty(&path).await.expect_status(202);
    }
    let asked = world.calls("evil", "describe").await;
    until(async || world.calls("evil", "describe").await > asked).await;

    world.fault("here", "rotate", Fault::Later, 1).await;
    world.bank.post_empty(ROTATE).await.expect_status(202);
    until(async || is_idle(&world).await).await;
    assert_eq!(world.bank.get(ORDERS).await.expect_status(200)["primary_version"], 2);
}
