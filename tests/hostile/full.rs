//! A gateway that is full: several tenants have nearly all of it under way, each within its own share.

use claviger_test_support::attack::BATCH;
use claviger_test_support::raw::Begun;
use claviger_test_support::{Answer, Client, Tune, Version, text_of};
use serde_json::json;
use tokio::task::JoinSet;

use crate::transit::{Mood, Transit};
use crate::world::{HOSTILE, PATIENCE, PEAK, World, key_service_on_loopback, make_key, token};

/// A small request, as any tenant makes it.
const SMALL: &str = "/v1/keys/orders";

/// A hostile tenant's own credential.
struct Hostile {
    client: Client,
    token: String,
}

impl Hostile {
    /// Each of them is of a tenant of its own, the first one of the hostile one.
    async fn all(world: &World, count: usize) -> Vec<Self> {
        let mut all = Vec::new();
        for number in 0..count {
            let tenant = if number == 0 {
                world.evil.clone()
            } else {
                let tenant = world.started.with_tenant(&format!("{HOSTILE}{number}")).await;
                make_key(&tenant, "orders").await;
                tenant
            };
            let issued = token(&tenant, "attacker", &["Unwrap", "GenerateDataKey", "ReadKey", "Disable"], None).await;
            all.push(Self {
                client: tenant.with_token(text_of(&issued)),
                token: text_of(&issued).to_owned(),
            });
        }
        all
    }

    /// Waits until a small request of it is refused.
    async fn until_refused(&self) {
        let refused = async {
            loop {
                let answer = self.client.get(SMALL).await;
                if answer.status != 200 {
                    return answer;
                }
            }
        };
        let refused = tokio::time::timeout(PATIENCE, refused).await;
        is_not_ready(refused.expect("the gateway is full"));
    }
}

/// The gateway is full, and says when to come again.
#[track_caller]
fn is_not_ready(refused: Answer) {
    assert!(refused.header("retry-after").parse::<u64>().unwrap() >= 1, "{}", refused.text);
    assert_eq!(refused.expect_problem(503, "not_ready")["retryable"], true);
}

/// What of its body each hostile tenant has sent, in bytes. Each of them takes three bytes of memory: 124.5 of 128 MiB
/// together, so that no more than 7 MiB are left for one.
const SENT: [usize; 6] = [BATCH - 1, 10 << 20, 8 << 20, 4 << 20, 5 << 19, 1 << 20];

/// Each of the largest holders is refused, also what is small, and revokes all the same. Whoever has less is served:
/// the smallest of the hostile ones, a tenant that is new, and the honest ones all the time.
async fn the_largest_holders_are_refused(version: Version) {
    let world = World::tuned(&Tune::default().set("CLAVIGER_SERVER__REQUEST_DEADLINE", "60s")).await;
    let hostile = Hostile::all(&world, SENT.len()).await;
    let newcomer = world.started.with_tenant("newcomer").await;
    make_key(&newcomer, "orders").await;
    let issued = token(&newcomer, "application", &["ReadKey"], None).await;
    let newcomer = newcomer.with_token(text_of(&issued));
    let honest = world.honest().await;
    let blanks = vec![b' '; BATCH];
    let mut bodies = Vec::new();
    for (tenant, sent) in hostile.iter().zip(SENT) {
        let mut body = Begun::post(world.started.address(), version, &tenant.token, "/v1/batch/unwrap", BATCH).await;
        body.send(&blanks[..sent]).await;
        // Whichever arrives last would be refused otherwise.
        world.all_read().await;
        bodies.push(body);
    }
    let (smallest, largest) = hostile.split_last().unwrap();
    largest.last().unwrap().until_refused().await;
    for _ in 0..5 {
        for tenant in largest {
            is_not_ready(tenant.client.get(SMALL).await);
            tenant.client.post_empty("/v1/keys/orders/disable").await.expect_status(200);
        }
        smallest.client.get(SMALL).await.expect_status(200);
        newcomer.get(SMALL).await.expect_status(200);
    }
    assert!(bodies.iter_mut().all(|body| !body.is_answered()), "all of them are under way");
    honest.end().await;
    // With the largest one gone there is room for all.
    drop(bodies.remove(0));
    let served = async {
        for tenant in &hostile {
            while tenant.client.get(SMALL).await.status != 200 {}
        }
    };
    tokio::time::timeout(PATIENCE, served).await.expect("there is room again");
    world.holds(PEAK);
}

#[tokio::test]
async fn with_the_gateways_bytes_given_away_the_largest_holders_are_refused_and_nobody_under_the_minimum() {
    the_largest_holders_are_refused(Version::Http1).await;
}

#[tokio::test]
async fn with_the_gateways_bytes_given_away_over_http2_the_largest_holders_are_refused_and_nobody_under_the_minimum() {
    the_largest_holders_are_refused(Version::Http2).await;
}

/// Places of all requests, and how many of them each hostile tenant has. Three are left: two for the honest tenants, of
/// whom each has one request at a time, and one.
const PLACES: usize = 24;
const TAKEN: [usize; 4] = [8, 6, 5, 2];
/// Requests of those who are refused, and of the one who is not.
const REQUESTS: usize = 100;

/// The tenant that has two, and asks for a third, has more than the others leave: it is under the minimum of four.
#[tokio::test]
async fn with_the_gateways_places_given_away_the_largest_holders_are_refused_and_nobody_under_the_minimum() {
    let tune = key_service_on_loopback()
        .set("CLAVIGER_SERVER__LIMITS__MAX_IN_FLIGHT", PLACES.to_string())
        .set("CLAVIGER_SERVER__REQUEST_DEADLINE", "60s");
    let world = World::tuned(&tune).await;
    let hostile = Hostile::all(&world, TAKEN.len()).await;
    let hangs = Transit::start().await;
    for (number, tenant) in hostile.iter().enumerate() {
        let operator = if number == 0 {
            HOSTILE.to_owned()
        } else {
            format!("{HOSTILE}{number}")
        };
        let operator = world.started.tenant(&operator);
        let mut connection = hangs.connection();
        connection["name"] = json!("own");
        connection["timeouts"] = json!({"attempt": "10s"});
        operator.post("/v1/connections", &connection).await.expect_status(201);
        let key = json!({"name": "own", "connection": "own"});
        operator.post("/v1/keys", &key).await.expect_status(201);
        tenant.client.get("/v1/keys/own").await.expect_status(200);
    }
    let honest = world.honest().await;
    hangs.is(Mood::Hangs);
    let mut hanging = JoinSet::new();
    let mut expected = 0;
    for (tenant, taken) in hostile.iter().zip(TAKEN) {
        for _ in 0..taken {
            let client = tenant.client.clone();
            hanging.spawn(async move { client.post("/v1/keys/own/data-keys", &json!({})).await });
        }
        expected += taken;
        hangs.until_waiting(expected).await;
    }
    let (smallest, largest) = hostile.split_last().unwrap();
    for _ in 0..REQUESTS {
        for tenant in largest {
            is_not_ready(tenant.client.get(SMALL).await);
        }
        smallest.client.get(SMALL).await.expect_status(200);
    }
    for tenant in &hostile {
        tenant.client.post_empty("/v1/keys/orders/disable").await.expect_status(200);
    }
    assert!(hanging.try_join_next().is_none(), "all of them still hang");
    honest.end().await;
}
