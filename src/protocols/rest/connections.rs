//! `/v1/connections`: connections to providers.

use claviger_provider::{ProviderKind, Secret};
use http::Method;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::sync::Arc;
use utoipa::ToSchema;
use utoipa::openapi::extensions::Extensions;
use utoipa::openapi::schema::{Object, Type};

use super::connection_health::{CircuitFailure, ConnectionCircuit, ConnectionHealth};
use super::connection_login::ConnectionLogin;
use super::errors::ErrorCode;
use super::handler::empty_reply;
use super::json;
use super::list::{List, Listed, list_reply};
use super::once::{completed_reply, first_answer};
use super::provider_name::ProviderName;
use super::request::ApiRequest;
use super::response::ApiResponse;
use super::response::etag;
use super::route::{PAGE_SIZE, PAGE_TOKEN, Route};
use super::types::{LabelMap, Name, TimeoutRules, Timestamp};
use crate::access::Action;
use crate::broker::{Broker, ConnectionChange, ConnectionNow, ConnectionUpdateNamed, Failure, NewConnection, op};
use crate::store::model;

/// A new connection.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateConnection {
    /// The connection's name, unique in the tenant.
    pub name: Name,
    /// The kind of provider.
    #[schema(schema_with = built_providers)]
    pub provider: ProviderName,
    /// The provider's settings, including secrets. No response contains the secrets.
    #[schema(value_type = Object)]
    pub settings: Box<RawValue>,
    /// Labels.
    #[serde(default)]
    pub labels: Option<LabelMap>,
    /// Timeouts.
    #[serde(default, deserialize_with = "json::optional_object")]
    pub timeouts: Option<TimeoutRules>,
}

/// The schema of `provider`, with only the providers that this release includes. A request with another
/// one gets `unsupported`.
fn built_providers() -> Object {
    let object = Object::builder()
        .schema_type(Type::String)
        .enum_values(Some(["local", "aws", "azure", "gcp", "vault", "xks", "kmip", "pkcs11"]));
    object.description(Some("The kind of provider.")).build()
}

/// The members of a connection to change. Members that are left out stay as they are.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UpdateConnection {
    /// Replaces all labels.
    #[serde(default)]
    pub labels: Option<LabelMap>,
    /// Replaces all timeouts.
    #[serde(default, deserialize_with = "json::optional_object")]
    pub timeouts: Option<TimeoutRules>,
    /// The secret members of `settings.auth` that replace the stored ones, such as `{"token": "..."}`. No response contains them.
    #[serde(default)]
    #[schema(schema_with = secrets_of_auth)]
    pub secrets: Option<Box<RawValue>>,
    /// New network settings: some of `ca`, `proxy` and `address`, where null removes `ca` or `proxy`. They need
    /// `CreateConnection` for all keys and all `secrets` again, and are taken only if they lead to the same keys.
    #[serde(default)]
    #[schema(value_type = Option<NetworkSettings>)]
    pub settings: Option<Box<RawValue>>,
}

/// The schema of `secrets`. The macro drops extensions of an object without a type.
fn secrets_of_auth() -> Object {
    let secret = Extensions::builder().add("x-secret", true).build();
    let object = Object::builder().schema_type(Type::Object).extensions(Some(secret));
    let text =
        "The secret members of `settings.auth` that replace the stored ones, such as `{\"token\": \"...\"}`. No response contains them.";
    object.description(Some(text)).build()
}

/// The settings by which a connection reaches its provider. Members that are left out stay as they are. Which of them
/// exist depends on the provider: Vault and XKS have all, AWS and Azure have `ca` and `proxy`, KMIP has `ca` and
/// `address`, Google has none.
#[derive(ToSchema)]
#[allow(dead_code, reason = "the provider parses them; the document shows them")]
pub struct NetworkSettings {
    /// CA certificates as PEM text that are trusted instead of the system's; null for the system's.
    #[schema(extensions(("x-null-removes" = json!(true))))]
    pub ca: Option<String>,
    /// Address of a proxy in front of the provider; null for none.
    #[schema(extensions(("x-null-removes" = json!(true))))]
    pub proxy: Option<String>,
    /// Address of the server.
    pub address: Option<String>,
}

/// Whether the gateway calls the provider through the connection.
///
/// - `active`: calls are allowed
/// - `severed`: no calls, and no use of cached data keys, until the connection is restored
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[allow(
    missing_docs,
    reason = "the type's text describes each word; the OpenAPI document shows that text alone"
)]
pub enum ConnectionState {
    Active,
    Severed,
}

/// A connection to a provider.
#[derive(Serialize, ToSchema)]
pub struct Connection {
    /// Immutable: 32 lower-case hex digits.
    pub id: String,
    /// Unique in the tenant.
    pub name: String,
    /// The tenant's id.
    pub tenant: String,
    /// The kind of provider.
    pub provider: ProviderName,
    /// The provider's settings without secrets.
    #[schema(value_type = Object)]
    pub settings: Box<RawValue>,
    /// Whether calls to the provider are allowed.
    pub state: ConnectionState,
    /// 128 random bits in hex that the gateway chose, for the trust policy of an AWS role (`sts:ExternalId`).
    pub external_id: String,
    /// Labels.
    #[schema(value_type = LabelMap)]
    pub labels: model::Labels,
    /// Timeouts.
    pub timeouts: TimeoutRules,
    /// `config` if the operator's configuration declares it; null otherwise.
    #[schema(required)]
    pub managed_by: Option<String>,
    /// The login at the provider. Only in the response of `getConnection`, and absent for a severed connection and
    /// a provider without logins.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub login: Option<ConnectionLogin>,
    /// The circuit, while it is not closed. Only in the response of `getConnection`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub circuit: Option<ConnectionCircuit>,
    /// Why the last call failed, while the circuit is not closed. Only in the response of `getConnection`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub circuit_failure: Option<CircuitFailure>,
    /// How the service behind the connection is. Only in the response of `getConnection`, and absent for a severed
    /// connection, and where it is not known: the gateway checks XKS proxies and KMIP servers, while the connection is in use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health: Option<ConnectionHealth>,
    /// What the gateway knows to be wrong with the connection, without calling the provider; null otherwise. Only of a connection that is read or listed.
    #[schema(required)]
    pub problem: Option<ConnectionProblem>,
    /// Creation time.
    pub created: Timestamp,
    /// Time of the last change.
    pub updated: Timestamp,
    /// The current revision, for `If-Match`.
    pub etag: String,
}

/// What is wrong with a connection.
#[derive(Serialize, ToSchema)]
pub struct ConnectionProblem {
    /// The code of the error that a use of the connection returns, or may return.
    #[schema(value_type = ErrorCode)]
    pub code: &'static str,
    /// Description of the problem.
    pub detail: String,
    /// What to do.
    #[schema(required)]
    pub what_to_do: Option<&'static str>,
}

impl From<Failure> for ConnectionProblem {
    fn from(failure: Failure) -> Self {
        Self {
            code: failure.code.as_str(),
            detail: failure.detail.into_owned(),
            what_to_do: failure.advice,
        }
    }
}

/// A page of connections.
pub type ConnectionList = List<Connection>;

impl Listed for Connection {
    const LIST: &'static str = "ConnectionList";
    const DESCRIPTION: &'static str = "A page of connections.";
    const ITEMS: &'static str = "The connections, by name.";
}

fn response(connection: &model::Connection) -> Connection {
    Connection {
        id: connection.id.to_string(),
        name: connection.name.clone(),
        tenant: connection.tenant.to_string(),
        provider: connection.provider.into(),
        // The provider's settings parser wrote it as JSON.
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
        login: None,
        circuit: None,
        circuit_failure: None,
        health: None,
        problem: None,
        created: Timestamp(connection.created),
        updated: Timestamp(connection.updated),
        etag: etag(connection.revision),
    }
}

/// As [`response`], with what the gateway knows to be wrong.
fn with_problem(broker: &Broker, connection: &model::Connection) -> Connection {
    Connection {
        problem: broker.problem_of(connection).map(Into::into),
        ..response(connection)
    }
}

/// As [`with_problem`], with what its calls meet.
fn response_now(broker: &Broker, now: &ConnectionNow) -> Connection {
    Connection {
        login: now.login.as_ref().map(Into::into),
        circuit: ConnectionCircuit::of(now.circuit),
        circuit_failure: now.circuit_failure.as_ref().map(Into::into),
        health: now.health.as_ref().map(Into::into),
        ..with_problem(broker, &now.connection)
    }
}

/// Copies the text of a JSON object. Refuses an array, which serde would decode as a struct, too.
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
    "Create a connection. This does not call the provider; use `checkConnection` to test it.",
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
        .once::<op::CreateConnection, _, _, _>(ProviderKind::from(body.provider), response, create, first_answer)
        .await
}

/// `GET /v1/connections`
pub const LIST: Route = Route::new(
    Method::GET,
    "/v1/connections",
    "listConnections",
    "connections",
    "List connections, ordered by name.",
    &[Action::ReadConnection],
)
.page(&[PAGE_SIZE, PAGE_TOKEN])
.answers::<ConnectionList>(200, "A page of connections.");

pub async fn list(request: ApiRequest) -> Result<ApiResponse, Failure> {
    let authorized = request.admit::<op::ListConnections>(()).await?;
    let listed = request.broker.list_connections(authorized, &request.page()?).await?;
    let broker = Arc::clone(&request.broker);
    list_reply(&request, listed, |connection| with_problem(&broker, connection))
}

/// `GET /v1/connections/{connection}`
pub const GET: Route = Route::new(
    Method::GET,
    "/v1/connections/{connection}",
    "getConnection",
    "connections",
    "Get a connection.",
    &[Action::ReadConnection],
)
.answers::<Connection>(200, "The connection.");

pub async fn get(request: ApiRequest) -> Result<ApiResponse, Failure> {
    let authorized = request.admit::<op::ReadConnection>(request.name("connection")?.as_str()).await?;
    let broker = Arc::clone(&request.broker);
    completed_reply(request.broker.read_connection(&authorized), |read| response_now(&broker, read))
}

/// `PATCH /v1/connections/{connection}`
pub const UPDATE: Route = Route::new(
    Method::PATCH,
    "/v1/connections/{connection}",
    "updateConnection",
    "connections",
    "Change a connection's labels, timeouts, secrets and network settings (CA certificates, proxy, address). New network settings are tried first: a wrapped key of each key that uses the connection, which the gateway made with the old ones, must open. Its other settings cannot change; create another connection instead.",
    &[Action::UpdateConnection],
)
.long()
.body::<UpdateConnection>()
.if_match()
.answers::<Connection>(200, "The connection.");

pub async fn update(request: ApiRequest, body: UpdateConnection) -> Result<ApiResponse, Failure> {
    let connection = request.name("connection")?;
    let named = ConnectionUpdateNamed {
        connection: connection.as_str(),
        changes_network: body.settings.is_some(),
    };
    let authorized = request.admit::<op::UpdateConnection>(named).await?;
    let expected = request.if_match()?;
    let change = ConnectionChange {
        labels: body.labels.map(|labels| labels.0),
        timeouts: body.timeouts.map(TimeoutRules::check).transpose()?,
        secrets: body.secrets.map(|secrets| object(&secrets, "/secrets")).transpose()?,
        network: body.settings.map(|settings| object(&settings, "/settings")).transpose()?,
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

/// `POST /v1/connections/{connection}/sever`
pub const SEVER: Route = Route::new(
    Method::POST,
    "/v1/connections/{connection}/sever",
    "severConnection",
    "connections",
    "Sever a connection: from the next request on, no call passes through it and no cached data key of its keys is returned. Each request is carried out: an idempotency key is ignored.",
    &[Action::Sever],
)
.revocation()
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
    "Restore a severed connection. Repeated with its idempotency key, the request changes nothing and returns the connection as it is now.",
    &[Action::Restore],
)
.repeatable()
.answers::<Connection>(200, "The connection.");

pub async fn restore(request: ApiRequest) -> Result<ApiResponse, Failure> {
    let connection = request.name("connection")?;
    let restore = |authorized, keep| request.broker.restore(authorized, keep);
    let repeated = |authorized: &_, _| completed_reply(request.broker.restore_repeated(authorized), response);
    request
        .once::<op::Restore, _, _, _>(connection.as_str(), response, restore, repeated)
        .await
}
