//! REST as a [`Protocol`]: bearer tokens, headers of ours, JSON and problem+json.

use std::net::IpAddr;
use std::str::FromStr;
use std::time::Duration;

use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, Version, header};
use ipnet::IpNet;

use super::endpoints::Endpoint;
use super::errors;
use super::header::{Unusable, finish, single};
use super::host;
use super::request::{ApiRequest, RestHead};
use super::response::{AUDIT_INDEX, ApiResponse, BatchItem, BatchResponse, Payload, REQUEST_ID};
use super::route;
use super::route_table::Params;
use super::state::ServiceState;
use crate::access::{Caller, Unauthenticated};
use crate::audit::{Receipt, Text};
use crate::broker::{Code, Failure};
use crate::duration;
use crate::listener::{Body, Peer};
use crate::protocols::RequestId;
use crate::protocols::exchange::{AppState, Description, Protocol, Received, RequestMeta, Terms, peer_ip};
use crate::telemetry::metrics::RouteCounts;

const CLIENT_TENANT: HeaderName = HeaderName::from_static("claviger-tenant");
const TIMEOUT: HeaderName = HeaderName::from_static("claviger-timeout");
const JUSTIFICATION: HeaderName = HeaderName::from_static("claviger-justification");
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// The shortest deadline that a caller may ask for. With a shorter one, a healthy gateway on a slow
/// disk would fail requests at random, and a caller could fill the log with its own time-outs.
const SHORTEST: Duration = Duration::from_millis(100);

/// The most query parameters; no route has as many.
const PARAMETERS: usize = 32;

/// The REST API.
pub struct Rest {
    /// The state of the service endpoints.
    pub(super) service: ServiceState,
    /// The configured deadline of a request, if it is shorter than the contract's.
    request_deadline: Duration,
    /// Proxies whose `X-Forwarded-For` is believed.
    trusted_proxies: Vec<IpNet>,
    /// Whether requests for other hosts than this machine are refused.
    loopback_only: bool,
    /// The counts of each endpoint.
    counts: Vec<RouteCounts>,
}

/// The endpoint of a request.
#[derive(Clone, Copy)]
pub struct RestRoute {
    pub(super) endpoint: Endpoint,
    pub(super) params: Params,
}

impl Rest {
    /// With this state of the service endpoints, this deadline of a request at most, and the
    /// proxies whose `X-Forwarded-For` is believed.
    pub fn new(service: ServiceState, request_deadline: Duration, trusted_proxies: Vec<IpNet>) -> Self {
        let counts = Endpoint::ALL.iter().map(|endpoint| endpoint.route());
        Self {
            service,
            request_deadline,
            trusted_proxies,
            loopback_only: false,
            counts: counts.map(|route| RouteCounts::new(route.path, &route.method)).collect(),
        }
    }

    /// Refuses requests whose `Host` does not name this machine, for `claviger dev`.
    #[must_use]
    pub const fn for_loopback_only(mut self) -> Self {
        self.loopback_only = true;
        self
    }

    /// Checks the host of a request. One of HTTP/1.1 names it exactly once (RFC 9112, section 3.2): with
    /// none or two, a proxy in front may have sent the request to another host than it read.
    ///
    /// # Errors
    /// `invalid_request`; `permission_denied` where only this machine is served.
    pub(super) fn check_host(&self, head: &http::Request<impl Sized>) -> Result<(), Failure> {
        if head.version() == Version::HTTP_11 && head.headers().get_all(header::HOST).iter().count() != 1 {
            return Err(Failure::invalid("header:Host", "once"));
        }
        if !self.loopback_only || host::is_loopback(head.uri(), head.headers()) {
            return Ok(());
        }
        let failure = Failure::new(
            Code::PermissionDenied,
            "claviger dev serves requests for localhost and loopback addresses only.",
        );
        Err(failure.advice("Send Host: 127.0.0.1 or localhost, or run claviger serve."))
    }

    /// The caller, who must be a platform operator.
    ///
    /// # Errors
    /// `permission_denied`.
    pub(super) fn operator(caller: Caller) -> Result<Caller, Failure> {
        if caller.is_operator() {
            return Ok(caller);
        }
        let failure = Failure::new(
            Code::PermissionDenied,
            "Metrics cover all tenants: a tenant's credential does not read them.",
        );
        Err(failure.advice("Send a platform operator's token, or serve metrics on a listener of their own ([server.service])."))
    }

    pub(super) fn counts(&self, endpoint: Endpoint) -> &RouteCounts {
        // `new` made one for each.
        &self.counts[endpoint as usize]
    }

    /// The client's address: the peer's, or the one that trusted proxies report.
    pub(super) fn source(&self, peer: &Peer, headers: &HeaderMap) -> IpAddr {
        let peer = peer_ip(peer);
        let trusted = |address: &IpAddr| self.trusted_proxies.iter().any(|net| net.contains(address));
        if !trusted(&peer) {
            return peer;
        }
        // From the right, which the nearest proxy wrote, to the first address that is no proxy of ours. What is
        // no address ends the search: left of it stands what the client itself wrote.
        let lines = headers.get_all(FORWARDED_FOR).iter().rev();
        let hops = lines.flat_map(|line| line.as_bytes().rsplit(|byte| *byte == b','));
        let mut last = peer;
        for hop in hops {
            let address = std::str::from_utf8(hop).ok().and_then(|hop| IpAddr::from_str(hop.trim()).ok());
            let Some(address) = address.map(|address| address.to_canonical()) else {
                break;
            };
            last = address;
            if !trusted(&address) {
                break;
            }
        }
        last
    }
}

impl Protocol for Rest {
    type Route = RestRoute;
    type Checked = RestHead;
    type Payload = Payload;
    type Item = BatchItem;

    fn terms(&self, route: RestRoute) -> Terms {
        let route = route.endpoint.route();
        Terms {
            label: route.path,
            method: route.method.as_str(),
            needs: route.needs,
            own_token: route.own_token,
            body: route.body,
            answer: route.answer,
            revocation: route.revocation,
        }
    }

    async fn authenticate(&self, app: &AppState, meta: &RequestMeta<'_>, head: &Parts) -> Result<Caller, Failure> {
        let Ok(Some(text)) = single(&head.headers, header::AUTHORIZATION) else {
            return Err(unauthenticated());
        };
        let token = match text.split_once(' ') {
            Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => token,
            Some(_) | None => return Err(unauthenticated()),
        };
        // A value that cannot be used is no tenant's name: refused like an unknown one.
        let tenant = single(&head.headers, CLIENT_TENANT).unwrap_or(Some(""));
        let authenticator = app.broker.authenticator();
        let caller = authenticator
            .bearer(token, tenant, Some(meta.source), app.broker.credential_time())
            .await;
        caller.map_err(|error| match error {
            Unauthenticated::Missing | Unauthenticated::Invalid => unauthenticated(),
            Unauthenticated::TenantNamed => Failure::new(
                Code::PermissionDenied,
                "The credential belongs to a tenant already, and the header Claviger-Tenant is for platform operators.",
            )
            .advice("Leave out the header (in the CLI: --tenant and CLAVIGER_TENANT). The request then acts for the credential's own tenant."),
            Unauthenticated::UnknownTenant => Failure::new(Code::NotFound, "No tenant has the name that the header Claviger-Tenant gives.")
                .advice("Correct the name (in the CLI: --tenant or CLAVIGER_TENANT). `claviger tenants list`, without a tenant, shows all names."),
            Unauthenticated::Suspended => {
                Failure::new(Code::PermissionDenied, "The tenant is suspended.").advice("Ask the operator of the gateway to resume it.")
            }
            Unauthenticated::Store(error) => Failure::from(error),
        })
    }

    fn describe(&self, route: RestRoute, head: &Parts) -> Description<RestHead> {
        // If several headers are wrong, the last one that is found decides the response.
        let mut checked = route.params.of(&head.uri).and_then(|params| {
            let query = query(head.uri.query())?;
            Ok(RestHead { params, query })
        });
        let longest = longest(route.endpoint.route().time, self.request_deadline);
        let time = timeout(&head.headers, longest).unwrap_or_else(|failure| {
            checked = Err(failure);
            longest
        });
        let justification = justification(&head.headers).unwrap_or_else(|failure| {
            checked = Err(failure);
            None
        });
        Description {
            time,
            client_request_id: client_request_id(&head.headers),
            justification,
            checked,
        }
    }

    async fn handle(&self, route: RestRoute, received: Received<RestHead>) -> Result<ApiResponse, Failure> {
        let described = route.endpoint.route();
        if !received.body.is_empty() && described.takes_body() && !is_json(&received.head.headers) {
            return Err(Failure::new(
                Code::UnsupportedMediaType,
                "The body's media type is not application/json.",
            ));
        }
        route.endpoint.handle(ApiRequest::new(received, described)).await
    }

    fn success(&self, payload: Payload) -> Response<Body> {
        payload.into()
    }

    fn failure(&self, failure: &Failure, request_id: &RequestId) -> Response<Body> {
        errors::response(failure, request_id.as_str())
    }

    fn item(&self, item: Result<BatchItem, &Failure>, request_id: &RequestId, receipt: Option<&Receipt>) -> BatchItem {
        let mut item = item.unwrap_or_else(|failure| BatchItem::failed(errors::problem(failure, request_id.as_str())));
        item.audit_index = receipt.map(Receipt::index);
        item
    }

    fn batch(&self, items: Vec<BatchItem>, request_id: &RequestId) -> Response<Body> {
        match Payload::json(StatusCode::OK, &BatchResponse { items }) {
            Ok(payload) => payload.into(),
            Err(failure) => errors::response(&failure, request_id.as_str()),
        }
    }

    fn finish(&self, headers: &mut HeaderMap, request_id: &RequestId, receipt: Option<&Receipt>) {
        if let Some(index) = receipt.and_then(|receipt| HeaderValue::try_from(receipt.index()).ok()) {
            headers.insert(AUDIT_INDEX, index);
        }
        finish(headers, request_id);
    }
}

fn unauthenticated() -> Failure {
    Failure::new(Code::Unauthenticated, "The request carries no valid credential.")
        .advice(
            "Send Authorization: Bearer and a token that has not expired or been revoked (in the CLI: --token-file, CLAVIGER_TOKEN_FILE or CLAVIGER_TOKEN).",
        )
}

/// The deadline of a route, which the operator sets for single operations. A batch never has less time than one of them.
fn longest(of_route: Duration, configured: Duration) -> Duration {
    match of_route > route::REQUEST {
        true => of_route.max(configured),
        false => configured,
    }
}

/// The time that the caller allows, at most `longest`.
fn timeout(headers: &HeaderMap, longest: Duration) -> Result<Duration, Failure> {
    match single(headers, TIMEOUT).map(|text| text.map(duration::parse)) {
        Ok(None) => Ok(longest),
        Ok(Some(Ok(asked))) if asked >= SHORTEST => Ok(asked.min(longest)),
        Ok(Some(Ok(_) | Err(_))) | Err(Unusable) => Err(Failure::invalid(
            "header:Claviger-Timeout",
            "a duration such as 800ms or 5s, at least 100ms",
        )),
    }
}

fn justification(headers: &HeaderMap) -> Result<Option<Text>, Failure> {
    match single(headers, JUSTIFICATION) {
        Ok(None) => Ok(None),
        Ok(Some(text)) if text.len() <= 256 && text.bytes().all(|b| (b' '..=b'~').contains(&b)) => Ok(Some(Text::new(text.to_owned()))),
        Ok(Some(_)) | Err(Unusable) => Err(Failure::invalid(
            "header:Claviger-Justification",
            "at most 256 printable ASCII characters (in the CLI: --justification)",
        )),
    }
}

fn client_request_id(headers: &HeaderMap) -> Option<Text> {
    single(headers, REQUEST_ID)
        .unwrap_or(None)
        .filter(|text| (1..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b)))
        .map(|text| Text::new(text.to_owned()))
}

fn query(text: Option<&str>) -> Result<Vec<(String, String)>, Failure> {
    let text = text.unwrap_or_default();
    // A URI has room for thousands, each of which takes many times its length in memory.
    if text.bytes().filter(|byte| *byte == b'&').count() >= PARAMETERS {
        return Err(Failure::invalid("query", "fewer parameters"));
    }
    serde_urlencoded::from_str(text).map_err(|_| Failure::invalid("query", "percent-encoded names and values"))
}

fn is_json(headers: &HeaderMap) -> bool {
    let text = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or("");
    text.split(';')
        .next()
        .is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"))
}
