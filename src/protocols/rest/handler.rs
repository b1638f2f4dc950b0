//! Converts handlers with different types to the one type that the router's table contains.

use http::StatusCode;
use serde::Serialize;
use serde::de::DeserializeOwned;
use utoipa::ToSchema;

use super::json;
use super::request::ApiRequest;
use super::response::ApiResponse;
use super::response::Payload;
use super::types::Empty;
use crate::broker::{Failure, Guarded};

/// Calls a handler that takes a JSON body.
pub async fn with_body<B, F>(mut request: ApiRequest, handler: F) -> Result<ApiResponse, Failure>
where
    B: DeserializeOwned + ToSchema,
    F: AsyncFnOnce(ApiRequest, B) -> Result<ApiResponse, Failure>,
{
    let body = decode::<B>(&request)?;
    request.drop_body();
    request.check_query()?;
    handler(request, body).await
}

/// Calls a handler that takes no body: none, null or an empty object.
pub async fn without_body<F>(request: ApiRequest, handler: F) -> Result<ApiResponse, Failure>
where
    F: AsyncFnOnce(ApiRequest) -> Result<ApiResponse, Failure>,
{
    decode_optional::<Empty>(&request)?;
    request.check_query()?;
    handler(request).await
}

/// Calls a handler whose JSON body may be left out, or null.
pub async fn with_optional_body<B, F>(request: ApiRequest, handler: F) -> Result<ApiResponse, Failure>
where
    B: DeserializeOwned + Default + ToSchema,
    F: AsyncFnOnce(ApiRequest, B) -> Result<ApiResponse, Failure>,
{
    let body = decode_optional::<B>(&request)?;
    request.check_query()?;
    handler(request, body).await
}

fn decode<B: DeserializeOwned + ToSchema>(request: &ApiRequest) -> Result<B, Failure> {
    json::decode(&request.body).map_err(|error| Failure::invalid(error.pointer, error.expected))
}

/// Generated clients send null for a body that the caller leaves out.
fn decode_optional<B: DeserializeOwned + Default + ToSchema>(request: &ApiRequest) -> Result<B, Failure> {
    if request.body.is_empty() || serde_json::from_slice::<()>(&request.body).is_ok() {
        return Ok(B::default());
    }
    decode(request)
}

/// A JSON answer.
pub fn json_reply<T, W: Serialize>(guarded: Guarded<T>, status: StatusCode, wire: impl FnOnce(T) -> W) -> Result<ApiResponse, Failure> {
    Ok(ApiResponse::One(guarded.try_map(|value| Payload::json(status, &wire(value)))?))
}

/// 204.
pub fn empty_reply(guarded: Guarded<()>) -> Result<ApiResponse, Failure> {
    Ok(ApiResponse::One(guarded.try_map(|()| Ok(Payload::nothing()))?))
}
