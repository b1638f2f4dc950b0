//! A load balancer fails over without a word: the open sockets swallow what is sent, and new ones work.

use claviger_provider::layers::{BreakerConfig, BreakerState};

use super::{Bench, Outcome, Subject, equal};

/// Sockets that are open when the failover happens.
const SOCKETS: usize = 24;
/// As many operations as a connection has under way at most.
const CALLERS: usize = 64;

/// The first attempt after it takes a dead socket and times out; the second has a new one, and so have all
/// later calls. So the first success comes within two attempt times.
pub(super) async fn swallowed_sockets_cost_one_timeout(subject: Subject) -> Outcome {
    let bench = Bench::of(subject).await?;
    bench.warm_up(SOCKETS).await?;
    bench.proxy.swallow_open();
    bench.works().await?;
    equal("dead sockets that were used", bench.proxy.touched(), 1)?;
    bench.all_work(SOCKETS).await?;
    equal("dead sockets that were used by later calls", bench.proxy.touched(), 1)
}

/// The pool is given up once in ten seconds at most, and yet no call meets two dead sockets.
pub(super) async fn a_second_failover_within_ten_seconds_costs_one_timeout_a_call(subject: Subject) -> Outcome {
    let bench = Bench::of(subject).await?;
    bench.warm_up(SOCKETS).await?;
    bench.proxy.swallow_open();
    bench.works().await?;
    bench.warm_up(4).await?;
    bench.proxy.swallow_open();
    bench.works().await?;
    equal("dead sockets that were used", bench.proxy.touched(), 2)?;
    equal("calls that were answered", bench.proxy.calls().len(), 1)
}

/// Callers that all meet a dead socket at once are all served by their second attempt.
pub(super) async fn many_callers_survive_a_failover(subject: Subject) -> Outcome {
    let bench = Bench::of(subject).await?;
    bench.warm_up(SOCKETS).await?;
    let open = bench.proxy.swallow_open();
    bench.all_work(SOCKETS).await?;
    let touched = bench.proxy.touched();
    if touched > open {
        return Err(format!("{touched} dead sockets were used, and {open} were open"));
    }
    equal("calls that were answered", bench.proxy.calls().len(), SOCKETS)
}

/// As many callers as a connection serves at once meet dead sockets, with one key and the breaker's own limits: each
/// is served by its second attempt, and no circuit opens.
pub(super) async fn no_circuit_opens_in_a_failover(subject: Subject) -> Outcome {
    let bench = Bench::with(subject, BreakerConfig::default()).await?;
    bench.warm_up(CALLERS).await?;
    bench.proxy.swallow_open();
    bench.all_work(CALLERS).await?;
    equal("calls that were answered", bench.proxy.calls().len(), CALLERS)?;
    equal("the connection's circuit", bench.pipeline.breaker(), BreakerState::Closed)?;
    equal("circuits of keys that are open", bench.pipeline.open_keys(), 0)
}

/// A server that says that a connection takes no more requests (GOAWAY in HTTP/2) refuses none.
pub(super) async fn a_closing_connection_is_no_failure(subject: Subject) -> Outcome {
    let bench = Bench::of(subject).await?;
    bench.warm_up(4).await?;
    for _ in 0..8 {
        bench.proxy.drain_open();
        bench.works().await?;
    }
    equal("calls that were answered", bench.proxy.calls().len(), 8)
}
