//! The whole API on one page.
//!
//! Each line names an operation's entry, which says what a caller needs, how large the body may be
//! and how long it may take, and its handler. Both are in the resource's own file.

use std::pin::Pin;

use super::handler::{with_body, with_optional_body, without_body};
use super::request::ApiRequest;
use super::response::ApiResponse;
use super::route::Route;
use super::{batch, capabilities, connection_check, connections, data_keys, declared, inspect, keys, principals, tenants, tokens};
use crate::broker::Failure;

/// Declares the endpoints: the enum that names them, the entry of each, and the one place that calls
/// their handlers. The match in it makes all of them one future, which is as large as the largest of its parts.
macro_rules! endpoints {
    ($($name:ident: $entry:path, $use:ident $adapter:ident($handler:path);)+) => {
        /// An operation of the API.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[allow(missing_docs, reason = "each is the operation of its route")]
        pub enum Endpoint {
            $($name,)+
        }

        impl Endpoint {
            /// All of them, in the order of `docs/api.md`.
            pub const ALL: &[Self] = &[$(Self::$name,)+];

            /// The route of this endpoint.
            pub fn route(self) -> &'static Route {
                match self {
                    $(Self::$name => {
                        static ROUTE: Route = $entry;
                        &ROUTE
                    })+
                }
            }

            /// Calls its handler.
            pub(super) async fn handle(self, request: ApiRequest) -> Result<ApiResponse, Failure> {
                match self {
                    $(Self::$name => $use($adapter(request, $handler)).await,)+
                }
            }
        }
    };
}

/// The future of an operation that few requests are for: in a box, so that it takes no room in the future of the others.
fn rare<F: Future>(future: F) -> Pin<Box<F>> {
    Box::pin(future)
}

/// The future of an operation that most requests are for: without a box.
const fn often<F: Future>(future: F) -> F {
    future
}

#[rustfmt::skip]
endpoints! {
    CreateConnection:       connections::CREATE, rare with_body(connections::create);
    ListConnections:        connections::LIST, rare without_body(connections::list);
    GetConnection:          connections::GET, rare without_body(connections::get);
    UpdateConnection:       connections::UPDATE, rare with_body(connections::update);
    DeleteConnection:       connections::DELETE, rare without_body(connections::delete);
    CheckConnection:        connection_check::CHECK, rare without_body(connection_check::check);
    GetCapabilities:        capabilities::GET, rare without_body(capabilities::get);
    SeverConnection:        connections::SEVER, rare without_body(connections::sever);
    RestoreConnection:      connections::RESTORE, rare without_body(connections::restore);

    CreateKey:              keys::CREATE, rare with_body(keys::create);
    ListKeys:               keys::LIST, rare without_body(keys::list);
    GetKey:                 keys::GET, rare without_body(keys::get);
    UpdateKey:              keys::UPDATE, rare with_body(keys::update);
    DeleteKey:              keys::DELETE, rare without_body(keys::delete);
    ListKeyVersions:        keys::VERSIONS, rare without_body(keys::versions);
    RotateKey:              keys::ROTATE, rare with_optional_body(keys::rotate);
    EnableKey:              keys::ENABLE, rare with_optional_body(keys::enable);
    DisableKey:             keys::DISABLE, rare with_optional_body(keys::disable);

    GenerateDataKey:        data_keys::GENERATE, often with_body(data_keys::generate);
    Wrap:                   data_keys::WRAP, often with_body(data_keys::wrap);
    UnwrapWithKey:          data_keys::UNWRAP, often with_body(data_keys::unwrap);
    Rewrap:                 data_keys::REWRAP, often with_body(data_keys::rewrap);
    Unwrap:                 data_keys::UNWRAP_ANY, often with_body(data_keys::unwrap_any);
    Inspect:                inspect::INSPECT, rare with_body(inspect::inspect);
    BatchGenerateDataKeys:  batch::GENERATE, often with_body(batch::generate);
    BatchWrap:              batch::WRAP, often with_body(batch::wrap);
    BatchUnwrap:            batch::UNWRAP, often with_body(batch::unwrap);
    BatchRewrap:            batch::REWRAP, often with_body(batch::rewrap);

    CreateTenant:           tenants::CREATE, rare with_body(tenants::create);
    ListTenants:            tenants::LIST, rare without_body(tenants::list);
    GetTenant:              tenants::GET, rare without_body(tenants::get);
    SuspendTenant:          tenants::SUSPEND, rare without_body(tenants::suspend);
    ResumeTenant:           tenants::RESUME, rare without_body(tenants::resume);
    PlanDeclared:           declared::PLAN, rare without_body(declared::plan);
    ApplyDeclared:          declared::APPLY, rare without_body(declared::apply);
    ReleaseDeclared:        declared::RELEASE, rare with_body(declared::release);
    CreatePrincipal:        principals::CREATE, rare with_body(principals::create);
    ListPrincipals:         principals::LIST, rare without_body(principals::list);
    GetPrincipal:           principals::GET, rare without_body(principals::get);
    DeletePrincipal:        principals::DELETE, rare without_body(principals::delete);
    CreateToken:            tokens::CREATE, rare with_body(tokens::create);
    ListTokens:             tokens::LIST, rare without_body(tokens::list);
    DeleteToken:            tokens::DELETE, rare without_body(tokens::delete);
    WhoAmI:                 tokens::WHOAMI, rare without_body(tokens::whoami);
}

/// Every route, in the order of `docs/api.md`.
pub fn routes() -> Vec<&'static Route> {
    Endpoint::ALL.iter().map(|endpoint| endpoint.route()).collect()
}
