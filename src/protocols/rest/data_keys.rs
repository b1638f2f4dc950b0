//! `/v1/keys/{key}/data-keys`, `wrap`, `unwrap`, `rewrap` and `/v1/unwrap`.
//!
//! Each operation is a method of its body, which a batch calls item by item.

use std::future::Future;

use http::{Method, StatusCode};
use serde::Deserialize;
use utoipa::openapi::schema::{KnownFormat, Object, SchemaFormat, Type};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use super::batch_request::ItemBody;
use super::data_responses::{DataKey, DataResponse, RewrapResult, UnwrapResult, WrapResult};
use super::handler::json_reply;
use super::request::{ApiRequest, envelope};
use super::response::ApiResponse;
use super::route::Route;
use super::types::{Base64Secret, ContextPairs, Name};
use crate::access::Action;
use crate::broker::{Broker, Failure, Generates, Guarded, KeyNamed, MAX_PLAINTEXT, PairNamed, RequestContext, op, scope_unsupported};
use crate::envelope::{DataKeyLength, MAX_TEXT};

/// Parameters of a new data key.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct GenerateDataKeyRequest {
    /// Length in bytes: 16, 24, 32, 48 or 64. Default: 32.
    #[serde(default)]
    #[schema(value_type = Option<DataKeyBytes>)]
    pub bytes: Option<u16>,
    /// The encryption context, which unwrap must name again.
    #[serde(default)]
    pub context: Option<ContextPairs>,
    /// Reserved: refused until scopes can be bound to keys, and so not in the document.
    #[serde(default)]
    #[schema(ignore)]
    pub scope: Option<String>,
    /// Whether the response contains the plaintext too. Default: true.
    #[serde(default)]
    pub plaintext: Option<bool>,
}

/// The lengths of data keys in the OpenAPI document.
pub struct DataKeyBytes;

impl PartialSchema for DataKeyBytes {
    fn schema() -> RefOr<Schema> {
        let lengths = DataKeyLength::ALL.map(DataKeyLength::bytes);
        let bytes = Object::builder().schema_type(Type::Integer).enum_values(Some(lengths));
        let bytes = bytes.format(Some(SchemaFormat::KnownFormat(KnownFormat::Int32)));
        bytes.description(Some("The length of a data key in bytes.")).into()
    }
}

impl ToSchema for DataKeyBytes {}

// The attributes below take no constants: characters of the base64 text, and of a wrapped key.
const _: () = assert!(MAX_PLAINTEXT.div_ceil(3) * 4 == 5464 && MAX_TEXT == 21_851);

/// Bytes to wrap.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct WrapRequest {
    /// 1 to 4096 bytes, standard base64 with padding.
    #[schema(value_type = String, format = Byte, min_length = 4, max_length = 5464, extensions(("x-secret" = json!(true))))]
    pub plaintext: Base64Secret,
    /// The encryption context, which unwrap must name again.
    #[serde(default)]
    pub context: Option<ContextPairs>,
    /// Reserved: refused until scopes can be bound to keys, and so not in the document.
    #[serde(default)]
    #[schema(ignore)]
    pub scope: Option<String>,
}

/// A wrapped key to unwrap.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UnwrapRequest {
    /// The wrapped key.
    #[schema(max_length = 21851)]
    pub wrapped: String,
    /// The encryption context that it was wrapped with.
    #[serde(default)]
    pub context: Option<ContextPairs>,
}

/// A wrapped key to rewrap.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RewrapRequest {
    /// The wrapped key.
    #[schema(max_length = 21851)]
    pub wrapped: String,
    /// The encryption context that it was wrapped with. It stays the same.
    #[serde(default)]
    pub context: Option<ContextPairs>,
    /// The name of another key that is to wrap it. Default: the same key.
    #[serde(default)]
    pub to: Option<Name>,
}

/// A data operation, implemented for the type of its body. A batch runs it for each item.
pub trait DataOperation: ItemBody {
    /// The response.
    type Response: DataResponse;

    /// Admits the operation and runs its use case.
    fn run(
        self,
        broker: &Broker,
        cx: &RequestContext,
        key: Self::Key,
    ) -> impl Future<Output = Result<Guarded<Self::Response>, Failure>> + Send;
}

impl ItemBody for GenerateDataKeyRequest {
    type Key = Name;
    const ITEM: &'static str = "GenerateItem";
    const ITEM_DESCRIPTION: &'static str = "Parameters of one new data key.";
    const BATCH: &'static str = "BatchGenerateDataKeysRequest";
    const BATCH_DESCRIPTION: &'static str = "Parameters of new data keys.";
}

impl DataOperation for GenerateDataKeyRequest {
    type Response = DataKey;

    async fn run(self, broker: &Broker, cx: &RequestContext, key: Name) -> Result<Guarded<DataKey>, Failure> {
        if self.plaintext.unwrap_or(true) {
            generate_as::<op::GenerateDataKey>(broker, cx, key, self).await
        } else {
            generate_as::<op::GenerateDataKeyWithoutPlaintext>(broker, cx, key, self).await
        }
    }
}

async fn generate_as<O: Generates>(
    broker: &Broker,
    cx: &RequestContext,
    key: Name,
    body: GenerateDataKeyRequest,
) -> Result<Guarded<DataKey>, Failure> {
    let authorized = broker.admit::<O>(cx, KeyNamed::Name(key.as_str())).await?;
    no_scope(body.scope.as_ref())?;
    let length = DataKeyLength::from_bytes(usize::from(body.bytes.unwrap_or(32)))
        .ok_or_else(|| Failure::invalid("/bytes", "one of 16, 24, 32, 48, 64"))?;
    let context = body.context.unwrap_or_default().check()?;
    let made = broker.generate_data_key(authorized, length, &context).await?;
    made.try_map(|made| Ok(made.into()))
}

impl ItemBody for WrapRequest {
    type Key = Name;
    const ITEM: &'static str = "WrapItem";
    const ITEM_DESCRIPTION: &'static str = "Bytes to wrap, and the key.";
    const BATCH: &'static str = "BatchWrapRequest";
    const BATCH_DESCRIPTION: &'static str = "Items to wrap.";
}

impl DataOperation for WrapRequest {
    type Response = WrapResult;

    async fn run(self, broker: &Broker, cx: &RequestContext, key: Name) -> Result<Guarded<WrapResult>, Failure> {
        let authorized = broker.admit::<op::Wrap>(cx, KeyNamed::Name(key.as_str())).await?;
        no_scope(self.scope.as_ref())?;
        let context = self.context.unwrap_or_default().check()?;
        let made = broker.wrap(authorized, &self.plaintext.0, &context).await?;
        made.try_map(|made| Ok(made.into()))
    }
}

impl ItemBody for UnwrapRequest {
    type Key = Option<Name>;
    const ITEM: &'static str = "UnwrapItem";
    const ITEM_DESCRIPTION: &'static str = "One wrapped key to unwrap.";
    const BATCH: &'static str = "BatchUnwrapRequest";
    const BATCH_DESCRIPTION: &'static str = "Wrapped keys to unwrap.";
}

impl DataOperation for UnwrapRequest {
    type Response = UnwrapResult;

    async fn run(self, broker: &Broker, cx: &RequestContext, key: Option<Name>) -> Result<Guarded<UnwrapResult>, Failure> {
        let (authorized, envelope) = match key {
            Some(name) => {
                let authorized = broker.admit::<op::Unwrap>(cx, KeyNamed::Name(name.as_str())).await?;
                (authorized, envelope(self.wrapped)?)
            }
            None => {
                let envelope = envelope(self.wrapped)?;
                (broker.admit::<op::Unwrap>(cx, KeyNamed::Envelope(&envelope)).await?, envelope)
            }
        };
        let context = self.context.unwrap_or_default().check()?;
        let opened = broker.unwrap(authorized, &envelope, &context).await?;
        opened.try_map(|opened| Ok(opened.into()))
    }
}

impl ItemBody for RewrapRequest {
    type Key = Name;
    const ITEM: &'static str = "RewrapItem";
    const ITEM_DESCRIPTION: &'static str = "One wrapped key to rewrap.";
    const BATCH: &'static str = "BatchRewrapRequest";
    const BATCH_DESCRIPTION: &'static str = "Wrapped keys to rewrap.";
}

impl DataOperation for RewrapRequest {
    type Response = RewrapResult;

    async fn run(self, broker: &Broker, cx: &RequestContext, key: Name) -> Result<Guarded<RewrapResult>, Failure> {
        let made = match self.to.filter(|to| *to != key) {
            None => {
                let authorized = broker.admit::<op::Rewrap>(cx, KeyNamed::Name(key.as_str())).await?;
                let (envelope, context) = (envelope(self.wrapped)?, self.context.unwrap_or_default().check()?);
                broker.rewrap(authorized, &envelope, &context).await?
            }
            Some(to) => {
                let named = PairNamed {
                    source: key.as_str(),
                    target: to.as_str(),
                };
                let authorized = broker.admit::<op::RewrapToOther>(cx, named).await?;
                let (envelope, context) = (envelope(self.wrapped)?, self.context.unwrap_or_default().check()?);
                broker.rewrap_to(authorized, &envelope, &context).await?
            }
        };
        made.try_map(|made| Ok(made.into()))
    }
}

fn no_scope(scope: Option<&String>) -> Result<(), Failure> {
    match scope {
        None => Ok(()),
        Some(_) => Err(scope_unsupported().at("/scope", "left out")),
    }
}

/// Runs one operation with the key in the path.
async fn under_named_key<B: DataOperation>(request: ApiRequest, body: B) -> Result<ApiResponse, Failure>
where
    Name: Into<B::Key>,
{
    let key = request.name("key")?;
    json_reply(
        body.run(&request.broker, &request.cx, key.into()).await?,
        StatusCode::OK,
        |response| response,
    )
}

/// `POST /v1/keys/{key}/data-keys`
pub const GENERATE: Route = Route::new(
    Method::POST,
    "/v1/keys/{key}/data-keys",
    "generateDataKey",
    "data keys",
    "Generate a data key. The response contains it in plaintext and wrapped.",
    &[Action::GenerateDataKey, Action::GenerateDataKeyWithoutPlaintext],
)
.idempotent()
.body::<GenerateDataKeyRequest>()
.answers::<DataKey>(200, "The data key.");

pub async fn generate(request: ApiRequest, body: GenerateDataKeyRequest) -> Result<ApiResponse, Failure> {
    under_named_key(request, body).await
}

/// `POST /v1/keys/{key}/wrap`
pub const WRAP: Route = Route::new(
    Method::POST,
    "/v1/keys/{key}/wrap",
    "wrap",
    "data keys",
    "Wrap 1 to 4096 bytes, such as a data key of the caller.",
    &[Action::Wrap],
)
.idempotent()
.body::<WrapRequest>()
.answers::<WrapResult>(200, "The wrapped key.");

pub async fn wrap(request: ApiRequest, body: WrapRequest) -> Result<ApiResponse, Failure> {
    under_named_key(request, body).await
}

/// `POST /v1/keys/{key}/unwrap`
pub const UNWRAP: Route = Route::new(
    Method::POST,
    "/v1/keys/{key}/unwrap",
    "unwrapWithKey",
    "data keys",
    "Unwrap a wrapped key that belongs to the key in the path.",
    &[Action::Unwrap],
)
.idempotent()
.body::<UnwrapRequest>()
.answers::<UnwrapResult>(200, "The unwrapped bytes.")
.opens_wrapped_keys();

pub async fn unwrap(request: ApiRequest, body: UnwrapRequest) -> Result<ApiResponse, Failure> {
    under_named_key(request, body).await
}

/// `POST /v1/unwrap`
pub const UNWRAP_ANY: Route = Route::new(
    Method::POST,
    "/v1/unwrap",
    "unwrap",
    "data keys",
    "Unwrap a wrapped key. Its header names the key that wrapped it.",
    &[Action::Unwrap],
)
.idempotent()
.body::<UnwrapRequest>()
.answers::<UnwrapResult>(200, "The unwrapped bytes.")
.opens_wrapped_keys();

pub async fn unwrap_any(request: ApiRequest, body: UnwrapRequest) -> Result<ApiResponse, Failure> {
    json_reply(body.run(&request.broker, &request.cx, None).await?, StatusCode::OK, |response| {
        response
    })
}

/// `POST /v1/keys/{key}/rewrap`
pub const REWRAP: Route = Route::new(
    Method::POST,
    "/v1/keys/{key}/rewrap",
    "rewrap",
    "data keys",
    "Rewrap a wrapped key with the primary version of the same key or of another one.",
    &[Action::Rewrap, Action::RewrapFrom],
)
.idempotent()
.body::<RewrapRequest>()
.answers::<RewrapResult>(200, "The wrapped key.")
.opens_wrapped_keys();

pub async fn rewrap(request: ApiRequest, body: RewrapRequest) -> Result<ApiResponse, Failure> {
    under_named_key(request, body).await
}
