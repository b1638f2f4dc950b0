//! The HTTP client below the SDK: TLS by aws-lc, no proxy from the environment, no redirect, and a
//! limit on every response; and the trace of logins, whose responses the SDK does not return.

use aws_sdk_kms::config::http::{HttpRequest, HttpResponse};
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::{Builder, tls};
use aws_smithy_runtime_api::client::connector_metadata::ConnectorMetadata;
use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpClient, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::body::SdkBody;
use claviger_provider::kit::http::MAX_RESPONSE;
use claviger_provider::{BackgroundTrace, CallResult, CallSink, ErrorKind};
use http_body_util::Limited;

/// All connections share one client and its sockets. This is safe because each call carries its own
/// signature.
pub(crate) fn client() -> SharedHttpClient {
    let client = Builder::new().tls_provider(tls::Provider::Rustls(CryptoMode::AwsLc)).build_https();
    SharedHttpClient::new(Bounded(client))
}

/// Limits the length of responses.
#[derive(Debug)]
struct Bounded<T>(T);

impl HttpClient for Bounded<SharedHttpClient> {
    fn http_connector(&self, settings: &HttpConnectorSettings, components: &RuntimeComponents) -> SharedHttpConnector {
        SharedHttpConnector::new(Bounded(self.0.http_connector(settings, components)))
    }

    fn connector_metadata(&self) -> Option<ConnectorMetadata> {
        self.0.connector_metadata()
    }
}

impl HttpConnector for Bounded<SharedHttpConnector> {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let response = self.0.call(request);
        HttpConnectorFuture::new(async move {
            let response: HttpResponse = response.await?;
            Ok(response.map(|body| SdkBody::from_body_1_x(Limited::new(body, MAX_RESPONSE))))
        })
    }
}

/// This client, with its calls to STS reported as the connection's background calls.
pub(crate) fn traced(client: SharedHttpClient, trace: BackgroundTrace) -> SharedHttpClient {
    SharedHttpClient::new(Traced { inner: client, trace })
}

#[derive(Debug)]
struct Traced<T> {
    inner: T,
    trace: BackgroundTrace,
}

impl HttpClient for Traced<SharedHttpClient> {
    fn http_connector(&self, settings: &HttpConnectorSettings, components: &RuntimeComponents) -> SharedHttpConnector {
        SharedHttpConnector::new(Traced {
            inner: self.inner.http_connector(settings, components),
            trace: self.trace.clone(),
        })
    }

    fn connector_metadata(&self) -> Option<ConnectorMetadata> {
        self.inner.connector_metadata()
    }
}

impl HttpConnector for Traced<SharedHttpConnector> {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let Some(action) = sts_action(&request) else {
            return self.inner.call(request);
        };
        let (trace, response) = (self.trace.clone(), self.inner.call(request));
        HttpConnectorFuture::new(async move {
            let attempt = CallSink::from(&trace).begin(action);
            let result = response.await;
            let request_id = result.as_ref().ok().and_then(|response| response.headers().get("x-amzn-requestid"));
            attempt.finish(request_id, outcome(&result));
            result
        })
    }
}

/// The action of a login at STS, whose protocol names it at the start of the body; `None` for
/// another request.
fn sts_action(request: &HttpRequest) -> Option<&'static str> {
    let body = request.body().bytes()?;
    ["AssumeRoleWithWebIdentity", "AssumeRole"].into_iter().find(|action| {
        let rest = body.strip_prefix(b"Action=").and_then(|rest| rest.strip_prefix(action.as_bytes()));
        rest.is_some_and(|rest| rest.first() == Some(&b'&'))
    })
}

/// What came of a login. Its body is not read here, so the status decides.
fn outcome(result: &Result<HttpResponse, ConnectorError>) -> CallResult {
    match result {
        Ok(response) => match response.status().as_u16() {
            200..=299 => CallResult::Ok,
            429 => CallResult::Error(ErrorKind::RateLimited),
            400..=499 => CallResult::Error(ErrorKind::ProviderDenied),
            500..=599 => CallResult::Error(ErrorKind::UpstreamUnavailable),
            _ => CallResult::Error(ErrorKind::UpstreamProtocol),
        },
        Err(error) if error.is_timeout() => CallResult::Error(ErrorKind::UpstreamTimeout),
        Err(_) => CallResult::Error(ErrorKind::UpstreamUnavailable),
    }
}
