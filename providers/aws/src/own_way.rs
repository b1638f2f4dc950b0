//! The way out of a connection with authorities or a proxy of its own: a client for it alone,
//! so that what one tenant trusts is never trusted for another.

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
use claviger_provider::egress::{Authorities, Client, Destination, Egress, EgressPolicy, Options, RawRequest, Response, SendError};
use claviger_provider::{Error, ErrorKind};
use reqwest::header::{self, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, Url};
use zeroize::Zeroizing;

use crate::client::{CONNECT, TOTAL};
use crate::errors::fault;
use crate::http::MAX_RESPONSE;
use crate::settings::Settings;

/// How a connection goes out.
pub(crate) struct OwnWay {
    egress: Egress,
    options: Options,
}

impl OwnWay {
    /// The way of a connection with these settings; `None` where it is the way of all.
    ///
    /// # Errors
    /// When what was kept is refused by now.
    pub(crate) fn of(settings: &Settings, egress: &Egress) -> Result<Option<Self>, Error> {
        if settings.ca.is_none() && settings.proxy.is_none() {
            return Ok(None);
        }
        let unusable = || fault(ErrorKind::Misconfigured, "the kept authorities cannot be used");
        let authorities = match &settings.ca {
            Some(pem) => Authorities::from_pem(pem).ok_or_else(unusable)?,
            None => Authorities::System,
        };
        let proxy = match &settings.proxy {
            Some(proxy) => Some(egress.proxy(proxy).map_err(|error| {
                fault(ErrorKind::Misconfigured, "find the proxy")
                    .advice("The connection's proxy may not be reached; the operator allows it in [egress].")
                    .source(error)
            })?),
            None => None,
        };
        let egress = match &proxy {
            // The proxy is what is met.
            Some(_) => egress.clone(),
            // AWS's own hosts, which may be private ones in the operator's network.
            None => Egress::new(EgressPolicy::everywhere()),
        };
        let options = Options {
            authorities,
            client_certificate: None,
            proxy,
            connect_timeout: CONNECT,
            timeout: TOTAL,
            max_response: MAX_RESPONSE,
        };
        Ok(Some(Self { egress, options }))
    }

    /// A client of one service: its first call says which host that is.
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

/// Why a call was not sent, where it is not the network's fault.
#[derive(Debug, thiserror::Error)]
#[error("a request of a form that is not sent")]
struct Form;

impl Host {
    /// The client of the host of an address, which the SDK has from its own rules or from the
    /// operator.
    fn client(&self, address: &Url) -> Result<&Client, ConnectorError> {
        if let Some(client) = self.client.get() {
            return Ok(client);
        }
        let origin = address.origin().ascii_serialization();
        let destination = Destination::of_operator(&origin).map_err(|error| ConnectorError::user(error.into()))?;
        let made = self.egress.client(destination, self.options.clone());
        let made = made.map_err(|error| ConnectorError::user(error.into()))?;
        // Of two that were made at once one is kept.
        Ok(self.client.get_or_init(|| made))
    }

    async fn exchange(&self, request: HttpRequest) -> Result<HttpResponse, ConnectorError> {
        let form = || ConnectorError::user(Form.into());
        let address = Url::parse(request.uri()).map_err(|_| form())?;
        let call = RawRequest {
            method: Method::from_bytes(request.method().as_bytes()).map_err(|_| form())?,
            address: &address,
            headers: sent(request.headers().iter()).ok_or_else(form)?,
            body: Zeroizing::new(request.body().bytes().ok_or_else(form)?.to_vec()),
        };
        match self.client(&address)?.forward(call).await {
            Ok(answer) => received(answer).ok_or_else(form),
            Err(error @ SendError::Timeout) => Err(ConnectorError::timeout(error.into())),
            Err(error) => Err(ConnectorError::io(error.into())),
        }
    }
}

fn sent<'a>(headers: impl Iterator<Item = (&'a str, &'a str)>) -> Option<HeaderMap> {
    let mut sent = HeaderMap::new();
    for (name, value) in headers {
        let name: HeaderName = name.parse().ok()?;
        let mut value: HeaderValue = value.parse().ok()?;
        value.set_sensitive(name == header::AUTHORIZATION || name == "x-amz-security-token");
        // The body's own length is told by who sends it.
        if name != header::CONTENT_LENGTH {
            sent.append(name, value);
        }
    }
    Some(sent)
}

fn received(mut answer: Response) -> Option<HttpResponse> {
    let status = StatusCode::try_from(answer.status.as_u16()).ok()?;
    let mut response = HttpResponse::new(status, SdkBody::from(std::mem::take(&mut *answer.body)));
    for (name, value) in &answer.headers {
        // What is no text is none of what the SDK reads.
        if let Ok(value) = value.to_str() {
            response.headers_mut().append(name.as_str().to_owned(), value.to_owned());
        }
    }
    Some(response)
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
        HttpConnectorFuture::new(async move { host.exchange(request).await })
    }
}
