//! The service endpoints: health, readiness, metrics, and the OpenAPI document with its page. They
//! require no credential, so they return no secret and no tenant's name. Beside the API, `/metrics` and the
//! details of `/readyz` are for platform operators alone ([`super::router`]): they are of all tenants.

use std::borrow::Cow;
use std::sync::{Arc, OnceLock};

use http::{HeaderValue, Response, StatusCode, Uri, header};
use serde::Serialize;
use utoipa_swagger_ui::Config;

use super::openapi::document;
use super::protocol::Rest;
use super::readiness::{Detail, Liveness, Readiness, circuits};
use super::route_table::Params;
use crate::broker::{Code, Failure};
use crate::listener::Body;
use crate::protocols::RequestId;
use crate::protocols::admission::Public;
use crate::protocols::exchange::{Exchange, RequestMeta};
use crate::protocols::response::AuditedResponse;
use crate::telemetry::logins;

/// The page of the document.
const INDEX: &str = "index.html";

/// A service endpoint.
#[derive(Debug, Clone, Copy)]
pub(super) enum ServicePage {
    Health,
    Readiness(Detail),
    Metrics,
    Document,
    Docs,
    DocsFile,
}

impl ServicePage {
    pub(super) const ALL: [Self; 6] = [
        Self::Health,
        Self::Readiness(Detail::All),
        Self::Metrics,
        Self::Document,
        Self::Docs,
        Self::DocsFile,
    ];

    pub(super) const fn path(self) -> &'static str {
        match self {
            Self::Health => "/healthz",
            Self::Readiness(_) => "/readyz",
            Self::Metrics => "/metrics",
            Self::Document => "/openapi.json",
            Self::Docs => "/docs",
            Self::DocsFile => "/docs/{file}",
        }
    }

    const fn kind(self) -> Public {
        match self {
            Self::Health | Self::Readiness(_) => Public::Probes,
            Self::Metrics => Public::Metrics,
            Self::Document | Self::Docs | Self::DocsFile => Public::Documents,
        }
    }

    /// The page as everybody has it who reaches the API.
    pub(super) const fn for_tenants(self) -> Self {
        match self {
            Self::Readiness(_) => Self::Readiness(Detail::Gateway),
            Self::Health | Self::Metrics | Self::Document | Self::Docs | Self::DocsFile => self,
        }
    }

    /// Responds to a GET. The audit log counts these requests and has no record for each.
    pub(super) async fn answer(self, exchange: &Exchange<Rest>, params: Params, uri: &Uri, meta: &RequestMeta<'_>) -> AuditedResponse {
        let answer = self.respond(exchange, params, uri).await;
        exchange.public(self.kind(), meta, answer, |answer| match self {
            // A probe's status says all.
            Self::Health | Self::Readiness(_) => answer.without_body(),
            Self::Metrics | Self::Document | Self::Docs | Self::DocsFile => {
                let failure = Failure::new(Code::NotReady, "Too many answers of this kind have not been read yet.");
                exchange.refuse(meta, failure)
            }
        })
    }

    async fn respond(self, exchange: &Exchange<Rest>, params: Params, uri: &Uri) -> AuditedResponse {
        let service = &exchange.protocol().service;
        let response = match self {
            Self::Health => alive(),
            Self::Readiness(detail) => {
                let readiness = Readiness::of(service, &exchange.app().broker, detail).await;
                let status = if readiness.ready {
                    StatusCode::OK
                } else {
                    StatusCode::SERVICE_UNAVAILABLE
                };
                json(status, &readiness)
            }
            Self::Metrics => match &service.metrics {
                Some(rendered) => {
                    let broker = &exchange.app().broker;
                    let page = rendered.render() + &logins::render(&broker.directory().logins()) + &circuits(broker).render();
                    content(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", page.into_bytes())
                }
                None => json(
                    StatusCode::NOT_FOUND,
                    &serde_json::json!({"detail": "metrics are off in the configuration"}),
                ),
            },
            Self::Document => content(StatusCode::OK, "application/json", document().as_bytes()),
            Self::Docs => docs(INDEX),
            Self::DocsFile => match params.of(uri) {
                Ok(params) => docs(&params.get("file")),
                Err(_) => no_such_file(),
            },
        };
        exchange.recorded(service.counted.answer(response), &RequestId::draw())
    }
}

/// What the page may load and do: its own scripts, styles and icons, the images inside of its styles
/// (`data:`), and requests to this API. No frame, no form that is sent, no inline script or style.
const PAGE_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
    base-uri 'self'; form-action 'none'; frame-ancestors 'none'";

/// A file of Swagger UI, which is part of the binary.
fn docs(file: &str) -> Response<Body> {
    let mut response = docs_file(file);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(PAGE_POLICY));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response
}

fn docs_file(file: &str) -> Response<Body> {
    // Without "none" the page sends the document's address to a validator on the internet.
    let config = Config::from("/openapi.json").validator_url("none");
    // The page's relative links need a URL with a trailing slash. The base address replaces it.
    match utoipa_swagger_ui::serve(file, Arc::new(config)) {
        Ok(Some(asset)) => {
            let body = match asset.bytes {
                Cow::Borrowed(page) if file == INDEX => index(page).into(),
                // All answers share the file.
                Cow::Borrowed(file) => Body::from(file),
                Cow::Owned(made) => made.into(),
            };
            content(StatusCode::OK, &asset.content_type, body)
        }
        Ok(None) | Err(_) => no_such_file(),
    }
}

/// The page, made once, with the base address of its links.
fn index(page: &'static [u8]) -> &'static [u8] {
    static PAGE: OnceLock<Vec<u8>> = OnceLock::new();
    PAGE.get_or_init(|| {
        let page = String::from_utf8_lossy(page);
        page.replacen("<head>", "<head><base href=\"/docs/\">", 1).into_bytes()
    })
}

fn no_such_file() -> Response<Body> {
    json(StatusCode::NOT_FOUND, &serde_json::json!({"detail": "no such file"}))
}

/// The response of `/healthz`.
pub(super) fn alive() -> Response<Body> {
    json(StatusCode::OK, &Liveness { alive: true })
}

pub(super) fn json<T: Serialize>(status: StatusCode, value: &T) -> Response<Body> {
    // Serialising the types of this module cannot fail.
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
