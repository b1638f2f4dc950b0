//! Calls of the proxy: the one place that sends a call and reports it. It keeps no state.

use std::time::{Duration, Instant, SystemTime};

use claviger_provider::egress::{Client, RawRequest, Response};
use claviger_provider::kit::http::{clock_difference, retry_after};
use claviger_provider::{CallResult, CallSink};
use reqwest::header::{CONTENT_TYPE, HeaderValue};
use reqwest::{Method, Url};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::errors::{CallError, Refusal};
use crate::names::{API, Region};
use crate::signature::KeyPair;

/// The difference of clocks from which a proxy may reject a signature: five minutes, less the fractions of seconds
/// that a date leaves out.
const MAX_SKEW: Duration = Duration::from_secs(5 * 60 - 2);

/// A request of one call.
pub(crate) struct Request {
    /// The API's path without names, for the record of the call.
    operation: &'static str,
    /// The path below `/kms/xks/v1`.
    path: String,
    body: Zeroizing<Vec<u8>>,
}

impl Request {
    pub(crate) fn new(operation: &'static str, path: String, body: &impl Serialize) -> Result<Self, CallError> {
        let body = serde_json::to_vec(body).map_err(|error| CallError::Unbuilt(error.to_string()))?;
        Ok(Self {
            operation,
            path,
            body: Zeroizing::new(body),
        })
    }
}

/// The name in the body of a refusal. It is read apart from the message, so that one with a malformed message is a
/// refusal all the same.
#[derive(Deserialize)]
struct ErrorName {
    #[serde(rename = "errorName")]
    name: String,
}

/// The message in the body of a refusal.
#[derive(Deserialize)]
struct ErrorMessage {
    #[serde(rename = "errorMessage")]
    message: String,
}

/// The proxy at one address.
pub(crate) struct Proxy {
    client: Client,
    /// With the path prefix, without a slash at the end.
    address: String,
    region: Region,
}

impl Proxy {
    pub(crate) const fn new(client: Client, address: String, region: Region) -> Self {
        Self { client, address, region }
    }

    /// Makes a call, signed with this access key, which ends at the deadline.
    ///
    /// # Errors
    /// When there is no success.
    pub(crate) async fn call<D: DeserializeOwned>(
        &self,
        sink: CallSink<'_>,
        pair: &KeyPair,
        request: &Request,
        deadline: Instant,
    ) -> Result<D, CallError> {
        let attempt = sink.begin(request.operation);
        let result = self.send(pair, request, deadline).await.and_then(|response| parse(&response));
        attempt.finish(None, CallResult::of(&result, CallError::result));
        result
    }

    async fn send(&self, pair: &KeyPair, request: &Request, deadline: Instant) -> Result<Response, CallError> {
        let url = format!("{}{API}/{}", self.address, request.path);
        let url: Url = url
            .parse()
            .map_err(|_| CallError::Unbuilt("an address that is no URL".to_owned()))?;
        let mut headers = pair.sign(&self.region, &url, &request.body, SystemTime::now())?;
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let request = RawRequest {
            method: Method::POST,
            address: &url,
            headers,
            body: request.body.clone(),
        };
        let left = deadline.saturating_duration_since(Instant::now());
        Ok(self.client.forward_within(request, left).await?)
    }
}

fn parse<D: DeserializeOwned>(response: &Response) -> Result<D, CallError> {
    if response.status.as_u16() == 200 {
        return serde_json::from_slice(&response.body).map_err(|_| CallError::MalformedResponse("body"));
    }
    let name = serde_json::from_slice::<ErrorName>(&response.body).ok();
    let message = serde_json::from_slice::<ErrorMessage>(&response.body).ok();
    Err(CallError::Refused(Refusal {
        status: response.status.as_u16(),
        name: name.map(|body| body.name),
        message: message.map(|body| body.message),
        pause: retry_after(&response.headers),
        skewed: clock_difference(&response.headers, SystemTime::now()).is_some_and(|difference| difference > MAX_SKEW),
    }))
}
