//! Bodies as large as a batch may be.

use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use claviger_test_support::attack::{BATCH, Way, tiny_items};
use claviger_test_support::raw::{Begun, Http2, send_all};
use claviger_test_support::{Client, Tune, Version, text_of};
use futures::future::join_all;
use http::Method;
use serde_json::{Value, json};

use crate::world::{HOSTILE, PATIENCE, PEAK, World};

/// The route with the longest bodies.
const PATH: &str = "/v1/batch/unwrap";

/// Such bodies at once.
const BODIES: usize = 4;

#[tokio::test]
async fn a_batch_of_millions_of_items_is_refused_at_one_too_many() {
    let world = World::start().await;
    let issued = world.evil_token("attacker", &["Unwrap"], None).await;
    let token = text_of(&issued);
    let honest = world.honest().await;
    let body = tiny_items();
    let send = async |version| {
        let request = Begun::post(world.started.address(), version, token, PATH, body.len()).await;
        request.exchange(&body).await
    };
    for version in Version::ALL {
        for (status, answer) in join_all((0..BODIES).map(|_| send(version))).await {
            match status {
                400 => is_too_long(&answer),
                _ => assert_eq!((status, answer["code"].as_str()), (429, Some("rate_limited")), "{answer}"),
            }
        }
        // One alone is within the limits, and read.
        let (status, answer) = send(version).await;
        assert_eq!(status, 400, "{answer}");
        is_too_long(&answer);
    }
    honest.end().await;
    world.holds(PEAK);
}

fn is_too_long(answer: &Value) {
    assert_eq!(answer["errors"][0]["pointer"], "/items", "{answer}");
    let expected = answer["errors"][0]["expected"].as_str().unwrap();
    assert!(expected.contains("1 to 1000 items"), "{answer}");
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
    let body = largest_batch();
    for version in [Version::ALL; 2].concat() {
        let request = Begun::post(world.started.address(), version, text_of(&issued), "/v1/batch/wrap", body.len()).await;
        let (status, answer) = request.exchange(&body).await;
        assert_eq!(status, 200, "{answer}");
        let items = answer["items"].as_array().unwrap();
        assert!(items.len() == 1000 && items.iter().all(|item| item["wrapped"].is_string()));
    }
    world.holds(PEAK);
}

/// Receiving takes the gateway's time, also of bodies that it refuses. After the first 16 MiB a tenant's
/// long bodies are therefore read at a rate; those of others are not held up.
#[tokio::test]
async fn long_bodies_over_a_tenants_rate_wait_and_those_of_others_do_not() {
    let world = World::tuned(&Tune::default().set("CLAVIGER_SERVER__LIMITS__MAX_BODY_RATE", "1MiB")).await;
    let address = world.started.address();
    let honest = world.honest().await;
    let post = async |version, token: &str, length: usize| {
        let request = Begun::post(address, version, token, PATH, length).await;
        let (status, answer) = request.exchange(&vec![b' '; length]).await;
        assert_eq!((status, answer["code"].as_str()), (400, Some("invalid_request")), "{answer}");
    };
    let waits_alone = join_all(Version::ALL.map(async |version| {
        let mut tokens = Vec::new();
        for name in ["attacker", "victim"] {
            let tenant = world.started.with_tenant(&format!("{name}-{}", version.name())).await;
            let issued = claviger_test_support::token(&tenant, "caller", &["Unwrap"], None).await;
            tokens.push(text_of(&issued).to_owned());
        }
        post(version, &tokens[0], BATCH).await;
        let mut waits = std::pin::pin!(post(version, &tokens[0], 4 << 20));
        tokio::select! {
            () = &mut waits => panic!("the tenant's next body did not wait"),
            () = post(version, &tokens[1], 4 << 20) => {}
        }
        waits.await;
    }));
    waits_alone.await;
    honest.end().await;
}

/// A body that waits for its tenant's rate has what came of it meanwhile in its connection's buffers. The tenant's share
/// counts that: otherwise every connection that there may be would have it at once.
#[tokio::test]
async fn bodies_that_wait_for_their_tenants_rate_count_what_was_sent_of_them_meanwhile() {
    const MACHINES: usize = 4;
    const OF_ONE: usize = 240;
    /// As much as a stream may send before the gateway reads on, and two of them as much as a connection may.
    const SENT: usize = (128 << 10) - 2;
    let tune = Tune::default()
        .set("CLAVIGER_SERVER__LIMITS__MAX_BODY_RATE", "1MiB")
        .set("CLAVIGER_SERVER__REQUEST_DEADLINE", "60s");
    let world = World::tuned(&tune).await;
    let issued = world.evil_token("attacker", &["Unwrap"], None).await;
    let token = text_of(&issued);
    let honest = world.honest().await;
    // Takes all that the tenant may send at once, and of the next half minute what it may send then: bodies of which two
    // frames are read, and which are given up.
    let first = Begun::post(world.started.address(), Version::Http1, token, PATH, BATCH).await;
    assert_eq!(first.exchange(&vec![b' '; BATCH]).await.0, 400);
    let way = Way::direct(world.started.endpoint());
    for _ in 0..4 {
        let (mut given_up, mut sending) = (Vec::new(), Vec::new());
        for _ in 0..5 {
            let connection = Http2::connect(way.machine(0), 65_535).await;
            for _ in 0..100 {
                let (response, stream) = connection.open(Method::POST, token, PATH).await;
                sending.push(send_all(stream, Bytes::from(vec![b' '; 32 << 10])));
                given_up.push(response);
            }
        }
        tokio::time::timeout(PATIENCE, join_all(sending))
            .await
            .expect("all is sent, or refused");
        world.all_read().await;
    }
    let body = Bytes::from(vec![b' '; SENT]);
    let (mut connections, mut waiting, mut sending) = (Vec::new(), Vec::new(), Vec::new());
    for number in 0..MACHINES * OF_ONE {
        let connection = Http2::connect(way.machine(number / OF_ONE), 65_535).await;
        for _ in 0..2 {
            let (response, mut stream) = connection.open(Method::POST, token, PATH).await;
            // Little counts before it waits.
            for _ in 0..2 {
                stream.send_data(Bytes::from_static(b" "), false).unwrap();
            }
            sending.push(tokio::spawn(send_all(stream, body.clone())));
            waiting.push(response);
        }
        connections.push(connection);
    }
    for sent in sending {
        tokio::time::timeout(PATIENCE, sent)
            .await
            .expect("all is sent, or refused")
            .unwrap();
    }
    world.all_read().await;
    // Those beyond the share were refused, and what was within it waits.
    let (mut refused, mut waits) = (0, 0);
    for response in &mut waiting {
        match futures::poll!(response) {
            Poll::Ready(answer) => {
                let answer = answer.unwrap();
                assert_eq!(answer.status(), 429);
                refused += 1;
            }
            Poll::Pending => waits += 1,
        }
    }
    honest.end().await;
    world.holds(PEAK);
    assert!(refused > 0 && waits > 100, "{refused} refused, {waits} wait");
}

/// Bodies that were sent but for their last byte hold what they take until they end, of their own
/// tenant's share: the tenant's next large one is refused, another tenant's is not.
async fn bodies_without_their_last_byte(version: Version) {
    let world = World::start().await;
    let issued = world.evil_token("attacker", &["Unwrap"], None).await;
    let token = text_of(&issued);
    let honest = world.honest().await;
    let almost = vec![b' '; BATCH - 1];
    // No room is left for another batch, once all bytes of both have arrived. Whichever comes last may
    // find the room taken while the other arrives: then it is refused, and both are begun anew.
    let client = world.evil.with_token(token);
    let small = json!({"items": [{"wrapped": "a"}]});
    let refused = async {
        loop {
            let mut first = Begun::post(world.started.address(), version, token, PATH, BATCH).await;
            let mut second = Begun::post(world.started.address(), version, token, PATH, BATCH).await;
            if first.try_send(&almost).await.is_err() || second.try_send(&almost[..2_700_000]).await.is_err() {
                continue;
            }
            while !first.is_answered() && !second.is_answered() {
                let answer = client.post(PATH, &small).await;
                if answer.status != 200 {
                    return (first, second, answer);
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    };
    let (first, second, refused) = tokio::time::timeout(PATIENCE, refused).await.expect("the share is full");
    assert!(refused.header("retry-after").parse::<u64>().unwrap() >= 1);
    assert_eq!(refused.expect_problem(429, "rate_limited")["retryable"], true);

    // Other tenants work on, and so does a request of another kind of the same credential's tenant.
    honest.end().await;
    world.evil.get("/v1/keys").await.expect_status(200);
    // The bytes are free again once the bodies are gone.
    drop((first, second));
    let free = async {
        while client.post(PATH, &small).await.status != 200 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, free).await.expect("the share is free again");
    world.holds(PEAK);
}

#[tokio::test]
async fn bodies_without_their_last_byte_take_of_their_own_tenants_share_only() {
    bodies_without_their_last_byte(Version::Http1).await;
}

#[tokio::test]
async fn bodies_of_http2_without_their_last_byte_take_of_their_own_tenants_share_only() {
    bodies_without_their_last_byte(Version::Http2).await;
}

/// Requests whose queries have thousands of parameters, each of which takes memory while the body is
/// awaited.
#[tokio::test]
async fn queries_of_thousands_of_parameters_are_refused_before_the_body() {
    const REQUESTS: usize = 200;
    let world = World::start().await;
    let issued = world.evil_token("attacker", &["Unwrap"], None).await;
    let honest = world.honest().await;
    let path = format!("{PATH}?{}", "a&".repeat(30_000));
    for version in Version::ALL {
        let mut half = Vec::new();
        for _ in 0..REQUESTS {
            half.push(Begun::post(world.started.address(), version, text_of(&issued), &path, 4096).await);
        }
        for request in half {
            let (status, answer) = request.answer().await;
            assert_eq!((status, answer["errors"][0]["pointer"].as_str()), (400, Some("query")), "{answer}");
        }
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
    let token = text_of(&issued);
    let client = world.evil.with_token(token);
    let honest = world.honest().await;
    let almost = vec![b' '; 2_700_000];
    let mut bodies = Vec::new();
    let full = async {
        for version in Version::ALL.into_iter().cycle() {
            let mut body = Begun::post(world.started.address(), version, token, PATH, BATCH).await;
            // The last one may be refused before it is sent.
            let _ = body.try_send(&almost).await;
            bodies.push(body);
            let answer = client.get("/v1/keys").await;
            if answer.status != 200 {
                return answer;
            }
        }
        unreachable!("it never ends");
    };
    let refused = tokio::time::timeout(PATIENCE, full).await.expect("the share is full");
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
