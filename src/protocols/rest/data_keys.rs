//! `/v1/keys/{key}/data-keys`, `wrap`, `unwrap`, `rewrap` and `/v1/unwrap`.
//!
//! Each operation is one function over its body, which the batch calls item by item.

use http::{Method, StatusCode};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::handler::json_reply;
use super::request::{ApiRequest, envelope};
use super::response::ApiResponse;
use super::route::Route;
use super::types::{Base64Secret, ContextPairs, Name, base64};
use crate::access::Action;
use crate::broker::{DataKey, Failure, Generates, Guarded, KeyNamed, PairNamed, Rewrapped, Unwrapped, Wrapped, op, scope_unsupported};
use crate::envelope::DataKeyLength;

/// A data key to be generated.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct GenerateDataKey {
    /// Its length in bytes: 16, 24, 32, 48 or 64; 32 where left out.
    #[serde(default)]
    pub bytes: Option<u16>,
    /// The encryption context, which unwrap must name again.
    #[serde(default)]
    pub context: Option<ContextPairs>,
    /// Reserved: refused until scopes can be bound to keys, and so not in the document.
    #[serde(default)]
    #[schema(ignore)]
    pub scope: Option<String>,
    /// Whether the plaintext is answered too; true where left out.
    #[serde(default)]
    pub plaintext: Option<bool>,
}

/// A generated data key.
#[derive(Serialize, ToSchema)]
pub struct DataKeyResponse {
    /// The key in clear, standard base64; absent if it was not asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = Byte)]
    pub plaintext: Option<String>,
    /// The wrapped key, opaque text of at most 22 KiB.
    pub wrapped: String,
    /// The key's name.
    pub key: String,
    /// The version that wrapped.
    pub version: u32,
}

/// Bytes to be wrapped.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct WrapRequest {
    /// 1 to 4096 bytes, standard base64 with padding.
    #[schema(value_type = String, format = Byte)]
    pub plaintext: Base64Secret,
    /// The encryption context, which unwrap must name again.
    #[serde(default)]
    pub context: Option<ContextPairs>,
    /// Reserved: refused until scopes can be bound to keys, and so not in the document.
    #[serde(default)]
    #[schema(ignore)]
    pub scope: Option<String>,
}

/// A wrapped key.
#[derive(Serialize, ToSchema)]
pub struct WrapResponse {
    /// The wrapped key, opaque text of at most 22 KiB.
    pub wrapped: String,
    /// The key's name.
    pub key: String,
    /// The version that wrapped.
    pub version: u32,
}

/// A wrapped key to be opened.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UnwrapRequest {
    /// The wrapped key.
    pub wrapped: String,
    /// The encryption context that it was wrapped under.
    #[serde(default)]
    pub context: Option<ContextPairs>,
}

/// An unwrapped key.
#[derive(Serialize, ToSchema)]
pub struct UnwrapResponse {
    /// The bytes, standard base64.
    #[schema(format = Byte)]
    pub plaintext: String,
    /// The key's name.
    pub key: String,
    /// The version that opened it.
    pub version: u32,
    /// Whether it came from the cache.
    pub cached: bool,
}

/// A wrapped key to be wrapped anew.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RewrapRequest {
    /// The wrapped key.
    pub wrapped: String,
    /// The encryption context that it was wrapped under; it stays.
    #[serde(default)]
    pub context: Option<ContextPairs>,
    /// The name of another key to wrap it under; the same key where left out.
    #[serde(default)]
    pub to: Option<Name>,
}

/// A rewrapped key.
#[derive(Serialize, ToSchema)]
pub struct RewrapResponse {
    /// The wrapped key.
    pub wrapped: String,
    /// The name of the key that it stands under now.
    pub key: String,
    /// The version that wrapped.
    pub version: u32,
    /// Whether it differs from what came in.
    pub changed: bool,
    /// Whether the data key stayed inside the provider.
    pub inside_provider: bool,
}

impl From<DataKey> for DataKeyResponse {
    fn from(made: DataKey) -> Self {
        Self {
            plaintext: made.plaintext.as_ref().map(base64),
            wrapped: made.wrapped,
            key: made.key,
            version: made.version,
        }
    }
}

impl From<Wrapped> for WrapResponse {
    fn from(made: Wrapped) -> Self {
        Self {
            wrapped: made.wrapped,
            key: made.key,
            version: made.version,
        }
    }
}

impl From<Unwrapped> for UnwrapResponse {
    fn from(opened: Unwrapped) -> Self {
        Self {
            plaintext: base64(&opened.plaintext),
            key: opened.key,
            version: opened.version,
            cached: opened.cached,
        }
    }
}

impl From<Rewrapped> for RewrapResponse {
    fn from(made: Rewrapped) -> Self {
        Self {
            wrapped: made.wrapped,
            key: made.key,
            version: made.version,
            changed: made.changed,
            inside_provider: made.inside_provider,
        }
    }
}

fn no_scope(scope: Option<&String>) -> Result<(), Failure> {
    match scope {
        None => Ok(()),
        Some(_) => Err(scope_unsupported().at("/scope", "left out")),
    }
}

/// Generates a data key under the named key.
pub(super) async fn do_generate(request: &ApiRequest, key: &Name, body: GenerateDataKey) -> Result<Guarded<DataKeyResponse>, Failure> {
    if body.plaintext.unwrap_or(true) {
        generate_as::<op::GenerateDataKey>(request, key, body).await
    } else {
        generate_as::<op::GenerateDataKeyWithoutPlaintext>(request, key, body).await
    }
}

async fn generate_as<O: Generates>(request: &ApiRequest, key: &Name, body: GenerateDataKey) -> Result<Guarded<DataKeyResponse>, Failure> {
    let authorized = request.admit::<O>(KeyNamed::Name(key.as_str())).await?;
    no_scope(body.scope.as_ref())?;
    let length = DataKeyLength::from_bytes(usize::from(body.bytes.unwrap_or(32)))
        .ok_or_else(|| Failure::invalid("/bytes", "one of 16, 24, 32, 48, 64"))?;
    let context = body.context.unwrap_or_default().check()?;
    let made = request.broker.generate_data_key(authorized, length, &context).await?;
    made.try_map(|made| Ok(made.into()))
}

/// Wraps bytes under the named key.
pub(super) async fn do_wrap(request: &ApiRequest, key: &Name, body: WrapRequest) -> Result<Guarded<WrapResponse>, Failure> {
    let authorized = request.admit::<op::Wrap>(KeyNamed::Name(key.as_str())).await?;
    no_scope(body.scope.as_ref())?;
    let context = body.context.unwrap_or_default().check()?;
    let made = request.broker.wrap(authorized, &body.plaintext.0, &context).await?;
    made.try_map(|made| Ok(made.into()))
}

/// Unwraps under the named key, or under the one that the wrapped key names.
pub(super) async fn do_unwrap(request: &ApiRequest, key: Option<&Name>, body: UnwrapRequest) -> Result<Guarded<UnwrapResponse>, Failure> {
    let (authorized, envelope) = match key {
        Some(name) => {
            let authorized = request.admit::<op::Unwrap>(KeyNamed::Name(name.as_str())).await?;
            (authorized, envelope(&body.wrapped)?)
        }
        None => {
            let envelope = envelope(&body.wrapped)?;
            (request.admit::<op::Unwrap>(KeyNamed::Envelope(&envelope)).await?, envelope)
        }
    };
    let context = body.context.unwrap_or_default().check()?;
    let opened = request.broker.unwrap(authorized, &envelope, &context).await?;
    opened.try_map(|opened| Ok(opened.into()))
}

/// Rewraps under the named key, or from it to another one.
pub(super) async fn do_rewrap(request: &ApiRequest, key: &Name, body: RewrapRequest) -> Result<Guarded<RewrapResponse>, Failure> {
    let made = match body.to.filter(|to| to != key) {
        None => {
            let authorized = request.admit::<op::Rewrap>(KeyNamed::Name(key.as_str())).await?;
            let (envelope, context) = (envelope(&body.wrapped)?, body.context.unwrap_or_default().check()?);
            request.broker.rewrap(authorized, &envelope, &context).await?
        }
        Some(to) => {
            let named = PairNamed {
                source: key.as_str(),
                target: to.as_str(),
            };
            let authorized = request.admit::<op::RewrapToOther>(named).await?;
            let (envelope, context) = (envelope(&body.wrapped)?, body.context.unwrap_or_default().check()?);
            request.broker.rewrap_to(authorized, &envelope, &context).await?
        }
    };
    made.try_map(|made| Ok(made.into()))
}

/// `POST /v1/keys/{key}/data-keys`
pub const GENERATE: Route = Route::new(
    Method::POST,
    "/v1/keys/{key}/data-keys",
    "generateDataKey",
    "data keys",
    "Generate a data key, in clear and wrapped.",
    &[Action::GenerateDataKey, Action::GenerateDataKeyWithoutPlaintext],
)
.body::<GenerateDataKey>()
.answers::<DataKeyResponse>(200, "The data key.");

pub async fn generate(request: ApiRequest, body: GenerateDataKey) -> Result<ApiResponse, Failure> {
    json_reply(
        do_generate(&request, &request.name("key")?, body).await?,
        StatusCode::OK,
        |response| response,
    )
}

/// `POST /v1/keys/{key}/wrap`
pub const WRAP: Route = Route::new(
    Method::POST,
    "/v1/keys/{key}/wrap",
    "wrap",
    "data keys",
    "Wrap 1 to 4096 bytes of the caller's.",
    &[Action::Wrap],
)
.body::<WrapRequest>()
.answers::<WrapResponse>(200, "The wrapped key.");

pub async fn wrap(request: ApiRequest, body: WrapRequest) -> Result<ApiResponse, Failure> {
    json_reply(do_wrap(&request, &request.name("key")?, body).await?, StatusCode::OK, |response| {
        response
    })
}

/// `POST /v1/keys/{key}/unwrap`
pub const UNWRAP: Route = Route::new(
    Method::POST,
    "/v1/keys/{key}/unwrap",
    "unwrapWithKey",
    "data keys",
    "Open a wrapped key of the named key.",
    &[Action::Unwrap],
)
.body::<UnwrapRequest>()
.answers::<UnwrapResponse>(200, "The bytes.")
.opens_wrapped_keys();

pub async fn unwrap(request: ApiRequest, body: UnwrapRequest) -> Result<ApiResponse, Failure> {
    json_reply(
        do_unwrap(&request, Some(&request.name("key")?), body).await?,
        StatusCode::OK,
        |response| response,
    )
}

/// `POST /v1/unwrap`
pub const UNWRAP_ANY: Route = Route::new(
    Method::POST,
    "/v1/unwrap",
    "unwrap",
    "data keys",
    "Open a wrapped key; it names its key itself.",
    &[Action::Unwrap],
)
.body::<UnwrapRequest>()
.answers::<UnwrapResponse>(200, "The bytes.")
.opens_wrapped_keys();

pub async fn unwrap_any(request: ApiRequest, body: UnwrapRequest) -> Result<ApiResponse, Failure> {
    json_reply(do_unwrap(&request, None, body).await?, StatusCode::OK, |response| response)
}

/// `POST /v1/keys/{key}/rewrap`
pub const REWRAP: Route = Route::new(
    Method::POST,
    "/v1/keys/{key}/rewrap",
    "rewrap",
    "data keys",
    "Wrap a wrapped key anew, under the key's primary version or under another key.",
    &[Action::Rewrap, Action::RewrapFrom],
)
.body::<RewrapRequest>()
.answers::<RewrapResponse>(200, "The wrapped key.")
.opens_wrapped_keys();

pub async fn rewrap(request: ApiRequest, body: RewrapRequest) -> Result<ApiResponse, Failure> {
    json_reply(
        do_rewrap(&request, &request.name("key")?, body).await?,
        StatusCode::OK,
        |response| response,
    )
}
