//! Answers that nobody reads: over HTTP/2 each stream has a window of no bytes, over HTTP/1.1 no more is read than a head.

use std::sync::atomic::{AtomicUsize, Ordering};

use claviger_test_support::attack::{STREAMS, Way};
use claviger_test_support::raw::{Head, Http1, Http2, head_of};
use claviger_test_support::{Client, Endpoint, Version, make_labelled_keys};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use h2::RecvStream;
use http::Response;

use crate::world::{PATIENCE, PEAK, World};

/// Connections of HTTP/2 of the attacker without a credential.
const CONNECTIONS: usize = 8;
/// Those of HTTP/1.1, each of which has one answer at a time, and how many of them come from one address.
const CONNECTIONS_OF_HTTP1: usize = 512;
const FROM_ONE: usize = 200;
/// Keys of the hostile tenant, each with as many labels as a key can have: a page of them took 6.8 MB.
const KEYS: usize = 400;
/// Pages at once.
const PAGES: usize = 2 * STREAMS;

/// An attacker that reads no answer.
struct Deaf {
    way: Way,
    /// Its connections of HTTP/2; none to attack over HTTP/1.1, where each answer has a connection of its own.
    connections: Vec<Http2>,
    /// How many connections of HTTP/1.1 it has opened. What it closed may still count for its address.
    opened: AtomicUsize,
}

/// Answers of which the heads came, until they are dropped.
struct Unread {
    heads: Vec<Head>,
    _kept: (Vec<Http1>, Vec<Response<RecvStream>>),
}

impl Unread {
    fn statuses(&self) -> Vec<u16> {
        self.heads.iter().map(|head| head.status).collect()
    }
}

impl Deaf {
    async fn over(version: Version, world: &World) -> Self {
        let mut connections = Vec::new();
        if version == Version::Http2 {
            for _ in 0..CONNECTIONS {
                connections.push(Http2::connect(world.started.address(), 0).await);
            }
        }
        Self {
            way: Way::direct(world.started.endpoint()),
            connections,
            opened: AtomicUsize::new(0),
        }
    }

    /// Its next machine to open a connection of HTTP/1.1.
    fn machine(&self) -> Endpoint {
        self.way.machine(self.opened.fetch_add(1, Ordering::Relaxed) / FROM_ONE)
    }

    /// Asks as often at once as it can.
    async fn ask(&self, token: &str, path: &str) -> Unread {
        let count = match self.connections.len() {
            0 => CONNECTIONS_OF_HTTP1,
            connections => connections * STREAMS,
        };
        self.ask_times(count, token, path).await
    }

    async fn ask_times(&self, count: usize, token: &str, path: &str) -> Unread {
        let mut unread = Unread {
            heads: Vec::new(),
            _kept: (Vec::new(), Vec::new()),
        };
        if self.connections.is_empty() {
            let asking = futures::stream::iter(0..count).map(async |_| {
                let mut request = Http1::try_get(&self.machine(), token, path, 1).await.unwrap();
                let head = tokio::time::timeout(PATIENCE, request.try_head()).await;
                (head.expect("an answer in time").unwrap(), request)
            });
            let asked: Vec<_> = asking.buffer_unordered(count).collect().await;
            (unread.heads, unread._kept.0) = asked.into_iter().unzip();
        } else {
            let mut waiting = FuturesUnordered::new();
            for number in 0..count {
                waiting.push(head_of(self.connections[number / STREAMS].get(token, path).await));
            }
            while let Some(answer) = waiting.next().await {
                unread.heads.push(Head::from(&answer));
                unread._kept.1.push(answer);
            }
        }
        for head in &unread.heads {
            assert!(head.status != 429 || head.retry_after, "when to come again");
        }
        unread
    }
}

async fn the_documentations_files(version: Version) {
    let world = World::start().await;
    let honest = world.honest().await;
    let deaf = Deaf::over(version, &world).await;
    for path in ["/docs/swagger-ui-bundle.js", "/docs", "/openapi.json"] {
        let answered = deaf.ask("", path).await.statuses();
        assert_eq!(answered, vec![200; answered.len()], "{path}");
    }
    honest.end().await;
    world.holds(PEAK);
}

#[tokio::test]
async fn the_documentations_files_cost_nothing_however_many_want_them() {
    the_documentations_files(Version::Http2).await;
}

#[tokio::test]
async fn the_documentations_files_cost_nothing_however_many_want_them_over_http1() {
    the_documentations_files(Version::Http1).await;
}

#[tokio::test]
async fn metrics_that_nobody_reads_are_refused_and_probes_are_answered() {
    let world = World::start().await;
    let honest = world.honest().await;
    let deaf = Deaf::over(Version::Http2, &world).await;
    let answered = deaf.ask(world.started.token(), "/metrics").await.statuses();
    assert!(answered.contains(&200) && answered.contains(&503), "{answered:?}");
    probes_and_refusals_are_answered(&deaf).await;
    honest.end().await;
    world.holds(PEAK);
}

/// Each connection has an answer that the systems on both sides do not take whole, until there are bytes for no other.
#[tokio::test]
async fn metrics_that_nobody_reads_over_http1_are_refused_and_probes_are_answered() {
    const REQUESTS: usize = 16;
    let world = World::start().await;
    let honest = world.honest().await;
    let deaf = Deaf::over(Version::Http1, &world).await;
    let mut unread = Vec::new();
    for _ in 0..CONNECTIONS_OF_HTTP1 {
        let asked = Http1::try_get(&deaf.machine(), world.started.token(), "/metrics", REQUESTS).await;
        unread.push(asked.unwrap());
    }
    let operator = world.started.operator();
    let refused = async {
        loop {
            let answer = operator.get("/metrics").await;
            if answer.status != 200 {
                return answer;
            }
        }
    };
    let refused = tokio::time::timeout(PATIENCE, refused).await.expect("there are too many");
    refused.expect_problem(503, "not_ready");
    world.started.watcher().get("/readyz").await.expect_status(200);
    world.started.watcher().get("/healthz").await.expect_status(200);
    drop(unread);
    probes_and_refusals_are_answered(&deaf).await;
    honest.end().await;
    world.holds(PEAK);
}

async fn probes_and_refusals_are_answered(deaf: &Deaf) {
    let alive = deaf.ask("", "/healthz").await.statuses();
    assert_eq!(alive, vec![200; alive.len()]);
    let ready = deaf.ask("", "/readyz").await.statuses();
    assert!(
        ready.contains(&200) && ready.iter().all(|status| [200, 429].contains(status)),
        "{ready:?}"
    );
    // Refusals too: without a credential, and of what does not exist.
    let refused = deaf.ask("nobody", "/v1/keys").await.statuses();
    assert_eq!(refused, vec![401; refused.len()]);
    let absent = deaf.ask("", "/nothing").await.statuses();
    assert_eq!(absent, vec![404; absent.len()]);
}

/// Returns the gateway, and the token that reads the pages.
async fn pages_of_keys(version: Version) -> (World, String) {
    let world = World::start().await;
    make_labelled_keys(&world.evil, "k", KEYS, 64, 256).await;
    let issued = world.evil_token("attacker", &["ReadKey"], None).await;
    let token = issued["token"].as_str().unwrap();
    let honest = world.honest().await;
    let deaf = Deaf::over(version, &world).await;
    let unread = deaf.ask_times(PAGES, token, "/v1/keys?page_size=1000").await;
    world.holds(PEAK);
    let answered = unread.statuses();
    // 503 where the database's readers of lists are busy for too long, on a slow machine.
    let refused = answered.iter().filter(|status| [429, 503].contains(*status)).count();
    assert!(answered.contains(&429) && answered.contains(&200), "{answered:?}");
    assert_eq!(
        answered.iter().filter(|status| **status == 200).count() + refused,
        answered.len(),
        "{answered:?}"
    );
    // Who asks for one page after the other waits for no reader: over a share that is full there is 429 alone.
    let alone = Deaf::over(version, &world).await;
    let mut more = Vec::new();
    loop {
        assert!(more.len() < STREAMS, "the share is never full");
        let page = alone.ask_times(1, token, "/v1/keys?page_size=1000").await;
        if page.statuses() != [200] {
            assert_eq!(page.statuses(), [429]);
            break;
        }
        more.push(page);
    }
    drop((unread, more));
    honest.end().await;
    (world, token.to_owned())
}

#[tokio::test]
async fn pages_of_keys_with_large_labels_stay_within_a_tenants_bytes_over_http1() {
    pages_of_keys(Version::Http1).await;
}

#[tokio::test]
async fn pages_of_keys_with_large_labels_stay_within_a_tenants_bytes() {
    let (world, token) = pages_of_keys(Version::Http2).await;

    // Who reads gets each of them once, page by page, whatever the filters.
    let reader = world.evil.with_token(&token);
    let mut all: Vec<String> = (0..KEYS).map(|at| format!("k{at:04}")).collect();
    let label = format!("label0={}", "x".repeat(256));
    for filter in [
        String::new(),
        "&state=enabled&connection=embedded".to_owned(),
        format!("&label={label}"),
        format!("&label={label}&state=enabled"),
    ] {
        let mut listed = names_by_page(&reader, &filter).await;
        listed.retain(|name| name != "orders");
        assert_eq!(listed, all, "{filter}");
    }
    all.truncate(200);
    let some: Vec<&str> = all.iter().map(String::as_str).collect();
    let issued = world.evil_token("limited", &["ReadKey"], Some(&some)).await;
    let limited = world.evil.with_token(issued["token"].as_str().unwrap());
    assert_eq!(names_by_page(&limited, "").await, all);
}

/// The names of all keys that a filter matches, in the order in which the pages list them.
async fn names_by_page(reader: &Client, filter: &str) -> Vec<String> {
    let mut names = Vec::new();
    let path = format!("/v1/keys?page_size=1000{filter}");
    let mut next = path.clone();
    let mut pages = 0;
    loop {
        let answer = reader.get(&next).await;
        let page = answer.expect_status(200);
        pages += 1;
        names.extend(
            page["items"]
                .as_array()
                .unwrap()
                .iter()
                .map(|item| item["name"].as_str().unwrap().to_owned()),
        );
        match page["next_page_token"].as_str() {
            Some(token) => next = format!("{path}&page_token={token}"),
            None => break,
        }
    }
    assert!(pages > 1, "a page ends before it is large");
    names
}
