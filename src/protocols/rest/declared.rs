//! `/v1/declared`: compares and creates the objects that the configuration declares, while the gateway
//! serves. For platform operators only.

use http::{Method, StatusCode};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::handler::{empty_reply, json_reply};
use super::request::ApiRequest;
use super::response::ApiResponse;
use super::route::Route;
use super::types::Name;
use crate::access::Action;
use crate::broker::{DeclaredKind, Failure, Found, ReleaseNamed, Steps, op};
use crate::store::model::Releasable;

/// The kind of a declared object.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DeclaredObjectKind {
    /// A tenant.
    Tenant,
    /// A connection of a tenant.
    Connection,
    /// A key.
    Key,
}

/// The difference between a declared object and the existing one, or what apply did about it.
///
/// - `missing`: it does not exist; apply creates it
/// - `made`: apply created it
/// - `new_secrets`: the configuration has other secrets; apply stores them
/// - `secrets_replaced`: apply stored new secrets
/// - `new_settings`: the configuration has other network settings; apply tries and stores them
/// - `settings_changed`: apply stored new network settings
/// - `differs`: it exists and differs; apply does not change it
/// - `not_declared`: it exists and is no longer declared; apply does not change it, and `releaseDeclared` gives it to its tenant
/// - `failed`: it could not be compared or created
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[allow(
    missing_docs,
    reason = "the type's text describes each word; the OpenAPI document shows that text alone"
)]
pub enum StepResult {
    Missing,
    Made,
    NewSecrets,
    SecretsReplaced,
    NewSettings,
    SettingsChanged,
    Differs,
    NotDeclared,
    Failed,
}

/// A declared object that differs from the existing one, or did before an apply.
#[derive(Serialize, ToSchema)]
pub struct DeclaredItem {
    /// Kind of the object.
    pub kind: DeclaredObjectKind,
    /// The name of its tenant; null if it is a tenant itself.
    #[schema(required)]
    pub tenant: Option<String>,
    /// Name of the object.
    pub name: String,
    /// The difference, or what apply did about it.
    pub result: StepResult,
    /// The member that differs, or the error; null otherwise.
    #[schema(required)]
    pub detail: Option<String>,
}

/// The result of a plan or an apply.
#[derive(Serialize, ToSchema)]
pub struct DeclaredReport {
    /// The objects that differ: tenants, then connections, then keys, then those that are no longer declared.
    pub steps: Vec<DeclaredItem>,
    /// Number of objects that are as declared.
    pub as_declared: u32,
    /// Number of objects that were not reached before the deadline. If it is not 0, repeat the request.
    pub not_reached: u32,
}

/// Why apply did not make a key of a suspended tenant.
const SUSPENDED: &str = "permission_denied: The tenant is suspended, so no provider was called. Apply again once it is resumed.";

/// Converts the steps of a plan, or of an apply.
fn response(steps: Steps, applied: bool) -> DeclaredReport {
    let mut as_declared = 0;
    let mut told = Vec::new();
    for step in steps.steps {
        let (result, detail) = match (step.found, applied) {
            (Ok(Found::AsDeclared), _) => {
                as_declared += 1;
                continue;
            }
            (Ok(Found::Missing), false) => (StepResult::Missing, None),
            (Ok(Found::Missing), true) => (StepResult::Made, None),
            (Ok(Found::NewSecrets), false) => (StepResult::NewSecrets, None),
            (Ok(Found::NewSecrets), true) => (StepResult::SecretsReplaced, None),
            (Ok(Found::NewNetwork(settings)), false) => (StepResult::NewSettings, Some(settings)),
            (Ok(Found::NewNetwork(settings)), true) => (StepResult::SettingsChanged, Some(settings)),
            (Ok(Found::NotDeclared), _) => (StepResult::NotDeclared, None),
            (Ok(Found::Differs(what)), _) => (StepResult::Differs, Some(what.to_owned())),
            (Ok(Found::Suspended), _) => (StepResult::Failed, Some(SUSPENDED.to_owned())),
            (Err(failure), _) => (StepResult::Failed, Some(reason(&failure))),
        };
        told.push(DeclaredItem {
            kind: match step.kind {
                DeclaredKind::Tenant => DeclaredObjectKind::Tenant,
                DeclaredKind::Connection => DeclaredObjectKind::Connection,
                DeclaredKind::Key => DeclaredObjectKind::Key,
            },
            tenant: step.tenant,
            name: step.name,
            result,
            detail,
        });
    }
    DeclaredReport {
        steps: told,
        as_declared,
        not_reached: steps.not_reached,
    }
}

fn reason(failure: &Failure) -> String {
    let said = format!("{}: {}", failure.code.as_str(), failure.detail);
    std::iter::once(said).chain(failure.hints()).collect::<Vec<_>>().join(" ")
}

/// `POST /v1/declared/plan`
pub const PLAN: Route = Route::new(
    Method::POST,
    "/v1/declared/plan",
    "planDeclared",
    "service",
    "Read the configuration again and compare its tenants, connections and keys with the existing ones. This changes nothing and calls no provider.",
    &[Action::ManageTenants],
)
.long()
.idempotent()
.answers::<DeclaredReport>(200, "The differences.");

pub async fn plan(request: ApiRequest) -> Result<ApiResponse, Failure> {
    let authorized = request.admit::<op::PlanDeclared>(()).await?;
    let steps = request.broker.plan(authorized).await?;
    json_reply(steps, StatusCode::OK, |steps| response(steps, false))
}

/// `POST /v1/declared/apply`
pub const APPLY: Route = Route::new(
    Method::POST,
    "/v1/declared/apply",
    "applyDeclared",
    "service",
    "Read the configuration again, create missing objects, and store new secrets and network settings. Objects that differ in other members are not changed, and nothing is deleted.",
    &[Action::ManageTenants],
)
.long()
.answers::<DeclaredReport>(200, "The objects that differed, and what was done.");

pub async fn apply(request: ApiRequest) -> Result<ApiResponse, Failure> {
    let authorized = request.admit::<op::ApplyDeclared>(()).await?;
    let steps = request.broker.apply(authorized).await?;
    json_reply(steps, StatusCode::OK, |steps| response(steps, true))
}

/// An object to release.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReleaseDeclared {
    /// Kind of the object.
    pub kind: ReleasableKind,
    /// The name of its tenant.
    pub tenant: Name,
    /// Name of the object.
    pub name: Name,
}

/// The kind of an object that can be released.
#[derive(Debug, Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ReleasableKind {
    /// A connection of a tenant.
    Connection,
    /// A key.
    Key,
}

impl From<ReleasableKind> for Releasable {
    fn from(kind: ReleasableKind) -> Self {
        match kind {
            ReleasableKind::Connection => Self::Connection,
            ReleasableKind::Key => Self::Key,
        }
    }
}

/// `POST /v1/declared/release`
pub const RELEASE: Route = Route::new(
    Method::POST,
    "/v1/declared/release",
    "releaseDeclared",
    "service",
    "Give a connection or key that the configuration no longer declares to its tenant, which can change and delete it from then on.",
    &[Action::ManageTenants],
)
.long()
.idempotent()
.body::<ReleaseDeclared>()
.answers_nothing(204, "Released, now or before.");

pub async fn release(request: ApiRequest, body: ReleaseDeclared) -> Result<ApiResponse, Failure> {
    let authorized = request.admit::<op::ReleaseDeclared>(()).await?;
    let named = ReleaseNamed {
        kind: body.kind.into(),
        tenant: body.tenant.as_str(),
        name: body.name.as_str(),
    };
    empty_reply(request.broker.release(authorized, named).await?)
}
