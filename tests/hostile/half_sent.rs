//! Bodies that were begun and never end.

use std::collections::BTreeSet;
use std::task::Poll;
use std::time::Duration;

use claviger_test_support::attack::{Way, half_sent};
use claviger_test_support::raw::{Http1, Http2, answer_of};
use claviger_test_support::{Version, p99, records};
use http::Method;
use serde_json::json;

use crate::world::{PEAK, World, make_key, token};

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

/// Tenants whose credentials attack, and the credentials of each: together they can want more than all bytes
/// and places of revocations.
const TENANTS: usize = 9;
const CREDENTIALS: usize = 6;
/// Half-sent revocations of one credential, of each kind: more than it has bytes for. Over HTTP/1.1 each of them has a
/// connection, so they are fewer, and longer ones.
const REVOCATIONS: usize = 40;
const LONG_REVOCATIONS: usize = 5;
/// The length of a header that makes one longer, in bytes.
const LONG: usize = 60_000;
/// Times that each revocation is made meanwhile.
const TIMES: usize = 20;

/// Half-sent revocations of tenants that collude keep no other revocation out: neither another tenant's or
/// the operator's, nor one that another credential of the same tenant makes. Whether the attackers may revoke
/// something, or nothing but themselves.
async fn half_sent_revocations(version: Version) {
    let world = World::start().await;
    let owner = world.started.with_tenant("owner").await;
    make_key(&owner, "orders").await;
    let mut admins = vec![owner.clone()];
    let mut attackers = Vec::new();
    for tenant in 0..TENANTS {
        let evil = world.started.with_tenant(&format!("evil{tenant}")).await;
        make_key(&evil, "orders").await;
        for number in 0..CREDENTIALS {
            let operations: &[&str] = if number % 2 == 0 { &["Disable"] } else { &["ReadKey"] };
            let issued = token(&evil, &format!("attacker{number}"), operations, None).await;
            attackers.push(issued["token"].as_str().unwrap().to_owned());
        }
        admins.push(evil);
    }
    let mut revokers = vec![owner];
    for admin in &admins {
        let issued = token(admin, "admin", &["Disable"], None).await;
        revokers.push(admin.with_token(issued["token"].as_str().unwrap()));
    }
    let honest = world.honest().await;

    let own_token = format!("/v1/principals/attacker0/tokens/{}", "0".repeat(32));
    let kinds = [(Method::POST, "/v1/keys/orders/disable"), (Method::DELETE, own_token.as_str())];
    let (way, header) = (Way::direct(world.started.endpoint()), format!("x-long: {}\r\n", "x".repeat(LONG)));
    let (mut over_http1, mut over_http2) = (Vec::new(), Vec::new());
    for (machine, attacker) in attackers.iter().enumerate() {
        match version {
            Version::Http1 => {
                for (method, path) in &kinds {
                    for _ in 0..LONG_REVOCATIONS {
                        let machine = way.machine(machine);
                        let begun = Http1::try_open(&machine, method, attacker, path, 16, &header).await;
                        over_http1.push(begun.unwrap());
                    }
                }
            }
            Version::Http2 => {
                let connection = Http2::connect(way.machine(machine), 0).await;
                for (method, path) in &kinds {
                    for _ in 0..REVOCATIONS {
                        over_http2.push(connection.open(method.clone(), attacker, path).await);
                    }
                }
            }
        }
    }
    for _ in 0..TIMES {
        for revoker in &revokers {
            revoker.post("/v1/keys/orders/disable", &json!({})).await.expect_status(200);
        }
    }
    honest.end().await;
    // Each credential has as many as it may have. Others end at once, or at their deadlines.
    let mut statuses = BTreeSet::new();
    for mut begun in over_http1 {
        if begun.is_answered() {
            statuses.insert(begun.answer().await.0);
        }
    }
    for (mut response, _body) in over_http2 {
        if let Poll::Ready(answer) = futures::poll!(&mut response) {
            statuses.insert(answer.unwrap().status().as_u16());
        }
    }
    assert!(
        statuses.contains(&429) && statuses.is_subset(&[403, 429, 504].into()),
        "{statuses:?}"
    );
    world.holds(PEAK);
}

#[tokio::test]
async fn half_sent_revocations_keep_no_revocation_out() {
    half_sent_revocations(Version::Http2).await;
}

#[tokio::test]
async fn half_sent_revocations_over_http1_keep_no_revocation_out() {
    half_sent_revocations(Version::Http1).await;
}
