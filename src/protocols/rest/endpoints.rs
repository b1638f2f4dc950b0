//! The whole API on one page.
//!
//! Each line names an operation's entry, which says what a caller needs, how large the body may be
//! and how long it may take, and its handler. Both are in the resource's own file.

use super::handler::{with_body, with_optional_body, without_body};
use super::request::ApiRequest;
use super::response::ApiResponse;
use super::route::Route;
use super::{batch, capabilities, connection_check, connections, data_keys, declared, inspect, keys, principals, tenants, tokens};
use crate::broker::Failure;

/// Declares the endpoints: the enum that names them, the entry of each, and the one place that calls
/// their handlers. The match in it makes all of them one future, without a box.
macro_rules! endpoints {
    ($($name:ident: $entry:path, $adapter:ident($handler:path);)+) => {
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
                    $(Self::$name => $adapter(request, $handler).await,)+
                }
            }
        }
    };
}

#[rustfmt::skip]
endpoints! {
    CreateConnection:       connections::CREATE, with_body(connections::create);
    ListConnections:        connections::LIST, without_body(connections::list);
    GetConnection:          connections::GET, without_body(connections::get);
    UpdateConnection:       connections::UPDATE, with_body(connections::update);
    DeleteConnection:       connections::DELETE, without_body(connections::delete);
    CheckConnection:        connection_check::CHECK, without_body(connection_check::check);
    GetCapabilities:        capabilities::GET, without_body(capabilities::get);
    SeverConnection:        connections::SEVER, without_body(connections::sever);
    RestoreConnection:      connections::RESTORE, without_body(connections::restore);

    CreateKey:              keys::CREATE, with_body(keys::create);
    ListKeys:               keys::LIST, without_body(keys::list);
    GetKey:                 keys::GET, without_body(keys::get);
    UpdateKey:              keys::UPDATE, with_body(keys::update);
    DeleteKey:              keys::DELETE, without_body(keys::delete);
    ListKeyVersions:        keys::VERSIONS, without_body(keys::versions);
    RotateKey:              keys::ROTATE, with_optional_body(keys::rotate);
    EnableKey:              keys::ENABLE, with_optional_body(keys::enable);
    DisableKey:             keys::DISABLE, with_optional_body(keys::disable);

    GenerateDataKey:        data_keys::GENERATE, with_body(data_keys::generate);
    Wrap:                   data_keys::WRAP, with_body(data_keys::wrap);
    UnwrapWithKey:          data_keys::UNWRAP, with_body(data_keys::unwrap);
    Rewrap:                 data_keys::REWRAP, with_body(data_keys::rewrap);
    Unwrap:                 data_keys::UNWRAP_ANY, with_body(data_keys::unwrap_any);
    Inspect:                inspect::INSPECT, with_body(inspect::inspect);
    BatchGenerateDataKeys:  batch::GENERATE, with_body(batch::generate);
    BatchWrap:              batch::WRAP, with_body(batch::wrap);
    BatchUnwrap:            batch::UNWRAP, with_body(batch::unwrap);
    BatchRewrap:            batch::REWRAP, with_body(batch::rewrap);

    CreateTenant:           tenants::CREATE, with_body(tenants::create);
    ListTenants:            tenants::LIST, without_body(tenants::list);
    GetTenant:              tenants::GET, without_body(tenants::get);
    SuspendTenant:          tenants::SUSPEND, without_body(tenants::suspend);
    ResumeTenant:           tenants::RESUME, without_body(tenants::resume);
    PlanDeclared:           declared::PLAN, without_body(declared::plan);
    ApplyDeclared:          declared::APPLY, without_body(declared::apply);
    ReleaseDeclared:        declared::RELEASE, with_body(declared::release);
    CreatePrincipal:        principals::CREATE, with_body(principals::create);
    ListPrincipals:         principals::LIST, without_body(principals::list);
    GetPrincipal:           principals::GET, without_body(principals::get);
    DeletePrincipal:        principals::DELETE, without_body(principals::delete);
    CreateToken:            tokens::CREATE, with_body(tokens::create);
    ListTokens:             tokens::LIST, without_body(tokens::list);
    DeleteToken:            tokens::DELETE, without_body(tokens::delete);
    WhoAmI:                 tokens::WHOAMI, without_body(tokens::whoami);
}

/// Every route, in the order of `docs/api.md`.
pub fn routes() -> Vec<&'static Route> {
    Endpoint::ALL.iter().map(|endpoint| endpoint.route()).collect()
}
