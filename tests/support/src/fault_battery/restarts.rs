//! The service goes away and comes back, with a certificate of another authority, or has an address of another family.

use std::net::Ipv6Addr;

use claviger_fake::Tls;
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

/// A certificate of an authority that the connection does not trust is told as such, without another attempt, and
/// never as an outage. A connection that trusts it opens what was wrapped before.
pub(super) async fn a_renewed_authority_is_named_and_then_trusted(subject: Subject) -> Outcome {
    let mut bench = Bench::of(subject).await?;
    let renewed = Tls::new(&["::1"]).map_err(|error| error.to_string())?;
    bench.proxy.swap_certificate(renewed);
    bench.proxy.reset_open();
    let Err(error) = bench.unwrap().await else {
        return Err("a strange authority was trusted".to_owned());
    };
    equal("what is told", error.kind, ErrorKind::Misconfigured)?;
    let named = error.advice.is_some_and(|advice| advice.contains("`ca`"));
    equal("whether the setting is named", named, true)?;
    equal("calls", bench.proxy.calls().len(), 0)?;
    bench.connect_again().await;
    bench.works().await
}
