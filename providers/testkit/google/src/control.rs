//! The control endpoints that only this fake has.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::{delete, put};
use axum::{Json, Router};
use serde::Deserialize;

use crate::Access;
use crate::service::Service;

pub(crate) fn router(service: Arc<Service>) -> Router {
    Router::new()
        .route("/_fake/access", put(set_access).delete(allow_anyone))
        .route("/_fake/tokens", delete(end_tokens))
        .route("/_fake/lag", put(set_lag))
        .with_state(service)
}

async fn set_access(State(service): State<Arc<Service>>, Json(access): Json<Access>) -> StatusCode {
    service.access.set(Some(access));
    StatusCode::NO_CONTENT
}

async fn allow_anyone(State(service): State<Arc<Service>>) -> StatusCode {
    service.access.set(None);
    StatusCode::NO_CONTENT
}

async fn end_tokens(State(service): State<Arc<Service>>) -> StatusCode {
    service.access.end_issued();
    StatusCode::NO_CONTENT
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Lag {
    seconds: u32,
}

async fn set_lag(State(service): State<Arc<Service>>, Json(Lag { seconds }): Json<Lag>) -> StatusCode {
    service.lag.store(seconds.into(), Ordering::SeqCst);
    StatusCode::NO_CONTENT
}
