//! `/v1/batch/*`: up to 1000 operations in one request. Each item has its own decision and
//! record; one sync makes all of them durable.

use std::sync::Arc;

use super::batch_request::{BatchRequest, Item};
use super::batch_response::{BatchGenerateDataKeysResponse, BatchRewrapResponse, BatchUnwrapResponse, BatchWrapResponse};
use super::data_keys::{DataOperation, GenerateDataKeyRequest, RewrapRequest, UnwrapRequest, WrapRequest};
use super::data_responses::DataResponse;
use super::reply::{BatchItem, Reply};
use super::request::ApiRequest;
use crate::broker::{Failure, Guarded};

/// Data keys to be generated.
pub type BatchGenerateDataKeysRequest = BatchRequest<GenerateDataKeyRequest>;
/// Bytes to be wrapped.
pub type BatchWrapRequest = BatchRequest<WrapRequest>;
/// Wrapped keys to be opened.
pub type BatchUnwrapRequest = BatchRequest<UnwrapRequest>;
/// Wrapped keys to be wrapped anew.
pub type BatchRewrapRequest = BatchRequest<RewrapRequest>;

/// Runs the operation for each item.
async fn run<B: DataOperation>(request: ApiRequest, batch: BatchRequest<B>) -> Result<Reply, Failure> {
    request.only_query(&[])?;
    let (broker, cx) = (Arc::clone(&request.broker), request.cx.clone());
    let each = move |cx, Item { key, body }: Item<B>| {
        let request = request.for_item(cx);
        async move { item(body.run(request, key).await?) }
    };
    Ok(Reply::Batch(broker.batch(&cx, batch.items, each).await?))
}

fn item<R: DataResponse>(done: Guarded<R>) -> Result<Guarded<BatchItem>, Failure> {
    done.try_map(|response| Ok(BatchItem::succeeded(response.into())))
}

#[utoipa::path(post, path = "/v1/batch/data-keys", operation_id = "batchGenerateDataKeys", tag = "batch", request_body = BatchGenerateDataKeysRequest,
    responses((status = 200, description = "One answer for each item, in order.", body = BatchGenerateDataKeysResponse)))]
/// Generate up to 1000 data keys.
pub async fn generate(request: ApiRequest, body: BatchGenerateDataKeysRequest) -> Result<Reply, Failure> {
    run(request, body).await
}

#[utoipa::path(post, path = "/v1/batch/wrap", operation_id = "batchWrap", tag = "batch", request_body = BatchWrapRequest,
    responses((status = 200, description = "One answer for each item, in order.", body = BatchWrapResponse)))]
/// Wrap up to 1000 plaintexts.
pub async fn wrap(request: ApiRequest, body: BatchWrapRequest) -> Result<Reply, Failure> {
    run(request, body).await
}

#[utoipa::path(post, path = "/v1/batch/unwrap", operation_id = "batchUnwrap", tag = "batch", request_body = BatchUnwrapRequest,
    responses((status = 200, description = "One answer for each item, in order.", body = BatchUnwrapResponse)))]
/// Open up to 1000 wrapped keys.
pub async fn unwrap(request: ApiRequest, body: BatchUnwrapRequest) -> Result<Reply, Failure> {
    run(request, body).await
}

#[utoipa::path(post, path = "/v1/batch/rewrap", operation_id = "batchRewrap", tag = "batch", request_body = BatchRewrapRequest,
    responses((status = 200, description = "One answer for each item, in order.", body = BatchRewrapResponse)))]
/// Wrap up to 1000 wrapped keys anew.
pub async fn rewrap(request: ApiRequest, body: BatchRewrapRequest) -> Result<Reply, Failure> {
    run(request, body).await
}
