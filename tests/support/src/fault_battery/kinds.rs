//! What each fault means to the gateway: the same on every provider.

use claviger_provider::ErrorKind;

use super::{Bench, Outcome, Subject, equal};
use crate::proxy::{Act, Fault};

/// An answer that ends in the middle was no answer: the operation is sent again.
pub(super) async fn a_truncated_answer_is_asked_for_again(subject: Subject) -> Outcome {
    let bench = Bench::of(subject).await?;
    bench.proxy.set([Fault::always(Act::Cut).times(1)]);
    bench.works().await?;
    equal("calls", bench.proxy.calls().len(), 2)
}

/// Each fault that lasts is reported as one kind, after as many attempts as the pipeline makes.
pub(super) async fn each_fault_has_the_same_kind_on_every_provider(subject: Subject) -> Outcome {
    let bench = Bench::of(subject).await?;
    for (fault, kind) in [
        (Act::Cut, ErrorKind::UpstreamUnavailable),
        (Act::Reset, ErrorKind::UpstreamUnavailable),
        (Act::Hang, ErrorKind::UpstreamTimeout),
        (Act::respond(503, "{}"), ErrorKind::UpstreamUnavailable),
        (Act::respond(429, "{}"), ErrorKind::RateLimited),
    ] {
        bench.proxy.set([Fault::always(fault.clone())]);
        bench.proxy.forget_calls();
        let found = bench.unwrap().await.map_err(|error| error.kind);
        equal(&format!("{fault:?}"), found, Err(kind))?;
        equal(&format!("attempts with {fault:?}"), bench.proxy.calls().len(), 3)?;
        bench.proxy.clear();
        bench.works().await?;
    }
    Ok(())
}
