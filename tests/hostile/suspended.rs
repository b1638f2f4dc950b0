//! A suspended tenant's key service: the gateway leaves it alone until the resume.

use std::time::Duration;

use claviger_test_support::Client;
use serde_json::json;

use crate::transit::Transit;
use crate::world::{HOSTILE, PATIENCE, World, key_service_on_loopback};

/// The life of a given token, in seconds: short enough for a test, and renewed two seconds before its end.
const LIFE: u64 = 6;

/// A key through a service whose given token the gateway renews without a call.
async fn lent(client: &Client) -> Transit {
    let service = Transit::start().await;
    service.lends(LIFE);
    service.connected(client, "lent").await;
    service
}

/// Waits until a token was renewed so often.
async fn renewed(service: &Transit, times: usize) {
    let until = service.renewals() + times;
    let renewed = async {
        while service.renewals() < until {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, renewed).await.expect("the token is renewed");
}

#[tokio::test]
async fn a_suspended_tenants_key_service_is_left_alone() {
    let world = World::tuned(&key_service_on_loopback()).await;
    let honest = world.honest().await;
    let (own, other) = (lent(&world.evil).await, lent(&world.started.tenant("bank")).await);
    let operator = world.started.operator();
    renewed(&own, 1).await;
    let path = format!("/v1/tenants/{HOSTILE}");
    operator.post_empty(&format!("{path}/suspend")).await.expect_status(200);
    let before = own.requests();
    // Another tenant's token, which lives as long, is the clock.
    renewed(&other, 3).await;
    assert!(own.requests() <= before + 1, "one was under way at most");
    operator.post_empty(&format!("{path}/resume")).await.expect_status(200);
    world.evil.post("/v1/keys/lent/data-keys", &json!({})).await.expect_status(200);
    renewed(&own, 1).await;
    honest.end().await;
}
