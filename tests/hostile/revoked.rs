//! A thief begins requests, and ends them when the credential has ended.

use bytes::Bytes;
use claviger_test_support::raw::{Http1, Http2, answer_of};
use claviger_test_support::records;
use h2::SendStream;
use h2::client::ResponseFuture;
use http::Method;
use serde_json::{Value, json};

use crate::cuts::{Cut, Stolen, belongings, records_of_problem};
use crate::routes::{Names, calls};
use crate::world::{HOSTILE, World};

/// How much of a body is sent before the credential ends.
const BEGUN: usize = 5;

/// A request of the thief's.
struct Attempt {
    method: Method,
    path: String,
    /// Empty for none.
    body: Vec<u8>,
}

/// A call of every route that a tenant's credential may call, and beside them batches of several and the longest lives
/// of tokens. Those that end an object come last.
fn attempts(prize: &Prize) -> Vec<Attempt> {
    let wrapped = &prize.wrapped;
    let several: Vec<Value> = wrapped.iter().map(|wrapped| json!({"key": "orders", "wrapped": wrapped})).collect();
    let post = |path: &str, body: Value| Attempt {
        method: Method::POST,
        path: path.to_owned(),
        body: serde_json::to_vec(&body).unwrap(),
    };
    let mut attempts = vec![
        post("/v1/batch/unwrap", json!({"items": several})),
        post("/v1/batch/rewrap", json!({"items": several})),
        post("/v1/batch/data-keys", json!({"items": [{"key": "orders"}, {"key": "orders"}]})),
        post(
            "/v1/principals/accomplice/tokens",
            json!({"operations": ["Unwrap"], "expires_in": "366d", "kind": "standing"}),
        ),
    ];
    let names = Names {
        connection: "spare",
        principal: "accomplice",
        new: "loot",
        ..Names::of_evil("orders", prize.token["id"].as_str().unwrap(), &wrapped[0])
    };
    let of_routes = calls(&names).into_iter().filter(|call| !call.is_operators());
    attempts.extend(of_routes.map(|call| Attempt {
        body: call.body_text(),
        method: call.method,
        path: call.path,
    }));
    attempts
}

/// Requests whose bodies are half sent.
struct HalfSent {
    over_http1: Vec<(Attempt, Http1)>,
    over_http2: Vec<(Attempt, ResponseFuture, SendStream<Bytes>)>,
}

impl HalfSent {
    async fn begin(world: &World, stolen: &Stolen, prize: &Prize) -> Self {
        let address = world.started.address();
        let mut over_http1 = Vec::new();
        for attempt in attempts(prize) {
            let mut request = Http1::begin(address, &attempt.method, &stolen.text, &attempt.path, "if-match: *\r\n").await;
            if !attempt.body.is_empty() {
                request.chunk(begun(&attempt.body)).await;
            }
            over_http1.push((attempt, request));
        }
        let connection = Http2::connect(address, 65_535).await;
        let mut over_http2 = Vec::new();
        for attempt in attempts(prize) {
            let (response, mut body) = connection
                .open_with(attempt.method.clone(), &stolen.text, &attempt.path, Some("*"))
                .await;
            if !attempt.body.is_empty() {
                body.send_data(Bytes::copy_from_slice(begun(&attempt.body)), false).unwrap();
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
            if !rest(&attempt.body).is_empty() {
                request.chunk(rest(&attempt.body)).await;
            }
            request.chunk(b"").await;
            let what = format!("{} {} over HTTP/1.1", attempt.method, attempt.path);
            answers.push((what, request.answer().await));
        }
        for (attempt, response, mut body) in self.over_http2 {
            body.send_data(Bytes::copy_from_slice(rest(&attempt.body)), true).unwrap();
            let what = format!("{} {} over HTTP/2", attempt.method, attempt.path);
            answers.push((what, answer_of(response).await));
        }
        answers
    }
}

fn begun(body: &[u8]) -> &[u8] {
    &body[..body.len().min(BEGUN)]
}

fn rest(body: &[u8]) -> &[u8] {
    &body[body.len().min(BEGUN)..]
}

/// What a thief can gain in the hostile tenant.
struct Prize {
    world: World,
    /// Wrapped keys in its hands.
    wrapped: Vec<Value>,
    /// A token of another principal.
    token: Value,
}

impl Prize {
    async fn prepare() -> Self {
        let world = World::start().await;
        let evil = &world.evil;
        let token = world.evil_token("accomplice", &["ReadKey"], None).await;
        let spare = json!({"name": "spare", "provider": "local", "settings": {}});
        evil.post("/v1/connections", &spare).await.expect_status(201);
        let mut wrapped = Vec::new();
        for _ in 0..3 {
            let made = evil.post("/v1/keys/orders/data-keys", &json!({})).await.expect_status(200);
            // In the cache, so that no provider has to be asked.
            evil.post("/v1/unwrap", &json!({"wrapped": made["wrapped"]}))
                .await
                .expect_status(200);
            wrapped.push(made["wrapped"].clone());
        }
        Self { world, wrapped, token }
    }
}

/// The requests of this file are good ones: only the end of the credential refuses them.
#[tokio::test]
async fn a_credential_in_force_gets_what_it_began() {
    let prize = Prize::prepare().await;
    let stolen = Cut::Token.stolen(&prize.world.evil).await;
    let begun = HalfSent::begin(&prize.world, &stolen, &prize).await;
    let mut first = 0;
    for (what, (status, body)) in begun.end().await {
        if what.ends_with("over HTTP/1.1") {
            // The connection has a key that a request before it made.
            let in_vain = what.starts_with("DELETE /v1/connections/") && body["code"] == "in_use";
            assert!(matches!(status, 200..=204) || in_vain, "{what}: {status} {body}");
            first += 1;
            continue;
        }
        // The second of two that make or end the same.
        let in_vain = ["already_exists", "not_found", "ciphertext_rejected", "in_use"].map(|code| body["code"] == code);
        assert!(matches!(status, 200..=204) || in_vain.contains(&true), "{what}: {status} {body}");
    }
    assert_eq!(first, attempts(&prize).len());
}

async fn what_was_begun_gets_nothing(cut: Cut) {
    let prize = Prize::prepare().await;
    let (world, evil) = (&prize.world, &prize.world.evil);
    let honest = world.honest().await;
    let stolen = cut.stolen(evil).await;
    let before = belongings(evil).await;

    let begun = HalfSent::begin(world, &stolen, &prize).await;
    cut.make(world, &stolen).await;
    for (what, answer) in begun.end().await {
        cut.refused(&what, &answer);
        // It was let in when it began, and so it is in the log, with nothing but its refusal.
        let records = records_of_problem(world, &answer.1);
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
