//! Load on the store that is meant to keep another tenant's revocations waiting: lists, what a
//! key service describes, and made-up tokens.
#![allow(clippy::print_stderr, reason = "the figures are worth reading")]

use std::time::{Duration, Instant};

use claviger::access::NewToken;
use claviger_test_support::attack::{Attack, STREAMS, Way};
use claviger_test_support::raw::{Http2, answer_of, head_of};
use claviger_test_support::{Guard, Started, p99, text_of};
use futures::StreamExt;
use serde_json::json;

use crate::world::{HOSTILE, World, token};

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

#[tokio::test(flavor = "multi_thread")]
async fn lists_keep_no_revocation_waiting() {
    let world = World::start().await;
    let guard = Guard::of(&world.started.with_tenant(VICTIM).await).await;
    let attacker = Attack::Lists.prepare(&world.evil, Way::direct(world.started.endpoint())).await;
    let attack = Attack::Lists.begin(&attacker);
    let (revocations, readiness) = revokes(&guard, &world.started, || attack.answers().count(200) >= AT_ONCE).await;
    let lists = attack.end().await;
    let (slowest, readiness) = (p99(revocations), p99(readiness));
    eprintln!("{lists}; revocations {slowest:?}, /readyz {readiness:?} at p99");
    lists.are_no_faults();
    assert!(slowest < LIMIT && readiness < LIMIT, "{slowest:?}, {readiness:?}");
}

#[cfg(feature = "testkit")]
#[tokio::test(flavor = "multi_thread")]
async fn a_key_service_with_a_thousand_versions_keeps_no_revocation_waiting() {
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
    let (mut adoptions, adopted) = (JoinSet::new(), Arc::new(AtomicUsize::new(0)));
    for n in 0..ADOPTIONS {
        service.make_key(&format!("p{n}"), 1000).await;
    }
    for n in 0..ADOPTIONS {
        let body = json!({"name": format!("k{n}"), "connection": "remote", "provider_key": format!("p{n}")});
        let evil = world.evil.clone();
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
}

/// How often the store was read by the readers of this kind.
async fn reads(started: &Started, kind: &str) -> u64 {
    let metrics = started.operator().get("/metrics").await;
    let name = format!("claviger_store_reads_total{{reader=\"{kind}\"}} ");
    let line = metrics.text.lines().find_map(|line| line.strip_prefix(&name));
    line.map_or(0, |count| count.parse().unwrap())
}

/// A burst of requests with a token that the gateway has not seen yet reads it once: it fills no queue
/// of the store's in which other callers wait.
#[tokio::test(flavor = "multi_thread")]
async fn a_burst_with_a_new_token_reads_it_once() {
    let world = World::start().await;
    let issued = world.evil_token("attacker", &["ReadKey"], None).await;
    let before = reads(&world.started, "credentials").await;
    let mut connections = Vec::new();
    for _ in 0..4 {
        connections.push(Http2::connect(world.started.address(), 65_535).await);
    }
    let mut answers = Vec::new();
    for connection in &connections {
        for _ in 0..STREAMS {
            answers.push(answer_of(connection.get(text_of(&issued), "/v1/whoami").await));
        }
    }
    for (status, answer) in futures::future::join_all(answers).await {
        // Some are over the share of their credential.
        assert!(matches!(status, 200 | 429), "{status} {answer}");
    }
    let read = reads(&world.started, "credentials").await - before;
    assert_eq!(read, 1, "reads for one token");
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
    let begun = Instant::now();
    let before = reads(&world.started, "credentials").await;
    let stranger = &world.started.tenant(HOSTILE).without_header("authorization");
    let tokens = (0..MADE_UP).map(|_| String::from_utf8(NewToken::draw().text.expose().to_vec()).unwrap());
    let refused = futures::stream::iter(tokens).map(|text| {
        let request = stranger.request(reqwest::Method::GET, "/v1/keys");
        async move {
            request
                .header("authorization", format!("Bearer {text}"))
                .send()
                .await
                .unwrap()
                .status()
        }
    });
    let refused = refused
        .buffer_unordered(AT_ONCE)
        .filter(|status| std::future::ready(*status == 401))
        .count()
        .await;
    assert_eq!(refused, MADE_UP);
    let reads = reads(&world.started, "credentials").await - before;
    eprintln!("{reads} reads for {MADE_UP} tokens in {:?}", begun.elapsed());
    // Ten a second, in case another node has made the token.
    let most = 10 * (begun.elapsed().as_secs() + 1) + 10;
    assert!(reads <= most, "{reads} reads, {most} at most");
    // A new token is let in at once all the same.
    let issued = world.evil_token("newcomer", &["ReadKey"], None).await;
    let newcomer = world.evil.with_token(issued["token"].as_str().unwrap());
    newcomer.get("/v1/keys").await.expect_status(200);
    honest.end().await;
}

/// Tokens that come at once: nearly as many as the gateway has places for requests.
const TOKENS: usize = 450;
/// Tokens on one connection.
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
    let suspend = format!("/v1/tenants/{HOSTILE}/suspend");
    world.started.operator().post_empty(&suspend).await.expect_status(200);
    let (mut connections, mut waiting) = (Vec::new(), Vec::new());
    for tokens in tokens.chunks(ON_ONE) {
        let connection = Http2::connect(world.started.address(), 65_535).await;
        for token in tokens {
            waiting.push(connection.get(token, "/v1/whoami").await);
        }
        connections.push(connection);
    }
    for response in waiting {
        assert_eq!(head_of(response).await.status(), 200);
    }
}
