//! The whole API on one page.
//!
//! A row says what a caller needs, how large the body may be and how long it may take; a
//! row without one of these does not compile. Handlers are reached through
//! [`super::exchange`] alone, which authenticates before it reads a body and records before
//! it answers.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use axum::Router;
use axum::extract::{MatchedPath, Request};
use axum::http::Method;
use axum::routing::{MethodFilter, MethodRouter};

use super::exchange;
use super::gateway::Gateway;
use super::handler::{with_body, with_optional_body, without_body};
use super::row::{BATCH, BATCH_TIME, DATA, REQUEST, Row};
use super::{batch, capabilities, connections, data_keys, declared, inspect, keys, openapi, principals, service, tenants, tokens};
use crate::access::Action::{self, *};
use crate::telemetry::metrics::RouteCounts;

/// Every row, in the order of `docs/api.md`.
#[rustfmt::skip]
pub fn rows() -> Vec<Row> {
    let row = |method, path, needs, body, time, handler| {
        let counts = RouteCounts::new(path, &method);
        Row { method, path, needs, body, time, handler, counts }
    };
    let (get, post, patch, delete) = (Method::GET, Method::POST, Method::PATCH, Method::DELETE);
    vec![
        row(post.clone(),  "/v1/connections",                              &[CreateConnection], DATA, REQUEST, with_body(connections::create)),
        row(get.clone(),   "/v1/connections",                              &[ReadConnection],   DATA, REQUEST, without_body(connections::list)),
        row(get.clone(),   "/v1/connections/{connection}",                 &[ReadConnection],   DATA, REQUEST, without_body(connections::get)),
        row(patch.clone(), "/v1/connections/{connection}",                 &[UpdateConnection], DATA, REQUEST, with_body(connections::update)),
        row(delete.clone(),"/v1/connections/{connection}",                 &[DeleteConnection], DATA, REQUEST, without_body(connections::delete)),
        row(post.clone(),  "/v1/connections/{connection}/check",           &[CheckConnection],  DATA, REQUEST, without_body(connections::check)),
        row(get.clone(),   "/v1/connections/{connection}/capabilities",    &[ReadConnection],   DATA, REQUEST, without_body(capabilities::get)),
        row(post.clone(),  "/v1/connections/{connection}/sever",           &[Sever],            DATA, REQUEST, without_body(connections::sever)),
        row(post.clone(),  "/v1/connections/{connection}/restore",         &[Restore],          DATA, REQUEST, without_body(connections::restore)),

        row(post.clone(),  "/v1/keys",                                     &[CreateKey],        DATA, REQUEST, with_body(keys::create)),
        row(get.clone(),   "/v1/keys",                                     &[ReadKey],          DATA, REQUEST, without_body(keys::list)),
        row(get.clone(),   "/v1/keys/{key}",                               &[ReadKey],          DATA, REQUEST, without_body(keys::get)),
        row(patch,         "/v1/keys/{key}",                               &[UpdateKey],        DATA, REQUEST, with_body(keys::update)),
        row(delete.clone(),"/v1/keys/{key}",                               &[DeleteKey],        DATA, REQUEST, without_body(keys::delete)),
        row(get.clone(),   "/v1/keys/{key}/versions",                      &[ReadKey],          DATA, REQUEST, without_body(keys::versions)),
        row(post.clone(),  "/v1/keys/{key}/rotate",                        &[Rotate],           DATA, REQUEST, without_body(keys::rotate)),
        row(post.clone(),  "/v1/keys/{key}/enable",                        &[Enable],           DATA, REQUEST, with_optional_body(keys::enable)),
        row(post.clone(),  "/v1/keys/{key}/disable",                       &[Disable],          DATA, REQUEST, with_optional_body(keys::disable)),

        row(post.clone(),  "/v1/keys/{key}/data-keys",                     GENERATE,            DATA, REQUEST, with_body(data_keys::generate)),
        row(post.clone(),  "/v1/keys/{key}/wrap",                          &[Wrap],             DATA, REQUEST, with_body(data_keys::wrap)),
        row(post.clone(),  "/v1/keys/{key}/unwrap",                        &[Unwrap],           DATA, REQUEST, with_body(data_keys::unwrap)),
        row(post.clone(),  "/v1/keys/{key}/rewrap",                        REWRAP,              DATA, REQUEST, with_body(data_keys::rewrap)),
        row(post.clone(),  "/v1/unwrap",                                   &[Unwrap],           DATA, REQUEST, with_body(data_keys::unwrap_any)),
        row(post.clone(),  "/v1/inspect",                                  &[Inspect],          DATA, REQUEST, with_body(inspect::inspect)),
        row(post.clone(),  "/v1/batch/data-keys",                          GENERATE,            BATCH, BATCH_TIME, with_body(batch::generate)),
        row(post.clone(),  "/v1/batch/wrap",                               &[Wrap],             BATCH, BATCH_TIME, with_body(batch::wrap)),
        row(post.clone(),  "/v1/batch/unwrap",                             &[Unwrap],           BATCH, BATCH_TIME, with_body(batch::unwrap)),
        row(post.clone(),  "/v1/batch/rewrap",                             REWRAP,              BATCH, BATCH_TIME, with_body(batch::rewrap)),

        row(post.clone(),  "/v1/tenants",                                  &[ManageTenants],    DATA, REQUEST, with_body(tenants::create)),
        row(get.clone(),   "/v1/tenants",                                  &[ManageTenants],    DATA, REQUEST, without_body(tenants::list)),
        row(get.clone(),   "/v1/tenants/{tenant}",                         &[ManageTenants],    DATA, REQUEST, without_body(tenants::get)),
        row(post.clone(),  "/v1/declared/plan",                            &[ManageTenants],    DATA, BATCH_TIME, without_body(declared::plan)),
        row(post.clone(),  "/v1/declared/apply",                           &[ManageTenants],    DATA, BATCH_TIME, without_body(declared::apply)),
        row(post.clone(),  "/v1/principals",                               &[ManagePrincipals], DATA, REQUEST, with_body(principals::create)),
        row(get.clone(),   "/v1/principals",                               &[ManagePrincipals], DATA, REQUEST, without_body(principals::list)),
        row(get.clone(),   "/v1/principals/{principal}",                   &[ManagePrincipals], DATA, REQUEST, without_body(principals::get)),
        row(delete.clone(),"/v1/principals/{principal}",                   &[ManagePrincipals], DATA, REQUEST, without_body(principals::delete)),
        row(post,          "/v1/principals/{principal}/tokens",            &[ManageTokens],     DATA, REQUEST, with_body(tokens::create)),
        row(get,           "/v1/principals/{principal}/tokens",            &[ManageTokens],     DATA, REQUEST, without_body(tokens::list)),
        row(delete,        "/v1/principals/{principal}/tokens/{token}",    &[ManageTokens],     DATA, REQUEST, without_body(tokens::delete)),
    ]
}

const GENERATE: &[Action] = &[GenerateDataKey, GenerateDataKeyWithoutPlaintext];
const REWRAP: &[Action] = &[Rewrap, RewrapFrom];

/// The API's router: the rows, the service endpoints where they have no listener of their
/// own, and one answer for whatever is neither.
pub fn api(gateway: &Arc<Gateway>, with_service: bool) -> Router {
    let mut router = Router::new();
    for row in rows() {
        let row = Arc::new(row);
        let gateway = Arc::clone(gateway);
        let Ok(filter) = MethodFilter::try_from(row.method.clone()) else {
            continue;
        };
        let path = row.path;
        let serve = move |request| {
            let (gateway, row) = (Arc::clone(&gateway), Arc::clone(&row));
            async move { exchange::serve(gateway, row, request).await }
        };
        router = router.route(path, MethodRouter::new().on(filter, serve));
    }
    if with_service {
        router = service::routes(router, gateway, document());
    }
    with_fallbacks(router, gateway)
}

/// The router of the service endpoints' own listener.
pub fn service_alone(gateway: &Arc<Gateway>) -> Router {
    with_fallbacks(service::routes(Router::new(), gateway, document()), gateway)
}

fn with_fallbacks(router: Router, gateway: &Arc<Gateway>) -> Router {
    let methods = methods();
    let gateway = Arc::clone(gateway);
    router
        .method_not_allowed_fallback({
            let gateway = Arc::clone(&gateway);
            move |request: Request| async move {
                let path = request.extensions().get::<MatchedPath>().map_or("", MatchedPath::as_str);
                // What has no row is a service endpoint.
                let allowed = methods.get(path).map_or("GET, HEAD", String::as_str);
                exchange::method_not_allowed(&gateway, allowed, &request)
            }
        })
        .fallback(move |request: Request| async move { exchange::no_route(&gateway, &request) })
}

/// For each path the methods that it takes, as the `Allow` header names them.
fn methods() -> Arc<BTreeMap<&'static str, String>> {
    let mut methods: BTreeMap<&'static str, String> = BTreeMap::new();
    for row in rows() {
        let allowed = methods.entry(row.path).or_default();
        if !allowed.is_empty() {
            allowed.push_str(", ");
        }
        allowed.push_str(if row.method == Method::GET {
            "GET, HEAD"
        } else {
            row.method.as_str()
        });
    }
    Arc::new(methods)
}

/// The OpenAPI document as JSON text: what `/openapi.json` and `claviger openapi` give out.
pub fn document() -> &'static str {
    static TEXT: LazyLock<String> = LazyLock::new(|| {
        // A JSON value can always be written.
        let mut text = serde_json::to_string_pretty(&openapi::document(&rows())).unwrap_or_default();
        text.push('\n');
        text
    });
    &TEXT
}
