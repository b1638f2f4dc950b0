//! Load on the store that is meant to keep another tenant's revocations waiting: lists, what a
//! key service describes, and made-up tokens.
#![allow(clippy::print_stderr, reason = "the figures are worth reading")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use claviger::access::NewToken;
use claviger_test_support::{Answer, Client, Started};
use futures::StreamExt;
use serde_json::json;
use tokio::task::JoinSet;

use crate::honest::p99;
use crate::raw::{Http2, head_of};
use crate::world::{HOSTILE, World, make_key, token};

/// The tenant whose revocations are measured.
const VICTIM: &str = "victim";
/// Revocations of each kind in one test.
const REVOCATIONS: usize = 20;
/// The longest time that a revocation, or `/readyz`, may take on a busy machine.
const LIMIT: Duration = Duration::from_secs(8);
/// Requests of the attack under way at once.
const AT_ONCE: usize = 60;

/// A tenant with a token that revokes.
struct Victim(Client);

impl Victim {
    async fn of(started: &Started) -> Self {
        let tenant = started.with_tenant(VICTIM).await;
        make_key(&tenant, "orders").await;
        let operations = &["Sever", "Restore", "Disable", "Enable", "ManageTokens", "ManagePrincipals"];
        let issued = token(&tenant, "guard", operations, None).await;
        Self(tenant.with_token(issued["token"].as_str().unwrap()))
    }

    /// Severs and disables again and again, until the attack is over; how long each took, and each
    /// `/readyz` between them.
    async fn revokes(&self, started: &Started, over: impl Fn() -> bool) -> (Vec<Duration>, Vec<Duration>) {
        let (mut revocations, mut readiness) = (Vec::new(), Vec::new());
        let operator = started.operator();
        while readiness.len() < REVOCATIONS || !over() {
            for (path, undo) in [
                ("/v1/connections/embedded/sever", "/v1/connections/embedded/restore"),
                ("/v1/keys/orders/disable", "/v1/keys/orders/enable"),
            ] {
                let begun = Instant::now();
                let done = self.0.post_empty(path).await;
                revocations.push(begun.elapsed());
                done.expect_status(200);
                // Under load, what lifts a revocation waits as any other change does.
                self.0.post_empty(undo).await;
            }
            let begun = Instant::now();
            let ready = operator.get("/readyz").await;
            readiness.push(begun.elapsed());
            ready.expect_status(200);
        }
        (revocations, readiness)
    }
}

/// Stops the test if an answer is a fault of the gateway: a load that is refused is told so.
fn is_no_fault(answer: &Answer) {
    match answer.status {
        429 => {}
        503 => {
            assert_eq!(answer.body["code"], "not_ready", "{}", answer.text);
            assert!(answer.headers.contains_key("retry-after"), "{:?}", answer.headers);
        }
        other => panic!("{other}: {}", answer.text),
    }
}

/// Keeps [`AT_ONCE`] requests under way until it is ended.
struct Attack {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicUsize>,
    callers: JoinSet<()>,
}

impl Attack {
    fn begin(client: &Client, path: &'static str) -> Self {
        let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let mut callers = JoinSet::new();
        for _ in 0..AT_ONCE {
            let (client, stop, answered) = (client.clone(), Arc::clone(&stop), Arc::clone(&answered));
            callers.spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    let response = client.request(reqwest::Method::GET, path).send().await.unwrap();
                    // Parsing pages would be a load of the test's own.
                    if response.status() == 200 {
                        response.bytes().await.unwrap();
                    } else {
                        is_no_fault(&Answer::of(response).await);
                    }
                    answered.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        Self { stop, answered, callers }
    }

    async fn end(mut self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        while let Some(caller) = self.callers.join_next().await {
            caller.unwrap();
        }
        self.answered.load(Ordering::Relaxed)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_keep_no_revocation_waiting() {
    let world = World::start().await;
    let victim = Victim::of(&world.started).await;
    let labels: serde_json::Map<_, _> = (0..8).map(|n| (format!("l{n}"), json!("x".repeat(100)))).collect();
    let evil = &world.evil;
    let bodies = (0..1000).map(|n| json!({"name": format!("k{n}"), "connection": "embedded", "labels": labels}));
    let bodies: Vec<_> = bodies.collect();
    let made = futures::stream::iter(&bodies)
        .map(|body| evil.post("/v1/keys", body))
        .buffer_unordered(32);
    made.for_each(|answer| async move { drop(answer.expect_status(201)) }).await;
    let issued = world.evil_token("attacker", &["ReadKey"], None).await;
    let attacker = evil.with_token(issued["token"].as_str().unwrap());

    let attack = Attack::begin(&attacker, "/v1/keys?page_size=1000");
    let (revocations, readiness) = victim.revokes(&world.started, || true).await;
    let lists = attack.end().await;
    let (slowest, readiness) = (p99(revocations), p99(readiness));
    eprintln!("{lists} lists; revocations {slowest:?}, /readyz {readiness:?} at p99");
    assert!(lists >= AT_ONCE, "{lists} lists were answered");
    assert!(slowest < LIMIT && readiness < LIMIT, "{slowest:?}, {readiness:?}");
}

#[cfg(feature = "testkit")]
#[tokio::test(flavor = "multi_thread")]
async fn a_key_service_with_a_thousand_versions_keeps_no_revocation_waiting() {
    use crate::key_service::KeyService;

    const ADOPTIONS: usize = 24;
    let (world, control) = World::with_fake().await;
    let victim = Victim::of(&world.started).await;
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
    let over = || adopted.load(Ordering::Relaxed) == ADOPTIONS;
    let begun = Instant::now();
    let (revocations, readiness) = victim.revokes(&world.started, over).await;
    let many = revocations.len();
    let (slowest, readiness) = (p99(revocations), p99(readiness));
    eprintln!(
        "{ADOPTIONS} adoptions in {:?}; {many} revocations {slowest:?}, /readyz {readiness:?} at p99",
        begun.elapsed()
    );
    while let Some(adoption) = adoptions.join_next().await {
        adoption.unwrap();
    }
    assert!(slowest < LIMIT && readiness < LIMIT, "{slowest:?}, {readiness:?}");
    assert_eq!(world.evil.list("/v1/keys/k0/versions").await.len(), 1000);
}

/// How often the store was read to authenticate a caller.
async fn credential_reads(started: &Started) -> u64 {
    let metrics = started.operator().get("/metrics").await;
    let name = "claviger_store_reads_total{reader=\"credentials\"} ";
    let line = metrics.text.lines().find_map(|line| line.strip_prefix(name));
    line.unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_that_do_not_exist_cost_no_reads() {
    const MADE_UP: usize = 2000;
    let world = World::start().await;
    let honest = world.honest().await;
    let begun = Instant::now();
    let before = credential_reads(&world.started).await;
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
    let reads = credential_reads(&world.started).await - before;
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
