//! The service endpoints: alive, ready, metrics, the document and its page. They need no
//! credential and tell no secret and no tenant's name.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use http::{HeaderValue, Response, StatusCode, header};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_swagger_ui::Config;

use super::openapi::document;
use super::protocol::Rest;
use super::route_table::Params;
use super::types::{DurationText, Timestamp};
use crate::audit::Health;
use crate::listener::Body;
use crate::protocols::RequestId;
use crate::protocols::exchange::Exchange;
use crate::protocols::response::AuditedResponse;
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
    async fn of(exchange: &Exchange<Rest>) -> Self {
        let (service, broker) = (&exchange.protocol().service, &exchange.app().broker);
        let draining = service.draining.load(Ordering::Acquire);
        let store = broker.store_answers().await;
        let log = broker.log().health();
        let (connections, open) = broker.directory().breakers();
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
        parts.extend(service.certificates.iter().map(|tls| part("certificate", true, tls.state())));
        Self {
            ready: parts.iter().all(|part| part.ready),
            parts,
            jobs: service.jobs.iter().map(|job| JobStatus::of(job)).collect(),
        }
    }
}

/// A service endpoint.
#[derive(Debug, Clone, Copy)]
pub(super) enum ServicePage {
    Health,
    Readiness,
    Metrics,
    Document,
    Docs,
    DocsFile,
}

impl ServicePage {
    pub(super) const ALL: [Self; 6] = [
        Self::Health,
        Self::Readiness,
        Self::Metrics,
        Self::Document,
        Self::Docs,
        Self::DocsFile,
    ];

    pub(super) const fn path(self) -> &'static str {
        match self {
            Self::Health => "/healthz",
            Self::Readiness => "/readyz",
            Self::Metrics => "/metrics",
            Self::Document => "/openapi.json",
            Self::Docs => "/docs",
            Self::DocsFile => "/docs/{file}",
        }
    }

    /// Answers a GET: counted, never recorded one by one.
    pub(super) async fn answer(self, exchange: &Exchange<Rest>, params: Params, path: &str) -> AuditedResponse {
        let service = &exchange.protocol().service;
        let response = match self {
            Self::Health => alive(),
            Self::Readiness => {
                let readiness = Readiness::of(exchange).await;
                let status = if readiness.ready {
                    StatusCode::OK
                } else {
                    StatusCode::SERVICE_UNAVAILABLE
                };
                json(status, &readiness)
            }
            Self::Metrics => match &service.metrics {
                Some(rendered) => content(
                    StatusCode::OK,
                    "text/plain; version=0.0.4; charset=utf-8",
                    rendered.render().into_bytes(),
                ),
                None => json(
                    StatusCode::NOT_FOUND,
                    &serde_json::json!({"detail": "metrics are off in the configuration"}),
                ),
            },
            Self::Document => content(StatusCode::OK, "application/json", document().as_bytes()),
            Self::Docs => docs("index.html"),
            Self::DocsFile => docs(params.decoded(path).unwrap_or_default().get("file")),
        };
        exchange.recorded(service.counted.answer(response), &RequestId::draw())
    }
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

fn content(status: StatusCode, kind: &str, bytes: impl Into<Body>) -> Response<Body> {
    let mut response = Response::new(bytes.into());
    *response.status_mut() = status;
    if let Ok(value) = HeaderValue::from_str(kind) {
        response.headers_mut().insert(header::CONTENT_TYPE, value);
    }
    response
}
