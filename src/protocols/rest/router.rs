//! The whole API on one page.
//!
//! A route says what a caller needs, how large the body may be and how long it may take; a
//! route without one of these does not compile. Handlers are reached through
//! [`super::exchange`] alone, which authenticates before it reads a body and records before
//! it answers.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use axum::Router;
use axum::extract::{MatchedPath, Request};
use axum::http::Method;
use axum::routing::{MethodFilter, MethodRouter};

use super::exchange;
use super::handler::{with_body, with_optional_body, without_body};
use super::route::{BATCH, BATCH_TIME, DATA, REQUEST, Route};
use super::state::AppState;
use super::{batch, capabilities, connections, data_keys, declared, inspect, keys, openapi, principals, service, tenants, tokens};
use crate::access::Action::{self, *};
use crate::telemetry::metrics::RouteCounts;

/// Every route, in the order of `docs/api.md`.
#[rustfmt::skip]
pub fn routes() -> Vec<Route> {
    let route = |method, path, needs, body, time, handler| {
        let counts = RouteCounts::new(path, &method);
        Route { method, path, needs, body, time, handler, counts }
    };
    let (get, post, patch, delete) = (Method::GET, Method::POST, Method::PATCH, Method::DELETE);
    vec![
        route(post.clone(),  "/v1/connections",                              &[CreateConnection], DATA, REQUEST, with_body(connections::create)),
        route(get.clone(),   "/v1/connections",                              &[ReadConnection],   DATA, REQUEST, without_body(connections::list)),
        route(get.clone(),   "/v1/connections/{connection}",                 &[ReadConnection],   DATA, REQUEST, without_body(connections::get)),
        route(patch.clone(), "/v1/connections/{connection}",                 &[UpdateConnection], DATA, REQUEST, with_body(connections::update)),
        route(delete.clone(),"/v1/connections/{connection}",                 &[DeleteConnection], DATA, REQUEST, without_body(connections::delete)),
        route(post.clone(),  "/v1/connections/{connection}/check",           &[CheckConnection],  DATA, REQUEST, without_body(connections::check)),
        route(get.clone(),   "/v1/connections/{connection}/capabilities",    &[ReadConnection],   DATA, REQUEST, without_body(capabilities::get)),
        route(post.clone(),  "/v1/connections/{connection}/sever",           &[Sever],            DATA, REQUEST, without_body(connections::sever)),
        route(post.clone(),  "/v1/connections/{connection}/restore",         &[Restore],          DATA, REQUEST, without_body(connections::restore)),

        route(post.clone(),  "/v1/keys",                                     &[CreateKey],        DATA, REQUEST, with_body(keys::create)),
        route(get.clone(),   "/v1/keys",                                     &[ReadKey],          DATA, REQUEST, without_body(keys::list)),
        route(get.clone(),   "/v1/keys/{key}",                               &[ReadKey],          DATA, REQUEST, without_body(keys::get)),
        route(patch,         "/v1/keys/{key}",                               &[UpdateKey],        DATA, REQUEST, with_body(keys::update)),
        route(delete.clone(),"/v1/keys/{key}",                               &[DeleteKey],        DATA, REQUEST, without_body(keys::delete)),
        route(get.clone(),   "/v1/keys/{key}/versions",                      &[ReadKey],          DATA, REQUEST, without_body(keys::versions)),
        route(post.clone(),  "/v1/keys/{key}/rotate",                        &[Rotate],           DATA, REQUEST, without_body(keys::rotate)),
        route(post.clone(),  "/v1/keys/{key}/enable",                        &[Enable],           DATA, REQUEST, with_optional_body(keys::enable)),
        route(post.clone(),  "/v1/keys/{key}/disable",                       &[Disable],          DATA, REQUEST, with_optional_body(keys::disable)),

        route(post.clone(),  "/v1/keys/{key}/data-keys",                     GENERATE,            DATA, REQUEST, with_body(data_keys::generate)),
        route(post.clone(),  "/v1/keys/{key}/wrap",                          &[Wrap],             DATA, REQUEST, with_body(data_keys::wrap)),
        route(post.clone(),  "/v1/keys/{key}/unwrap",                        &[Unwrap],           DATA, REQUEST, with_body(data_keys::unwrap)),
        route(post.clone(),  "/v1/keys/{key}/rewrap",                        REWRAP,              DATA, REQUEST, with_body(data_keys::rewrap)),
        route(post.clone(),  "/v1/unwrap",                                   &[Unwrap],           DATA, REQUEST, with_body(data_keys::unwrap_any)),
        route(post.clone(),  "/v1/inspect",                                  &[Inspect],          DATA, REQUEST, with_body(inspect::inspect)),
        route(post.clone(),  "/v1/batch/data-keys",                          GENERATE,            BATCH, BATCH_TIME, with_body(batch::generate)),
        route(post.clone(),  "/v1/batch/wrap",                               &[Wrap],             BATCH, BATCH_TIME, with_body(batch::wrap)),
        route(post.clone(),  "/v1/batch/unwrap",                             &[Unwrap],           BATCH, BATCH_TIME, with_body(batch::unwrap)),
        route(post.clone(),  "/v1/batch/rewrap",                             REWRAP,              BATCH, BATCH_TIME, with_body(batch::rewrap)),

        route(post.clone(),  "/v1/tenants",                                  &[ManageTenants],    DATA, REQUEST, with_body(tenants::create)),
        route(get.clone(),   "/v1/tenants",                                  &[ManageTenants],    DATA, REQUEST, without_body(tenants::list)),
        route(get.clone(),   "/v1/tenants/{tenant}",                         &[ManageTenants],    DATA, REQUEST, without_body(tenants::get)),
        route(post.clone(),  "/v1/declared/plan",                            &[ManageTenants],    DATA, BATCH_TIME, without_body(declared::plan)),
        route(post.clone(),  "/v1/declared/apply",                           &[ManageTenants],    DATA, BATCH_TIME, without_body(declared::apply)),
        route(post.clone(),  "/v1/principals",                               &[ManagePrincipals], DATA, REQUEST, with_body(principals::create)),
        route(get.clone(),   "/v1/principals",                               &[ManagePrincipals], DATA, REQUEST, without_body(principals::list)),
        route(get.clone(),   "/v1/principals/{principal}",                   &[ManagePrincipals], DATA, REQUEST, without_body(principals::get)),
        route(delete.clone(),"/v1/principals/{principal}",                   &[ManagePrincipals], DATA, REQUEST, without_body(principals::delete)),
        route(post,          "/v1/principals/{principal}/tokens",            &[ManageTokens],     DATA, REQUEST, with_body(tokens::create)),
        route(get,           "/v1/principals/{principal}/tokens",            &[ManageTokens],     DATA, REQUEST, without_body(tokens::list)),
        route(delete,        "/v1/principals/{principal}/tokens/{token}",    &[ManageTokens],     DATA, REQUEST, without_body(tokens::delete)),
    ]
}

const GENERATE: &[Action] = &[GenerateDataKey, GenerateDataKeyWithoutPlaintext];
const REWRAP: &[Action] = &[Rewrap, RewrapFrom];

/// The API's router: the routes, the service endpoints where they have no listener of their
/// own, and one answer for whatever is neither.
pub fn api(gateway: &Arc<AppState>, with_service: bool) -> Router {
    let mut router = Router::new();
    for route in routes() {
        let route = Arc::new(route);
        let gateway = Arc::clone(gateway);
        let Ok(filter) = MethodFilter::try_from(route.method.clone()) else {
            continue;
        };
        let path = route.path;
        let serve = move |request| {
            let (gateway, route) = (Arc::clone(&gateway), Arc::clone(&route));
            async move { exchange::serve(gateway, route, request).await }
        };
        router = router.route(path, MethodRouter::new().on(filter, serve));
    }
    if with_service {
        router = service::routes(router, gateway, document());
    }
    with_fallbacks(router, gateway)
}

/// The router of the service endpoints' own listener.
pub fn service_alone(gateway: &Arc<AppState>) -> Router {
    with_fallbacks(service::routes(Router::new(), gateway, document()), gateway)
}

fn with_fallbacks(router: Router, gateway: &Arc<AppState>) -> Router {
    let methods = methods();
    let gateway = Arc::clone(gateway);
    router
        .method_not_allowed_fallback({
            let gateway = Arc::clone(&gateway);
            move |request: Request| async move {
                let path = request.extensions().get::<MatchedPath>().map_or("", MatchedPath::as_str);
                // What has no route is a service endpoint.
                let allowed = methods.get(path).map_or("GET, HEAD", String::as_str);
                exchange::method_not_allowed(&gateway, allowed, &request)
            }
        })
        .fallback(move |request: Request| async move { exchange::no_route(&gateway, &request) })
}

/// For each path the methods that it takes, as the `Allow` header names them.
fn methods() -> Arc<BTreeMap<&'static str, String>> {
    let mut methods: BTreeMap<&'static str, String> = BTreeMap::new();
    for route in routes() {
        let allowed = methods.entry(route.path).or_default();
        if !allowed.is_empty() {
            allowed.push_str(", ");
        }
        allowed.push_str(if route.method == Method::GET {
            "GET, HEAD"
        } else {
            route.method.as_str()
        });
    }
    Arc::new(methods)
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
