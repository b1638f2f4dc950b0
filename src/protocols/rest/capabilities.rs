//! `/v1/connections/{connection}/capabilities`: what can be done through a connection.

use claviger_provider::{Capabilities, ContextBinding, How, KeyCapabilities, ProviderKind, Rotation};
use http::{Method, StatusCode};
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::handler::json_reply;
use super::key_response::Spec;
use super::request::ApiRequest;
use super::response::ApiResponse;
use super::route::Route;
use crate::access::Action;
use crate::broker::{Failure, op};

/// Where an operation takes place.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum OperationSupport {
    /// Inside the provider.
    InsideProvider,
    /// Through the gateway's memory.
    ThroughMemory,
    /// Not at all.
    No,
}

impl From<How> for OperationSupport {
    fn from(how: How) -> Self {
        match how {
            How::InsideProvider => Self::InsideProvider,
            How::ThroughMemory => Self::ThroughMemory,
            How::No => Self::No,
        }
    }
}

/// What binds the context.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ContextBindingKind {
    /// The provider, as name-value pairs.
    Pairs,
    /// The provider, as associated data.
    AssociatedData,
    /// The wrapped key's commitment alone.
    CommitmentOnly,
}

/// How a key gets a new version.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RotationMethod {
    /// The provider's key gets one.
    InPlace,
    /// The provider's key gets new material, which wrapped keys do not name.
    InPlaceUnnamed,
    /// A new provider key becomes one.
    NewKey,
}

/// What can be done with keys of one specification, and where.
#[derive(Serialize, ToSchema)]
pub struct SpecCapabilities {
    /// The specification.
    pub spec: Spec,
    /// Wrap and unwrap.
    pub wrap: OperationSupport,
    /// Where data keys are generated.
    pub generate_data_key: OperationSupport,
    /// Rewrap under the same key.
    pub rewrap: OperationSupport,
    /// What binds the encryption context.
    pub context: ContextBindingKind,
    /// How keys are rotated; null where they are not.
    pub rotation: Option<RotationMethod>,
    /// The most bytes that the provider wraps at once.
    pub max_plaintext: usize,
}

/// What a connection's provider can do.
#[derive(Serialize, ToSchema)]
pub struct ConnectionCapabilities {
    /// The specifications of keys, and what can be done with each.
    pub keys: Vec<SpecCapabilities>,
    /// Whether it makes keys; otherwise they are adopted only.
    pub create_key: bool,
    /// Whether keys can be enabled and disabled at the provider.
    pub set_state: bool,
    /// Whether deletion can be scheduled.
    pub schedule_deletion: bool,
    /// Whether key material can be imported.
    pub import: bool,
}

impl From<KeyCapabilities> for SpecCapabilities {
    fn from(keys: KeyCapabilities) -> Self {
        Self {
            spec: keys.spec.into(),
            wrap: keys.wrap.into(),
            generate_data_key: keys.generate_data_key.into(),
            rewrap: keys.rewrap.into(),
            context: match keys.context {
                ContextBinding::Pairs => ContextBindingKind::Pairs,
                ContextBinding::AssociatedData => ContextBindingKind::AssociatedData,
                ContextBinding::CommitmentOnly => ContextBindingKind::CommitmentOnly,
            },
            rotation: keys.rotation.map(|rotation| match rotation {
                Rotation::InPlace => RotationMethod::InPlace,
                Rotation::InPlaceUnnamed => RotationMethod::InPlaceUnnamed,
                Rotation::NewKey => RotationMethod::NewKey,
            }),
            max_plaintext: keys.max_plaintext,
        }
    }
}

impl From<Capabilities> for ConnectionCapabilities {
    fn from(can: Capabilities) -> Self {
        Self {
            keys: can.keys.into_iter().map(Into::into).collect(),
            create_key: can.create_key,
            set_state: can.set_state,
            schedule_deletion: can.schedule_deletion,
            import: can.import,
        }
    }
}

/// What a provider family can do as the API shows it, a row for each specification of keys.
pub fn rows(kind: ProviderKind, can: Capabilities) -> Vec<Value> {
    let shown = ConnectionCapabilities::from(can);
    let row = |keys: &SpecCapabilities| {
        json!({
            "provider": kind.as_str(), "spec": keys.spec, "wrap": keys.wrap, "generate_data_key": keys.generate_data_key,
            "rewrap": keys.rewrap, "context": keys.context, "rotation": keys.rotation, "max_plaintext": keys.max_plaintext,
            "create_key": shown.create_key, "set_state": shown.set_state, "schedule_deletion": shown.schedule_deletion,
            "import": shown.import,
        })
    };
    shown.keys.iter().map(row).collect()
}

/// `GET /v1/connections/{connection}/capabilities`
pub const GET: Route = Route::new(
    Method::GET,
    "/v1/connections/{connection}/capabilities",
    "getConnectionCapabilities",
    "connections",
    "What a connection's provider can do: inside itself, through memory, or not at all.",
    &[Action::ReadConnection],
)
.answers::<ConnectionCapabilities>(200, "What it can do.");

pub async fn get(request: ApiRequest) -> Result<ApiResponse, Failure> {
    let authorized = request.admit::<op::ReadConnection>(request.name("connection")?.as_str()).await?;
    json_reply(
        request.broker.capabilities(&authorized),
        StatusCode::OK,
        ConnectionCapabilities::from,
    )
}
