//! `/v1/tenants`: for platform operators only.

use http::StatusCode;
use claviger_provider::TenantId;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::handler::json_reply;
use super::page;
use super::reply::Reply;
use super::request::ApiRequest;
use super::types::{Name, Timestamp};
use crate::broker::{Failure, NewTenant, Page, op};
use crate::store::model;

/// A new tenant.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateTenant {
    /// The tenant's name, unique in the installation.
    pub name: Name,
    /// The id to take (32 lower-case hex digits, not all zero), so that a rebuilt installation
    /// opens the tenant's old blobs.
    #[serde(default)]
    #[schema(value_type = Option<String>, pattern = "^[0-9a-f]{32}$")]
    pub id: Option<TenantId>,
}

/// Whether a tenant's requests are served.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum TenantState {
    /// They are.
    Active,
    /// They are not.
    Suspended,
}

/// A tenant.
#[derive(Serialize, ToSchema)]
pub struct Tenant {
    /// Immutable: 32 lower-case hex digits.
    pub id: String,
    /// The name.
    pub name: String,
    /// Whether its requests are served.
    pub state: TenantState,
    /// When it was made.
    pub created: Timestamp,
}

/// A page of tenants.
#[derive(Serialize, ToSchema)]
pub struct TenantList {
    /// The tenants, by name.
    pub items: Vec<Tenant>,
    /// For the next page, absent on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_page_token: Option<String>,
}

fn response(tenant: &model::Tenant) -> Tenant {
    Tenant {
        id: tenant.id.to_string(),
        name: tenant.name.clone(),
        state: if tenant.suspended {
            TenantState::Suspended
        } else {
            TenantState::Active
        },
        created: Timestamp(tenant.created),
    }
}

#[utoipa::path(post, path = "/v1/tenants", operation_id = "createTenant", tag = "access", request_body = CreateTenant,
    responses((status = 201, description = "The tenant.", body = Tenant)))]
/// Make a tenant.
pub async fn create(request: ApiRequest, body: CreateTenant) -> Result<Reply, Failure> {
    let new = NewTenant {
        name: body.name.into_string(),
        id: body.id,
    };
    let create = |authorized, keep| request.broker.create_tenant(authorized, new, keep);
    request.once::<op::CreateTenant, _, _, _>((), response, create).await
}

#[utoipa::path(get, path = "/v1/tenants", operation_id = "listTenants", tag = "access",
    params(("page_size" = Option<u32>, Query, description = "1 to 1000; 100 where left out.", minimum = 1, maximum = 1000),
        ("page_token" = Option<String>, Query, description = "The next_page_token of the page before.", pattern = "^[A-Za-z0-9_-]{2,84}$")),
    responses((status = 200, description = "A page of tenants.", body = TenantList)))]
/// List tenants, by name.
pub async fn list(request: ApiRequest) -> Result<Reply, Failure> {
    request.only_query(&["page_size", "page_token"])?;
    let authorized = request.admit::<op::ListTenants>(()).await?;
    let listed = request.broker.list_tenants(authorized, &request.page()?).await?;
    json_reply(listed, StatusCode::OK, |Page { items, next }| TenantList {
        items: items.iter().map(response).collect(),
        next_page_token: next.as_deref().map(page::encode),
    })
}

#[utoipa::path(get, path = "/v1/tenants/{tenant}", operation_id = "getTenant", tag = "access",
    params(("tenant" = Name, Path, description = "The tenant's name.")),
    responses((status = 200, description = "The tenant.", body = Tenant)))]
/// Read a tenant.
pub async fn get(request: ApiRequest) -> Result<Reply, Failure> {
    request.only_query(&[])?;
    let authorized = request.admit::<op::ReadTenant>(request.name("tenant")?.as_str()).await?;
    json_reply(request.broker.read_tenant(&authorized), StatusCode::OK, |tenant| response(&tenant))
}
