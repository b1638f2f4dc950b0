//! What the circuit breaker makes of a key manager's faults: it stops what fails, and nothing else.

use std::time::Duration;

use claviger_provider::layers::{BreakerState, Pipeline};
use claviger_provider::{Concerns, ErrorKind, Wrapped};
use claviger_testkit::connection::layers;
use futures::future::join_all;

use crate::faults::bench;
use crate::responses::{BROKEN_KEY, DECRYPT};
use crate::server::{Server, context, cx, kek};

/// The failures in a row that open a circuit.
const FAILURES: usize = 5;

/// Longer than a test takes.
const FOR_LONG: Duration = Duration::from_secs(600);

async fn unwrap(pipeline: &Pipeline, wrapped: &Wrapped) -> Result<(), (ErrorKind, Concerns)> {
    let opened = pipeline.unwrap_key(&cx(), wrapped, &context()).await;
    opened.map(drop).map_err(|error| (error.kind, error.concerns))
}

/// Calls a server that has gone, until the connection's circuit is open.
async fn open_the_circuit(pipeline: &Pipeline, wrapped: &Wrapped) {
    for _ in 0..FAILURES {
        let gone = unwrap(pipeline, wrapped).await;
        assert_eq!(gone, Err((ErrorKind::UpstreamUnavailable, Concerns::Connection)));
    }
    assert_eq!(pipeline.breaker(), BreakerState::Open);
}

#[tokio::test]
async fn a_key_that_the_server_fails_for_stops_no_other() {
    let server = Server::start().await;
    let (pipeline, _, good) = bench(&server, &layers(FOR_LONG)).await;
    let mut bad = good.clone();
    BROKEN_KEY.clone_into(&mut bad.key.id);
    for _ in 0..FAILURES {
        let failed = unwrap(&pipeline, &bad).await;
        assert_eq!(failed, Err((ErrorKind::UpstreamUnavailable, Concerns::Call)));
    }
    let before = server.connections_of(DECRYPT).len();
    for _ in 0..20 {
        assert_eq!(unwrap(&pipeline, &bad).await, Err((ErrorKind::CircuitOpen, Concerns::Call)));
        assert_eq!(unwrap(&pipeline, &good).await, Ok(()));
    }
    assert_eq!(server.connections_of(DECRYPT).len() - before, 20, "calls, all with the good key");
    assert_eq!((pipeline.breaker(), pipeline.open_keys()), (BreakerState::Closed, 1));
}

#[tokio::test]
async fn a_server_that_has_gone_opens_the_circuit_and_one_call_closes_it() {
    let server = Server::start().await;
    let (pipeline, _, wrapped) = bench(&server, &layers(Duration::from_millis(300))).await;
    let (address, certificates) = server.stop().await;
    open_the_circuit(&pipeline, &wrapped).await;
    let server = Server::start_on(address, certificates).await;
    while pipeline.breaker() == BreakerState::Open {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // The first opens a connection while the others ask.
    let results = join_all((0..16).map(|_| unwrap(&pipeline, &wrapped))).await;
    let refused = Err((ErrorKind::CircuitOpen, Concerns::Connection));
    assert_eq!(results.iter().filter(|result| **result == Ok(())).count(), 1, "{results:?}");
    assert_eq!(results.iter().filter(|result| **result == refused).count(), 15, "{results:?}");
    assert_eq!(server.connections_of(DECRYPT).len(), 1);
    assert_eq!(pipeline.breaker(), BreakerState::Closed);
    assert_eq!(unwrap(&pipeline, &wrapped).await, Ok(()));
}

#[tokio::test]
async fn a_check_calls_the_server_while_the_circuit_is_open() {
    let server = Server::start().await;
    let (pipeline, _, wrapped) = bench(&server, &layers(FOR_LONG)).await;
    let (address, certificates) = server.stop().await;
    open_the_circuit(&pipeline, &wrapped).await;
    let check = async || {
        let probe = pipeline.probe(&cx().checking(), &[kek()]).await.unwrap();
        probe.problem.map(|problem| problem.kind)
    };
    assert_eq!(
        check().await,
        Some(ErrorKind::UpstreamUnavailable),
        "it says that the server has gone"
    );
    let server = Server::start_on(address, certificates).await;
    assert_eq!(check().await, None);
    let calls = server.connections_of(DECRYPT).len();
    assert!(calls > 0, "the check tries the key");
    let refused = unwrap(&pipeline, &wrapped).await;
    assert_eq!(refused, Err((ErrorKind::CircuitOpen, Concerns::Connection)));
    assert_eq!(server.connections_of(DECRYPT).len(), calls);
}
