//! The HTTP client beneath the SDK: TLS by aws-lc, no proxy of the environment, no redirect,
//! and a bound on every answer.

use aws_sdk_kms::config::http::{HttpRequest, HttpResponse};
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::{Builder, tls};
use aws_smithy_runtime_api::client::connector_metadata::ConnectorMetadata;
use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpClient, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::body::SdkBody;
use http_body_util::Limited;

/// The longest answer, in bytes: a page of 1,000 rotations takes under 300 KiB.
pub(crate) const MAX_RESPONSE: usize = 1 << 20;

/// One for all connections: each call is signed for itself, so they may share sockets.
pub(crate) fn client() -> SharedHttpClient {
    let client = Builder::new().tls_provider(tls::Provider::Rustls(CryptoMode::AwsLc)).build_https();
    SharedHttpClient::new(Bounded(client))
}

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
        let answer = self.0.call(request);
        HttpConnectorFuture::new(async move {
            let answer: HttpResponse = answer.await?;
            Ok(answer.map(|body| SdkBody::from_body_1_x(Limited::new(body, MAX_RESPONSE))))
        })
    }
}
