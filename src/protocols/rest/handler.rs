//! From a handler's own types to the one shape that the router's table holds.

use std::future::Future;
use std::sync::Arc;

use axum::http::StatusCode;
use serde::Serialize;
use serde::de::DeserializeOwned;
use utoipa::ToSchema;

use super::json;
use super::reply::Reply;
use super::request::ApiRequest;
use super::response::Payload;
use super::route::Handler;
use super::types::Empty;
use crate::broker::{Failure, Guarded};

/// A handler that takes a JSON body.
pub fn with_body<B, F, Fut>(handler: F) -> Handler
where
    B: DeserializeOwned + ToSchema + Send + 'static,
    F: Fn(ApiRequest, B) -> Fut + Copy + Send + Sync + 'static,
    Fut: Future<Output = Result<Reply, Failure>> + Send + 'static,
{
    Arc::new(move |request: ApiRequest| {
        Box::pin(async move {
            let body = json::decode::<B>(&request.body).map_err(|error| Failure::invalid(error.pointer, error.expected))?;
            handler(request, body).await
        })
    })
}

/// A handler that takes none: an empty body, or an empty object.
pub fn without_body<F, Fut>(handler: F) -> Handler
where
    F: Fn(ApiRequest) -> Fut + Copy + Send + Sync + 'static,
    Fut: Future<Output = Result<Reply, Failure>> + Send + 'static,
{
    Arc::new(move |request: ApiRequest| {
        Box::pin(async move {
            if !request.body.is_empty() {
                json::decode::<Empty>(&request.body).map_err(|error| Failure::invalid(error.pointer, error.expected))?;
            }
            handler(request).await
        })
    })
}

/// A handler whose JSON body may be left out.
pub fn with_optional_body<B, F, Fut>(handler: F) -> Handler
where
    B: DeserializeOwned + Default + ToSchema + Send + 'static,
    F: Fn(ApiRequest, B) -> Fut + Copy + Send + Sync + 'static,
    Fut: Future<Output = Result<Reply, Failure>> + Send + 'static,
{
    Arc::new(move |request: ApiRequest| {
        Box::pin(async move {
            let body = if request.body.is_empty() {
                B::default()
            } else {
                json::decode::<B>(&request.body).map_err(|error| Failure::invalid(error.pointer, error.expected))?
            };
            handler(request, body).await
        })
    })
}

/// A JSON answer.
pub fn json_reply<T, W: Serialize>(guarded: Guarded<T>, status: StatusCode, wire: impl FnOnce(T) -> W) -> Result<Reply, Failure> {
    Ok(Reply::One(guarded.try_map(|value| Payload::json(status, &wire(value)))?))
}

/// 204.
pub fn empty_reply(guarded: Guarded<()>) -> Result<Reply, Failure> {
    Ok(Reply::One(guarded.try_map(|()| Ok(Payload::nothing()))?))
}
