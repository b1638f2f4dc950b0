//! Answers that nobody reads: each stream of HTTP/2 has a window of no bytes.

use claviger_test_support::Client;
use futures::StreamExt;
use futures::stream::{FuturesUnordered, iter};
use serde_json::{Value, json};

use crate::raw::{Http2, head_of};
use crate::world::{PEAK, World};

/// Connections of the attacker without a credential.
const CONNECTIONS: usize = 8;
/// The most streams that the gateway takes on a connection.
const STREAMS: usize = 128;
/// Keys of the hostile tenant, each with as many labels as a key can have: a page of them took 6.8 MB.
const KEYS: usize = 400;

/// The answers' statuses, while none of them is read.
async fn statuses(connections: &[Http2], token: &str, path: &str) -> Vec<u16> {
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
    unread.iter().map(|answer| answer.status().as_u16()).collect()
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

async fn make_large_keys(evil: &Client) {
    let labels: Value = (0..64)
        .map(|at| (format!("label{at}"), json!("x".repeat(256))))
        .collect::<serde_json::Map<_, _>>()
        .into();
    let made = iter(0..KEYS).map(async |at| {
        let body = json!({"name": format!("k{at:04}"), "connection": "embedded", "labels": labels});
        evil.post("/v1/keys", &body).await.expect_status(201);
    });
    made.buffer_unordered(8).collect::<Vec<()>>().await;
}

#[tokio::test]
async fn pages_of_keys_with_large_labels_stay_within_a_tenants_bytes() {
    let world = World::start().await;
    make_large_keys(&world.evil).await;
    let issued = world.evil_token("attacker", &["ReadKey"], None).await;
    let token = issued["token"].as_str().unwrap();
    let honest = world.honest().await;
    let connections = connect(&world, 2).await;
    let answered = statuses(&connections, token, "/v1/keys?page_size=1000").await;
    world.holds(PEAK);
    let refused = answered.iter().filter(|status| **status == 429).count();
    assert!(refused > 0 && answered.contains(&200), "{answered:?}");
    assert_eq!(
        answered.iter().filter(|status| **status == 200).count() + refused,
        answered.len(),
        "{answered:?}"
    );
    honest.end().await;

    // Who reads gets all of them, page by page.
    let reader = world.evil.with_token(token);
    let (mut seen, mut path) = (0, "/v1/keys?page_size=1000".to_owned());
    loop {
        let answer = reader.get(&path).await;
        let page = answer.expect_status(200);
        let count = page["items"].as_array().unwrap().len();
        assert!(count < KEYS, "a page ends before it is large");
        seen += count;
        match page["next_page_token"].as_str() {
            Some(next) => path = format!("/v1/keys?page_size=1000&page_token={next}"),
            None => break,
        }
    }
    assert_eq!(seen, KEYS + 1, "with `orders`");
}
