//! `/v1/inspect`: what a wrapped key says of itself, and how to open it without us.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use claviger_provider::ContextBinding;
use http::{Method, StatusCode};
use serde::Serialize;
use std::collections::BTreeMap;
use utoipa::ToSchema;

use super::data_keys::UnwrapRequest;
use super::handler::json_reply;
use super::key_response::{Reattach, reattach};
use super::offline_decrypt::{on_another_installation, without_claviger};
use super::request::{ApiRequest, envelope};
use super::response::ApiResponse;
use super::route::Route;
use super::types::Timestamp;
use crate::access::Action;
use crate::broker::{Failure, Inspected, KeyNamed, op};
use crate::envelope::{Envelope, Role, Suite};

/// A wrapped key, looked at.
#[derive(Serialize, ToSchema)]
pub struct InspectResponse {
    /// The data key's id.
    pub dek_id: String,
    /// The tenant's id.
    pub tenant: String,
    /// The key's id.
    pub key_id: String,
    /// The key's name.
    pub key: String,
    /// How the plaintext is held: `direct`, it is the data key itself; `sealed`, it is sealed under one.
    pub suite: EnvelopeSuite,
    /// The plaintext's length in bytes.
    pub plaintext_length: usize,
    /// When it was wrapped.
    pub created: Timestamp,
    /// The scope, if it has one.
    pub scope: Option<String>,
    /// Whether this installation's seal holds. If not, nothing here is authenticated.
    pub sealed: bool,
    /// The context as pairs, with those that the gateway adds.
    pub context: BTreeMap<String, String>,
    /// The context as bytes, standard base64: what providers take as associated data.
    #[schema(format = Byte)]
    pub context_bytes: String,
    /// Who can open it.
    pub recipients: Vec<Recipient>,
    /// How to open it without this gateway: lines for a POSIX shell, from the first recipient that the
    /// provider's own command line can open. Comments alone where none can.
    pub without_claviger: Vec<String>,
    /// What the operator of another installation makes there, so that it opens this key's blobs: lines for
    /// a POSIX shell. Comments alone where the key can't be made again.
    pub on_another_installation: Vec<String>,
    /// Only if the key is detached and the caller may read it: what to say to `POST /v1/keys` to bring it
    /// back. Nothing opens the wrapped key here before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reattach: Option<Reattach>,
}

/// How the plaintext is held.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum EnvelopeSuite {
    /// It is the data key itself.
    Direct,
    /// It is sealed under a data key.
    Sealed,
}

/// A recipient's role.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RecipientRole {
    /// An ordinary one.
    Member,
    /// For recovery.
    Recovery,
}

/// One recipient.
#[derive(Serialize, ToSchema)]
pub struct Recipient {
    /// Its role.
    pub role: RecipientRole,
    /// The provider's family; null if this release does not know it.
    pub provider: Option<String>,
    /// The provider's name of the key.
    pub provider_key: String,
    /// The provider's version id; null where it tells none.
    pub provider_version: Option<String>,
    /// Our number of the version; null if it has no row here.
    pub version: Option<u32>,
    /// The algorithm's number in the format.
    pub algorithm: u64,
    /// The ciphertext, standard base64.
    #[schema(format = Byte)]
    pub ciphertext: String,
    /// What the provider itself sees of the context: `pairs`, `associated_data`, or `nothing`.
    pub provider_sees: String,
    /// The commands of the provider's own tool for a POSIX shell, the last of which prints in base64 what the
    /// provider unwraps: the data key, or in a sealed blob the key of its payload. Empty where there is no such tool.
    pub commands: Vec<String>,
}

fn response(envelope: &Envelope, inspected: Inspected) -> InspectResponse {
    let header = envelope.header();
    let context_bytes = STANDARD.encode(inspected.context.bytes());
    let recipients: Vec<Recipient> = inspected
        .recipients
        .iter()
        .filter_map(|known| envelope.recipients().get(known.index).map(|recipient| (known, recipient)))
        .map(|(known, recipient)| Recipient {
            role: match recipient.role() {
                Role::Member => RecipientRole::Member,
                Role::Recovery => RecipientRole::Recovery,
            },
            provider: known.provider.map(|provider| provider.to_string()),
            provider_key: recipient.key().id.clone(),
            provider_version: (!recipient.key().version.is_empty()).then(|| recipient.key().version.clone()),
            version: known.version,
            algorithm: recipient.algorithm_code(),
            ciphertext: STANDARD.encode(recipient.ciphertext()),
            provider_sees: match known.binding {
                Some(ContextBinding::Pairs) => "pairs",
                Some(ContextBinding::AssociatedData) => "associated_data",
                Some(ContextBinding::CommitmentOnly) | None => "nothing",
            }
            .to_owned(),
            commands: known.commands.clone(),
        })
        .collect();
    let (without_claviger, on_another_installation) = (
        without_claviger(envelope, &inspected),
        on_another_installation(envelope, &inspected),
    );
    InspectResponse {
        dek_id: header.dek_id().to_string(),
        tenant: header.tenant().to_string(),
        key_id: header.key().to_string(),
        key: inspected.key,
        suite: match inspected.suite {
            Suite::Direct => EnvelopeSuite::Direct,
            Suite::Sealed => EnvelopeSuite::Sealed,
        },
        plaintext_length: header.plaintext_len(),
        created: Timestamp(i64::try_from(header.created()).unwrap_or(i64::MAX).saturating_mul(1_000_000)),
        scope: header.scope().map(|scope| scope.as_str().to_owned()),
        sealed: inspected.sealed,
        context: inspected.context.pairs().clone(),
        context_bytes,
        recipients,
        without_claviger,
        on_another_installation,
        reattach: inspected.detached.as_ref().map(|detached| reattach(&detached.key)),
    }
}

/// `POST /v1/inspect`
pub const INSPECT: Route = Route::new(
    Method::POST,
    "/v1/inspect",
    "inspect",
    "data keys",
    "Look at a wrapped key: no provider is called and no secret is told.",
    &[Action::Inspect],
)
.body::<UnwrapRequest>()
.answers::<InspectResponse>(200, "What the wrapped key says of itself.")
.opens_wrapped_keys();

pub async fn inspect(request: ApiRequest, body: UnwrapRequest) -> Result<ApiResponse, Failure> {
    let envelope = envelope(&body.wrapped)?;
    let authorized = request.admit::<op::Inspect>(KeyNamed::Envelope(&envelope)).await?;
    let context = body.context.unwrap_or_default().check()?;
    let inspected = request.broker.inspect(authorized, &envelope, &context).await?;
    json_reply(inspected, StatusCode::OK, |inspected| response(&envelope, inspected))
}
