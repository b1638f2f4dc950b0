//! Lists and batches whose answers nobody reads.

use claviger_test_support::attack::BATCH;
use claviger_test_support::raw::{Begun, Http2, head_of};
use claviger_test_support::{Client, Tune, Version, issue_tokens, text_of, token};
use futures::StreamExt;
use reqwest::Method;
use serde_json::{Value, json};

use crate::every_route::everything;
use crate::world::{HOSTILE, PATIENCE, PEAK, World};

/// Objects of each list: enough for a page that is large.
const OBJECTS: usize = 300;
/// Connections, each with as many labels as one can have.
const CONNECTIONS: usize = 40;
/// Unread answers on one connection.
const ON_ONE: usize = 16;
/// More answers than a share has room for.
const TOO_MANY: usize = 4096;

/// A request whose answers are large.
struct Large {
    method: Method,
    path: &'static str,
    body: Value,
}

impl Large {
    fn list(path: &'static str) -> Self {
        Self {
            method: Method::GET,
            path,
            body: Value::Null,
        }
    }

    /// A batch of as many items as one may have. Each is refused by itself.
    fn batch(path: &'static str, item: &Value) -> Self {
        Self {
            method: Method::POST,
            path,
            body: json!({"items": vec![item; 1000]}),
        }
    }

    /// Asks again and again and reads nothing, until there is room for no more. Returns what is unread.
    async fn until_refused(&self, world: &World, token: &str) -> Vec<impl Sized> {
        let mut unread = Vec::new();
        let mut deaf = Http2::connect(world.started.address(), 0).await;
        loop {
            assert!(unread.len() < TOO_MANY, "{}: the share is never full", self.path);
            if unread.len() % ON_ONE == ON_ONE - 1 {
                deaf = Http2::connect(world.started.address(), 0).await;
            }
            let answer = head_of(deaf.with_etag(&self.method, token, self.path, &self.body).await).await;
            match answer.status().as_u16() {
                200 => unread.push((deaf.clone(), answer)),
                429 => return unread,
                status => panic!("{}: {status}", self.path),
            }
        }
    }
}

/// Makes what the lists show.
async fn prepare(world: &World) {
    let (evil, operator) = (&world.evil, world.started.operator());
    token(evil, "holder", &["Unwrap"], None).await;
    issue_tokens(evil, "holder", OBJECTS).await;
    let labels: serde_json::Map<String, Value> = (0..64).map(|at| (format!("label{at}"), json!("x".repeat(256)))).collect();
    let post = async |client: &Client, path: &str, body: Value, status: u16| {
        client.post(path, &body).await.expect_status(status);
    };
    futures::stream::iter(0..OBJECTS)
        .for_each_concurrent(8, async |number| {
            post(evil, "/v1/principals", json!({"name": format!("principal-{number}")}), 201).await;
            post(&operator, "/v1/tenants", json!({"name": format!("tenant-{number}")}), 201).await;
        })
        .await;
    for number in 0..CONNECTIONS {
        let body = json!({"name": format!("connection-{number}"), "provider": "local", "settings": {}, "labels": labels});
        post(evil, "/v1/connections", body, 201).await;
    }
    for _ in 0..OBJECTS {
        post(evil, "/v1/keys/orders/rotate", json!({}), 200).await;
    }
}

/// Takes most of a credential's share, so that few answers fill the rest: a body without its last byte. Those of the answers
/// that are gone may not be free yet.
async fn most_of_the_share(world: &World, token: &str) -> Begun {
    let almost = vec![b' '; BATCH - 1];
    loop {
        let mut body = Begun::post(world.started.address(), Version::Http1, token, "/v1/batch/unwrap", BATCH).await;
        if body.try_send(&almost).await.is_ok() {
            world.all_read().await;
            if !body.is_answered() {
                return body;
            }
        }
    }
}

#[tokio::test]
async fn each_list_and_batch_that_nobody_reads_fills_its_own_tenants_share_and_takes_no_more() {
    let tune = Tune::default()
        .set("CLAVIGER_SERVER__LIMITS__MAX_BODY_RATE", "1GiB")
        .set("CLAVIGER_SERVER__REQUEST_DEADLINE", "60s");
    let world = World::tuned(&tune).await;
    prepare(&world).await;
    let of_evil = world.evil_token("attacker", &everything(), None).await;
    let of_operator = token(&world.started.operator(), "attacker", &everything(), None).await;
    let honest = world.honest().await;
    let all = [
        Large::list("/v1/connections?page_size=1000"),
        Large::list("/v1/principals?page_size=1000"),
        Large::list("/v1/principals/holder/tokens?page_size=1000"),
        Large::list("/v1/keys/orders/versions?page_size=1000"),
        Large::batch("/v1/batch/data-keys", &json!({"key": "absent"})),
        Large::batch("/v1/batch/wrap", &json!({"key": "absent", "plaintext": "AAAA"})),
        Large::batch("/v1/batch/unwrap", &json!({"wrapped": "a"})),
        Large::batch("/v1/batch/rewrap", &json!({"key": "absent", "wrapped": "a"})),
    ];
    for large in &all {
        let taken = tokio::time::timeout(PATIENCE, most_of_the_share(&world, text_of(&of_evil))).await;
        let mut body = taken.expect("the share is free");
        let unread = large.until_refused(&world, text_of(&of_evil)).await;
        assert!(!unread.is_empty() && !body.is_answered(), "{}", large.path);
        // Another tenant, and another credential of the same one.
        world.started.tenant("bank").get("/v1/keys").await.expect_status(200);
        world.started.tenant(HOSTILE).get("/v1/keys").await.expect_status(200);
    }
    let tenants = Large::list("/v1/tenants?page_size=1000");
    let unread = tenants.until_refused(&world, text_of(&of_operator)).await;
    assert!(!unread.is_empty());
    world.started.tenant("bank").get("/v1/keys").await.expect_status(200);
    drop(unread);
    honest.end().await;
    world.holds(PEAK);
}
