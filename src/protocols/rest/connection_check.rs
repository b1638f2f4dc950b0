//! `/v1/connections/{connection}/check`: what the connection can do at its provider.

use claviger_provider::{Finding, RightReport};
use http::{Method, StatusCode};
use serde::Serialize;
use utoipa::ToSchema;

use super::errors::ErrorCode;
use super::handler::json_reply;
use super::request::ApiRequest;
use super::response::ApiResponse;
use super::route::Route;
use crate::access::Action;
use crate::broker::{CheckReport, Code, Failure, op};

/// The result of a check.
#[derive(Serialize, ToSchema)]
pub struct CheckResult {
    /// Whether the connection can be used: the provider responds, accepts the credential and has the place that the settings name.
    pub reachable: bool,
    /// If the connection cannot be used, the code of the error that its use returns; null otherwise.
    #[schema(required, value_type = Option<ErrorCode>)]
    pub code: Option<&'static str>,
    /// The provider's version or identity, or why the connection cannot be used, with what the provider says.
    pub detail: String,
    /// The permissions at the provider, each with the result of its test.
    pub rights: Vec<CheckedRight>,
    /// The least-privilege policy for this connection, to set at the provider; null if the provider has none.
    #[schema(required)]
    pub policy: Option<String>,
    /// What to do if the connection cannot be used; null otherwise.
    #[schema(required)]
    pub what_to_do: Option<String>,
}

/// A permission at the provider.
#[derive(Serialize, ToSchema)]
pub struct CheckedRight {
    /// The operation that requires the permission.
    pub operation: String,
    /// The result of the test.
    pub finding: RightStatus,
    /// How it was tested, and what the provider said; or why it cannot be tested.
    pub how: String,
    /// The permission to grant or to remove. Absent if nothing has to change.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub what_to_do: Option<String>,
}

/// Whether the connection has a permission.
///
/// - `granted`: it has the permission
/// - `denied`: it lacks the permission
/// - `excessive`: it has the permission but does not need it
/// - `not_testable`: unknown: a test would change something at the provider, or the key's state forbids it
/// - `failed`: unknown: the test itself failed, as `how` says
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[allow(
    missing_docs,
    reason = "the type's text describes each word; the OpenAPI document shows that text alone"
)]
pub enum RightStatus {
    Granted,
    Denied,
    Excessive,
    NotTestable,
    Failed,
}

impl From<RightReport> for CheckedRight {
    fn from(right: RightReport) -> Self {
        Self {
            operation: right.operation.to_owned(),
            finding: match right.finding {
                Finding::Granted => RightStatus::Granted,
                Finding::Denied => RightStatus::Denied,
                Finding::Excessive => RightStatus::Excessive,
                Finding::NotTestable => RightStatus::NotTestable,
                Finding::Failed => RightStatus::Failed,
            },
            how: right.how,
            what_to_do: right.advice,
        }
    }
}

/// `POST /v1/connections/{connection}/check`
pub const CHECK: Route = Route::new(
    Method::POST,
    "/v1/connections/{connection}/check",
    "checkConnection",
    "connections",
    "Test a connection and each of its permissions. Changes no key; wraps and unwraps random bytes. Calls the provider also while an open circuit refuses other calls.",
    &[Action::CheckConnection],
)
.answers::<CheckResult>(200, "The result of the check.");

pub async fn check(request: ApiRequest) -> Result<ApiResponse, Failure> {
    let authorized = request.admit::<op::CheckConnection>(request.name("connection")?.as_str()).await?;
    let report = request.broker.check_connection(authorized).await?;
    json_reply(
        report,
        StatusCode::OK,
        |CheckReport {
             problem,
             detail,
             rights,
             policy,
             advice,
             note,
         }| CheckResult {
            reachable: problem.is_none(),
            code: problem.map(Code::as_str),
            detail,
            rights: rights.into_iter().map(Into::into).collect(),
            policy,
            what_to_do: advice.map(|advice| match note {
                Some(note) => format!("{advice} {note}"),
                None => advice.to_owned(),
            }),
        },
    )
}
