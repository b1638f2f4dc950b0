//! `/v1/connections/{connection}/capabilities`: the operations that a connection's provider supports.

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

/// Whether an operation is supported, and where the data key is in plaintext during it.
///
/// - `inside_provider`: inside the provider only
/// - `through_memory`: in the gateway's memory
/// - `no`: not supported
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[allow(
    missing_docs,
    reason = "the type's text describes each word; the OpenAPI document shows that text alone"
)]
pub enum OperationSupport {
    InsideProvider,
    ThroughMemory,
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

/// How the encryption context is bound to a wrapped key.
///
/// - `pairs`: by the provider, as name-value pairs
/// - `associated_data`: by the provider, as associated data
/// - `commitment_only`: by the commitment in the wrapped key, which only the gateway checks
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[allow(
    missing_docs,
    reason = "the type's text describes each word; the OpenAPI document shows that text alone"
)]
pub enum ContextBindingKind {
    Pairs,
    AssociatedData,
    CommitmentOnly,
}

/// How a key gets a new version.
///
/// - `in_place`: the provider key gets a new version
/// - `in_place_unnamed`: the provider key gets new material under the same id, so wrapped keys do not name a version
/// - `new_key`: the gateway creates a new provider key
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[allow(
    missing_docs,
    reason = "the type's text describes each word; the OpenAPI document shows that text alone"
)]
pub enum RotationMethod {
    InPlace,
    InPlaceUnnamed,
    NewKey,
}

/// The supported operations of keys of one specification.
#[derive(Serialize, ToSchema)]
pub struct SpecCapabilities {
    /// The specification.
    pub spec: Spec,
    /// Wrap and unwrap.
    pub wrap: OperationSupport,
    /// Generate data keys.
    pub generate_data_key: OperationSupport,
    /// Rewrap with the same key.
    pub rewrap: OperationSupport,
    /// How the encryption context is bound.
    pub context: ContextBindingKind,
    /// How keys get new versions; null if they cannot be rotated.
    #[schema(required)]
    pub rotation: Option<RotationMethod>,
    /// Maximum number of bytes that the provider wraps in one call.
    pub max_plaintext: usize,
}

/// The operations that a connection's provider supports.
#[derive(Serialize, ToSchema)]
pub struct ConnectionCapabilities {
    /// The supported specifications of keys.
    pub keys: Vec<SpecCapabilities>,
    /// Whether the gateway can create keys at the provider. If not, it can only adopt existing ones.
    pub create_key: bool,
    /// Whether the gateway can enable and disable keys at the provider.
    pub set_state: bool,
    /// Whether the provider can schedule the deletion of keys.
    pub schedule_deletion: bool,
    /// Whether the provider can import key material.
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

/// The capabilities of a kind of provider in the form of the API, one row per specification of keys.
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
    "Get the operations that a connection's provider supports. This does not call the provider.",
    &[Action::ReadConnection],
)
.answers::<ConnectionCapabilities>(200, "The capabilities.");

pub async fn get(request: ApiRequest) -> Result<ApiResponse, Failure> {
    let authorized = request.admit::<op::ReadConnection>(request.name("connection")?.as_str()).await?;
    json_reply(
        request.broker.capabilities(&authorized),
        StatusCode::OK,
        ConnectionCapabilities::from,
    )
}
