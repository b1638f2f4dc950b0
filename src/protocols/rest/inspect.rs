//! `/v1/inspect`: the content of a wrapped key's header, and how to open the key without the gateway.

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
use super::provider_name::ProviderName;
use super::request::{ApiRequest, envelope};
use super::response::ApiResponse;
use super::route::Route;
use super::types::Timestamp;
use crate::access::Action;
use crate::broker::{Failure, Inspected, KeyNamed, op};
use crate::envelope::{Envelope, Role, Suite};

/// The header of a wrapped key, and how to open it elsewhere.
#[derive(Serialize, ToSchema)]
pub struct InspectResult {
    /// The data key's id.
    pub dek_id: String,
    /// The tenant's id.
    pub tenant: String,
    /// The key's id.
    pub key_id: String,
    /// The key's name.
    pub key: String,
    /// `direct`: the plaintext is the data key itself. `sealed`: the plaintext is encrypted under a data key.
    pub suite: EnvelopeSuite,
    /// The plaintext's length in bytes.
    pub plaintext_length: usize,
    /// When it was wrapped.
    pub created: Timestamp,
    /// The scope; null if it has none.
    #[schema(required)]
    pub scope: Option<String>,
    /// Whether the seal is valid and from this installation. If false, none of these values are authenticated.
    pub sealed: bool,
    /// The context as pairs, including those that the gateway adds.
    pub context: BTreeMap<String, String>,
    /// The context as bytes in standard base64, as providers get it as associated data.
    #[schema(format = Byte)]
    pub context_bytes: String,
    /// The provider keys that can open it.
    pub recipients: Vec<Recipient>,
    /// How to open it without this gateway: a POSIX shell script for the first recipient that its
    /// provider's command line can open. Only comments if there is none.
    pub without_claviger: Vec<String>,
    /// A POSIX shell script that creates this key on another installation, so that it opens this wrapped
    /// key: with the version that opens it, and for a moved key with the primary version, too. Only
    /// comments if that version cannot be created again.
    pub on_another_installation: Vec<String>,
    /// Only if the key is detached and the caller may read it: what to say to `POST /v1/keys` to bring it
    /// back. Nothing opens the wrapped key here before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reattach: Option<Reattach>,
}

/// What the provider's ciphertext contains.
///
/// - `direct`: the plaintext itself
/// - `sealed`: a key that encrypts the plaintext
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[allow(
    missing_docs,
    reason = "the type's text describes each word; the OpenAPI document shows that text alone"
)]
pub enum EnvelopeSuite {
    Direct,
    Sealed,
}

/// The purpose of a recipient.
///
/// - `member`: a version of the tenant's key
/// - `recovery`: a key for recovery
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[allow(
    missing_docs,
    reason = "the type's text describes each word; the OpenAPI document shows that text alone"
)]
pub enum RecipientRole {
    Member,
    Recovery,
}

/// One provider key that can open the wrapped key.
#[derive(Serialize, ToSchema)]
pub struct Recipient {
    /// Member or recovery.
    pub role: RecipientRole,
    /// The kind of provider; null if this release does not know it.
    #[schema(required, value_type = Option<ProviderName>)]
    pub provider: Option<String>,
    /// The key's id at the provider.
    pub provider_key: String,
    /// The key version's id at the provider; null if the provider reports none.
    #[schema(required)]
    pub provider_version: Option<String>,
    /// The key version's number in this gateway; null if there is no such version here.
    #[schema(required)]
    pub version: Option<u32>,
    /// The algorithm's number in the format of wrapped keys.
    pub algorithm: u64,
    /// The ciphertext, standard base64.
    #[schema(format = Byte)]
    pub ciphertext: String,
    /// How the provider gets the context: as `pairs`, as `associated_data`, or not at all (`nothing`).
    pub provider_sees: String,
    /// POSIX shell commands with the provider's own tool. The last one prints the decrypted key in base64: the
    /// data key, or for suite `sealed` the key of the payload. Empty if the provider has no such tool.
    pub commands: Vec<String>,
}

fn response(envelope: &Envelope, inspected: Inspected) -> InspectResult {
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
    InspectResult {
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
        context: inspected.context.pairs(),
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
    "Inspect a wrapped key. This calls no provider, and the response contains no secret.",
    &[Action::Inspect],
)
.idempotent()
.body::<UnwrapRequest>()
.answers::<InspectResult>(200, "The header of the wrapped key, and how to open it elsewhere.")
.opens_wrapped_keys();

pub async fn inspect(request: ApiRequest, body: UnwrapRequest) -> Result<ApiResponse, Failure> {
    let envelope = envelope(body.wrapped)?;
    let authorized = request.admit::<op::Inspect>(KeyNamed::Envelope(&envelope)).await?;
    let context = body.context.unwrap_or_default().check()?;
    let inspected = request.broker.inspect(authorized, &envelope, &context).await?;
    json_reply(inspected, StatusCode::OK, |inspected| response(&envelope, inspected))
}
