//! Load on the store that is meant to keep another tenant's revocations waiting: lists, what a
//! key service describes, and made-up tokens.
#![allow(clippy::print_stderr, reason = "the figures are worth reading")]

use std::time::{Duration, Instant};

use claviger::access::NewToken;
use claviger_test_support::attack::{Attack, STREAMS, Way};
use claviger_test_support::raw::{Http1, Http2, head_of};
use claviger_test_support::{Guard, Started, Version, p99, text_of};
use futures::StreamExt;
use serde_json::json;

use crate::world::{HOSTILE, PATIENCE, World, token};

/// The tenant whose revocations are measured.
const VICTIM: &str = "victim";
/// Revocations of each kind in one test.
const REVOCATIONS: usize = 20;
/// The longest time that a revocation, or `/readyz`, may take on a busy machine.
const LIMIT: Duration = Duration::from_secs(8);
/// Requests of the attack under way at once.
const AT_ONCE: usize = 60;

/// Revokes again and again, until the attack is over; how long each took, and each `/readyz` between
/// them.
async fn revokes(guard: &Guard, started: &Started, over: impl Fn() -> bool) -> (Vec<Duration>, Vec<Duration>) {
    let (mut revocations, mut readiness) = (Vec::new(), Vec::new());
    let operator = started.operator();
    while readiness.len() < REVOCATIONS || !over() {
        guard.round(&mut revocations).await;
        let begun = Instant::now();
        let ready = operator.get("/readyz").await;
        readiness.push(begun.elapsed());
        ready.expect_status(200);
    }
    (revocations, readiness)
}

async fn lists_keep_none_waiting(version: Version) {
    let world = World::start().await;
    let guard = Guard::of(&world.started.with_tenant(VICTIM).await).await;
    let attacker = Attack::Lists.prepare(&world.evil, Way::direct(world.started.endpoint())).await;
    let honest = world.honest().await;
    let attack = Attack::Lists.begin(&attacker, version);
    let (revocations, readiness) = revokes(&guard, &world.started, || attack.answers().count(200) >= AT_ONCE).await;
    let lists = attack.end().await;
    let (slowest, readiness) = (p99(revocations), p99(readiness));
    eprintln!("{lists}; revocations {slowest:?}, /readyz {readiness:?} at p99");
    lists.are_of(Attack::Lists);
    assert!(slowest < LIMIT && readiness < LIMIT, "{slowest:?}, {readiness:?}");
    honest.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_keep_no_revocation_waiting() {
    lists_keep_none_waiting(Version::Http1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_over_http2_keep_no_revocation_waiting() {
    lists_keep_none_waiting(Version::Http2).await;
}

#[cfg(feature = "testkit")]
async fn a_thousand_versions_keep_none_waiting(version: Version) {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use serde_json::json;
    use tokio::task::JoinSet;

    use crate::key_service::KeyService;

    const ADOPTIONS: usize = 24;
    let (world, control) = World::with_fake().await;
    let guard = Guard::of(&world.started.with_tenant(VICTIM).await).await;
    let mut service = KeyService::at(control).await;
    let remote = json!({"name": "remote", "provider": "vault", "settings": {"server": KeyService::NAME, "shared": false}});
    world.evil.post("/v1/connections", &remote).await.expect_status(201);
    let honest = world.honest().await;
    let (mut adoptions, adopted) = (JoinSet::new(), Arc::new(AtomicUsize::new(0)));
    for n in 0..ADOPTIONS {
        service.make_key(&format!("p{n}"), 1000).await;
    }
    let evil = world.evil.over(version);
    for n in 0..ADOPTIONS {
        let body = json!({"name": format!("k{n}"), "connection": "remote", "provider_key": format!("p{n}")});
        let evil = evil.clone();
        let adopted = Arc::clone(&adopted);
        adoptions.spawn(async move {
            evil.post("/v1/keys", &body).await.expect_status(201);
            adopted.fetch_add(1, Ordering::Relaxed);
        });
    }
    // How many adoptions ended while a sever was under way, whatever the machine: it waits for the one
    // that has the writer, and some were answered late. Where calls wait in the order in which they
    // came, the first sever waits for nearly all of them.
    let (mut overtaken, mut revocations) = (Vec::new(), Vec::new());
    while adopted.load(Ordering::Relaxed) < ADOPTIONS {
        let before = adopted.load(Ordering::Relaxed);
        guard.sever(&mut revocations).await;
        overtaken.push(adopted.load(Ordering::Relaxed) - before);
        guard.restore().await;
    }
    while let Some(adoption) = adoptions.join_next().await {
        adoption.unwrap();
    }
    eprintln!(
        "adoptions that ended during each sever: {overtaken:?}; revocations {:?} at p99",
        p99(revocations)
    );
    assert!(overtaken.iter().all(|ended| *ended <= ADOPTIONS / 4), "{overtaken:?}");
    assert_eq!(world.evil.list("/v1/keys/k0/versions").await.len(), 1000);
    honest.end().await;
}

#[cfg(feature = "testkit")]
#[tokio::test(flavor = "multi_thread")]
async fn a_key_service_with_a_thousand_versions_keeps_no_revocation_waiting() {
    a_thousand_versions_keep_none_waiting(Version::Http1).await;
}

#[cfg(feature = "testkit")]
#[tokio::test(flavor = "multi_thread")]
async fn a_key_service_with_a_thousand_versions_over_http2_keeps_no_revocation_waiting() {
    a_thousand_versions_keep_none_waiting(Version::Http2).await;
}

/// How often the store was read by the readers of this kind.
async fn reads(started: &Started, kind: &str) -> u64 {
    let metrics = started.operator().get("/metrics").await;
    let name = format!("claviger_store_reads_total{{reader=\"{kind}\"}} ");
    let line = metrics.text.lines().find_map(|line| line.strip_prefix(&name));
    line.map_or(0, |count| count.parse().unwrap())
}

/// Sends a GET with each of these tokens at once: over HTTP/1.1 on a connection for each, over HTTP/2 so many on one.
/// Returns the statuses.
async fn at_once(world: &World, version: Version, tokens: &[&str], on_one: usize) -> Vec<u16> {
    let way = Way::direct(world.started.endpoint());
    let (mut connections, mut over_http1, mut over_http2) = (Vec::new(), Vec::new(), Vec::new());
    for (machine, tokens) in tokens.chunks(on_one).enumerate() {
        let machine = way.machine(machine);
        match version {
            Version::Http1 => {
                for token in tokens {
                    over_http1.push(Http1::try_get(&machine, token, "/v1/whoami", 1).await.unwrap());
                }
            }
            Version::Http2 => {
                let connection = Http2::connect(machine, 65_535).await;
                for token in tokens {
                    over_http2.push(connection.get(token, "/v1/whoami").await);
                }
                connections.push(connection);
            }
        }
    }
    let mut statuses = Vec::new();
    for mut request in over_http1 {
        let head = tokio::time::timeout(PATIENCE, request.try_head()).await;
        statuses.push(head.expect("an answer in time").unwrap().status);
    }
    for response in over_http2 {
        statuses.push(head_of(response).await.status().as_u16());
    }
    statuses
}

/// A burst of requests with a token that the gateway has not seen yet reads it once: it fills no queue
/// of the store's in which other callers wait.
#[tokio::test(flavor = "multi_thread")]
async fn a_burst_with_a_new_token_reads_it_once() {
    let world = World::start().await;
    let honest = world.honest().await;
    for version in Version::ALL {
        let issued = world.evil_token("attacker", &["ReadKey"], None).await;
        let before = reads(&world.started, "credentials").await;
        let statuses = at_once(&world, version, &[text_of(&issued); 4 * STREAMS], STREAMS).await;
        // Some are over the share of their credential.
        assert!(
            statuses.contains(&200) && statuses.iter().all(|status| [200, 429].contains(status)),
            "{statuses:?}"
        );
        let read = reads(&world.started, "credentials").await - before;
        assert_eq!(read, 1, "reads for one token over {}", version.name());
    }
    honest.end().await;
}

/// The first request with a token may be a revocation: what authenticates others keeps it from nothing.
#[tokio::test]
async fn a_revocation_is_authenticated_by_readers_of_its_own() {
    let world = World::start().await;
    let issued = world.evil_token("guard", &["Sever"], None).await;
    let guard = world.evil.with_token(text_of(&issued));
    let kinds = ["credentials", "revocations"];
    let before = [reads(&world.started, kinds[0]).await, reads(&world.started, kinds[1]).await];
    guard.post_empty("/v1/connections/embedded/sever").await.expect_status(200);
    let after = [reads(&world.started, kinds[0]).await, reads(&world.started, kinds[1]).await];
    assert_eq!(after[0], before[0], "reads among those of other callers' credentials");
    assert!(after[1] > before[1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_that_do_not_exist_cost_no_reads() {
    const MADE_UP: usize = 2000;
    let world = World::start().await;
    let honest = world.honest().await;
    for version in Version::ALL {
        let begun = Instant::now();
        let before = reads(&world.started, "credentials").await;
        let stranger = &world.started.tenant(HOSTILE).over(version).without_header("authorization");
        let tokens = (0..MADE_UP).map(|_| String::from_utf8(NewToken::draw().text.expose().to_vec()).unwrap());
        let refused = futures::stream::iter(tokens).map(async |text| {
            let request = stranger.request(reqwest::Method::GET, "/v1/keys");
            let sent = request.header("authorization", format!("Bearer {text}")).send().await;
            sent.unwrap().status()
        });
        let refused = refused
            .buffer_unordered(AT_ONCE)
            .filter(|status| std::future::ready(*status == 401))
            .count()
            .await;
        assert_eq!(refused, MADE_UP);
        let reads = reads(&world.started, "credentials").await - before;
        let took = begun.elapsed();
        eprintln!("{reads} reads for {MADE_UP} tokens over {} in {took:?}", version.name());
        // Ten a second, in case another node has made the token.
        let most = 10 * (took.as_secs() + 1) + 10;
        assert!(reads <= most, "{reads} reads, {most} at most");
    }
    // A new token is let in at once all the same.
    let issued = world.evil_token("newcomer", &["ReadKey"], None).await;
    let newcomer = world.evil.with_token(text_of(&issued));
    newcomer.get("/v1/keys").await.expect_status(200);
    honest.end().await;
}

/// Tokens that come at once: nearly as many as the gateway has places for requests.
const TOKENS: usize = 450;
/// Tokens on one connection, or from one address.
const ON_ONE: usize = 90;

/// A suspend makes all tokens unknown. The requests that come then, each with another token, are all answered.
#[tokio::test]
async fn a_suspend_of_one_tenant_costs_no_other_tenant_a_request() {
    let world = World::start().await;
    let mut tenants = Vec::new();
    for name in ["first", "second", "third", "fourth"] {
        let tenant = world.started.with_tenant(name).await;
        token(&tenant, "app", &["ReadKey"], None).await;
        tenants.push(tenant);
    }
    let body = json!({"operations": ["ReadKey"], "expires_in": "1h"});
    let issued = futures::stream::iter(0..TOKENS).map(async |at| {
        let answer = tenants[at % 4].post("/v1/principals/app/tokens", &body).await;
        answer.expect_status(201)["token"].as_str().unwrap().to_owned()
    });
    let tokens: Vec<String> = issued.buffered(8).collect().await;
    let tokens: Vec<&str> = tokens.iter().map(String::as_str).collect();
    let (path, operator) = (format!("/v1/tenants/{HOSTILE}"), world.started.operator());
    let honest = world.honest().await;
    for version in Version::ALL {
        operator.post_empty(&format!("{path}/suspend")).await.expect_status(200);
        let statuses = at_once(&world, version, &tokens, ON_ONE).await;
        assert_eq!(statuses, vec![200; TOKENS], "over {}", version.name());
        operator.post_empty(&format!("{path}/resume")).await.expect_status(200);
    }
    honest.end().await;
}
