//! A tenant whose key service hangs: nobody else waits for it, a sever ends the wait, and nothing is asked from then
//! on. Each route by itself, with the conditions as proof and no clock: another tenant's call of the very route ends
//! while the hostile one still hangs.

use claviger_test_support::raw::PATIENCE;
use claviger_test_support::{Client, text_of, token};
use reqwest::Method;
use serde_json::json;
use tokio::task::JoinSet;

use crate::every_route::everything;
use crate::own_service::{Case, attacker, prepare_all};
use crate::routes::{Call, Names, RESTORE, calls};
use crate::transit::{Mood, Transit};
use crate::world::{PEAK, World, key_service_on_loopback};

/// The key services that hang: one of all cases, or one of each.
enum Hung<'s> {
    Transit(&'s Transit),
    #[cfg(feature = "testkit")]
    Fakes(std::net::SocketAddr),
}

/// The setting `server` of the fake that a case's connection leads to.
#[cfg(feature = "testkit")]
fn server(number: usize) -> String {
    format!("hung-{number}")
}

impl Hung<'_> {
    /// Counts anew what the service of this case is asked.
    async fn forget(&self, number: usize) {
        let _ = number;
        match self {
            Self::Transit(transit) => transit.forget(),
            #[cfg(feature = "testkit")]
            Self::Fakes(control) => {
                let mut service = crate::key_service::KeyService::named(*control, &server(number)).await;
                service.forget().await;
            }
        }
    }

    /// Whether it was asked for anything about a key.
    async fn is_asked(&self, number: usize) -> bool {
        let _ = number;
        match self {
            Self::Transit(transit) => !transit.asked().is_empty(),
            #[cfg(feature = "testkit")]
            Self::Fakes(control) => {
                let mut service = crate::key_service::KeyService::named(*control, &server(number)).await;
                service.calls().await > 0
            }
        }
    }

    async fn until_asked(&self, number: usize, name: &str) {
        let asked = async {
            while !self.is_asked(number).await {
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        };
        let asked = tokio::time::timeout(PATIENCE, asked).await;
        assert!(asked.is_ok(), "{name} asks its service");
    }
}

/// The tenant's own credential, which may do everything in it.
async fn allowed(tenant: &Client) -> Client {
    tenant.with_token(text_of(&token(tenant, "worker", &everything(), None).await))
}

/// What a call is answered whose connection is severed.
fn severed(case: &Case) -> (u16, &'static str) {
    match case.call.route {
        // It is disabled here, and may be there once the connection is restored.
        "/v1/keys/{key}/disable" => (200, "pending"),
        route if route.starts_with("/v1/batch/") => (200, "connection_severed"),
        _ => (409, "connection_severed"),
    }
}

/// Each of `theirs` hangs while the same of `others` is answered, ends when its connection is severed, and asks its
/// service nothing more from then on.
async fn each_hangs_alone(world: &World, service: Hung<'_>, theirs: &[Case], others: &[Case]) {
    let attacker = attacker(world, Mood::Works).await;
    let bank = allowed(&world.started.tenant("bank")).await;
    let honest = world.honest().await;
    for (number, (case, other)) in theirs.iter().zip(others).enumerate() {
        let name = case.call.name();
        service.forget(number).await;
        let (call, client) = (case.call.clone(), attacker.clone());
        let hanging = tokio::spawn(async move { call.send(&client).await });
        service.until_asked(number, &name).await;
        let answer = other.call.send(&bank).await;
        let (status, code) = other.told(&answer);
        // A check reports what it met.
        let reports = case.call.route.ends_with("/check");
        assert!(
            matches!((status, code.as_str()), (200..=202, "" | "done")) || reports && status == 200,
            "{name}: {}",
            answer.text
        );
        assert!(
            !hanging.is_finished(),
            "{name}: the other tenant was served after the call that hangs"
        );

        // Nor does it hold up what is done to the very key.
        for state in ["disable", "enable"] {
            let path = format!("/v1/keys/{}/{state}", case.key);
            world.evil.post_empty(&path).await.expect_status(200);
        }
        assert!(!hanging.is_finished(), "{name}: its key was disabled after the call that hangs");
        let path = format!("/v1/connections/{}/sever", case.connection);
        world.evil.post_empty(&path).await.expect_status(200);
        let ended = hanging.await.unwrap();
        let (status, code) = case.told(&ended);
        assert_eq!((status, code.as_str()), severed(case), "{name}: {}", ended.text);
        service.forget(number).await;
        if case.call.restores() {
            // Its restore asks again: what needs the connection does not.
            let path = format!("/v1/keys/{}/data-keys", case.key);
            attacker.post(&path, &json!({})).await.expect_problem(409, "connection_severed");
        } else {
            let refused = case.call.send(&attacker).await;
            let (status, code) = case.told(&refused);
            assert_eq!((status, code.as_str()), severed(case), "{name}: {}", refused.text);
        }
        assert!(!service.is_asked(number).await, "{name} asks through a severed connection");
    }
    honest.end().await;
}

/// With a Vault, whose keys are not enabled or disabled there.
#[tokio::test]
async fn each_route_hangs_alone_until_its_connection_is_severed() {
    let world = World::tuned(&key_service_on_loopback()).await;
    let (hangs, works) = (Transit::start().await, Transit::start().await);
    let mut theirs = prepare_all(&world.evil, &hangs).await;
    let mut others = prepare_all(&world.started.tenant("bank"), &works).await;
    for cases in [&mut theirs, &mut others] {
        // Nor is it asked before a restore.
        cases.retain(|case| !matches!(case.call.route, "/v1/keys/{key}/disable" | "/v1/keys/{key}/enable" | RESTORE));
    }
    hangs.is(Mood::Hangs);
    each_hangs_alone(&world, Hung::Transit(&hangs), &theirs, &others).await;
}

/// With key services whose keys are enabled and disabled there, one for each route.
#[cfg(feature = "testkit")]
#[tokio::test]
async fn each_route_with_a_service_of_its_own_hangs_alone_until_its_connection_is_severed() {
    use crate::key_service::KeyService;

    let (world, control) = World::with_fake().await;
    let (mut theirs, mut others) = (Vec::new(), Vec::new());
    // The fakes have no network settings to change.
    let routes = crate::own_service::asking_routes().into_iter();
    for (number, route) in routes.filter(|(method, _)| *method != Method::PATCH).enumerate() {
        let like = |server: &str| KeyService::connection(server, route.1);
        let none = serde_json::Value::Null;
        theirs.push(Case::prepare(&world.evil, &route, &like(&server(number)), &none).await);
        others.push(Case::prepare(&world.started.tenant("bank"), &route, &like("works"), &none).await);
    }
    for number in 0..theirs.len() {
        let mut service = KeyService::named(control, &server(number)).await;
        service.hang().await;
    }
    each_hangs_alone(&world, Hung::Fakes(control), &theirs, &others).await;
}

/// Places of all requests; half of them are a credential's.
const PLACES: usize = 32;

/// The tenant's key service has calls of it wait until its whole share of the gateway is taken. What it asks beyond
/// that is refused on every route as its own excess; every route serves another tenant; and what revokes has places
/// of its own.
#[tokio::test]
async fn a_share_that_hangs_is_full_for_its_own_tenant_alone() {
    let world = World::tuned(&key_service_on_loopback().set("CLAVIGER_SERVER__LIMITS__MAX_IN_FLIGHT", PLACES.to_string())).await;
    let (hangs, works) = (Transit::start().await, Transit::start().await);
    let others = prepare_all(&world.started.tenant("bank"), &works).await;
    let attacker = attacker(&world, Mood::Works).await;
    let mut own = hangs.connection();
    own["name"] = json!("own");
    own["timeouts"] = json!({"attempt": "10s"});
    world.evil.post("/v1/connections", &own).await.expect_status(201);
    let key = json!({"name": "own", "connection": "own"});
    world.evil.post("/v1/keys", &key).await.expect_status(201);
    // Each of another data key: callers of one share a call.
    let mut wrapped = Vec::new();
    for _ in 0..PLACES / 2 {
        let made = world.evil.post("/v1/keys/own/data-keys", &json!({})).await.expect_status(200);
        wrapped.push(made["wrapped"].clone());
    }
    let victim = world.evil_token("victim", &["ReadKey"], None).await;
    let bank = allowed(&world.started.tenant("bank")).await;
    let honest = world.honest().await;
    hangs.is(Mood::Hangs);
    // A batch has the longest time of all requests.
    let mut hanging = JoinSet::new();
    for wrapped in &wrapped {
        let (client, body) = (attacker.clone(), json!({"items": [{"wrapped": wrapped}]}));
        hanging.spawn(async move { client.post("/v1/batch/unwrap", &body).await });
    }
    hangs.until_waiting(PLACES / 2).await;

    let names = Names {
        connection: "own",
        principal: "victim",
        ..Names::of_evil("own", victim["id"].as_str().unwrap(), &wrapped[0])
    };
    for call in calls(&names).into_iter().filter(|call| !call.is_operators() && !call.is_cut()) {
        let refused = call.send(&attacker).await;
        assert_eq!(
            (refused.status, refused.body["code"].as_str()),
            (429, Some("rate_limited")),
            "{}: {}",
            call.name(),
            refused.text
        );
        assert!(refused.header("retry-after").parse::<u64>().unwrap() >= 1, "{}", call.name());
    }
    for other in &others {
        let answer = other.call.send(&bank).await;
        assert!(matches!(answer.status, 200..=202), "{}: {}", other.call.name(), answer.text);
    }
    // And on those that ask no key service.
    let made = bank.post("/v1/keys/orders/data-keys", &json!({})).await.expect_status(200);
    let of_bank = Names {
        tenant: "bank",
        principal: "worker",
        ..Names::of_evil("orders", "0", &made["wrapped"])
    };
    let ends = |call: &Call| call.is_cut() || call.method == Method::DELETE;
    let others = calls(&of_bank).into_iter().filter(|call| !call.is_operators() && !ends(call));
    for call in others.filter(|call| !call.asks_key_service()) {
        let answer = call.send(&bank).await;
        assert!(matches!(answer.status, 200 | 201), "{}: {}", call.name(), answer.text);
    }
    assert!(hanging.try_join_next().is_none(), "all of them still hang");
    for call in calls(&names).into_iter().filter(|call| !call.is_operators() && call.is_cut()) {
        let answer = call.send(&attacker).await;
        assert!(matches!(answer.status, 200 | 204), "{}: {}", call.name(), answer.text);
    }
    while let Some(answer) = hanging.join_next().await {
        let items = answer.unwrap().expect_status(200);
        let code = items["items"][0]["error"]["code"].as_str();
        assert!(matches!(code, Some("connection_severed" | "key_disabled")), "{items}");
    }
    honest.end().await;
    world.holds(PEAK);
}

/// The routes that ask no key service: on objects whose service never answers they are answered, and it is sent
/// nothing at all.
#[tokio::test]
async fn what_asks_no_key_service_sends_it_nothing() {
    let world = World::tuned(&key_service_on_loopback()).await;
    let transit = Transit::start().await;
    transit.connected(&world.evil, "own").await;
    let made = world.evil.post("/v1/keys/own/data-keys", &json!({})).await.expect_status(200);
    let victim = world.evil_token("victim", &["ReadKey"], None).await;
    let attacker = attacker(&world, Mood::Works).await;
    let honest = world.honest().await;
    let operator = world.started.operator();
    transit.is(Mood::Hangs);
    transit.forget();
    let names = Names {
        connection: "own",
        principal: "victim",
        ..Names::of_evil("own", victim["id"].as_str().unwrap(), &made["wrapped"])
    };
    for mut call in calls(&names).into_iter().filter(|call| !call.asks_key_service()) {
        if call.name() == "POST /v1/connections" {
            call.body = transit.connection();
            call.body["name"] = json!("another");
        }
        let answer = call.send(if call.is_operators() { &operator } else { &attacker }).await;
        // Of what was declared there is nothing to release.
        let refused = call.route == "/v1/declared/release";
        assert!(matches!(answer.status, 200..=204) || refused, "{}: {}", call.name(), answer.text);
        assert_eq!(transit.requests(), 0, "{} asked the key service", call.name());
    }
    honest.end().await;
}
