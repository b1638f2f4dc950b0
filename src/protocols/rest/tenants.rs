//! `/v1/tenants`: for platform operators only.

use claviger_provider::TenantId;
use http::{Method, StatusCode};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::handler::json_reply;
use super::list::{List, Listed, list_reply};
use super::once::completed_reply;
use super::request::ApiRequest;
use super::response::ApiResponse;
use super::route::{PAGE_SIZE, PAGE_TOKEN, Route};
use super::types::{Name, Timestamp};
use crate::access::Action;
use crate::broker::{Failure, NewTenant, op};
use crate::store::model;

/// A new tenant.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateTenant {
    /// The tenant's name, unique in the installation.
    pub name: Name,
    /// A fixed id (32 lower-case hex digits, not all zero), so that a rebuilt installation opens the
    /// tenant's old wrapped keys. Left out, the gateway chooses one.
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
pub type TenantList = List<Tenant>;

impl Listed for Tenant {
    const LIST: &'static str = "TenantList";
    const DESCRIPTION: &'static str = "A page of tenants.";
    const ITEMS: &'static str = "The tenants, by name.";
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

/// `POST /v1/tenants`
pub const CREATE: Route = Route::new(
    Method::POST,
    "/v1/tenants",
    "createTenant",
    "access",
    "Make a tenant.",
    &[Action::ManageTenants],
)
.repeatable()
.body::<CreateTenant>()
.answers::<Tenant>(201, "The tenant.");

pub async fn create(request: ApiRequest, body: CreateTenant) -> Result<ApiResponse, Failure> {
    let new = NewTenant {
        name: body.name.into_string(),
        id: body.id,
    };
    let create = |authorized, keep| request.broker.create_tenant(authorized, new, keep);
    request.once::<op::CreateTenant, _, _, _>((), response, create).await
}

/// `GET /v1/tenants`
pub const LIST: Route = Route::new(
    Method::GET,
    "/v1/tenants",
    "listTenants",
    "access",
    "List tenants, by name.",
    &[Action::ManageTenants],
)
.page(&[PAGE_SIZE, PAGE_TOKEN])
.answers::<TenantList>(200, "A page of tenants.");

pub async fn list(request: ApiRequest) -> Result<ApiResponse, Failure> {
    let authorized = request.admit::<op::ListTenants>(()).await?;
    let listed = request.broker.list_tenants(authorized, &request.page()?).await?;
    list_reply(listed, response)
}

/// `GET /v1/tenants/{tenant}`
pub const GET: Route = Route::new(
    Method::GET,
    "/v1/tenants/{tenant}",
    "getTenant",
    "access",
    "Read a tenant.",
    &[Action::ManageTenants],
)
.answers::<Tenant>(200, "The tenant.");

pub async fn get(request: ApiRequest) -> Result<ApiResponse, Failure> {
    let authorized = request.admit::<op::ReadTenant>(request.name("tenant")?.as_str()).await?;
    json_reply(request.broker.read_tenant(&authorized), StatusCode::OK, |tenant| response(&tenant))
}

/// `POST /v1/tenants/{tenant}/suspend`
pub const SUSPEND: Route = Route::new(
    Method::POST,
    "/v1/tenants/{tenant}/suspend",
    "suspendTenant",
    "access",
    "Refuse every request of a tenant's credentials from the next one on. An operator can still read\nand revoke in it. Carried out each time: an idempotency key is ignored.",
    &[Action::ManageTenants],
)
.revocation()
.answers::<Tenant>(200, "The tenant.");

pub async fn suspend(request: ApiRequest) -> Result<ApiResponse, Failure> {
    let authorized = request.admit::<op::SuspendTenant>(request.name("tenant")?.as_str()).await?;
    completed_reply(request.broker.suspend_tenant(authorized).await?, response)
}

/// `POST /v1/tenants/{tenant}/resume`
pub const RESUME: Route = Route::new(
    Method::POST,
    "/v1/tenants/{tenant}/resume",
    "resumeTenant",
    "access",
    "Undo a suspend. A repetition under its idempotency key changes nothing and answers with the\ntenant as it is now.",
    &[Action::ManageTenants],
)
.repeatable()
.can_lose()
.answers::<Tenant>(200, "The tenant.");

pub async fn resume(request: ApiRequest) -> Result<ApiResponse, Failure> {
    let tenant = request.name("tenant")?;
    let resume = |authorized, keep| request.broker.resume_tenant(authorized, keep);
    let repeated = |authorized: &_| Ok(request.broker.resume_repeated(authorized));
    request
        .lift::<op::ResumeTenant, _, _, _>(tenant.as_str(), response, resume, repeated)
        .await
}
