//! `/v1/batch/*`: up to 1000 operations in one request. Each item has its own decision and
//! record; one sync makes all of them durable.

use http::Method;
use std::future::Future;
use std::sync::Arc;

use serde::Deserialize;
use utoipa::ToSchema;

use super::data_keys::{GenerateDataKey, RewrapRequest, UnwrapRequest, WrapRequest, do_generate, do_rewrap, do_unwrap, do_wrap};
use super::json;
use super::request::ApiRequest;
use super::response::{ApiResponse, BatchItem, BatchResponse};
use super::route::Route;
use super::types::{Base64Secret, ContextPairs, Name};
use crate::access::Action;
use crate::broker::{Failure, Guarded};

/// Data keys to be generated.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BatchGenerateDataKeysRequest {
    /// 1 to 1000 items.
    #[serde(deserialize_with = "json::objects")]
    #[schema(min_items = 1, max_items = 1000)]
    pub items: Vec<GenerateItem>,
}

/// One data key to be generated.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct GenerateItem {
    /// The key's name.
    pub key: Name,
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

/// Bytes to be wrapped.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BatchWrapRequest {
    /// 1 to 1000 items.
    #[serde(deserialize_with = "json::objects")]
    #[schema(min_items = 1, max_items = 1000)]
    pub items: Vec<WrapItem>,
}

/// One item to be wrapped.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct WrapItem {
    /// The key's name.
    pub key: Name,
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

/// Wrapped keys to be opened.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BatchUnwrapRequest {
    /// 1 to 1000 items.
    #[serde(deserialize_with = "json::objects")]
    #[schema(min_items = 1, max_items = 1000)]
    pub items: Vec<UnwrapItem>,
}

/// One wrapped key to be opened.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UnwrapItem {
    /// The key's name; the one that the wrapped key names where left out.
    #[serde(default)]
    pub key: Option<Name>,
    /// The wrapped key.
    pub wrapped: String,
    /// The encryption context that it was wrapped under.
    #[serde(default)]
    pub context: Option<ContextPairs>,
}

/// Wrapped keys to be wrapped anew.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BatchRewrapRequest {
    /// 1 to 1000 items.
    #[serde(deserialize_with = "json::objects")]
    #[schema(min_items = 1, max_items = 1000)]
    pub items: Vec<RewrapItem>,
}

/// One wrapped key to be wrapped anew.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RewrapItem {
    /// The key's name.
    pub key: Name,
    /// The wrapped key.
    pub wrapped: String,
    /// The encryption context that it was wrapped under; it stays.
    #[serde(default)]
    pub context: Option<ContextPairs>,
    /// The name of another key to wrap it under; the same key where left out.
    #[serde(default)]
    pub to: Option<Name>,
}

/// Runs `each` for every item.
async fn run<I, F, Fut>(request: ApiRequest, items: Vec<I>, each: F) -> Result<ApiResponse, Failure>
where
    I: Send,
    F: Fn(ApiRequest, I) -> Fut + Copy + Send,
    Fut: Future<Output = Result<Guarded<BatchItem>, Failure>> + Send,
{
    let (broker, cx) = (Arc::clone(&request.broker), request.cx.clone());
    let each = move |cx, item| each(request.for_item(cx), item);
    Ok(ApiResponse::Batch(broker.batch(&cx, items, each).await?))
}

/// `POST /v1/batch/data-keys`
pub const GENERATE: Route = Route::new(
    Method::POST,
    "/v1/batch/data-keys",
    "batchGenerateDataKeys",
    "batch",
    "Generate up to 1000 data keys.",
    &[Action::GenerateDataKey, Action::GenerateDataKeyWithoutPlaintext],
)
.batch()
.body::<BatchGenerateDataKeysRequest>()
.answers::<BatchResponse>(200, "One answer for each item, in order.");

pub async fn generate(request: ApiRequest, body: BatchGenerateDataKeysRequest) -> Result<ApiResponse, Failure> {
    run(request, body.items, |request, item| async move {
        let body = GenerateDataKey {
            bytes: item.bytes,
            context: item.context,
            scope: item.scope,
            plaintext: item.plaintext,
        };
        do_generate(&request, &item.key, body).await?.try_map(|made| {
            Ok(BatchItem {
                plaintext: made.plaintext,
                wrapped: Some(made.wrapped),
                key: Some(made.key),
                version: Some(made.version),
                ..BatchItem::EMPTY
            })
        })
    })
    .await
}

/// `POST /v1/batch/wrap`
pub const WRAP: Route = Route::new(
    Method::POST,
    "/v1/batch/wrap",
    "batchWrap",
    "batch",
    "Wrap up to 1000 plaintexts.",
    &[Action::Wrap],
)
.batch()
.body::<BatchWrapRequest>()
.answers::<BatchResponse>(200, "One answer for each item, in order.");

pub async fn wrap(request: ApiRequest, body: BatchWrapRequest) -> Result<ApiResponse, Failure> {
    run(request, body.items, |request, item| async move {
        let body = WrapRequest {
            plaintext: item.plaintext,
            context: item.context,
            scope: item.scope,
        };
        do_wrap(&request, &item.key, body).await?.try_map(|made| {
            Ok(BatchItem {
                wrapped: Some(made.wrapped),
                key: Some(made.key),
                version: Some(made.version),
                ..BatchItem::EMPTY
            })
        })
    })
    .await
}

/// `POST /v1/batch/unwrap`
pub const UNWRAP: Route = Route::new(
    Method::POST,
    "/v1/batch/unwrap",
    "batchUnwrap",
    "batch",
    "Open up to 1000 wrapped keys.",
    &[Action::Unwrap],
)
.batch()
.body::<BatchUnwrapRequest>()
.answers::<BatchResponse>(200, "One answer for each item, in order.");

pub async fn unwrap(request: ApiRequest, body: BatchUnwrapRequest) -> Result<ApiResponse, Failure> {
    run(request, body.items, |request, item| async move {
        let body = UnwrapRequest {
            wrapped: item.wrapped,
            context: item.context,
        };
        do_unwrap(&request, item.key.as_ref(), body).await?.try_map(|opened| {
            Ok(BatchItem {
                plaintext: Some(opened.plaintext),
                key: Some(opened.key),
                version: Some(opened.version),
                cached: Some(opened.cached),
                ..BatchItem::EMPTY
            })
        })
    })
    .await
}

/// `POST /v1/batch/rewrap`
pub const REWRAP: Route = Route::new(
    Method::POST,
    "/v1/batch/rewrap",
    "batchRewrap",
    "batch",
    "Wrap up to 1000 wrapped keys anew.",
    &[Action::Rewrap, Action::RewrapFrom],
)
.batch()
.body::<BatchRewrapRequest>()
.answers::<BatchResponse>(200, "One answer for each item, in order.");

pub async fn rewrap(request: ApiRequest, body: BatchRewrapRequest) -> Result<ApiResponse, Failure> {
    run(request, body.items, |request, item| async move {
        let body = RewrapRequest {
            wrapped: item.wrapped,
            context: item.context,
            to: item.to,
        };
        do_rewrap(&request, &item.key, body).await?.try_map(|made| {
            Ok(BatchItem {
                wrapped: Some(made.wrapped),
                key: Some(made.key),
                version: Some(made.version),
                changed: Some(made.changed),
                inside_provider: Some(made.inside_provider),
                ..BatchItem::EMPTY
            })
        })
    })
    .await
}
