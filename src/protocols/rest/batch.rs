//! `/v1/batch/*`: up to 1000 operations in one request. Each item has its own decision and
//! record; one sync makes all of them durable.

use std::future::Future;
use std::sync::Arc;

use claviger_provider::ConnectionId;
use dashmap::DashMap;
use futures::{StreamExt, stream};
use serde::Deserialize;
use tokio::sync::Semaphore;
use utoipa::ToSchema;

use super::data_keys::{GenerateDataKey, RewrapRequest, UnwrapRequest, WrapRequest, do_generate, do_rewrap, do_unwrap, do_wrap};
use super::json;
use super::reply::{BatchItem, BatchResponse, Reply};
use super::request::{ApiRequest, envelope};
use super::types::{Base64Secret, ContextPairs, Name};
use crate::broker::{Failure, Guarded, RequestContext};

/// The most items in one batch.
const MAX_ITEMS: usize = 1000;
/// The most items under way for one connection.
const PER_CONNECTION: usize = 16;
/// The most items under way in one batch.
const UNDER_WAY: usize = 64;

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

type Done = (RequestContext, Result<Guarded<BatchItem>, Failure>);

/// What leads to the connection of an item.
enum Way<'i> {
    /// Its key's name.
    Key(&'i Name),
    /// The key that its wrapped key names.
    Blob(&'i str),
}

impl Way<'_> {
    /// Its connection; `None` where there is no such key, or none could be looked up: what is
    /// wrong is the item's own to say.
    async fn connection(self, request: &ApiRequest) -> Option<ConnectionId> {
        let (directory, tenant) = (request.broker.directory(), request.cx.tenant());
        let entry = match self {
            Self::Key(name) => directory.key_by_name(tenant, name.as_str()).await,
            Self::Blob(text) => directory.key(tenant, envelope(text).ok()?.header().key()).await,
        };
        entry.ok()?.map(|entry| entry.connection().id())
    }
}

/// Runs the items, a bounded number at once, and at most so many for one key's connection.
async fn run<I, F, Fut>(request: ApiRequest, items: Vec<I>, way: impl Fn(&I) -> Way<'_> + Copy + Send, each: F) -> Result<Reply, Failure>
where
    I: Send,
    F: Fn(ApiRequest, I) -> Fut + Copy + Send,
    Fut: Future<Output = Result<Guarded<BatchItem>, Failure>> + Send,
{
    request.only_query(&[])?;
    request.cx.require_tenant()?;
    if items.is_empty() || items.len() > MAX_ITEMS {
        return Err(Failure::invalid("/items", "1 to 1000 items"));
    }
    // Items whose key leads nowhere share one lane: they are refused without a call.
    let lanes: DashMap<Option<ConnectionId>, Arc<Semaphore>> = DashMap::new();
    let lanes = &lanes;
    let work = (0_u32..).zip(items).map(|(place, item)| {
        let mut of_item = request.clone();
        of_item.cx = request.cx.item(place);
        async move {
            let cx = of_item.cx.clone();
            let turn = async {
                let connection = way(&item).connection(&of_item).await;
                let lane = Arc::clone(&lanes.entry(connection).or_insert_with(|| Arc::new(Semaphore::new(PER_CONNECTION))));
                lane.acquire_owned().await
            };
            let result = match tokio::time::timeout_at(cx.info().deadline.into(), turn).await {
                Ok(Ok(_turn)) => each(of_item, item).await,
                Ok(Err(closed)) => Err(Failure::internal(&closed)),
                Err(_) => Err(Failure::deadline()),
            };
            (cx, result)
        }
    });
    let done: Vec<Done> = stream::iter(work).buffered(UNDER_WAY).collect().await;
    Ok(Reply::Batch(done))
}

#[utoipa::path(post, path = "/v1/batch/data-keys", operation_id = "batchGenerateDataKeys", tag = "batch", request_body = BatchGenerateDataKeysRequest,
    responses((status = 200, description = "One answer for each item, in order.", body = BatchResponse)))]
/// Generate up to 1000 data keys.
pub async fn generate(request: ApiRequest, body: BatchGenerateDataKeysRequest) -> Result<Reply, Failure> {
    run(
        request,
        body.items,
        |item| Way::Key(&item.key),
        |request, item| async move {
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
        },
    )
    .await
}

#[utoipa::path(post, path = "/v1/batch/wrap", operation_id = "batchWrap", tag = "batch", request_body = BatchWrapRequest,
    responses((status = 200, description = "One answer for each item, in order.", body = BatchResponse)))]
/// Wrap up to 1000 plaintexts.
pub async fn wrap(request: ApiRequest, body: BatchWrapRequest) -> Result<Reply, Failure> {
    run(
        request,
        body.items,
        |item| Way::Key(&item.key),
        |request, item| async move {
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
        },
    )
    .await
}

#[utoipa::path(post, path = "/v1/batch/unwrap", operation_id = "batchUnwrap", tag = "batch", request_body = BatchUnwrapRequest,
    responses((status = 200, description = "One answer for each item, in order.", body = BatchResponse)))]
/// Open up to 1000 wrapped keys.
pub async fn unwrap(request: ApiRequest, body: BatchUnwrapRequest) -> Result<Reply, Failure> {
    run(
        request,
        body.items,
        |item| item.key.as_ref().map_or(Way::Blob(&item.wrapped), Way::Key),
        |request, item| async move {
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
        },
    )
    .await
}

#[utoipa::path(post, path = "/v1/batch/rewrap", operation_id = "batchRewrap", tag = "batch", request_body = BatchRewrapRequest,
    responses((status = 200, description = "One answer for each item, in order.", body = BatchResponse)))]
/// Wrap up to 1000 wrapped keys anew.
pub async fn rewrap(request: ApiRequest, body: BatchRewrapRequest) -> Result<Reply, Failure> {
    run(
        request,
        body.items,
        |item| Way::Key(&item.key),
        |request, item| async move {
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
        },
    )
    .await
}
