//! The service endpoints: alive, ready, metrics, the document and its page. They need no
//! credential and tell no secret and no tenant's name.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::Router;
use axum::body::Body;
use axum::extract::Path;
use axum::http::{HeaderValue, Response, StatusCode, header};
use axum::routing::get;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_swagger_ui::Config;

use super::state::AppState;
use super::types::{DurationText, Timestamp};
use crate::audit::Health;
use crate::telemetry::jobs::JobState;

/// Whether the gateway serves, and each part's state.
#[derive(Serialize, ToSchema)]
pub struct Readiness {
    /// Whether requests are served.
    pub ready: bool,
    /// The parts.
    pub parts: Vec<ComponentStatus>,
    /// The background jobs; none during the start. A failing job does not make the gateway unready.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub jobs: Vec<JobStatus>,
}

/// One part's state.
#[derive(Serialize, ToSchema)]
pub struct ComponentStatus {
    /// Its name.
    pub name: &'static str,
    /// Whether it works.
    pub ready: bool,
    /// Its state in a word or two.
    pub state: String,
}

/// One background job.
#[derive(Serialize, ToSchema)]
pub struct JobStatus {
    /// Its name.
    pub name: &'static str,
    /// Time between two runs.
    pub period: DurationText,
    /// End of the last run. Null before the first run has ended.
    pub last_run: Option<Timestamp>,
    /// Whether the last run failed.
    pub failing: bool,
    /// The last failure since the start, even if later runs succeeded. Null if there was none.
    pub last_error: Option<JobError>,
}

/// Why a background job failed.
#[derive(Serialize, ToSchema)]
pub struct JobError {
    /// End of the run.
    pub time: Timestamp,
    /// A code or a fixed text.
    pub error: &'static str,
}

impl JobStatus {
    fn of(job: &JobState) -> Self {
        let runs = job.runs();
        Self {
            name: job.name(),
            period: DurationText(job.period()),
            last_run: runs.last.map(|at| Timestamp(at.timestamp_micros())),
            failing: runs.failing,
            last_error: runs.last_error.map(|(at, error)| JobError {
                time: Timestamp(at.timestamp_micros()),
                error,
            }),
        }
    }
}

impl Readiness {
    async fn of(gateway: &AppState) -> Self {
        let draining = gateway.service.draining.load(Ordering::Acquire);
        let store = gateway.broker.store_answers().await;
        let log = gateway.broker.log().health();
        let (connections, open) = gateway.broker.directory().breakers();
        let part = |name, ready, state: String| ComponentStatus { name, ready, state };
        let mut parts = vec![
            part("listener", !draining, if draining { "draining" } else { "accepting" }.to_owned()),
            part("store", store, if store { "ok" } else { "failing" }.to_owned()),
            part("audit_log", log == Health::Sound, log.as_str().to_owned()),
            // Providers that are away do not make the gateway itself unready.
            part(
                "providers",
                true,
                format!("{connections} connections in use, {open} with an open circuit"),
            ),
        ];
        // Whether a certificate is still good enough is its reader's to say.
        parts.extend(
            gateway
                .service
                .certificates
                .iter()
                .map(|tls| part("certificate", true, tls.state())),
        );
        Self {
            ready: parts.iter().all(|part| part.ready),
            parts,
            jobs: gateway.service.jobs.iter().map(|job| JobStatus::of(job)).collect(),
        }
    }
}

/// Adds the service endpoints to the router.
pub fn routes(router: Router, gateway: &Arc<AppState>, openapi: &'static str) -> Router {
    let with = |gateway: &Arc<AppState>| Arc::clone(gateway);
    let (health, ready, metrics, document, page, assets) = (
        with(gateway),
        with(gateway),
        with(gateway),
        with(gateway),
        with(gateway),
        with(gateway),
    );
    router
        .route("/healthz", get(move || async move { health.serviced(alive()) }))
        .route(
            "/readyz",
            get(move || async move {
                let readiness = Readiness::of(&ready).await;
                let status = if readiness.ready {
                    StatusCode::OK
                } else {
                    StatusCode::SERVICE_UNAVAILABLE
                };
                ready.serviced(json(status, &readiness))
            }),
        )
        .route(
            "/metrics",
            get(move || async move {
                metrics.serviced(match &metrics.service.metrics {
                    Some(rendered) => content(
                        StatusCode::OK,
                        "text/plain; version=0.0.4; charset=utf-8",
                        rendered.render().into_bytes(),
                    ),
                    None => json(
                        StatusCode::NOT_FOUND,
                        &serde_json::json!({"detail": "metrics are off in the configuration"}),
                    ),
                })
            }),
        )
        .route(
            "/openapi.json",
            get(move || async move { document.serviced(content(StatusCode::OK, "application/json", openapi.as_bytes().to_vec())) }),
        )
        .route("/docs", get(move || async move { page.serviced(docs("index.html")) }))
        .route(
            "/docs/{file}",
            get(move |Path(file): Path<String>| async move { assets.serviced(docs(&file)) }),
        )
}

/// The documentation page: Swagger UI from this binary, nothing from the internet.
fn docs(file: &str) -> Response<Body> {
    // Relative names in the page resolve under /docs/ only with a trailing slash, which
    // the base address below stands in for.
    match utoipa_swagger_ui::serve(file, Arc::new(Config::from("/openapi.json"))) {
        Ok(Some(asset)) => {
            let bytes = if file == "index.html" {
                String::from_utf8_lossy(&asset.bytes)
                    .replacen("<meta>", "<meta><base href=\"/docs/\">", 1)
                    .into_bytes()
            } else {
                asset.bytes.into_owned()
            };
            content(StatusCode::OK, &asset.content_type, bytes)
        }
        Ok(None) | Err(_) => json(StatusCode::NOT_FOUND, &serde_json::json!({"detail": "no such file"})),
    }
}

/// What `/healthz` says.
pub(super) fn alive() -> Response<Body> {
    json(StatusCode::OK, &serde_json::json!({"alive": true}))
}

pub(super) fn json<T: Serialize>(status: StatusCode, value: &T) -> Response<Body> {
    // Our own types, which always can be written.
    content(status, "application/json", serde_json::to_vec(value).unwrap_or_default())
}

fn content(status: StatusCode, kind: &str, bytes: Vec<u8>) -> Response<Body> {
    let mut response = Response::new(Body::from(bytes));
    *response.status_mut() = status;
    if let Ok(value) = HeaderValue::from_str(kind) {
        response.headers_mut().insert(header::CONTENT_TYPE, value);
    }
    response
}
