//! What the circuit breaker makes of a token's faults: it stops what fails, and nothing else.

use std::sync::Arc;
use std::time::Duration;

use claviger_provider::layers::{BreakerState, Pipeline};
use claviger_provider::{Call, Concerns, ErrorKind, Finding, Kek, SeverSwitch, Wrapped};
use claviger_testkit::connection::layers;
use futures::future::join_all;

use crate::calls::{context, cx, wrapped};
use crate::faulty::Faulty;
use crate::token::Module;

/// The failures in a row that open a circuit.
const FAILURES: usize = 5;
/// Longer than a test takes.
const FOR_LONG: Duration = Duration::from_secs(600);

/// A connection through its layers, with a key and what that wrapped.
struct Bench {
    faulty: Faulty,
    pipeline: Pipeline,
    kek: Kek,
    wrapped: Wrapped,
    /// What another key of the token wrapped.
    other: Wrapped,
}

impl Bench {
    async fn new(module: &Module, open_for: Duration) -> Self {
        let faulty = Faulty::make(module);
        let provider = faulty.token.connect_with(&faulty.settings());
        let (kek, _, own) = wrapped(&provider).await;
        let (_, _, other) = wrapped(&provider).await;
        let provider: Arc<dyn Call> = Arc::new(provider);
        Self {
            faulty,
            pipeline: Pipeline::new(provider, &layers(open_for), SeverSwitch::default()),
            kek,
            wrapped: own,
            other,
        }
    }

    async fn unwrap(&self, wrapped: &Wrapped) -> Result<(), (ErrorKind, Concerns)> {
        let opened = self.pipeline.unwrap_key(&cx(), wrapped, &context()).await;
        opened.map(drop).map_err(|error| (error.kind, error.concerns))
    }

    /// Removes the token, and calls it until the connection's circuit is open.
    async fn open_the_circuit(&self) {
        self.faulty.have("device-removed");
        for _ in 0..FAILURES {
            let removed = self.unwrap(&self.wrapped).await;
            assert_eq!(removed, Err((ErrorKind::UpstreamUnavailable, Concerns::Connection)));
        }
        assert_eq!(self.pipeline.breaker(), BreakerState::Open);
    }

    /// What a check finds by trying the key.
    async fn canary(&self) -> Finding {
        let probe = self
            .pipeline
            .probe(&cx().checking(), std::slice::from_ref(&self.kek))
            .await
            .unwrap();
        probe.rights.iter().find(|right| right.operation == "canary").unwrap().finding
    }
}

pub async fn a_key_that_the_token_fails_for_stops_no_other(module: Arc<Module>) {
    let bench = Bench::new(&module, FOR_LONG).await;
    bench.faulty.have("bad-key");
    for _ in 0..FAILURES {
        let failed = bench.unwrap(&bench.other).await;
        assert_eq!(failed, Err((ErrorKind::UpstreamUnavailable, Concerns::Call)));
    }
    for _ in 0..20 {
        let refused = bench.unwrap(&bench.other).await;
        assert_eq!(refused, Err((ErrorKind::CircuitOpen, Concerns::Call)));
        assert_eq!(bench.unwrap(&bench.wrapped).await, Ok(()));
    }
    assert_eq!((bench.pipeline.breaker(), bench.pipeline.open_keys()), (BreakerState::Closed, 1));
}

pub async fn a_token_that_is_removed_opens_the_circuit_and_one_call_closes_it(module: Arc<Module>) {
    let bench = Bench::new(&module, Duration::from_millis(300)).await;
    bench.open_the_circuit().await;
    bench.faulty.have("pause-once");
    while bench.pipeline.breaker() == BreakerState::Open {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // The first one waits for the token while the others ask.
    let results = join_all((0..16).map(|_| bench.unwrap(&bench.wrapped))).await;
    let refused = Err((ErrorKind::CircuitOpen, Concerns::Connection));
    assert_eq!(results.iter().filter(|result| **result == Ok(())).count(), 1, "{results:?}");
    assert_eq!(results.iter().filter(|result| **result == refused).count(), 15, "{results:?}");
    assert_eq!(bench.pipeline.breaker(), BreakerState::Closed);
    assert_eq!(bench.unwrap(&bench.wrapped).await, Ok(()));
}

pub async fn a_check_calls_the_token_while_the_circuit_is_open(module: Arc<Module>) {
    let bench = Bench::new(&module, FOR_LONG).await;
    bench.open_the_circuit().await;
    assert_eq!(bench.canary().await, Finding::Failed, "it says that the token is gone");
    bench.faulty.have("");
    assert_eq!(bench.canary().await, Finding::Granted);
    let refused = bench.unwrap(&bench.wrapped).await;
    assert_eq!(refused, Err((ErrorKind::CircuitOpen, Concerns::Connection)));
}
