//! The service goes away and comes back, or has an address of another family.

use std::net::Ipv6Addr;

use claviger_provider::ErrorKind;

use super::{Bench, Outcome, Subject, equal};

/// While it is down that is said at once; the first call after that is served.
pub(super) async fn a_service_that_was_restarted_is_called_again(subject: Subject) -> Outcome {
    let bench = Bench::of(subject).await?;
    bench.warm_up(4).await?;
    bench.proxy.go_down();
    let down = bench.unwrap().await.map_err(|error| error.kind);
    equal("while it is down", down, Err(ErrorKind::UpstreamUnavailable))?;
    bench.proxy.come_up();
    bench.works().await?;
    equal("calls that were answered", bench.proxy.calls().len(), 1)
}

/// A host without an IPv4 address is reached.
pub(super) async fn a_service_with_ipv6_alone_is_reached(mut subject: Subject) -> Outcome {
    subject.proxy = subject.proxy.listening_on(Ipv6Addr::LOCALHOST.into());
    let bench = Bench::of(subject).await?;
    equal("an address of IPv6", bench.proxy.address().is_ipv6(), true)?;
    bench.works().await
}
