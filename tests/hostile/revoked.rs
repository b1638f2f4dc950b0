//! A thief begins requests, and ends them when the credential has ended.

use bytes::Bytes;
use claviger_test_support::raw::{Http1, Http2, answer_of};
use claviger_test_support::records;
use h2::SendStream;
use h2::client::ResponseFuture;
use http::Method;
use serde_json::{Value, json};

use crate::cuts::{Cut, Stolen, belongings, records_of_problem};
use crate::world::{HOSTILE, World};

/// How much of a body is sent before the credential ends.
const BEGUN: usize = 5;

/// A request of the thief's.
struct Attempt {
    method: Method,
    path: &'static str,
    /// Empty for none.
    body: Vec<u8>,
}

/// One of everything: data operations, batches, changes, revocations and lists.
fn attempts(wrapped: &[Value]) -> Vec<Attempt> {
    let one = json!({"wrapped": wrapped[0]});
    let several: Vec<Value> = wrapped.iter().map(|wrapped| json!({"wrapped": wrapped})).collect();
    let several_to_rewrap: Vec<Value> = wrapped.iter().map(|wrapped| json!({"key": "orders", "wrapped": wrapped})).collect();
    let post = |path, body: Value| Attempt {
        method: Method::POST,
        path,
        body: serde_json::to_vec(&body).unwrap(),
    };
    let get = |path| Attempt {
        method: Method::GET,
        path,
        body: Vec::new(),
    };
    vec![
        post("/v1/batch/unwrap", json!({"items": several})),
        post("/v1/batch/data-keys", json!({"items": [{"key": "orders"}, {"key": "orders"}]})),
        post("/v1/batch/rewrap", json!({"items": several_to_rewrap})),
        post("/v1/unwrap", one.clone()),
        post("/v1/keys/orders/unwrap", one.clone()),
        post("/v1/keys/orders/rewrap", one.clone()),
        post("/v1/inspect", one),
        post("/v1/keys/orders/data-keys", json!({"bytes": 32})),
        post("/v1/keys/orders/wrap", json!({"plaintext": "AAAA"})),
        post(
            "/v1/principals/accomplice/tokens",
            json!({"operations": ["Unwrap"], "expires_in": "366d", "kind": "standing"}),
        ),
        post("/v1/principals/accomplice/tokens", json!({"operations": ["Unwrap"]})),
        post("/v1/principals", json!({"name": "ghost"})),
        post("/v1/keys", json!({"name": "loot", "connection": "embedded"})),
        post("/v1/connections", json!({"name": "way-out", "provider": "local", "settings": {}})),
        post("/v1/keys/orders/rotate", json!({"spec": null})),
        post("/v1/keys/orders/disable", json!({"at_provider": false})),
        Attempt {
            method: Method::PATCH,
            path: "/v1/keys/orders",
            body: br#"{"labels": {"owner": "thief"}}"#.to_vec(),
        },
        get("/v1/keys"),
        get("/v1/connections"),
        get("/v1/principals/accomplice/tokens"),
        get("/v1/whoami"),
    ]
}

/// Requests whose bodies are half sent.
struct HalfSent {
    over_http1: Vec<(Attempt, Http1)>,
    over_http2: Vec<(Attempt, ResponseFuture, SendStream<Bytes>)>,
}

impl HalfSent {
    async fn begin(world: &World, stolen: &Stolen, wrapped: &[Value]) -> Self {
        let address = world.started.address();
        let mut over_http1 = Vec::new();
        for attempt in attempts(wrapped) {
            let mut request = Http1::begin(address, &attempt.method, &stolen.text, attempt.path, "if-match: *\r\n").await;
            if !attempt.body.is_empty() {
                request.chunk(&attempt.body[..BEGUN]).await;
            }
            over_http1.push((attempt, request));
        }
        let connection = Http2::connect(address, 65_535).await;
        let mut over_http2 = Vec::new();
        for attempt in attempts(wrapped) {
            let (response, mut body) = connection
                .open_with(attempt.method.clone(), &stolen.text, attempt.path, Some("*"))
                .await;
            if !attempt.body.is_empty() {
                body.send_data(Bytes::copy_from_slice(&attempt.body[..BEGUN]), false).unwrap();
            }
            over_http2.push((attempt, response, body));
        }
        // A whole request on the same connection: those before it were let in.
        let (response, mut body) = connection.open(Method::GET, &stolen.text, "/v1/whoami").await;
        body.send_data(Bytes::new(), true).unwrap();
        let (status, answer) = answer_of(response).await;
        assert_eq!(status, 200, "{answer}");
        Self { over_http1, over_http2 }
    }

    /// Sends the rest; each request with its answer.
    async fn end(self) -> Vec<(String, (u16, Value))> {
        let mut answers = Vec::new();
        for (attempt, mut request) in self.over_http1 {
            if !attempt.body.is_empty() {
                request.chunk(&attempt.body[BEGUN..]).await;
            }
            request.chunk(b"").await;
            let what = format!("{} {} over HTTP/1.1", attempt.method, attempt.path);
            answers.push((what, request.answer().await));
        }
        for (attempt, response, mut body) in self.over_http2 {
            let rest = if attempt.body.is_empty() { &[][..] } else { &attempt.body[BEGUN..] };
            body.send_data(Bytes::copy_from_slice(rest), true).unwrap();
            let what = format!("{} {} over HTTP/2", attempt.method, attempt.path);
            answers.push((what, answer_of(response).await));
        }
        answers
    }
}

/// A world where a thief has something to gain, and wrapped keys in its hands.
async fn prize() -> (World, Vec<Value>) {
    let world = World::start().await;
    let evil = &world.evil;
    evil.post("/v1/principals", &json!({"name": "accomplice"})).await.expect_status(201);
    let mut wrapped = Vec::new();
    for _ in 0..3 {
        let made = evil.post("/v1/keys/orders/data-keys", &json!({})).await.expect_status(200);
        // In the cache, so that no provider has to be asked.
        evil.post("/v1/unwrap", &json!({"wrapped": made["wrapped"]}))
            .await
            .expect_status(200);
        wrapped.push(made["wrapped"].clone());
    }
    (world, wrapped)
}

/// The requests of this file are good ones: only the end of the credential refuses them.
#[tokio::test]
async fn a_credential_in_force_gets_what_it_began() {
    let (world, wrapped) = prize().await;
    let stolen = Cut::Token.stolen(&world.evil).await;
    let begun = HalfSent::begin(&world, &stolen, &wrapped).await;
    for (what, (status, body)) in begun.end().await {
        // The second of two that make the same, and what comes after the disable.
        let in_vain = body["code"] == "already_exists" || body["code"] == "key_disabled";
        assert!(matches!(status, 200..=202) || in_vain, "{what}: {status} {body}");
    }
}

async fn what_was_begun_gets_nothing(cut: Cut) {
    let (world, wrapped) = prize().await;
    let evil = &world.evil;
    let honest = world.honest().await;
    let stolen = cut.stolen(evil).await;
    let before = belongings(evil).await;

    let begun = HalfSent::begin(&world, &stolen, &wrapped).await;
    cut.make(&world, &stolen).await;
    for (what, answer) in begun.end().await {
        cut.refused(&what, &answer);
        // It was let in when it began, and so it is in the log, with nothing but its refusal.
        let records = records_of_problem(&world, &answer.1);
        assert_eq!(records.len(), 1, "{what}: {records:#?}");
        assert_eq!(
            (&records[0]["kind"], &records[0]["code"]),
            (&json!("outcome"), &answer.1["code"]),
            "{what}"
        );
        assert_eq!(records[0]["token_id"], stolen.id, "{what}");
    }
    assert_eq!(belongings(evil).await, before, "nothing was made, and nothing changed");
    honest.end().await;
}

#[tokio::test]
async fn a_revoked_token_gets_nothing_for_what_it_began() {
    what_was_begun_gets_nothing(Cut::Token).await;
}

#[tokio::test]
async fn a_token_below_a_revoked_one_gets_nothing_for_what_it_began() {
    what_was_begun_gets_nothing(Cut::Ancestor).await;
}

#[tokio::test]
async fn a_deleted_principal_gets_nothing_for_what_it_began() {
    what_was_begun_gets_nothing(Cut::Principal).await;
}

#[tokio::test]
async fn a_suspended_tenant_gets_nothing_for_what_it_began() {
    what_was_begun_gets_nothing(Cut::Tenant).await;
}

#[tokio::test]
async fn an_expired_token_gets_nothing_for_what_it_began() {
    what_was_begun_gets_nothing(Cut::Expiry).await;
}

/// An operator's request in a tenant that is suspended meanwhile: it may read, and no more.
#[tokio::test]
async fn an_operator_gets_no_data_key_of_a_tenant_that_was_suspended_meanwhile() {
    let world = World::start().await;
    let made = world.evil.post("/v1/keys/orders/data-keys", &json!({})).await.expect_status(200);
    let body = serde_json::to_vec(&json!({"wrapped": made["wrapped"]})).unwrap();
    let acting = format!("claviger-tenant: {HOSTILE}\r\n");
    let (address, token) = (world.started.address(), world.started.token());
    let mut unwrap = Http1::begin(address, &Method::POST, token, "/v1/unwrap", &acting).await;
    let mut list = Http1::begin(address, &Method::GET, token, "/v1/keys", &acting).await;
    unwrap.chunk(&body[..BEGUN]).await;
    let path = format!("/v1/tenants/{HOSTILE}/suspend");
    world.evil.post_empty(&path).await.expect_status(200);
    unwrap.chunk(&body[BEGUN..]).await;
    unwrap.chunk(b"").await;
    list.chunk(b"").await;
    Cut::Tenant.refused("an operator's unwrap", &unwrap.answer().await);
    let (status, keys) = list.answer().await;
    assert_eq!((status, &keys["items"][0]["name"]), (200, &json!("orders")));
    world
        .started
        .operator()
        .post_empty(&format!("/v1/tenants/{HOSTILE}/resume"))
        .await
        .expect_status(200);
    world
        .evil
        .post("/v1/unwrap", &json!({"wrapped": made["wrapped"]}))
        .await
        .expect_status(200);
}

/// Whoever ends their own credential learns that it is done.
#[tokio::test]
async fn a_revocation_is_answered_though_it_ends_who_asked_for_it() {
    let world = World::start().await;
    for (cut, path) in [
        (Cut::Token, None),
        (Cut::Ancestor, None),
        (Cut::Ancestor, Some("/v1/principals/issuer")),
    ] {
        let stolen = cut.stolen(&world.evil).await;
        let own = world.evil.with_token(&stolen.text);
        let answer = own.delete(path.unwrap_or_else(|| stolen.ended_by())).await;
        assert_eq!(answer.status, 204, "{cut:?} {path:?}: {}", answer.text);
        let of_it = records(&world.gateway.data()).into_iter();
        let of_it: Vec<Value> = of_it
            .filter(|record| record["request_id"] == answer.header("x-request-id"))
            .collect();
        assert!(of_it.iter().all(|record| record["kind"] != "withheld"), "{of_it:#?}");
        assert!(
            of_it
                .iter()
                .any(|record| record["kind"] == "outcome" && record["result"] == "success")
        );
        own.get("/v1/whoami").await.expect_problem(401, "unauthenticated");
        for principal in ["issuer", "thief"] {
            assert_eq!(world.evil.delete(&format!("/v1/principals/{principal}")).await.status, 204);
        }
    }
}
