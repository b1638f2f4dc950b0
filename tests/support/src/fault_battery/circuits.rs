//! What the circuit breaker, with its own limits, makes of faults: it stops what fails, and nothing else.

use std::time::Duration;

use claviger_provider::layers::{BreakerConfig, BreakerState};
use claviger_provider::{Concerns, Error, ErrorKind};
use futures::future::join_all;

use super::{Bench, Outcome, Subject, equal};
use crate::proxy::{Act, Fault, Kind, Which};

/// The failures in a row that open a circuit.
const FAILURES: usize = 5;

/// A circuit that stays open for longer than a case takes.
fn open_for_long() -> BreakerConfig {
    BreakerConfig {
        open_for: Duration::from_secs(600),
        ..BreakerConfig::default()
    }
}

fn kind(result: Result<(), Error>) -> Result<(), (ErrorKind, Concerns)> {
    result.map_err(|error| (error.kind, error.concerns))
}

/// A key for which the service fails opens its own circuit alone. The connection's other key works meanwhile.
pub(super) async fn one_bad_key_stops_no_other(subject: Subject) -> Outcome {
    let bench = Bench::with(subject, open_for_long()).await?;
    let bad = bench.another_key().await?;
    bench.proxy.set([Fault::on(bad.calls(), Act::respond(503, "{}"))]);
    for _ in 0..FAILURES {
        let failed = kind(bench.unwrap_with(&bad).await);
        equal("the bad key", failed, Err((ErrorKind::UpstreamUnavailable, Concerns::Call)))?;
    }
    bench.proxy.forget_calls();
    for _ in 0..20 {
        let refused = kind(bench.unwrap_with(&bad).await);
        equal("the bad key later", refused, Err((ErrorKind::CircuitOpen, Concerns::Call)))?;
        bench.works().await?;
    }
    equal("calls, all with the good key", bench.proxy.calls().len(), 20)?;
    equal("the connection's circuit", bench.pipeline.breaker(), BreakerState::Closed)?;
    equal("circuits of keys that are open", bench.pipeline.open_keys(), 1)
}

/// When the time of an open circuit is over, one call finds out whether the service works again. The others are
/// refused until it has.
pub(super) async fn a_half_open_circuit_lets_one_call_through(subject: Subject) -> Outcome {
    let config = BreakerConfig {
        open_for: Duration::from_millis(300),
        ..BreakerConfig::default()
    };
    let bench = Bench::with(subject, config).await?;
    bench.open_the_circuit().await?;
    bench.proxy.come_up();
    // It is under way while the others ask.
    bench
        .proxy
        .set([Fault::on(Which::Of(Kind::Operation), Act::Delay(Duration::from_millis(500)))]);
    bench.proxy.forget_calls();
    while bench.pipeline.breaker() == BreakerState::Open {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let results = join_all((0..16).map(|_| bench.unwrap())).await;
    let (worked, refused): (Vec<_>, Vec<_>) = results.into_iter().partition(Result::is_ok);
    let refused: Vec<ErrorKind> = refused
        .into_iter()
        .filter_map(|result| result.err().map(|error| error.kind))
        .collect();
    equal("calls that were let through", worked.len(), 1)?;
    equal("what the others got", refused, vec![ErrorKind::CircuitOpen; 15])?;
    equal("calls at the service", bench.proxy.calls().len(), 1)?;
    bench.proxy.clear();
    bench.works().await?;
    equal("the circuit after a success", bench.pipeline.breaker(), BreakerState::Closed)
}

/// A check calls the service while the circuit refuses all other calls, and leaves the circuit as it is.
pub(super) async fn a_check_passes_an_open_circuit(subject: Subject) -> Outcome {
    let bench = Bench::with(subject, open_for_long()).await?;
    bench.open_the_circuit().await?;
    bench.proxy.come_up();
    let (problem, _, _) = bench.check(&[&bench.kek]).await?;
    equal("the problem that a check finds", problem, None)?;
    if bench.proxy.calls().is_empty() {
        return Err("a check made no call".to_owned());
    }
    bench.proxy.forget_calls();
    let refused = bench.unwrap().await.map_err(|error| error.kind);
    equal("another call", refused, Err(ErrorKind::CircuitOpen))?;
    equal("calls of it", bench.proxy.calls().len(), 0)
}

/// A check of a service that is down says so, at once and also while the circuit is open.
pub(super) async fn a_check_says_that_the_service_is_down(subject: Subject) -> Outcome {
    let bench = Bench::with(subject, open_for_long()).await?;
    bench.open_the_circuit().await?;
    let (problem, _, policy) = bench.check(&[&bench.kek]).await?;
    equal("the problem", problem, Some(ErrorKind::UpstreamUnavailable))?;
    equal("whether the policy is printed", policy, true)
}

/// A check of a service that responds to every call, and serves none: it is sealed, or fails.
pub(super) async fn a_check_says_that_the_service_serves_nothing(subject: Subject) -> Outcome {
    let bench = Bench::with(subject, open_for_long()).await?;
    bench.works().await?;
    for status in [500, 503] {
        bench.proxy.set([Fault::on(
            Which::Of(Kind::Operation),
            Act::respond(status, r#"{"errors":["out of order"]}"#),
        )]);
        let (problem, rights, policy) = bench.check(&[&bench.kek]).await?;
        // An error without the service's own body may be that of something in between.
        let named = problem == Some(ErrorKind::UpstreamUnavailable) || (status == 500 && problem == Some(ErrorKind::UpstreamProtocol));
        equal("whether the problem is named", (named, problem), (true, problem))?;
        equal("whether the policy is printed", policy, true)?;
        equal("whether a right failed", rights.iter().any(|(failed, _)| *failed), true)?;
    }
    Ok(())
}

/// One key for which the service fails is reported by itself, and takes nothing from the rest of a check.
pub(super) async fn a_check_reports_one_bad_key_by_itself(subject: Subject) -> Outcome {
    let bench = Bench::with(subject, open_for_long()).await?;
    let bad = bench.another_key().await?;
    bench.proxy.set([
        // It asks about all keys at once, so it is about none.
        Fault::on(Which::Named("capabilities-self".to_owned()), Act::Delay(Duration::ZERO)),
        Fault::on(bad.calls(), Act::respond(503, "{}")),
    ]);
    let (problem, rights, policy) = bench.check(&[&bad.kek, &bench.kek]).await?;
    equal("the problem of the connection", problem, None)?;
    equal("whether the policy is printed", policy, true)?;
    let failed = |name: &str| rights.iter().any(|(failed, how)| *failed && how.contains(name));
    equal("whether the bad key is named", failed(bad.name()), true)?;
    equal("whether the good key is named", failed(super::name_of(&bench.kek)), false)?;
    equal("whether a right is granted", rights.iter().any(|(failed, _)| !failed), true)
}
