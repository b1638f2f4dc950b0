//! `/v1/tenants`: for platform operators only.

use claviger_provider::TenantId;
use http::{Method, StatusCode};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::handler::json_reply;
use super::list::{List, Listed, list_reply};
use super::once::{completed_reply, first_answer};
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
    /// tenant's old wrapped keys. Default: the gateway chooses one.
    #[serde(default)]
    #[schema(value_type = Option<String>, pattern = "^[0-9a-f]{32}$")]
    pub id: Option<TenantId>,
}

/// Whether requests with a tenant's credentials are served.
///
/// - `active`: they are served
/// - `suspended`: each gets 403; an operator can read and revoke
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[allow(
    missing_docs,
    reason = "the type's text describes each word; the OpenAPI document shows that text alone"
)]
pub enum TenantState {
    Active,
    Suspended,
}

/// A tenant.
#[derive(Serialize, ToSchema)]
pub struct Tenant {
    /// Immutable: 32 lower-case hex digits.
    pub id: String,
    /// Unique in the installation.
    pub name: String,
    /// Whether requests with the tenant's credentials are served.
    pub state: TenantState,
    /// When it was created.
    pub created: Timestamp,
}

/// A page of tenants.
pub type TenantList = List<Tenant>;

impl Listed for Tenant {
    const LIST: &'static str = "TenantList";
    const DESCRIPTION: &'static str = "A page of tenants.";
    const ITEMS: &'static str = "The tenants, ordered by name.";
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
    "Create a tenant.",
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
    request.once::<op::CreateTenant, _, _, _>((), response, create, first_answer).await
}

/// `GET /v1/tenants`
pub const LIST: Route = Route::new(
    Method::GET,
    "/v1/tenants",
    "listTenants",
    "access",
    "List tenants, ordered by name.",
    &[Action::ManageTenants],
)
.page(&[PAGE_SIZE, PAGE_TOKEN])
.answers::<TenantList>(200, "A page of tenants.");

pub async fn list(request: ApiRequest) -> Result<ApiResponse, Failure> {
    let authorized = request.admit::<op::ListTenants>(()).await?;
    let listed = request.broker.list_tenants(authorized, &request.page()?).await?;
    list_reply(&request, listed, response)
}

/// `GET /v1/tenants/{tenant}`
pub const GET: Route = Route::new(
    Method::GET,
    "/v1/tenants/{tenant}",
    "getTenant",
    "access",
    "Get a tenant.",
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
    "Suspend a tenant: from the next request on, its credentials get 403. An operator can still read and revoke in it. Each request is carried out: an idempotency key is ignored.",
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
    "Resume a suspended tenant. Repeated with its idempotency key, the request changes nothing and returns the tenant as it is now.",
    &[Action::ManageTenants],
)
.repeatable()
.can_lose()
.answers::<Tenant>(200, "The tenant.");

pub async fn resume(request: ApiRequest) -> Result<ApiResponse, Failure> {
    let tenant = request.name("tenant")?;
    let resume = |authorized, keep| request.broker.resume_tenant(authorized, keep);
    let repeated = |authorized: &_, _| completed_reply(request.broker.resume_repeated(authorized), response);
    request
        .once::<op::ResumeTenant, _, _, _>(tenant.as_str(), response, resume, repeated)
        .await
}
