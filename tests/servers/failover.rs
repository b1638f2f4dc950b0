//! A load balancer before a key service fails over silently: the open sockets swallow what is sent, and new ones
//! work. The gateway is under load, and has its own circuit breaker and time limits.

use std::collections::BTreeMap;
use std::time::Duration;

use claviger_fake::Tls;
use claviger_test_support::proxy::{Act, Fault, FaultProxy, Kind, Setup, Which};
use claviger_test_support::{Tune, records};
use serde_json::{Value, json};

use crate::Case;
use crate::logins::Role;
use crate::openbao::{DEV, Server, TLS};
use crate::world::{World, variable};

const MOTO: &[&str] = &["CLAVIGER_TEST_MOTO_ADDRESS"];
/// The requests of each caller, one after another.
const CALLS: usize = 4;

pub fn cases() -> Vec<Case> {
    vec![
        Case::new("failover::openbao_answers_each_second_attempt", DEV, || {
            Box::pin(openbao_answers_each_second_attempt())
        }),
        Case::new("failover::openbao_over_http2_answers_each_second_attempt", TLS, || {
            Box::pin(openbao_over_http2_answers_each_second_attempt())
        }),
        Case::new("failover::a_login_over_a_dead_connection_is_made_anew", DEV, || {
            Box::pin(a_login_over_a_dead_connection_is_made_anew())
        }),
        Case::new("failover::aws_answers_each_second_attempt", MOTO, || {
            Box::pin(aws_answers_each_second_attempt())
        }),
    ]
}

async fn openbao_answers_each_second_attempt() {
    let proxy = FaultProxy::before(&Server::Dev.address());
    let world = World::new(Tune::default()).await;
    let settings = json!({"address": proxy.url(), "auth": {"token": Server::Dev.token()}});
    world.connect("vault", &settings).await;
    // As many callers as a connection serves at once.
    survives(&world, &proxy, "vault", 64, 8).await;
}

async fn openbao_over_http2_answers_each_second_attempt() {
    let before = Setup::before(&Server::Tls.address()).trusting(&Server::Tls.file("ca.pem"));
    let proxy = before.over_tls(Tls::new(&["::1"]).unwrap()).start();
    let world = World::new(Tune::default()).await;
    let settings = json!({"address": proxy.url(), "ca": proxy.ca_pem(), "auth": {"token": Server::Tls.token()}});
    world.connect("vault", &settings).await;
    // One connection carries all calls.
    survives(&world, &proxy, "vault", 64, 1).await;
}

/// The token has ended when the load balancer fails over, so the next request begins with a login.
async fn a_login_over_a_dead_connection_is_made_anew() {
    let role = Role::with_tokens_of(Server::Dev, "2s");
    let proxy = FaultProxy::before(&role.server.address());
    let world = World::new(Tune::default()).await;
    let auth = role.auth(&json!(role.secret_id()));
    world.connect("vault", &json!({"address": proxy.url(), "auth": auth})).await;
    world.key("orders", json!({})).await;
    // The life of a token; the idle limit of a connection is 15 s.
    tokio::time::sleep(Duration::from_millis(2500)).await;
    let open = proxy.swallow_open();
    assert!(open >= 1, "no connection is open");
    proxy.forget_calls();

    let answer = world.client.post("/v1/keys/orders/data-keys", &json!({})).await;
    answer.expect_status(200);
    assert!(proxy.touched() >= 1, "no dead connection was used");
    assert_eq!(proxy.count(Kind::Login), 1, "the login after the one that was swallowed");
    let metrics = world.started.operator().get("/metrics").await.text;
    assert!(!metrics.contains("claviger_provider_breaker_transitions_total{"), "{metrics}");
}

async fn aws_answers_each_second_attempt() {
    let proxy = FaultProxy::before(&variable(MOTO[0]));
    let tune = Tune::default().set("CLAVIGER_PROVIDERS__AWS__KMS_ENDPOINT", proxy.url());
    let world = World::new(tune).await;
    let auth = json!({"static": {"access_key_id": "AKIAIOSFODNN7EXAMPLE", "secret_access_key": "secret"}});
    world.connect("aws", &json!({"region": "eu-central-1", "auth": auth})).await;
    // Moto takes one call after another.
    survives(&world, &proxy, "aws", 24, 16).await;
}

/// Data keys for all callers, which must all be served. Returns the outcomes of the requests by their ids.
async fn data_keys(world: &World, callers: usize, calls: usize) -> BTreeMap<String, Value> {
    let callers: Vec<_> = (0..callers)
        .map(|_| {
            let client = world.client.clone();
            tokio::spawn(async move {
                let mut requests = Vec::new();
                for _ in 0..calls {
                    let answer = client.post("/v1/keys/orders/data-keys", &json!({})).await;
                    requests.push(answer.header("x-request-id").to_owned());
                    answer.expect_status(200);
                }
                requests
            })
        })
        .collect();
    let mut requests = Vec::new();
    for caller in callers {
        requests.extend(caller.await.unwrap());
    }
    let all = records(&world.gateway.data()).into_iter();
    let outcomes = all.filter(|record| record["kind"] == "outcome");
    let by_request = outcomes.map(|record| (record["request_id"].as_str().unwrap_or_default().to_owned(), record));
    let mut by_request: BTreeMap<String, Value> = by_request.collect();
    by_request.retain(|id, _| requests.contains(id));
    assert_eq!(by_request.len(), requests.len());
    by_request
}

/// `sockets` are the idle ones that the gateway keeps, at least.
async fn survives(world: &World, proxy: &FaultProxy, provider: &str, callers: usize, sockets: usize) {
    world.key("orders", json!({})).await;
    // None ends before the last has begun, so that each has a socket.
    let held = Act::Delay(Duration::from_millis(700));
    proxy.set([Fault::on(Which::Of(Kind::Operation), held)]);
    data_keys(world, callers, 1).await;
    proxy.clear();
    let open = proxy.swallow_open();
    assert!(open >= sockets, "{open} sockets were open");

    let outcomes = data_keys(world, callers, CALLS).await;
    assert!((1..=open).contains(&proxy.touched()), "{} dead sockets were used", proxy.touched());
    // The first success of each caller, and every other one, comes within two attempts.
    let attempts = |outcome: &Value| outcome["provider_calls"].as_array().map_or(0, Vec::len);
    let most = outcomes.values().map(attempts).max();
    assert_eq!(most, Some(2), "the most attempts of a request");
    let twice = outcomes.values().filter(|outcome| attempts(outcome) == 2).count();
    assert!(twice <= callers, "{twice} of {} requests met a dead socket", outcomes.len());
    let metrics = world.started.operator().get("/metrics").await.text;
    assert!(!metrics.contains("claviger_provider_breaker_transitions_total{"), "{metrics}");
    let renewed = format!("claviger_provider_pools_renewed_total{{provider=\"{provider}\"}} 1");
    assert!(metrics.contains(&renewed), "{metrics}");
}
