//! `/v1/principals`: whoever may hold a credential.

use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::handler::{empty_reply, json_reply};
use super::page;
use super::reply::Reply;
use super::request::ApiRequest;
use super::types::{Name, Timestamp};
use crate::broker::{Failure, NewPrincipal, Page, op};
use crate::store::model;

/// What kind of caller a principal is.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum PrincipalKind {
    /// A program with a token of its own.
    #[default]
    ServiceAccount,
    /// A program known by its platform's identity.
    Workload,
    /// A human being.
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
    /// What kind; `service_account` where left out.
    #[serde(default)]
    pub kind: Option<PrincipalKind>,
}

/// A principal.
#[derive(Serialize, ToSchema)]
pub struct Principal {
    /// Immutable: 32 lower-case hex digits.
    pub id: String,
    /// The name.
    pub name: String,
    /// The tenant's id; zeros for a platform operator.
    pub tenant: String,
    /// What kind.
    pub kind: PrincipalKind,
    /// When it was made.
    pub created: Timestamp,
}

/// A page of principals.
#[derive(Serialize, ToSchema)]
pub struct PrincipalList {
    /// The principals, by name.
    pub items: Vec<Principal>,
    /// For the next page, absent on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_page_token: Option<String>,
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

#[utoipa::path(post, path = "/v1/principals", operation_id = "createPrincipal", tag = "access", request_body = CreatePrincipal,
    responses((status = 201, description = "The principal.", body = Principal)))]
/// Make a principal.
pub async fn create(request: ApiRequest, body: CreatePrincipal) -> Result<Reply, Failure> {
    let new = NewPrincipal {
        name: body.name.into_string(),
        kind: body.kind.unwrap_or_default().into(),
    };
    let create = |authorized, keep| request.broker.create_principal(authorized, new, keep);
    request.once::<op::CreatePrincipal, _, _, _>((), response, create).await
}

#[utoipa::path(get, path = "/v1/principals", operation_id = "listPrincipals", tag = "access",
    params(("page_size" = Option<u32>, Query, description = "1 to 1000; 100 where left out.", minimum = 1, maximum = 1000),
        ("page_token" = Option<String>, Query, description = "The next_page_token of the page before.", pattern = "^[A-Za-z0-9_-]{2,84}$")),
    responses((status = 200, description = "A page of principals.", body = PrincipalList)))]
/// List principals, by name.
pub async fn list(request: ApiRequest) -> Result<Reply, Failure> {
    request.only_query(&["page_size", "page_token"])?;
    let authorized = request.admit::<op::ListPrincipals>(()).await?;
    let listed = request.broker.list_principals(authorized, &request.page()?).await?;
    json_reply(listed, StatusCode::OK, |Page { items, next }| PrincipalList {
        items: items.iter().map(response).collect(),
        next_page_token: next.as_deref().map(page::encode),
    })
}

#[utoipa::path(get, path = "/v1/principals/{principal}", operation_id = "getPrincipal", tag = "access",
    params(("principal" = Name, Path, description = "The principal's name.")),
    responses((status = 200, description = "The principal.", body = Principal)))]
/// Read a principal.
pub async fn get(request: ApiRequest) -> Result<Reply, Failure> {
    request.only_query(&[])?;
    let authorized = request.admit::<op::ReadPrincipal>(request.name("principal")?.as_str()).await?;
    json_reply(request.broker.read_principal(&authorized), StatusCode::OK, |principal| {
        response(&principal)
    })
}

#[utoipa::path(delete, path = "/v1/principals/{principal}", operation_id = "deletePrincipal", tag = "access",
    params(("principal" = Name, Path, description = "The principal's name.")),
    responses((status = 204, description = "Deleted, with its tokens.")))]
/// Delete a principal; its tokens are refused from then on.
pub async fn delete(request: ApiRequest) -> Result<Reply, Failure> {
    request.only_query(&[])?;
    let authorized = request.admit::<op::DeletePrincipal>(request.name("principal")?.as_str()).await?;
    empty_reply(request.broker.delete_principal(authorized).await?)
}
