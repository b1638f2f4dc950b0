//! The budget of a call, connecting and TLS included.

use std::net::TcpListener;
use std::time::Duration;

use claviger_fake::{Act, Fault};
use claviger_provider::{Concerns, ErrorKind, Provider};
use serde_json::json;
use tokio::time::timeout;

use crate::bench::connect;
use crate::fixture::{Fixture, context, cx, dek, kek};

/// Long beside the budget, and short beside every other limit.
const PATIENCE: Duration = Duration::from_secs(20);

#[tokio::test]
async fn a_proxy_that_hangs_costs_the_budget() {
    let fixture = Fixture::new().await;
    let mut settings = fixture.bench.settings();
    // 250 ms where the connection does not say otherwise.
    settings.as_object_mut().unwrap().remove("budget_ms");
    let provider = connect(&settings);
    fixture.bench.fake.switches().faults.set(vec![Fault::always("/encrypt", Act::Hang)]);
    let (cx, kek, dek, context) = (cx(), kek(), dek(), context());
    let wrap = timeout(PATIENCE, provider.wrap_key(&cx, &kek, &dek, &context));
    assert_eq!(wrap.await.unwrap().unwrap_err().kind, ErrorKind::UpstreamTimeout);
    assert_eq!(fixture.bodies("/encrypt").len(), 1, "the adapter makes one attempt");
}

/// A host that accepts connections and never begins TLS: nothing was sent, so that says something of the connection and
/// not of the call. The budget leaves a slow machine a second between the two timeouts.
#[tokio::test]
async fn a_handshake_that_hangs_is_told_as_unreachable() {
    drop(Fixture::new().await);
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let key = claviger_fake_xks::AccessKey::first();
    let provider = connect(&json!({
        "address": format!("https://{}", silent.local_addr().unwrap()), "region": "eu-central-1", "budget_ms": 5000,
        "auth": crate::bench::auth(&key),
    }));
    let (cx, kek, dek, context) = (cx(), kek(), dek(), context());
    let wrap = timeout(PATIENCE, provider.wrap_key(&cx, &kek, &dek, &context));
    let error = wrap.await.unwrap().unwrap_err();
    assert_eq!((error.kind, error.concerns), (ErrorKind::UpstreamUnavailable, Concerns::Connection));
}
