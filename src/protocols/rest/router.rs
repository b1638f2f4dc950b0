//! From a path to what answers it: an operation of the API, a service endpoint, or a refusal.

use std::sync::Arc;

use http::{HeaderValue, Method, Request, Response, Uri, header};

use super::endpoints::Endpoint;
use super::protocol::{Rest, RestRoute};
use super::route_table::{Params, RouteTable};
use super::service::ServicePage;
use super::service_places::ServicePlaces;
use super::starting::{Progress, Starting};
use crate::access::Caller;
use crate::broker::{Code, Failure};
use crate::listener::{Body, Peer, RequestBody, Service};
use crate::protocols::admission::Public;
use crate::protocols::exchange::{Exchange, RequestMeta};
use crate::protocols::response::AuditedResponse;

/// What a listener of the REST API serves.
pub struct RestService(Serves);

enum Serves {
    /// The gateway is still starting.
    Starting(Starting),
    /// The routes of this listener.
    Ready {
        exchange: Arc<Exchange<Rest>>,
        table: RouteTable<Target>,
        /// The places of its requests to the service endpoints.
        service: ServicePlaces,
        /// Whether it is the operator's.
        operator: bool,
    },
}

/// The destination of a request, by its path.
#[derive(Clone, Copy)]
enum Target {
    Endpoint(Endpoint),
    Service(ServicePage),
    /// For platform operators only.
    Operator(ServicePage),
    /// For everybody, with more for platform operators.
    MoreForOperator(ServicePage),
}

/// The API, with the service endpoints where they have no listener of their own. `/metrics` then
/// requires a platform operator's credential, and so do the details of `/readyz`.
pub fn api(exchange: &Arc<Exchange<Rest>>, with_service: bool) -> RestService {
    let service = with_service.then(pages_beside_the_api).into_iter().flatten();
    let service = service.map(|(method, path, target)| match target {
        Target::Service(page @ ServicePage::Readiness(_)) => (method, path, Target::MoreForOperator(page)),
        target => (method, path, target),
    });
    RestService::ready(exchange, RouteTable::new(endpoints().chain(service)), false)
}

/// The API and the service endpoints, for the operator's listener. `/metrics` requires a platform
/// operator's credential there, too: whoever reaches the listener may be a tenant.
pub fn of_operator(exchange: &Arc<Exchange<Rest>>) -> RestService {
    RestService::ready(exchange, RouteTable::new(endpoints().chain(pages_beside_the_api())), true)
}

/// The service endpoints, for a listener of their own.
pub fn service_alone(exchange: &Arc<Exchange<Rest>>) -> RestService {
    RestService::ready(exchange, RouteTable::new(service_pages()), false)
}

impl RestService {
    fn ready(exchange: &Arc<Exchange<Rest>>, table: RouteTable<Target>, operator: bool) -> Self {
        Self(Serves::Ready {
            exchange: Arc::clone(exchange),
            table,
            service: ServicePlaces::default(),
            operator,
        })
    }
}

fn endpoints() -> impl Iterator<Item = (Method, &'static str, Target)> {
    Endpoint::ALL.iter().map(|endpoint| {
        let route = endpoint.route();
        (route.method.clone(), route.path, Target::Endpoint(*endpoint))
    })
}

fn service_pages() -> impl Iterator<Item = (Method, &'static str, Target)> {
    ServicePage::ALL
        .iter()
        .map(|page| (Method::GET, page.path(), Target::Service(*page)))
}

/// Where everybody who reaches the API reaches them: metrics cover all tenants.
fn pages_beside_the_api() -> impl Iterator<Item = (Method, &'static str, Target)> {
    service_pages().map(|(method, path, target)| match target {
        Target::Service(page @ ServicePage::Metrics) => (method, path, Target::Operator(page)),
        target => (method, path, target),
    })
}

/// The service of a listener until there is a gateway; with `/healthz` and `/readyz` if the service
/// endpoints belong to it.
pub fn starting(progress: &Progress, with_service: bool) -> RestService {
    RestService(Serves::Starting(Starting::new(with_service.then(|| progress.clone()))))
}

impl Service for RestService {
    async fn call(&self, request: Request<&mut RequestBody>, peer: &Peer) -> Response<Body> {
        // A HEAD is a GET whose body is not sent.
        let head = (request.method() == Method::HEAD).then(|| request.method().clone());
        let answer = match &self.0 {
            Serves::Starting(starting) => starting.answer(&request),
            Serves::Ready {
                exchange,
                table,
                service,
                operator,
            } => ready(exchange, table, service, *operator, request, peer).await,
        };
        match head {
            None => answer,
            Some(head) => answer.to_method(&head),
        }
        .into()
    }
}

async fn ready(
    exchange: &Arc<Exchange<Rest>>,
    table: &RouteTable<Target>,
    service: &ServicePlaces,
    operator: bool,
    request: Request<&mut RequestBody>,
    peer: &Peer,
) -> AuditedResponse {
    let rest = exchange.protocol();
    let meta = || RequestMeta::from(peer, rest.source(peer, request.headers())).at_operator(operator);
    if let Err(failure) = rest.check_host(&request) {
        return exchange.refuse(&meta(), failure);
    }
    let Some((methods, params)) = table.find(request.uri().path()) else {
        return exchange.refuse(&meta(), no_such_path(request.uri().path()));
    };
    let method = match request.method() {
        &Method::HEAD => &Method::GET,
        method => method,
    };
    match methods.iter().find(|(taken, _)| taken == method) {
        Some((_, Target::Endpoint(endpoint))) => {
            let counts = rest.counts(*endpoint);
            let under_way = counts.begin();
            let meta = meta();
            let started = meta.started;
            let route = RestRoute {
                endpoint: *endpoint,
                params,
            };
            let answer = exchange.serve(route, meta, request).await;
            drop(under_way);
            counts.answered(answer.status(), started.elapsed());
            answer
        }
        Some((_, Target::Service(page))) => service_page(exchange, service, *page, params, request.uri(), &meta()).await,
        Some((_, Target::Operator(page))) => {
            let (meta, (head, _)) = (meta(), request.into_parts());
            let caller = exchange.authenticate(&meta, &head, Public::Credentials).await;
            match caller.and_then(Rest::operator) {
                Ok(caller) => {
                    let answer = service_page(exchange, service, *page, params, &head.uri, &meta).await;
                    exchange.hand_over(&meta, &caller, answer)
                }
                Err(failure) => exchange.refuse(&meta, failure),
            }
        }
        Some((_, Target::MoreForOperator(page))) => {
            let (meta, (head, _)) = (meta(), request.into_parts());
            // A probe whose token has ended is a probe still: a refusal would take the gateway out of service.
            let operator = match head.headers.contains_key(header::AUTHORIZATION) {
                true => exchange.authenticate(&meta, &head, Public::Credentials).await.ok(),
                false => None,
            };
            match operator.filter(Caller::is_operator) {
                Some(caller) => {
                    let answer = service_page(exchange, service, *page, params, &head.uri, &meta).await;
                    exchange.hand_over(&meta, &caller, answer)
                }
                None => service_page(exchange, service, page.for_tenants(), params, &head.uri, &meta).await,
            }
        }
        None => {
            let failure = Failure::new(Code::MethodNotAllowed, "This path does not take this method.");
            let answer = exchange.refuse(&meta(), failure);
            match HeaderValue::try_from(allowed(methods)) {
                Ok(value) => answer.with_header(header::ALLOW, value),
                Err(_) => answer,
            }
        }
    }
}

/// The failure for a path that this listener does not serve.
fn no_such_path(path: &str) -> Failure {
    if ServicePage::ALL.iter().any(|page| page.path() == path) {
        Failure::new(Code::NotFound, "The service endpoints have a listener of their own here.")
            .advice("Its address is `server.service.listen` in the gateway's configuration.")
    } else {
        Failure::new(
            Code::NotFound,
            "There is no such path. The command claviger openapi prints the API.",
        )
    }
}

/// Answers with a service endpoint, if its listener has a place for the request.
async fn service_page(
    exchange: &Exchange<Rest>,
    places: &ServicePlaces,
    page: ServicePage,
    params: Params,
    uri: &Uri,
    meta: &RequestMeta<'_>,
) -> AuditedResponse {
    let Some(_place) = places.enter(page, || meta.source) else {
        let failure = Failure::new(
            Code::RateLimited,
            "As many requests to the service endpoints are under way as are taken.",
        );
        return exchange.refuse(meta, failure);
    };
    page.answer(exchange, params, uri, meta).await
}

/// The methods of a path, as the `Allow` header names them.
fn allowed(methods: &[(Method, Target)]) -> String {
    let names: Vec<&str> = methods
        .iter()
        .map(|(method, _)| if method == Method::GET { "GET, HEAD" } else { method.as_str() })
        .collect();
    names.join(", ")
}
