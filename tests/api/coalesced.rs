//! What requests do for each other: unwraps of one wrapped key share a provider call, and a look at a refused key
//! counts for all. What ends the request that does it is not the others' failure.

use std::time::Duration;

use claviger_test_support::{Answer, Client};
use claviger_testkit::Fault;
use claviger_testkit::control::Request;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::fake_world::FakeWorld;
use crate::support::PATIENCE;

const DATA_KEYS: &str = "/v1/keys/orders/data-keys";
const UNWRAP: &str = "/v1/unwrap";

/// Two unwraps of one wrapped key of a key that the provider does not find yet.
struct Two {
    world: FakeWorld,
    plaintext: Value,
    leader: JoinHandle<Answer>,
    waiter: JoinHandle<Answer>,
}

impl Two {
    /// Returns once `leader` of this world calls the provider and the operator's request waits for it.
    async fn unwrap(world: FakeWorld, leader: &Client) -> Self {
        let made = world.bank.post(DATA_KEYS, &json!({})).await.expect_status(200);
        let blob = json!({"wrapped": made["wrapped"]});
        world.fault("here", "unwrap_key", Fault::KeyMissing, 100_000).await;
        let unwrap = |client: &Client| {
            let (client, blob) = (client.clone(), blob.clone());
            tokio::spawn(async move { client.post(UNWRAP, &blob).await })
        };
        let leader = unwrap(leader);
        until(async || world.calls("here", "unwrap_key").await > 1).await;
        let waiter = unwrap(&world.bank);
        until(async || in_flight(&world).await == 2).await;
        Self {
            world,
            plaintext: made["plaintext"].clone(),
            leader,
            waiter,
        }
    }

    /// The key shows after the first request has its answer, which it returns: the other one opens.
    async fn shows(self) -> Answer {
        let led = self.leader.await.unwrap();
        self.world.at("here", Request::Clear).await;
        let opened = self.waiter.await.unwrap().expect_status(200);
        assert_eq!(opened["plaintext"], self.plaintext);
        led
    }
}

/// A world in which bank has made a key `orders` a moment ago.
async fn with_young_key() -> FakeWorld {
    let world = FakeWorld::cloud().await;
    let first = json!({"name": "first", "provider": "aws", "settings": {"server": "here"}});
    world.bank.post("/v1/connections", &first).await.expect_status(201);
    // Such a key tells when it was made.
    world.at("here", Request::HideNewKeys { calls: 1 }).await;
    let key = json!({"name": "orders", "connection": "first"});
    world.bank.post("/v1/keys", &key).await.expect_status(201);
    world
}

async fn in_flight(world: &FakeWorld) -> u64 {
    let page = world.started().operator().get("/metrics").await.text;
    let mut lines = page.lines();
    let gauge = lines.find_map(|line| line.strip_prefix("claviger_http_requests_in_flight "));
    gauge.expect("the gauge").parse().unwrap()
}

async fn until(so: impl AsyncFn() -> bool) {
    let waiting = async {
        while !so().await {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.expect("it is so in time");
}

#[tokio::test]
async fn the_end_of_the_credential_that_makes_a_shared_call_is_not_the_others_failure() {
    let world = with_young_key().await;
    let thief = json!({"name": "thief"});
    world.bank.post("/v1/principals", &thief).await.expect_status(201);
    let may = json!({"operations": ["Unwrap"]});
    let issued = world.bank.post("/v1/principals/thief/tokens", &may).await.expect_status(201);
    let thief = world.started().tenant("bank").with_token(issued["token"].as_str().unwrap());
    let two = Two::unwrap(world, &thief).await;
    assert_eq!(two.world.bank.delete("/v1/principals/thief").await.status, 204);
    two.shows().await.expect_problem(401, "unauthenticated");
}

#[tokio::test]
async fn the_short_deadline_of_the_request_that_makes_a_shared_call_is_not_the_others_failure() {
    let world = with_young_key().await;
    let hasty = world.bank.clone().with_header("claviger-timeout", "3s");
    let two = Two::unwrap(world, &hasty).await;
    two.shows().await.expect_problem(503, "provider_unavailable");
}
