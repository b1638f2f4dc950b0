//! `/v1/principals`: the programs and people that hold credentials.

use http::{Method, StatusCode};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::handler::{empty_reply, json_reply};
use super::list::{List, Listed, list_reply};
use super::once::first_answer;
use super::request::ApiRequest;
use super::response::ApiResponse;
use super::route::{PAGE_SIZE, PAGE_TOKEN, Route};
use super::types::{Name, Timestamp};
use crate::access::Action;
use crate::broker::{Failure, NewPrincipal, op};
use crate::store::model;

/// What a principal is. The kind is for people to read; it permits nothing.
///
/// - `service_account`: a program that authenticates with an API token
/// - `workload`: a program that its platform authenticates
/// - `person`: a human being
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[allow(
    missing_docs,
    reason = "the type's text describes each word; the OpenAPI document shows that text alone"
)]
pub enum PrincipalKind {
    #[default]
    ServiceAccount,
    Workload,
    Person,
}

impl From<PrincipalKind> for model::PrincipalKind {
    fn from(kind: PrincipalKind) -> Self {
        match kind {
            PrincipalKind::ServiceAccount => Self::ServiceAccount,
            PrincipalKind::Workload => Self::Workload,
            PrincipalKind::Person => Self::Person,
        }
    }
}

impl From<model::PrincipalKind> for PrincipalKind {
    fn from(kind: model::PrincipalKind) -> Self {
        match kind {
            model::PrincipalKind::ServiceAccount => Self::ServiceAccount,
            model::PrincipalKind::Workload => Self::Workload,
            model::PrincipalKind::Person => Self::Person,
        }
    }
}

/// A new principal.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreatePrincipal {
    /// The principal's name, unique in the tenant.
    pub name: Name,
    /// What the principal is. Default: `service_account`.
    #[serde(default)]
    pub kind: Option<PrincipalKind>,
}

/// A principal.
#[derive(Serialize, ToSchema)]
pub struct Principal {
    /// Immutable: 32 lower-case hex digits.
    pub id: String,
    /// Unique in the tenant.
    pub name: String,
    /// The tenant's id; zeros for a platform operator.
    pub tenant: String,
    /// What the principal is.
    pub kind: PrincipalKind,
    /// When it was created.
    pub created: Timestamp,
}

/// A page of principals.
pub type PrincipalList = List<Principal>;

impl Listed for Principal {
    const LIST: &'static str = "PrincipalList";
    const DESCRIPTION: &'static str = "A page of principals.";
    const ITEMS: &'static str = "The principals, ordered by name.";
}

fn response(principal: &model::Principal) -> Principal {
    Principal {
        id: principal.id.to_string(),
        name: principal.name.clone(),
        tenant: principal.tenant.to_string(),
        kind: principal.kind.into(),
        created: Timestamp(principal.created),
    }
}

/// `POST /v1/principals`
pub const CREATE: Route = Route::new(
    Method::POST,
    "/v1/principals",
    "createPrincipal",
    "access",
    "Create a principal.",
    &[Action::ManagePrincipals],
)
.repeatable()
.body::<CreatePrincipal>()
.answers::<Principal>(201, "The principal.");

pub async fn create(request: ApiRequest, body: CreatePrincipal) -> Result<ApiResponse, Failure> {
    let new = NewPrincipal {
        name: body.name.into_string(),
        kind: body.kind.unwrap_or_default().into(),
    };
    let create = |authorized, keep| request.broker.create_principal(authorized, new, keep);
    request
        .once::<op::CreatePrincipal, _, _, _>((), response, create, first_answer)
        .await
}

/// `GET /v1/principals`
pub const LIST: Route = Route::new(
    Method::GET,
    "/v1/principals",
    "listPrincipals",
    "access",
    "List principals, ordered by name.",
    &[Action::ManagePrincipals],
)
.page(&[PAGE_SIZE, PAGE_TOKEN])
.answers::<PrincipalList>(200, "A page of principals.");

pub async fn list(request: ApiRequest) -> Result<ApiResponse, Failure> {
    let authorized = request.admit::<op::ListPrincipals>(()).await?;
    let listed = request.broker.list_principals(authorized, &request.page()?).await?;
    list_reply(&request, listed, response)
}

/// `GET /v1/principals/{principal}`
pub const GET: Route = Route::new(
    Method::GET,
    "/v1/principals/{principal}",
    "getPrincipal",
    "access",
    "Get a principal.",
    &[Action::ManagePrincipals],
)
.answers::<Principal>(200, "The principal.");

pub async fn get(request: ApiRequest) -> Result<ApiResponse, Failure> {
    let authorized = request.admit::<op::ReadPrincipal>(request.name("principal")?.as_str()).await?;
    json_reply(request.broker.read_principal(&authorized), StatusCode::OK, |principal| {
        response(&principal)
    })
}

/// `DELETE /v1/principals/{principal}`
pub const DELETE: Route = Route::new(
    Method::DELETE,
    "/v1/principals/{principal}",
    "deletePrincipal",
    "access",
    "Delete a principal. Its tokens, and all tokens below them, are refused from the next request on. The caller's own token must allow everything that the principal's tokens in force allow. Deleting it again returns 204, too, for 30 days.",
    &[Action::ManagePrincipals],
)
.revocation()
.answers_nothing(204, "Deleted, with its tokens.");

pub async fn delete(request: ApiRequest) -> Result<ApiResponse, Failure> {
    let authorized = request.admit::<op::DeletePrincipal>(request.name("principal")?.as_str()).await?;
    empty_reply(request.broker.delete_principal(authorized).await?)
}
