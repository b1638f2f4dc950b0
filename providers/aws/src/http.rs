//! The HTTP client below the SDK: the gateway's own, with its limits, its TLS and its care for open
//! connections; the connection's switch; and the trace of logins, whose responses the SDK does not
//! return.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use aws_sdk_kms::config::http::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::connector_metadata::ConnectorMetadata;
use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpClient, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_runtime_api::http::StatusCode;
use aws_smithy_types::body::SdkBody;
use claviger_provider::egress::{Authorities, Client, Destination, Egress, EgressPolicy, Options, RawRequest, Response, SendError};
use claviger_provider::kit::http::{CALL_TIMEOUT, CONNECT_TIMEOUT, MAX_RESPONSE};
use claviger_provider::{BackgroundTrace, CallResult, CallSink, ErrorKind, ProviderKind, SeverSwitch};
use parking_lot::Mutex;
use reqwest::header::{self, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, Url};
use zeroize::Zeroizing;

/// The most hosts with a client that connections share: the services of all regions, and more. Tenants
/// name regions, also such that do not exist.
const MAX_HOSTS: usize = 256;

/// A request or response that cannot be translated between the SDK's types and ours.
#[derive(Debug, thiserror::Error)]
#[error("a request or response that cannot be translated")]
struct Untranslatable;

/// The clients of the hosts that the SDK names, by its own rules or by the operator's settings.
pub(crate) struct Hosts {
    egress: Egress,
    options: Options,
    clients: Clients,
}

enum Clients {
    /// Of the first host that is called. It sends to no other.
    One(OnceLock<Client>),
    /// Of each scheme, host and port.
    Many(Mutex<HashMap<String, Known>>),
}

struct Known {
    client: Client,
    has_responded: bool,
}

impl Hosts {
    /// All hosts, for all connections without their own network settings. They share the sockets, which
    /// is safe because each call carries its own signature.
    pub(crate) fn shared() -> Arc<Self> {
        let options = Options {
            provider: ProviderKind::Aws,
            authorities: Authorities::System,
            client_certificate: None,
            proxy: None,
            connect_timeout: CONNECT_TIMEOUT,
            timeout: CALL_TIMEOUT,
            max_response: MAX_RESPONSE,
            switch: SeverSwitch::default(),
        };
        Arc::new(Self {
            // AWS's own hosts, which may have private addresses in the operator's network.
            egress: Egress::new(EgressPolicy::everywhere()),
            options,
            clients: Clients::Many(Mutex::default()),
        })
    }

    /// One host, which the first call names.
    pub(crate) fn one(egress: Egress, options: Options) -> Arc<Self> {
        Arc::new(Self {
            egress,
            options,
            clients: Clients::One(OnceLock::new()),
        })
    }

    /// The SDK's client for them. `switch` stops its requests.
    pub(crate) fn client(self: &Arc<Self>, switch: SeverSwitch) -> SharedHttpClient {
        SharedHttpClient::new(Connector {
            hosts: Arc::clone(self),
            switch,
            timeout: None,
        })
    }

    fn make(&self, origin: &str) -> Result<Client, ConnectorError> {
        let destination = Destination::of_operator(origin).map_err(|error| ConnectorError::user(error.into()))?;
        let made = self.egress.client(destination, self.options.clone());
        made.map_err(|error| ConnectorError::user(error.into()))
    }

    fn of(&self, origin: &str) -> Result<Client, ConnectorError> {
        match &self.clients {
            Clients::One(one) => match one.get() {
                Some(client) => Ok(client.clone()),
                None => {
                    let made = self.make(origin)?;
                    // If two clients are made at the same time, the first one is kept.
                    Ok(one.get_or_init(|| made).clone())
                }
            },
            Clients::Many(many) => {
                let mut many = many.lock();
                if let Some(known) = many.get(origin) {
                    return Ok(known.client.clone());
                }
                let client = self.make(origin)?;
                if many.len() >= MAX_HOSTS {
                    many.retain(|_, known| known.has_responded);
                }
                if many.len() < MAX_HOSTS {
                    let known = Known {
                        client: client.clone(),
                        has_responded: false,
                    };
                    many.insert(origin.to_owned(), known);
                }
                Ok(client)
            }
        }
    }

    fn responded(&self, origin: &str) {
        if let Clients::Many(many) = &self.clients
            && let Some(known) = many.lock().get_mut(origin)
        {
            known.has_responded = true;
        }
    }

    async fn send(&self, request: HttpRequest, switch: SeverSwitch) -> Result<HttpResponse, ConnectorError> {
        let untranslatable = || ConnectorError::user(Untranslatable.into());
        let address = Url::parse(request.uri()).map_err(|_| untranslatable())?;
        let origin = address.origin().ascii_serialization();
        let call = RawRequest {
            method: Method::from_bytes(request.method().as_bytes()).map_err(|_| untranslatable())?,
            address: &address,
            headers: from_sdk(request.headers().iter()).ok_or_else(untranslatable)?,
            body: Zeroizing::new(request.body().bytes().ok_or_else(untranslatable)?.to_vec()),
        };
        match self.of(&origin)?.with_switch(switch).forward(call).await {
            Ok(response) => {
                self.responded(&origin);
                to_sdk(response).ok_or_else(untranslatable)
            }
            Err(error @ SendError::Timeout) => Err(ConnectorError::timeout(error.into())),
            Err(error @ SendError::Severed(_)) => Err(ConnectorError::user(error.into())),
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

/// The SDK's way to these hosts.
#[derive(Clone)]
struct Connector {
    hosts: Arc<Hosts>,
    switch: SeverSwitch,
    /// The SDK's own limit of a request; the metadata service of a machine has a short one.
    timeout: Option<Duration>,
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Connector")
    }
}

impl HttpClient for Connector {
    fn http_connector(&self, settings: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        let timeout = settings
            .read_timeout()
            .map(|read| read + settings.connect_timeout().unwrap_or_default());
        SharedHttpConnector::new(Self { timeout, ..self.clone() })
    }
}

impl HttpConnector for Connector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let Self { hosts, switch, timeout } = self.clone();
        HttpConnectorFuture::new(async move {
            let sending = hosts.send(request, switch);
            match timeout {
                None => sending.await,
                Some(limit) => match tokio::time::timeout(limit, sending).await {
                    Ok(result) => result,
                    Err(_) => Err(ConnectorError::timeout(SendError::Timeout.into())),
                },
            }
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
