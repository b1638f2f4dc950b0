//! What every request finds: the use cases, the counters, the limits; and who is at the
//! other end of a connection.

use std::cell::RefCell;
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderName, Response};
use claviger_provider::fill_random;
use ipnet::IpNet;
use tokio::sync::Semaphore;

use super::errors;
use super::response::Answer;
use crate::audit::{CountedRight, Counters};
use crate::broker::{Broker, Failure};
use crate::listener::{Peer, Tls};
use crate::telemetry::jobs::JobState;
use crate::telemetry::metrics::Metrics;

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// What the service endpoints need.
pub struct ServiceState {
    counted: CountedRight,
    pub(super) metrics: Option<Metrics>,
    pub(super) draining: Arc<AtomicBool>,
    pub(super) certificates: Vec<Arc<Tls>>,
    pub(super) jobs: Vec<Arc<JobState>>,
}

impl ServiceState {
    /// Takes the right to respond without a record, the metrics if they are on, and what `/readyz`
    /// reports: the shutdown, the presented certificates, and the background jobs.
    pub fn new(
        counted: CountedRight,
        metrics: Option<Metrics>,
        draining: Arc<AtomicBool>,
        certificates: Vec<Arc<Tls>>,
        jobs: Vec<Arc<JobState>>,
    ) -> Self {
        Self {
            counted,
            metrics,
            draining,
            certificates,
            jobs,
        }
    }
}

/// What every request needs.
pub struct AppState {
    /// The use cases.
    pub broker: Arc<Broker>,
    /// Counts what is not recorded one by one.
    pub counters: Arc<Counters>,
    /// The service endpoints' own.
    pub service: ServiceState,
    /// Requests under way at once.
    pub in_flight: Arc<Semaphore>,
    /// The configured deadline of a request, if it is shorter than the contract's.
    pub request_deadline: Duration,
    /// Proxies whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<IpNet>,
}

/// Who and when, before anything else is known.
pub(super) struct RequestMeta {
    pub(super) request_id: String,
    pub(super) source: IpAddr,
    pub(super) started: Instant,
}

impl RequestMeta {
    pub(super) fn of(gateway: &AppState, request: &Request) -> Self {
        Self {
            request_id: new_request_id(),
            source: gateway.source(request),
            started: Instant::now(),
        }
    }
}

impl AppState {
    /// The caller's address: the peer's, or what the nearest trusted proxies say of it.
    fn source(&self, request: &Request) -> IpAddr {
        let peer = request
            .extensions()
            .get::<Peer>()
            .map_or(IpAddr::from([0, 0, 0, 0]), |peer| peer.address.ip());
        let trusted = |address: &IpAddr| self.trusted_proxies.iter().any(|net| net.contains(address));
        if !trusted(&peer) {
            return peer;
        }
        // From the right, which the nearest proxy wrote, to the first that is no proxy of ours.
        let hops = request
            .headers()
            .get_all(FORWARDED_FOR)
            .iter()
            .rev()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|text| text.rsplit(','));
        let mut last = peer;
        for hop in hops {
            let Ok(address) = IpAddr::from_str(hop.trim()) else { break };
            last = address;
            if !trusted(&address) {
                break;
            }
        }
        last
    }

    /// A failure before authentication: counted, not recorded one by one.
    pub(super) fn refuse(&self, meta: &RequestMeta, failure: Failure) -> Answer {
        let response = errors::response(&failure, &meta.request_id);
        Answer::recorded(self.counters.failed(meta.source, failure.code.as_str(), response), &meta.request_id)
    }

    /// A service endpoint's answer: counted, never recorded one by one.
    pub(super) fn serviced(&self, response: Response<Body>) -> Answer {
        Answer::recorded(self.service.counted.answer(response), &new_request_id())
    }
}

/// 16 random bytes as hex digits. An id is no secret, so many are drawn at once: each draw by
/// itself would cost more than all the rest of it.
pub(super) fn new_request_id() -> String {
    const LEN: usize = 16;
    thread_local! {
        static DRAWN: RefCell<([u8; 64 * LEN], usize)> = const { RefCell::new(([0; 64 * LEN], 0)) };
    }
    DRAWN.with_borrow_mut(|(drawn, left)| {
        if *left == 0 {
            fill_random(drawn);
            *left = drawn.len();
        }
        *left -= LEN;
        hex::encode(&drawn[*left..*left + LEN])
    })
}
