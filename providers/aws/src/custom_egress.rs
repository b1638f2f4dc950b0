//! The HTTP clients of a connection with its own CA certificates or proxy. No other connection uses
//! them, so that one tenant's authorities are never trusted for another.

use std::fmt;
use std::sync::{Arc, OnceLock};

use aws_sdk_kms::config::http::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpClient, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_runtime_api::http::StatusCode;
use aws_smithy_types::body::SdkBody;
use claviger_provider::egress::{Client, Destination, Egress, EgressPolicy, Options, RawRequest, Response, SendError};
use claviger_provider::kit::http::ConnectionHttp;
use claviger_provider::{Error, ProviderKind};
use reqwest::header::{self, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, Url};
use zeroize::Zeroizing;

use crate::settings::Settings;

/// The HTTP settings of such a connection.
pub(crate) struct CustomEgress {
    egress: Egress,
    options: Options,
}

impl CustomEgress {
    /// The egress of a connection with these settings; `None` where it has neither.
    ///
    /// # Errors
    /// `Misconfigured` when a stored setting can no longer be used.
    pub(crate) fn of(settings: &Settings, egress: &Egress) -> Result<Option<Self>, Error> {
        if settings.ca.is_none() && settings.proxy.is_none() {
            return Ok(None);
        }
        let http = ConnectionHttp {
            ca: settings.ca.as_deref(),
            proxy: settings.proxy.as_deref(),
            client_certificate: None,
        };
        let options = http.options(egress, ProviderKind::Aws)?;
        let egress = match &options.proxy {
            // The gateway connects to the proxy alone.
            Some(_) => egress.clone(),
            // To AWS's own hosts, which may have private addresses in the operator's network.
            None => Egress::new(EgressPolicy::everywhere()),
        };
        Ok(Some(Self { egress, options }))
    }

    /// A client of one service. Its first call names the host, and it sends to no other.
    pub(crate) fn client(&self) -> SharedHttpClient {
        SharedHttpClient::new(OneHost(Arc::new(Host {
            egress: self.egress.clone(),
            options: self.options.clone(),
            client: OnceLock::new(),
        })))
    }
}

struct Host {
    egress: Egress,
    options: Options,
    client: OnceLock<Client>,
}

#[derive(Clone)]
struct OneHost(Arc<Host>);

/// A request or response that cannot be translated between the SDK's types and ours.
#[derive(Debug, thiserror::Error)]
#[error("a request or response that cannot be translated")]
struct Untranslatable;

impl Host {
    /// The client of an address's host, which the SDK takes from its own rules or from the operator.
    fn client(&self, address: &Url) -> Result<&Client, ConnectorError> {
        if let Some(client) = self.client.get() {
            return Ok(client);
        }
        let origin = address.origin().ascii_serialization();
        let destination = Destination::of_operator(&origin).map_err(|error| ConnectorError::user(error.into()))?;
        let made = self.egress.client(destination, self.options.clone());
        let made = made.map_err(|error| ConnectorError::user(error.into()))?;
        // If two clients are made at the same time, the first one is kept.
        Ok(self.client.get_or_init(|| made))
    }

    async fn send(&self, request: HttpRequest) -> Result<HttpResponse, ConnectorError> {
        let untranslatable = || ConnectorError::user(Untranslatable.into());
        let address = Url::parse(request.uri()).map_err(|_| untranslatable())?;
        let call = RawRequest {
            method: Method::from_bytes(request.method().as_bytes()).map_err(|_| untranslatable())?,
            address: &address,
            headers: from_sdk(request.headers().iter()).ok_or_else(untranslatable)?,
            body: Zeroizing::new(request.body().bytes().ok_or_else(untranslatable)?.to_vec()),
        };
        match self.client(&address)?.forward(call).await {
            Ok(response) => to_sdk(response).ok_or_else(untranslatable),
            Err(error @ SendError::Timeout) => Err(ConnectorError::timeout(error.into())),
            Err(error) => Err(ConnectorError::io(error.into())),
        }
    }
}

fn from_sdk<'a>(from: impl Iterator<Item = (&'a str, &'a str)>) -> Option<HeaderMap> {
    let mut headers = HeaderMap::new();
    for (name, value) in from {
        let name: HeaderName = name.parse().ok()?;
        let mut value: HeaderValue = value.parse().ok()?;
        value.set_sensitive(name == header::AUTHORIZATION || name == "x-amz-security-token");
        // The HTTP client sets the content length itself, from the body that it sends.
        if name != header::CONTENT_LENGTH {
            headers.append(name, value);
        }
    }
    Some(headers)
}

fn to_sdk(mut response: Response) -> Option<HttpResponse> {
    let status = StatusCode::try_from(response.status.as_u16()).ok()?;
    let mut translated = HttpResponse::new(status, SdkBody::from(std::mem::take(&mut *response.body)));
    for (name, value) in &response.headers {
        // The SDK reads no header whose value is not text.
        if let Ok(value) = value.to_str() {
            translated.headers_mut().append(name.as_str().to_owned(), value.to_owned());
        }
    }
    Some(translated)
}

impl fmt::Debug for OneHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OneHost")
    }
}

impl HttpClient for OneHost {
    fn http_connector(&self, _: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        SharedHttpConnector::new(self.clone())
    }
}

impl HttpConnector for OneHost {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let host = Arc::clone(&self.0);
        HttpConnectorFuture::new(async move { host.send(request).await })
    }
}
