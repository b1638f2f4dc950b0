//! Answers that nobody reads: each stream of HTTP/2 has a window of no bytes.

use claviger_test_support::attack::STREAMS;
use claviger_test_support::raw::{Http2, head_of};
use claviger_test_support::{Client, make_labelled_keys};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use h2::RecvStream;
use http::Response;

use crate::world::{PEAK, World};

/// Connections of the attacker without a credential.
const CONNECTIONS: usize = 8;
/// Keys of the hostile tenant, each with as many labels as a key can have: a page of them took 6.8 MB.
const KEYS: usize = 400;

/// The answers' statuses, while none of them is read.
async fn statuses(connections: &[Http2], token: &str, path: &str) -> Vec<u16> {
    let unread = unread(connections, token, path).await;
    unread.iter().map(|answer| answer.status().as_u16()).collect()
}

/// The heads of the answers on every stream, whose bodies nobody reads.
async fn unread(connections: &[Http2], token: &str, path: &str) -> Vec<Response<RecvStream>> {
    let mut waiting = FuturesUnordered::new();
    for connection in connections {
        for _ in 0..STREAMS {
            waiting.push(head_of(connection.get(token, path).await));
        }
    }
    let mut unread = Vec::new();
    while let Some(answer) = waiting.next().await {
        if answer.status() == 429 {
            assert!(answer.headers().contains_key("retry-after"));
        }
        unread.push(answer);
    }
    unread
}

async fn connect(world: &World, count: usize) -> Vec<Http2> {
    let mut connections = Vec::new();
    for _ in 0..count {
        connections.push(Http2::connect(world.started.address(), 0).await);
    }
    connections
}

#[tokio::test]
async fn the_documentations_files_cost_nothing_however_many_want_them() {
    let world = World::start().await;
    let honest = world.honest().await;
    let connections = connect(&world, CONNECTIONS).await;
    for path in ["/docs/swagger-ui-bundle.js", "/docs", "/openapi.json"] {
        let answered = statuses(&connections, "", path).await;
        assert_eq!(answered, vec![200; CONNECTIONS * STREAMS], "{path}");
    }
    honest.end().await;
    world.holds(PEAK);
}

#[tokio::test]
async fn metrics_that_nobody_reads_are_refused_and_probes_are_answered() {
    let world = World::start().await;
    let honest = world.honest().await;
    let connections = connect(&world, CONNECTIONS).await;
    let answered = statuses(&connections, world.started.token(), "/metrics").await;
    assert!(answered.contains(&200) && answered.contains(&503), "{answered:?}");
    assert_eq!(statuses(&connections, "", "/healthz").await, vec![200; CONNECTIONS * STREAMS]);
    let ready = statuses(&connections, "", "/readyz").await;
    assert!(
        ready.contains(&200) && ready.iter().all(|status| [200, 429].contains(status)),
        "{ready:?}"
    );
    // Refusals too: without a credential, and of what does not exist.
    assert_eq!(statuses(&connections, "nobody", "/v1/keys").await, vec![401; CONNECTIONS * STREAMS]);
    assert_eq!(statuses(&connections, "", "/nothing").await, vec![404; CONNECTIONS * STREAMS]);
    honest.end().await;
    world.holds(PEAK);
}

#[tokio::test]
async fn pages_of_keys_with_large_labels_stay_within_a_tenants_bytes() {
    let world = World::start().await;
    make_labelled_keys(&world.evil, "k", KEYS, 64, 256).await;
    let issued = world.evil_token("attacker", &["ReadKey"], None).await;
    let token = issued["token"].as_str().unwrap();
    let honest = world.honest().await;
    let connections = connect(&world, 2).await;
    let unread = unread(&connections, token, "/v1/keys?page_size=1000").await;
    world.holds(PEAK);
    let answered: Vec<u16> = unread.iter().map(|answer| answer.status().as_u16()).collect();
    // 503 where the database's readers of lists are busy for too long, on a slow machine.
    let refused = answered.iter().filter(|status| [429, 503].contains(*status)).count();
    assert!(answered.contains(&429) && answered.contains(&200), "{answered:?}");
    assert_eq!(
        answered.iter().filter(|status| **status == 200).count() + refused,
        answered.len(),
        "{answered:?}"
    );
    // Who asks for one page after the other waits for no reader: over a share that is full there is 429 alone.
    let alone = connect(&world, 1).await.remove(0);
    let mut more = Vec::new();
    loop {
        assert!(more.len() < STREAMS, "the share is never full");
        let page = head_of(alone.get(token, "/v1/keys?page_size=1000").await).await;
        if page.status() != 200 {
            assert_eq!(page.status(), 429);
            break;
        }
        more.push(page);
    }
    drop((unread, more));
    honest.end().await;

    // Who reads gets each of them once, page by page, whatever the filters.
    let reader = world.evil.with_token(token);
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
