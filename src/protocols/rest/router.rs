//! The whole API on one page.
//!
//! A route says what a caller needs, how large the body may be and how long it may take. Handlers
//! are reached through [`Exchange::serve`] alone, which authenticates before it reads a body and
//! records before it answers.

use std::sync::{Arc, LazyLock};
use std::time::Instant;

use http::{HeaderValue, Method, Request, Response, header};
use hyper::body::Incoming;

use super::handler::{with_body, with_optional_body, without_body};
use super::openapi;
use super::protocol::{Rest, RestRoute};
use super::reply::Reply;
use super::request::ApiRequest;
use super::route::{BATCH, BATCH_TIME, DATA, REQUEST, Route};
use super::route_table::RouteTable;
use super::service::ServicePage;
use super::starting::Starting;
use super::{batch, capabilities, connections, data_keys, declared, inspect, keys, principals, tenants, tokens};
use crate::access::Action::{self, *};
use crate::broker::{Code, Failure};
use crate::listener::{Body, Peer, Service};
use crate::protocols::answer::Answer;
use crate::protocols::exchange::{Arrival, Exchange};

/// Declares the endpoints: the enum that names them, the route of each, and the one place that calls
/// their handlers.
macro_rules! endpoints {
    ($($name:ident: $method:ident $path:literal, $needs:expr, $body:expr, $time:expr, $adapter:ident($handler:path);)+) => {
        /// An operation of the API.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[allow(missing_docs, reason = "each is the operation of its route")]
        pub enum Endpoint {
            $($name,)+
        }

        impl Endpoint {
            /// All of them, in the order of `docs/api.md`.
            pub const ALL: &[Self] = &[$(Self::$name,)+];

            /// Its route.
            pub fn route(self) -> &'static Route {
                match self {
                    $(Self::$name => {
                        static ROUTE: Route = Route {
                            method: Method::$method,
                            method_name: stringify!($method),
                            path: $path,
                            needs: $needs,
                            body: $body,
                            time: $time,
                        };
                        &ROUTE
                    })+
                }
            }

            /// Calls its handler.
            pub(super) async fn handle(self, request: ApiRequest) -> Result<Reply, Failure> {
                match self {
                    $(Self::$name => $adapter(request, $handler).await,)+
                }
            }
        }
    };
}

#[rustfmt::skip]
endpoints! {
    CreateConnection:       POST   "/v1/connections",                           &[CreateConnection], DATA, REQUEST, with_body(connections::create);
    ListConnections:        GET    "/v1/connections",                           &[ReadConnection],   DATA, REQUEST, without_body(connections::list);
    GetConnection:          GET    "/v1/connections/{connection}",              &[ReadConnection],   DATA, REQUEST, without_body(connections::get);
    UpdateConnection:       PATCH  "/v1/connections/{connection}",              &[UpdateConnection], DATA, REQUEST, with_body(connections::update);
    DeleteConnection:       DELETE "/v1/connections/{connection}",              &[DeleteConnection], DATA, REQUEST, without_body(connections::delete);
    CheckConnection:        POST   "/v1/connections/{connection}/check",        &[CheckConnection],  DATA, REQUEST, without_body(connections::check);
    GetCapabilities:        GET    "/v1/connections/{connection}/capabilities", &[ReadConnection],   DATA, REQUEST, without_body(capabilities::get);
    SeverConnection:        POST   "/v1/connections/{connection}/sever",        &[Sever],            DATA, REQUEST, without_body(connections::sever);
    RestoreConnection:      POST   "/v1/connections/{connection}/restore",      &[Restore],          DATA, REQUEST, without_body(connections::restore);

    CreateKey:              POST   "/v1/keys",                                  &[CreateKey], DATA, REQUEST, with_body(keys::create);
    ListKeys:               GET    "/v1/keys",                                  &[ReadKey],          DATA, REQUEST, without_body(keys::list);
    GetKey:                 GET    "/v1/keys/{key}",                            &[ReadKey],          DATA, REQUEST, without_body(keys::get);
    UpdateKey:              PATCH  "/v1/keys/{key}",                            &[UpdateKey], DATA, REQUEST, with_body(keys::update);
    DeleteKey:              DELETE "/v1/keys/{key}",                            &[DeleteKey], DATA, REQUEST, without_body(keys::delete);
    ListKeyVersions:        GET    "/v1/keys/{key}/versions",                   &[ReadKey],          DATA, REQUEST, without_body(keys::versions);
    RotateKey:              POST   "/v1/keys/{key}/rotate",                     &[Rotate],           DATA, REQUEST, without_body(keys::rotate);
    EnableKey:              POST   "/v1/keys/{key}/enable",                     &[Enable],           DATA, REQUEST, with_optional_body(keys::enable);
    DisableKey:             POST   "/v1/keys/{key}/disable",                    &[Disable],          DATA, REQUEST, with_optional_body(keys::disable);

    GenerateDataKey:        POST   "/v1/keys/{key}/data-keys",                  GENERATE,            DATA, REQUEST, with_body(data_keys::generate);
    Wrap:                   POST   "/v1/keys/{key}/wrap",                       &[Wrap],     DATA, REQUEST, with_body(data_keys::wrap);
    UnwrapWithKey:          POST   "/v1/keys/{key}/unwrap",                     &[Unwrap],   DATA, REQUEST, with_body(data_keys::unwrap);
    Rewrap:                 POST   "/v1/keys/{key}/rewrap",                     REWRAP,              DATA, REQUEST, with_body(data_keys::rewrap);
    Unwrap:                 POST   "/v1/unwrap",                                &[Unwrap],   DATA, REQUEST, with_body(data_keys::unwrap_any);
    Inspect:                POST   "/v1/inspect",                               &[Inspect],  DATA, REQUEST, with_body(inspect::inspect);
    BatchGenerateDataKeys:  POST   "/v1/batch/data-keys",                       GENERATE,            BATCH, BATCH_TIME, with_body(batch::generate);
    BatchWrap:              POST   "/v1/batch/wrap",                            &[Wrap],     BATCH, BATCH_TIME, with_body(batch::wrap);
    BatchUnwrap:            POST   "/v1/batch/unwrap",                          &[Unwrap],   BATCH, BATCH_TIME, with_body(batch::unwrap);
    BatchRewrap:            POST   "/v1/batch/rewrap",                          REWRAP,              BATCH, BATCH_TIME, with_body(batch::rewrap);

    CreateTenant:           POST   "/v1/tenants",                               &[ManageTenants],    DATA, REQUEST, with_body(tenants::create);
    ListTenants:            GET    "/v1/tenants",                               &[ManageTenants],    DATA, REQUEST, without_body(tenants::list);
    GetTenant:              GET    "/v1/tenants/{tenant}",                      &[ManageTenants],    DATA, REQUEST, without_body(tenants::get);
    PlanDeclared:           POST   "/v1/declared/plan",                         &[ManageTenants],    DATA, BATCH_TIME, without_body(declared::plan);
    ApplyDeclared:          POST   "/v1/declared/apply",                        &[ManageTenants],    DATA, BATCH_TIME, without_body(declared::apply);
    CreatePrincipal:        POST   "/v1/principals",                            &[ManagePrincipals], DATA, REQUEST, with_body(principals::create);
    ListPrincipals:         GET    "/v1/principals",                            &[ManagePrincipals], DATA, REQUEST, without_body(principals::list);
    GetPrincipal:           GET    "/v1/principals/{principal}",                &[ManagePrincipals], DATA, REQUEST, without_body(principals::get);
    DeletePrincipal:        DELETE "/v1/principals/{principal}",                &[ManagePrincipals], DATA, REQUEST, without_body(principals::delete);
    CreateToken:            POST   "/v1/principals/{principal}/tokens",         &[ManageTokens],     DATA, REQUEST, with_body(tokens::create);
    ListTokens:             GET    "/v1/principals/{principal}/tokens",         &[ManageTokens],     DATA, REQUEST, without_body(tokens::list);
    DeleteToken:            DELETE "/v1/principals/{principal}/tokens/{token}", &[ManageTokens],     DATA, REQUEST, without_body(tokens::delete);
}

const GENERATE: &[Action] = &[GenerateDataKey, GenerateDataKeyWithoutPlaintext];
const REWRAP: &[Action] = &[Rewrap, RewrapFrom];

/// Every route, in the order of `docs/api.md`.
pub fn routes() -> Vec<&'static Route> {
    Endpoint::ALL.iter().map(|endpoint| endpoint.route()).collect()
}

/// What a listener of the REST API serves.
pub struct RestService(Serves);

enum Serves {
    /// There is no gateway yet.
    Starting(Starting),
    /// The routes of this listener.
    Ready {
        exchange: Arc<Exchange<Rest>>,
        table: RouteTable<Target>,
    },
}

/// What a path leads to.
#[derive(Clone, Copy)]
enum Target {
    Endpoint(Endpoint),
    Service(ServicePage),
}

/// The API, with the service endpoints where they have no listener of their own.
pub fn api(exchange: &Arc<Exchange<Rest>>, with_service: bool) -> RestService {
    let endpoints = Endpoint::ALL.iter().map(|endpoint| {
        let route = endpoint.route();
        (route.method.clone(), route.path, Target::Endpoint(*endpoint))
    });
    let table = RouteTable::new(endpoints.chain(with_service.then(service_pages).into_iter().flatten()));
    RestService(Serves::Ready {
        exchange: Arc::clone(exchange),
        table,
    })
}

/// The service endpoints, for a listener of their own.
pub fn service_alone(exchange: &Arc<Exchange<Rest>>) -> RestService {
    RestService(Serves::Ready {
        exchange: Arc::clone(exchange),
        table: RouteTable::new(service_pages()),
    })
}

fn service_pages() -> impl Iterator<Item = (Method, &'static str, Target)> {
    ServicePage::ALL
        .iter()
        .map(|page| (Method::GET, page.path(), Target::Service(*page)))
}

impl RestService {
    /// Serves while the gateway starts.
    pub(super) const fn starting(starting: Starting) -> Self {
        Self(Serves::Starting(starting))
    }
}

impl Service for RestService {
    async fn call(&self, request: Request<Incoming>, peer: &Peer) -> Response<Body> {
        // A HEAD is a GET whose body is not sent.
        let head = (request.method() == Method::HEAD).then(|| request.method().clone());
        let answer = match &self.0 {
            Serves::Starting(starting) => starting.answer(&request),
            Serves::Ready { exchange, table } => ready(exchange, table, request, peer).await,
        };
        match head {
            None => answer,
            Some(head) => answer.to_method(&head),
        }
        .into()
    }
}

async fn ready(exchange: &Arc<Exchange<Rest>>, table: &RouteTable<Target>, request: Request<Incoming>, peer: &Peer) -> Answer {
    let rest = exchange.protocol();
    let arrival = || Arrival::from(peer, rest.source(peer, request.headers()));
    let Some((methods, params)) = table.find(request.uri().path()) else {
        let failure = Failure::new(
            Code::NotFound,
            "There is no such path. The command claviger openapi prints the API.",
        );
        return exchange.refuse(&arrival(), failure);
    };
    let method = match request.method() {
        &Method::HEAD => &Method::GET,
        method => method,
    };
    match methods.iter().find(|(taken, _)| taken == method) {
        Some((_, Target::Endpoint(endpoint))) => {
            let counts = rest.counts(*endpoint);
            let under_way = counts.begin();
            let arrival = arrival();
            let started: Instant = arrival.started;
            let route = RestRoute {
                endpoint: *endpoint,
                params,
            };
            let answer = exchange.serve(route, arrival, request).await;
            drop(under_way);
            counts.answered(answer.status(), started.elapsed());
            answer
        }
        Some((_, Target::Service(page))) => page.answer(exchange, params, request.uri().path()).await,
        None => {
            let failure = Failure::new(Code::MethodNotAllowed, "This path does not take this method.");
            let answer = exchange.refuse(&arrival(), failure);
            match HeaderValue::try_from(allowed(methods)) {
                Ok(value) => answer.with_header(header::ALLOW, value),
                Err(_) => answer,
            }
        }
    }
}

/// The methods of a path, as the `Allow` header names them.
fn allowed(methods: &[(Method, Target)]) -> String {
    let names: Vec<&str> = methods
        .iter()
        .map(|(method, _)| if method == Method::GET { "GET, HEAD" } else { method.as_str() })
        .collect();
    names.join(", ")
}

/// The OpenAPI document as JSON text: what `/openapi.json` and `claviger openapi` give out.
pub fn document() -> &'static str {
    static TEXT: LazyLock<String> = LazyLock::new(|| {
        // A JSON value can always be written.
        let mut text = serde_json::to_string_pretty(&openapi::document(&routes())).unwrap_or_default();
        text.push('\n');
        text
    });
    &TEXT
}
