//! `/v1/tenants`: for platform operators only.

use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::ask::Ask;
use super::handler::{json_reply, keeper};
use super::page;
use super::reply::Reply;
use super::wire::{Moment, Name};
use crate::access::op;
use crate::broker::{Failure, Listed, NewTenant};
use crate::store::model::Tenant;

/// A new tenant.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateTenant {
    /// The tenant's name, unique in the installation.
    pub name: Name,
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
pub struct TenantShown {
    /// Immutable: 32 lower-case hex digits.
    pub id: String,
    /// The name.
    pub name: String,
    /// Whether its requests are served.
    pub state: TenantState,
    /// When it was made.
    pub created: Moment,
}

/// A page of tenants.
#[derive(Serialize, ToSchema)]
pub struct TenantList {
    /// The tenants, by name.
    pub items: Vec<TenantShown>,
    /// For the next page, absent on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_page_token: Option<String>,
}

fn shown(tenant: &Tenant) -> TenantShown {
    TenantShown {
        id: tenant.id.to_string(),
        name: tenant.name.clone(),
        state: if tenant.suspended {
            TenantState::Suspended
        } else {
            TenantState::Active
        },
        created: Moment(tenant.created),
    }
}

#[utoipa::path(post, path = "/v1/tenants", operation_id = "createTenant", tag = "access", request_body = CreateTenant,
    responses((status = 201, description = "The tenant.", body = TenantShown)))]
/// Make a tenant.
pub async fn create(ask: Ask, body: CreateTenant) -> Result<Reply, Failure> {
    ask.only_query(&[])?;
    let permit = ask.permit_installation::<op::ManageTenants>()?;
    let once = match ask.once().await? {
        Ok(once) => once,
        Err(reply) => return Ok(reply),
    };
    let keep = once.keep(StatusCode::CREATED, |_: &Tenant| None, shown);
    let tenant = ask
        .broker
        .create_tenant(
            &ask.cx,
            permit,
            NewTenant {
                name: body.name.into_string(),
            },
            keeper(&keep),
        )
        .await?;
    json_reply(tenant, StatusCode::CREATED, |tenant| shown(&tenant))
}

#[utoipa::path(get, path = "/v1/tenants", operation_id = "listTenants", tag = "access",
    params(("page_size" = Option<u32>, Query, description = "1 to 1000; 100 where left out.", minimum = 1, maximum = 1000),
        ("page_token" = Option<String>, Query, description = "The next_page_token of the page before.", pattern = "^[A-Za-z0-9_-]{2,84}$")),
    responses((status = 200, description = "A page of tenants.", body = TenantList)))]
/// List tenants, by name.
pub async fn list(ask: Ask) -> Result<Reply, Failure> {
    ask.only_query(&["page_size", "page_token"])?;
    let permit = ask.permit_installation::<op::ManageTenants>()?;
    let listed = ask.broker.list_tenants(&ask.cx, &permit, &ask.page()?).await?;
    json_reply(listed, StatusCode::OK, |Listed { items, next }| TenantList {
        items: items.iter().map(shown).collect(),
        next_page_token: next.as_deref().map(page::encode),
    })
}

#[utoipa::path(get, path = "/v1/tenants/{tenant}", operation_id = "getTenant", tag = "access",
    params(("tenant" = Name, Path, description = "The tenant's name.")),
    responses((status = 200, description = "The tenant.", body = TenantShown)))]
/// Read a tenant.
pub async fn get(ask: Ask) -> Result<Reply, Failure> {
    ask.only_query(&[])?;
    let permit = ask.permit_installation::<op::ManageTenants>()?;
    let tenant = ask.broker.read_tenant(&ask.cx, &permit, ask.name("tenant")?.as_str()).await?;
    json_reply(tenant, StatusCode::OK, |tenant| shown(&tenant))
}
