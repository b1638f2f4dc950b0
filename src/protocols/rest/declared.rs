//! `/v1/declared`: what the operator's configuration declares, looked at and applied while the
//! gateway serves. For platform operators only.

use http::{Method, StatusCode};
use serde::Serialize;
use utoipa::ToSchema;

use super::handler::json_reply;
use super::request::ApiRequest;
use super::response::ApiResponse;
use super::route::Route;
use crate::access::Action;
use crate::broker::{DeclaredKind, Failure, Found, Steps, op};

/// What a declared thing is.
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

/// What became, or would become, of a declared thing.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum StepResult {
    /// It is missing, and apply makes it.
    Missing,
    /// It was missing and was made.
    Made,
    /// Its secrets are others, and apply takes them.
    NewSecrets,
    /// Its secrets were replaced.
    SecretsReplaced,
    /// It is there and differs; nothing is changed.
    Differs,
    /// It cannot be looked at, or not be made.
    Failed,
}

/// One declared thing that is not, or was not, as declared.
#[derive(Serialize, ToSchema)]
pub struct DeclaredItem {
    /// What it is.
    pub kind: DeclaredObjectKind,
    /// Whose, by name; null for a tenant.
    pub tenant: Option<String>,
    /// Its name.
    pub name: String,
    /// What became, or would become, of it.
    pub result: StepResult,
    /// Where it differs, or why it failed.
    pub detail: Option<String>,
}

/// What was found of everything that is declared.
#[derive(Serialize, ToSchema)]
pub struct DeclaredReport {
    /// What is not, or was not, as declared: tenants, then connections, then keys.
    pub steps: Vec<DeclaredItem>,
    /// How many things are as declared.
    pub as_declared: u32,
    /// How many things there was no time for: request again.
    pub not_reached: u32,
}

/// The words of a plan, or of what was applied.
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
            (Ok(Found::Differs(what)), _) => (StepResult::Differs, Some(what.to_owned())),
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
    "Read the configuration anew and tell what of its tenants, connections and keys is missing\nor differs. Nothing is changed, and no provider is asked.",
    &[Action::ManageTenants],
)
.long()
.answers::<DeclaredReport>(200, "What apply would do.");

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
    "Read the configuration anew, make what is missing and take new secrets. What differs stays\nas it is; no state is changed and nothing is deleted.",
    &[Action::ManageTenants],
)
.long()
.answers::<DeclaredReport>(200, "What was done.");

pub async fn apply(request: ApiRequest) -> Result<ApiResponse, Failure> {
    let authorized = request.admit::<op::ApplyDeclared>(()).await?;
    let steps = request.broker.apply(authorized).await?;
    json_reply(steps, StatusCode::OK, |steps| response(steps, true))
}
