//! `/v1/batch/*`: up to 1000 operations in one request. Each item is authorized and
//! recorded separately; one sync makes all records durable.

use http::Method;

use super::batch_request::{BatchRequest, Item};
use super::batch_response::{BatchGenerateDataKeysResult, BatchRewrapResult, BatchUnwrapResult, BatchWrapResult};
use super::data_keys::{DataOperation, GenerateDataKeyRequest, RewrapRequest, UnwrapRequest, WrapRequest};
use super::data_responses::DataResponse;
use super::request::ApiRequest;
use super::response::{ApiResponse, BatchItem};
use super::route::Route;
use crate::access::Action;
use crate::broker::{Failure, Guarded};

/// The body of a batch of data keys to generate.
pub type BatchGenerateDataKeysRequest = BatchRequest<GenerateDataKeyRequest>;
/// The body of a batch of bytes to wrap.
pub type BatchWrapRequest = BatchRequest<WrapRequest>;
/// The body of a batch of wrapped keys to unwrap.
pub type BatchUnwrapRequest = BatchRequest<UnwrapRequest>;
/// The body of a batch of wrapped keys to rewrap.
pub type BatchRewrapRequest = BatchRequest<RewrapRequest>;

/// Runs the operation for each item.
async fn run<B: DataOperation>(request: ApiRequest, batch: BatchRequest<B>) -> Result<ApiResponse, Failure> {
    let broker = &*request.broker;
    let each = |cx, Item { key, body }: Item<B>| async move { item(body.run(broker, &cx, key).await?) };
    Ok(ApiResponse::Batch(broker.batch(&request.cx, batch.items, each).await?))
}

fn item<R: DataResponse>(done: Guarded<R>) -> Result<Guarded<BatchItem>, Failure> {
    done.try_map(|response| Ok(BatchItem::succeeded(response.into())))
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
.idempotent()
.body::<BatchGenerateDataKeysRequest>()
.answers::<BatchGenerateDataKeysResult>(200, "One result per item, in the order of the request.");

pub async fn generate(request: ApiRequest, body: BatchGenerateDataKeysRequest) -> Result<ApiResponse, Failure> {
    run(request, body).await
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
.idempotent()
.body::<BatchWrapRequest>()
.answers::<BatchWrapResult>(200, "One result per item, in the order of the request.");

pub async fn wrap(request: ApiRequest, body: BatchWrapRequest) -> Result<ApiResponse, Failure> {
    run(request, body).await
}

/// `POST /v1/batch/unwrap`
pub const UNWRAP: Route = Route::new(
    Method::POST,
    "/v1/batch/unwrap",
    "batchUnwrap",
    "batch",
    "Unwrap up to 1000 wrapped keys.",
    &[Action::Unwrap],
)
.batch()
.idempotent()
.body::<BatchUnwrapRequest>()
.answers::<BatchUnwrapResult>(200, "One result per item, in the order of the request.");

pub async fn unwrap(request: ApiRequest, body: BatchUnwrapRequest) -> Result<ApiResponse, Failure> {
    run(request, body).await
}

/// `POST /v1/batch/rewrap`
pub const REWRAP: Route = Route::new(
    Method::POST,
    "/v1/batch/rewrap",
    "batchRewrap",
    "batch",
    "Rewrap up to 1000 wrapped keys.",
    &[Action::Rewrap, Action::RewrapFrom],
)
.batch()
.idempotent()
.body::<BatchRewrapRequest>()
.answers::<BatchRewrapResult>(200, "One result per item, in the order of the request.");

pub async fn rewrap(request: ApiRequest, body: BatchRewrapRequest) -> Result<ApiResponse, Failure> {
    run(request, body).await
}
