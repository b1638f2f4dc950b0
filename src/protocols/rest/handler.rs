//! From a handler's own types to the one shape that the router's table holds.

use http::{HeaderName, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use utoipa::ToSchema;

use super::header::{Unusable, single};
use super::json;
use super::reply::Reply;
use super::request::ApiRequest;
use super::response::Payload;
use super::types::Empty;
use crate::broker::{Code, Failure, Guarded, Keep, Replay};
use crate::store::model::IdempotencyRecord;

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// Calls a handler that takes a JSON body.
pub async fn with_body<B, F>(request: ApiRequest, handler: F) -> Result<Reply, Failure>
where
    B: DeserializeOwned + ToSchema,
    F: AsyncFnOnce(ApiRequest, B) -> Result<Reply, Failure>,
{
    let body = decode::<B>(&request)?;
    handler(request, body).await
}

/// Calls a handler that takes no body: it may be empty, or an empty object.
pub async fn without_body<F>(request: ApiRequest, handler: F) -> Result<Reply, Failure>
where
    F: AsyncFnOnce(ApiRequest) -> Result<Reply, Failure>,
{
    if !request.body.is_empty() {
        decode::<Empty>(&request)?;
    }
    handler(request).await
}

/// Calls a handler whose JSON body may be left out.
pub async fn with_optional_body<B, F>(request: ApiRequest, handler: F) -> Result<Reply, Failure>
where
    B: DeserializeOwned + Default + ToSchema,
    F: AsyncFnOnce(ApiRequest, B) -> Result<Reply, Failure>,
{
    let body = if request.body.is_empty() {
        B::default()
    } else {
        decode::<B>(&request)?
    };
    handler(request, body).await
}

fn decode<B: DeserializeOwned + ToSchema>(request: &ApiRequest) -> Result<B, Failure> {
    json::decode(&request.body).map_err(|error| Failure::invalid(error.pointer, error.expected))
}

/// A JSON answer.
pub fn json_reply<T, W: Serialize>(guarded: Guarded<T>, status: StatusCode, wire: impl FnOnce(T) -> W) -> Result<Reply, Failure> {
    Ok(Reply::One(guarded.try_map(|value| Payload::json(status, &wire(value)))?))
}

/// A JSON answer about an object that has an etag.
pub fn object_reply<T, W: Serialize>(
    guarded: Guarded<T>,
    status: impl FnOnce(&T) -> StatusCode,
    revision: impl FnOnce(&T) -> u64,
    wire: impl FnOnce(T) -> W,
) -> Result<Reply, Failure> {
    Ok(Reply::One(guarded.try_map(|value| {
        let (status, revision) = (status(&value), revision(&value));
        Ok(Payload::json(status, &wire(value))?.etag(revision))
    })?))
}

/// 204.
pub fn empty_reply(guarded: Guarded<()>) -> Result<Reply, Failure> {
    Ok(Reply::One(guarded.try_map(|()| Ok(Payload::nothing()))?))
}

/// A control-plane POST under its idempotency key.
pub struct Once {
    kept: Replay,
}

impl ApiRequest {
    /// Begins a control-plane POST, after access was decided. `Err(reply)` in `Ok` position
    /// is the answer of the earlier request.
    ///
    /// # Errors
    /// `in_progress`, `idempotency_mismatch`, `invalid_request` for a key of a wrong form.
    pub async fn once(&self) -> Result<Result<Once, Reply>, Failure> {
        let key = match single(&self.head.headers, IDEMPOTENCY_KEY) {
            Ok(None) => None,
            Ok(Some(text)) if (1..=255).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic()) => Some(text),
            Ok(Some(_)) | Err(Unusable) => {
                let expected = "1 to 255 printable ASCII characters without space, once";
                return Err(Failure::invalid("header:Idempotency-Key", expected));
            }
        };
        let kept = self.broker.idempotency(&self.cx, &self.route(), key, &self.body).await?;
        Ok(match kept {
            Replay::Answered(answer) if answer.status == StatusCode::CONFLICT.as_u16() => {
                return Err(Failure::new(
                    Code::AlreadyCreated,
                    format!(
                        "It was created by an earlier request with this idempotency key, as {}; its secret is not kept.",
                        answer.body
                    ),
                )
                .advice("Use the id, or create another one with a new idempotency key."));
            }
            Replay::Answered(answer) => {
                let etag = answer.etag.and_then(|etag| etag.parse().ok());
                Err(Reply::One(Guarded::free(Payload::kept(answer.status, answer.body, etag))))
            }
            kept @ (Replay::NoKey | Replay::First(_)) => Ok(Once { kept }),
        })
    }
}

impl Once {
    /// Calls the use case with what keeps its answer.
    pub fn keep<T, W: Serialize>(
        &self,
        status: StatusCode,
        revision: impl Fn(&T) -> Option<u64> + Send + Sync,
        wire: impl Fn(&T) -> W + Send + Sync,
    ) -> impl Fn(&T) -> Result<Option<IdempotencyRecord>, Failure> + Send + Sync {
        self.keep_with(move |_| status, revision, wire)
    }

    /// As [`Once::keep`] where the answer's status depends on what came out.
    pub fn keep_with<T, W: Serialize>(
        &self,
        status: impl Fn(&T) -> StatusCode + Send + Sync,
        revision: impl Fn(&T) -> Option<u64> + Send + Sync,
        wire: impl Fn(&T) -> W + Send + Sync,
    ) -> impl Fn(&T) -> Result<Option<IdempotencyRecord>, Failure> + Send + Sync {
        move |value| match &self.kept {
            Replay::NoKey | Replay::Answered(_) => Ok(None),
            Replay::First(first) => {
                let body = serde_json::to_string(&wire(value)).map_err(|error| Failure::internal(&error))?;
                Ok(Some(first.record(status(value).as_u16(), body, revision(value))))
            }
        }
    }

    /// As [`Once::keep`] for an answer with a secret: only the id is kept.
    pub fn keep_id<T>(
        &self,
        id: impl Fn(&T) -> String + Send + Sync,
    ) -> impl Fn(&T) -> Result<Option<IdempotencyRecord>, Failure> + Send + Sync {
        move |value| match &self.kept {
            Replay::NoKey | Replay::Answered(_) => Ok(None),
            Replay::First(first) => Ok(Some(first.record(StatusCode::CONFLICT.as_u16(), id(value), None))),
        }
    }
}

/// A [`Keep`] from a closure.
pub fn keeper<T>(keep: &(impl Fn(&T) -> Result<Option<IdempotencyRecord>, Failure> + Send + Sync)) -> Keep<'_, T> {
    keep
}
