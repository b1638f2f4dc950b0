//! `/v1/connections`: how providers are reached.

use claviger_provider::{Finding, ProviderKind, RightReport, Secret};
use http::{Method, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::sync::Arc;
use utoipa::ToSchema;
use utoipa::openapi::schema::{Object, Type};

use super::handler::{empty_reply, json_reply};
use super::json;
use super::list::{List, Listed, list_reply};
use super::once::completed_reply;
use super::request::ApiRequest;
use super::response::ApiResponse;
use super::response::etag;
use super::route::{PAGE_SIZE, PAGE_TOKEN, Route};
use super::types::{LabelMap, Name, TimeoutRules, Timestamp};
use crate::access::Action;
use crate::broker::{CheckReport, ConnectionChange, Failure, NewConnection, op};
use crate::store::model;

/// A provider's family.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs, reason = "each is a provider's name")]
pub enum ProviderName {
    Local,
    Aws,
    Gcp,
    Azure,
    Vault,
    Xks,
    Kmip,
    Pkcs11,
}

impl From<ProviderName> for ProviderKind {
    fn from(name: ProviderName) -> Self {
        match name {
            ProviderName::Local => Self::Local,
            ProviderName::Aws => Self::Aws,
            ProviderName::Gcp => Self::Gcp,
            ProviderName::Azure => Self::Azure,
            ProviderName::Vault => Self::Vault,
            ProviderName::Xks => Self::Xks,
            ProviderName::Kmip => Self::Kmip,
            ProviderName::Pkcs11 => Self::Pkcs11,
        }
    }
}

impl From<ProviderKind> for ProviderName {
    fn from(kind: ProviderKind) -> Self {
        match kind {
            ProviderKind::Local => Self::Local,
            ProviderKind::Aws => Self::Aws,
            ProviderKind::Gcp => Self::Gcp,
            ProviderKind::Azure => Self::Azure,
            ProviderKind::Vault => Self::Vault,
            ProviderKind::Xks => Self::Xks,
            ProviderKind::Kmip => Self::Kmip,
            ProviderKind::Pkcs11 => Self::Pkcs11,
        }
    }
}

/// A new connection.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateConnection {
    /// The connection's name, unique in the tenant.
    pub name: Name,
    /// The provider's family.
    #[schema(schema_with = built_providers)]
    pub provider: ProviderName,
    /// The provider's own settings, secrets included; secrets are never shown again.
    #[schema(value_type = Object)]
    pub settings: Box<RawValue>,
    /// The user's labels.
    #[serde(default)]
    pub labels: Option<LabelMap>,
    /// Its own times.
    #[serde(default, deserialize_with = "json::optional_object")]
    pub timeouts: Option<TimeoutRules>,
}

/// The providers that this release includes. The document names no other; a request for another
/// one is answered `unsupported`.
fn built_providers() -> Object {
    let object = Object::builder()
        .schema_type(Type::String)
        .enum_values(Some(["local", "aws", "azure", "gcp", "vault"]));
    object.description(Some("The provider's family.")).build()
}

/// What a connection's PATCH may change; what is left out stays.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UpdateConnection {
    /// New labels, all of them.
    #[serde(default)]
    pub labels: Option<LabelMap>,
    /// New times, all of them.
    #[serde(default, deserialize_with = "json::optional_object")]
    pub timeouts: Option<TimeoutRules>,
    /// New secrets in place of the kept ones, in the provider's own form; never shown again.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    pub secrets: Option<Box<RawValue>>,
}

/// Whether calls pass.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ConnectionState {
    /// Calls pass.
    Active,
    /// No call passes.
    Severed,
}

/// A connection.
#[derive(Serialize, ToSchema)]
pub struct Connection {
    /// Immutable: 32 lower-case hex digits.
    pub id: String,
    /// The name.
    pub name: String,
    /// The tenant's id.
    pub tenant: String,
    /// The provider's family.
    pub provider: ProviderName,
    /// The settings without their secrets.
    #[schema(value_type = Object)]
    pub settings: Box<RawValue>,
    /// Whether calls pass.
    pub state: ConnectionState,
    /// 128 random bits of ours, for a provider's trust policy.
    pub external_id: String,
    /// The user's labels.
    pub labels: model::Labels,
    /// Its own times.
    pub timeouts: TimeoutRules,
    /// `config` when it comes from the operator's file.
    pub managed_by: Option<String>,
    /// When it was made.
    pub created: Timestamp,
    /// When it was last changed.
    pub updated: Timestamp,
    /// For `If-Match`.
    pub etag: String,
}

/// A page of connections.
pub type ConnectionList = List<Connection>;

impl Listed for Connection {
    const LIST: &'static str = "ConnectionList";
    const DESCRIPTION: &'static str = "A page of connections.";
    const ITEMS: &'static str = "The connections, by name.";
}

/// What a check found.
#[derive(Serialize, ToSchema)]
pub struct CheckResponse {
    /// Whether the provider answered.
    pub reachable: bool,
    /// What answered, or why nothing did.
    pub detail: String,
    /// Each right, and how it was tried.
    pub rights: Vec<CheckedRight>,
    /// The least-privilege policy to paste at the provider; null where there is no such thing.
    pub policy: Option<String>,
    /// What can be done where the provider did not answer as it should; null otherwise.
    pub what_to_do: Option<&'static str>,
}

/// One right.
#[derive(Serialize, ToSchema)]
pub struct CheckedRight {
    /// The operation that needs it.
    pub operation: String,
    /// What was found.
    pub finding: RightStatus,
    /// How it was tried, or why it cannot be.
    pub how: String,
    /// What to grant or take away.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub what_to_do: Option<String>,
}

/// Whether a right is there.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RightStatus {
    /// It is.
    Granted,
    /// It is not.
    Denied,
    /// It is, and there is no use for it.
    Excessive,
    /// It cannot be tried without acting.
    NotTestable,
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
            },
            how: right.how,
            what_to_do: right.advice,
        }
    }
}

fn response(connection: &model::Connection) -> Connection {
    Connection {
        id: connection.id.to_string(),
        name: connection.name.clone(),
        tenant: connection.tenant.to_string(),
        provider: connection.provider.into(),
        // The store holds what the provider's own parser wrote as JSON.
        settings: RawValue::from_string(connection.settings.clone()).unwrap_or_else(|_| RawValue::NULL.to_owned()),
        state: if connection.severed {
            ConnectionState::Severed
        } else {
            ConnectionState::Active
        },
        external_id: connection.external_id.clone(),
        labels: connection.labels.clone(),
        timeouts: connection.timeouts.into(),
        managed_by: connection.managed_by.clone(),
        created: Timestamp(connection.created),
        updated: Timestamp(connection.updated),
        etag: etag(connection.revision),
    }
}

/// The text of a JSON object. An array is refused: serde would read it as a struct's members.
fn object(value: &RawValue, pointer: &str) -> Result<Secret, Failure> {
    if value.get().starts_with('{') {
        Ok(Secret::copy_from(value.get().as_bytes()))
    } else {
        Err(Failure::invalid(pointer, "an object"))
    }
}

/// `POST /v1/connections`
pub const CREATE: Route = Route::new(
    Method::POST,
    "/v1/connections",
    "createConnection",
    "connections",
    "Make a connection. Nothing is reached: that is what its check is for.",
    &[Action::CreateConnection],
)
.repeatable()
.body::<CreateConnection>()
.answers::<Connection>(201, "The connection.");

pub async fn create(request: ApiRequest, body: CreateConnection) -> Result<ApiResponse, Failure> {
    let create = async |authorized, keep| {
        let new = NewConnection {
            name: body.name.into_string(),
            settings: Arc::new(object(&body.settings, "/settings")?),
            labels: body.labels.unwrap_or_default().0,
            timeouts: body.timeouts.unwrap_or_default().check()?,
            declared: false,
        };
        request.broker.create_connection(authorized, new, keep).await
    };
    request
        .once::<op::CreateConnection, _, _, _>(ProviderKind::from(body.provider), response, create)
        .await
}

/// `GET /v1/connections`
pub const LIST: Route = Route::new(
    Method::GET,
    "/v1/connections",
    "listConnections",
    "connections",
    "List connections, by name.",
    &[Action::ReadConnection],
)
.query(&[PAGE_SIZE, PAGE_TOKEN])
.answers::<ConnectionList>(200, "A page of connections.");

pub async fn list(request: ApiRequest) -> Result<ApiResponse, Failure> {
    let authorized = request.admit::<op::ListConnections>(()).await?;
    let listed = request.broker.list_connections(authorized, &request.page()?).await?;
    list_reply(listed, response)
}

/// `GET /v1/connections/{connection}`
pub const GET: Route = Route::new(
    Method::GET,
    "/v1/connections/{connection}",
    "getConnection",
    "connections",
    "Read a connection.",
    &[Action::ReadConnection],
)
.answers::<Connection>(200, "The connection.");

pub async fn get(request: ApiRequest) -> Result<ApiResponse, Failure> {
    let authorized = request.admit::<op::ReadConnection>(request.name("connection")?.as_str()).await?;
    completed_reply(request.broker.read_connection(&authorized), response)
}

/// `PATCH /v1/connections/{connection}`
pub const UPDATE: Route = Route::new(
    Method::PATCH,
    "/v1/connections/{connection}",
    "updateConnection",
    "connections",
    "Change a connection's labels, times and secrets. Where it leads never changes: that is another connection.",
    &[Action::UpdateConnection],
)
.body::<UpdateConnection>()
.if_match("The connection's etag, or `*`.")
.answers::<Connection>(200, "The connection.");

pub async fn update(request: ApiRequest, body: UpdateConnection) -> Result<ApiResponse, Failure> {
    let authorized = request.admit::<op::UpdateConnection>(request.name("connection")?.as_str()).await?;
    let expected = request.if_match()?;
    let change = ConnectionChange {
        labels: body.labels.map(|labels| labels.0),
        timeouts: body.timeouts.map(TimeoutRules::check).transpose()?,
        secrets: body.secrets.map(|secrets| object(&secrets, "/secrets")).transpose()?,
    };
    completed_reply(request.broker.update_connection(authorized, expected, change).await?, response)
}

/// `DELETE /v1/connections/{connection}`
pub const DELETE: Route = Route::new(
    Method::DELETE,
    "/v1/connections/{connection}",
    "deleteConnection",
    "connections",
    "Delete a connection that no key uses.",
    &[Action::DeleteConnection],
)
.answers_nothing(204, "Deleted.");

pub async fn delete(request: ApiRequest) -> Result<ApiResponse, Failure> {
    let authorized = request.admit::<op::DeleteConnection>(request.name("connection")?.as_str()).await?;
    empty_reply(request.broker.delete_connection(authorized).await?)
}

/// `POST /v1/connections/{connection}/check`
pub const CHECK: Route = Route::new(
    Method::POST,
    "/v1/connections/{connection}/check",
    "checkConnection",
    "connections",
    "Try each right of a connection, without acting on any key.",
    &[Action::CheckConnection],
)
.answers::<CheckResponse>(200, "What was found.");

pub async fn check(request: ApiRequest) -> Result<ApiResponse, Failure> {
    let authorized = request.admit::<op::CheckConnection>(request.name("connection")?.as_str()).await?;
    let report = request.broker.check_connection(authorized).await?;
    json_reply(
        report,
        StatusCode::OK,
        |CheckReport {
             reachable,
             detail,
             rights,
             policy,
             advice,
         }| CheckResponse {
            reachable,
            detail,
            rights: rights.into_iter().map(Into::into).collect(),
            policy,
            what_to_do: advice,
        },
    )
}

/// `POST /v1/connections/{connection}/sever`
pub const SEVER: Route = Route::new(
    Method::POST,
    "/v1/connections/{connection}/sever",
    "severConnection",
    "connections",
    "Cut a connection off: no call passes from the next request on, cached data keys included.\nCarried out each time: an idempotency key is ignored.",
    &[Action::Sever],
)
.answers::<Connection>(200, "The connection.");

pub async fn sever(request: ApiRequest) -> Result<ApiResponse, Failure> {
    let connection = request.name("connection")?;
    let authorized = request.admit::<op::Sever>(connection.as_str()).await?;
    completed_reply(request.broker.sever(authorized).await?, response)
}

/// `POST /v1/connections/{connection}/restore`
pub const RESTORE: Route = Route::new(
    Method::POST,
    "/v1/connections/{connection}/restore",
    "restoreConnection",
    "connections",
    "Undo a sever. A repetition under its idempotency key changes nothing and answers with the\nconnection as it is now.",
    &[Action::Restore],
)
.repeatable()
.answers::<Connection>(200, "The connection.");

pub async fn restore(request: ApiRequest) -> Result<ApiResponse, Failure> {
    let connection = request.name("connection")?;
    let restore = |authorized, keep| request.broker.restore(authorized, keep);
    let repeated = |authorized: &_| Ok(request.broker.restore_repeated(authorized));
    request
        .lift::<op::Restore, _, _, _>(connection.as_str(), response, restore, repeated)
        .await
}
