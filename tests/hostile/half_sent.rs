//! Bodies that were begun and never end.

use std::time::Duration;

use claviger_test_support::attack::half_sent;
use claviger_test_support::raw::{Http1, Http2, answer_of};
use claviger_test_support::{p99, records};

use crate::world::{PEAK, World};

/// Requests left half-sent at once.
const REQUESTS: usize = 64;
/// Longer than an honest tenant's call takes on a busy machine, and shorter than a deadline.
const LIMIT: Duration = Duration::from_secs(5);

#[tokio::test]
async fn bodies_that_never_end_keep_nobody_else_waiting() {
    let world = World::start().await;
    let issued = world.evil_token("attacker", &["Unwrap"], None).await;
    let token = issued["token"].as_str().unwrap();
    let honest = world.honest().await;

    let mut over_http1 = Vec::new();
    for _ in 0..REQUESTS {
        let mut request = Http1::post(world.started.address(), token, "/v1/unwrap", 4096).await;
        request.send(b"{\"wra").await;
        over_http1.push(request);
    }
    let connection = Http2::connect(world.started.address(), 65_535).await;
    let mut over_http2 = Vec::new();
    for _ in 0..REQUESTS {
        over_http2.push(half_sent(&connection, token, "/v1/unwrap").await.unwrap());
    }

    // Each ends at its deadline; the honest tenants' calls go on meanwhile.
    for request in over_http1 {
        let (status, body) = request.answer().await;
        assert_eq!((status, body["code"].as_str()), (504, Some("deadline_exceeded")), "{body}");
    }
    for (response, body) in over_http2 {
        let (status, answer) = answer_of(response).await;
        assert_eq!((status, answer["code"].as_str()), (504, Some("deadline_exceeded")), "{answer}");
        drop(body);
    }
    let slowest = p99(honest.end().await);
    assert!(slowest < LIMIT, "an honest tenant waited {slowest:?}");
    world.holds(PEAK);
    let ended = records(&world.gateway.data());
    let ended = ended.iter().filter(|record| record["code"] == "deadline_exceeded");
    assert_eq!(ended.count(), 2 * REQUESTS, "each has its record");
}
