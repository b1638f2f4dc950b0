//! Bodies as large as a batch may be.

use std::time::Duration;

use bytes::Bytes;
use claviger_test_support::attack::{BATCH, tiny_items};
use claviger_test_support::raw::{Http1, Http2, answer_of, send_all};
use claviger_test_support::{Client, Tune};
use http::Method;
use serde_json::{Value, json};

use crate::world::{HOSTILE, PEAK, World};

/// Such bodies at once.
const BODIES: usize = 4;

#[tokio::test]
async fn a_batch_of_millions_of_items_is_refused_at_one_too_many() {
    let world = World::start().await;
    let issued = world.evil_token("attacker", &["Unwrap"], None).await;
    let token = issued["token"].as_str().unwrap();
    let honest = world.honest().await;
    let body = tiny_items();
    let mut sending = Vec::new();
    for _ in 0..BODIES {
        let connection = Http2::connect(world.started.address(), 65_535).await;
        let (response, stream) = connection.open(Method::POST, token, "/v1/batch/unwrap").await;
        sending.push((
            tokio::spawn(send_all(stream, body.clone())),
            tokio::spawn(answer_of(response)),
            connection,
        ));
    }
    for (sender, answer, _connection) in sending {
        let (status, answer) = answer.await.unwrap();
        sender.await.unwrap();
        match status {
            400 => {
                assert_eq!(answer["errors"][0]["pointer"], "/items", "{answer}");
                assert!(
                    answer["errors"][0]["expected"].as_str().unwrap().contains("1 to 1000 items"),
                    "{answer}"
                );
            }
            _ => assert_eq!((status, answer["code"].as_str()), (429, Some("rate_limited")), "{answer}"),
        }
    }

    // One alone is within the limits, and read.
    let mut request = Http1::post(world.started.address(), token, "/v1/batch/unwrap", body.len()).await;
    request.send(&body).await;
    let (status, answer) = request.answer().await;
    assert_eq!((status, answer["errors"][0]["pointer"].as_str()), (400, Some("/items")), "{answer}");
    honest.end().await;
    world.holds(PEAK);
}

/// A batch of 1,000 items of the largest plaintext, filled up with blanks.
fn largest_batch() -> Bytes {
    use base64::Engine;
    let plaintext = base64::engine::general_purpose::STANDARD.encode([7; 4096]);
    let item = json!({"key": "orders", "plaintext": plaintext, "context": {"part": "x".repeat(1024)}}).to_string();
    let mut body = format!(r#"{{"items":[{}]}}"#, vec![item; 1000].join(","));
    body.push_str(&" ".repeat(BATCH - body.len()));
    body.into()
}

#[tokio::test]
async fn the_largest_batch_is_answered_by_an_idle_gateway_again_and_again() {
    let world = World::start().await;
    let issued = world.evil_token("loader", &["Wrap", "Unwrap"], None).await;
    let token = issued["token"].as_str().unwrap();
    let body = largest_batch();
    let all_good = |answer: &Value| answer["items"].as_array().unwrap().iter().all(|item| item["wrapped"].is_string());
    for _ in 0..2 {
        let mut request = Http1::post(world.started.address(), token, "/v1/batch/wrap", body.len()).await;
        request.send(&body).await;
        let (status, answer) = request.answer().await;
        assert_eq!(status, 200, "{answer}");
        assert!(answer["items"].as_array().unwrap().len() == 1000 && all_good(&answer));

        let connection = Http2::connect(world.started.address(), 1 << 20).await;
        let (response, stream) = connection.open(Method::POST, token, "/v1/batch/wrap").await;
        let sender = tokio::spawn(send_all(stream, body.clone()));
        let (status, answer) = answer_of(response).await;
        sender.await.unwrap();
        assert_eq!(status, 200, "{answer}");
        assert!(all_good(&answer));
    }
    world.holds(PEAK);
}

/// Receiving takes the gateway's time, also of bodies that it refuses. After the first 16 MiB a tenant's
/// long bodies are therefore read at a rate; those of others are not held up.
#[tokio::test]
async fn long_bodies_over_a_tenants_rate_wait_and_those_of_others_do_not() {
    let world = World::tuned(&Tune::default().set("CLAVIGER_SERVER__LIMITS__MAX_BODY_RATE", "1MiB")).await;
    let address = world.started.address();
    let post = async |token: String, length: usize| {
        let mut request = Http1::post(address, &token, "/v1/batch/unwrap", length).await;
        request.send(&vec![b' '; length]).await;
        let (status, answer) = request.answer().await;
        assert_eq!((status, answer["code"].as_str()), (400, Some("invalid_request")), "{answer}");
    };
    let evil = claviger_test_support::token(&world.evil, "attacker", &["Unwrap"], None).await;
    let evil = evil["token"].as_str().unwrap().to_owned();
    let victim = world.started.with_tenant("victim").await;
    let victim = claviger_test_support::token(&victim, "caller", &["Unwrap"], None).await;
    let victim = victim["token"].as_str().unwrap().to_owned();
    post(evil.clone(), BATCH).await;
    let waits = post(evil, 4 << 20);
    let mut waits = std::pin::pin!(waits);
    tokio::select! {
        () = &mut waits => panic!("the tenant's next body did not wait"),
        () = post(victim, 4 << 20) => {}
    }
    waits.await;
}

/// Bodies that were sent but for their last byte hold what they take until they end, of their own
/// tenant's share: the tenant's next large one is refused, another tenant's is not.
#[tokio::test]
async fn bodies_without_their_last_byte_take_of_their_own_tenants_share_only() {
    let world = World::start().await;
    let issued = world.evil_token("attacker", &["Unwrap"], None).await;
    let token = issued["token"].as_str().unwrap();
    let honest = world.honest().await;
    let almost = vec![b' '; BATCH - 1];
    // No room is left for another batch, once all bytes of both have arrived. Whichever comes last may
    // find the room taken while the other arrives: then it is refused, and both are begun anew.
    let client = world.evil.with_token(token);
    let refused = async {
        loop {
            let mut first = Http1::post(world.started.address(), token, "/v1/batch/unwrap", BATCH).await;
            let mut second = Http1::post(world.started.address(), token, "/v1/batch/unwrap", BATCH).await;
            if first.try_send(&almost).await.is_err() || second.try_send(&almost[..2_700_000]).await.is_err() {
                continue;
            }
            while !first.is_answered() && !second.is_answered() {
                let answer = client.post("/v1/batch/unwrap", &json!({"items": [{"wrapped": "a"}]})).await;
                if answer.status != 200 {
                    return (first, second, answer);
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    };
    let (first, second, refused) = tokio::time::timeout(crate::world::PATIENCE, refused)
        .await
        .expect("the share is full");
    assert!(refused.header("retry-after").parse::<u64>().unwrap() >= 1);
    assert_eq!(refused.expect_problem(429, "rate_limited")["retryable"], true);

    // Other tenants work on, and so does a request of another kind of the same credential's tenant.
    honest.end().await;
    world.evil.get("/v1/keys").await.expect_status(200);
    // The bytes are free again once the bodies are gone.
    drop((first, second));
    let free = async {
        while client.post("/v1/batch/unwrap", &json!({"items": [{"wrapped": "a"}]})).await.status != 200 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(crate::world::PATIENCE, free)
        .await
        .expect("the share is free again");
    world.holds(PEAK);
}

/// Requests whose queries have thousands of parameters, each of which takes memory while the body is
/// awaited.
#[tokio::test]
async fn queries_of_thousands_of_parameters_are_refused_before_the_body() {
    const REQUESTS: usize = 200;
    let world = World::start().await;
    let issued = world.evil_token("attacker", &["Unwrap"], None).await;
    let honest = world.honest().await;
    let path = format!("/v1/batch/unwrap?{}", "a&".repeat(30_000));
    let mut half = Vec::new();
    for _ in 0..REQUESTS {
        half.push(Http1::post(world.started.address(), issued["token"].as_str().unwrap(), &path, 4096).await);
    }
    for request in half {
        let (status, answer) = request.answer().await;
        assert_eq!((status, answer["errors"][0]["pointer"].as_str()), (400, Some("query")), "{answer}");
    }
    honest.end().await;
    world.holds(PEAK);
}

/// The credential that has its whole share of the API's bytes under way is served on the operator's
/// listener, which counts bytes and places of its own.
#[tokio::test]
async fn the_operators_listener_has_request_places_of_its_own() {
    let world = World::tuned(&Tune::default().set("CLAVIGER_SERVER__OPERATOR__LISTEN", "127.0.0.1:0")).await;
    let issued = world.evil_token("attacker", &["Unwrap", "ReadKey"], None).await;
    let token = issued["token"].as_str().unwrap();
    let client = world.evil.with_token(token);
    let honest = world.honest().await;
    let almost = vec![b' '; BATCH - 1];
    let mut bodies = Vec::new();
    let full = async {
        loop {
            let mut body = Http1::post(world.started.address(), token, "/v1/batch/unwrap", BATCH).await;
            body.send(&almost[..2_700_000]).await;
            bodies.push(body);
            let answer = client.get("/v1/keys").await;
            if answer.status != 200 {
                return answer;
            }
        }
    };
    let refused = tokio::time::timeout(crate::world::PATIENCE, full).await.expect("the share is full");
    refused.expect_problem(429, "rate_limited");
    let address = world.started.operator_address();
    Client::new(address, token, None).get("/v1/keys").await.expect_status(200);
    let operator = Client::new(address, world.started.token(), Some(HOSTILE));
    operator.get("/metrics").await.expect_status(200);
    operator.post_empty("/v1/keys/orders/disable").await.expect_status(200);
    let nobody = Client::new(address, "", None).without_header("authorization");
    nobody.get("/metrics").await.expect_problem(401, "unauthenticated");
    drop(bodies);
    honest.end().await;
}
