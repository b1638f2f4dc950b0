//! The budget of a call, connecting and TLS included.

use std::net::TcpListener;
use std::time::Duration;

use claviger_provider::{ErrorKind, Provider, Secret};
use serde_json::json;
use tokio::time::timeout;

use crate::responses::{CREATE, DISCOVER, ENCRYPT};
use crate::server::{Fault, Server, context, cx, kek};

/// Long beside the budget, and short beside every other limit.
const PATIENCE: Duration = Duration::from_secs(20);

#[tokio::test]
async fn a_server_that_hangs_costs_the_budget() {
    for operation in [DISCOVER, ENCRYPT] {
        let server = Server::start().await;
        // 250 ms where the connection does not say otherwise.
        let provider = server.connect(&json!({"budget_ms": null}));
        server.plan(operation, Fault::Hang, usize::MAX);
        let (cx, kek, dek, context) = (cx(), kek(), Secret::random(32), context());
        let wrap = timeout(PATIENCE, provider.wrap_key(&cx, &kek, &dek, &context));
        let kind = wrap.await.unwrap().unwrap_err().kind;
        // On a machine that is slow enough, the handshake takes all of it.
        assert!(
            matches!(kind, ErrorKind::UpstreamTimeout | ErrorKind::UpstreamUnavailable),
            "{kind:?}"
        );
        assert!(server.connections_of(operation).len() <= 1, "the adapter makes one attempt");
    }
}

/// A host that accepts connections and never begins TLS.
#[tokio::test]
async fn a_handshake_that_hangs_costs_the_budget() {
    let server = Server::start().await;
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap().to_string();
    let provider = server.connect(&json!({"address": address, "budget_ms": 100}));
    let (cx, kek, dek, context) = (cx(), kek(), Secret::random(32), context());
    let wrap = timeout(PATIENCE, provider.wrap_key(&cx, &kek, &dek, &context));
    assert_eq!(wrap.await.unwrap().unwrap_err().kind, ErrorKind::UpstreamUnavailable);
}

/// Whether a creation that is cut short made the key, nobody would know: it has the time of its operation.
#[tokio::test]
async fn a_creation_is_not_cut_short() {
    let server = Server::start().await;
    let provider = server.connect(&json!({"budget_ms": 3000}));
    server.plan(CREATE, Fault::Late(Duration::from_secs(4)), 1);
    let request = claviger_testkit::connection::new_key(claviger_provider::KeySpec::Aes256, None);
    timeout(PATIENCE, provider.create_key(&cx(), &request)).await.unwrap().unwrap();
}
