//! Makes a model of a response, or the error that it is.

use std::time::Duration;

use reqwest::header::{CONTENT_TYPE, RETRY_AFTER};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::endpoint::Endpoint;
use crate::error::Error;
use crate::models::ErrorCode;
use crate::transport::Incoming;
use crate::values::Meta;

/// What a call returns. `None` of the functions is a response that is not one of a gateway.
pub(crate) trait FromResponse: Sized {
    fn from_response(response: &Incoming) -> Result<Self, Mismatch>;
}

/// Why a response is not the documented one.
pub(crate) enum Mismatch {
    /// It has another form altogether.
    Form,
    /// A member of it is not as documented. The name of the member, and no value.
    Member(String),
}

impl FromResponse for () {
    fn from_response(response: &Incoming) -> Result<Self, Mismatch> {
        match response.status {
            204 => Ok(()),
            _ => Err(Mismatch::Form),
        }
    }
}

impl FromResponse for String {
    fn from_response(response: &Incoming) -> Result<Self, Mismatch> {
        match media_type(response) {
            Some("text/plain") => Ok(Self::from_utf8_lossy(&response.body).into_owned()),
            _ => Err(Mismatch::Form),
        }
    }
}

impl FromResponse for Map<String, Value> {
    fn from_response(response: &Incoming) -> Result<Self, Mismatch> {
        object(response)
    }
}

/// For a model that has what the headers say.
macro_rules! from_response {
    ($model:ident) => {
        impl $crate::response::FromResponse for $model {
            fn from_response(response: &$crate::transport::Incoming) -> Result<Self, $crate::response::Mismatch> {
                let mut made: Self = $crate::response::object(response)?;
                made.meta = $crate::response::meta(response);
                Ok(made)
            }
        }
    };
}

pub(crate) use from_response;

/// Decodes a model of JSON.
pub(crate) fn object<T: DeserializeOwned>(response: &Incoming) -> Result<T, Mismatch> {
    if !response.body.trim_ascii_start().starts_with(b"{") {
        return Err(Mismatch::Form);
    }
    let mut json = serde_json::Deserializer::from_slice(&response.body);
    match serde_path_to_error::deserialize(&mut json) {
        Ok(made) => json.end().map(|()| made).map_err(|_| Mismatch::Form),
        // The error's own words repeat values. What is missing they name.
        Err(error) if error.inner().is_data() => {
            let words = error.inner().to_string();
            let missing = words.strip_prefix("missing field `").and_then(|rest| rest.split('`').next());
            let at = error.path().to_string();
            Err(Mismatch::Member(match (missing, at.as_str()) {
                (Some(name), ".") => name.to_owned(),
                (Some(name), at) => format!("{at}.{name}"),
                (None, at) => at.to_owned(),
            }))
        }
        Err(_) => Err(Mismatch::Form),
    }
}

/// Reads a response of this endpoint.
pub(crate) fn read<T: FromResponse>(response: &Incoming, endpoint: &Endpoint) -> Result<T, Error> {
    let is_success = (200..300).contains(&response.status);
    let problem = match is_success {
        true => None,
        false => problem(response),
    };
    if let Some(members) = problem {
        return Err(Error::from_problem(members).with(|parts| {
            let meta = meta(response);
            parts.status = Some(response.status);
            parts.retry_after = retry_after(response);
            parts.audit_index = meta.audit_index;
        }));
    }
    // A result that comes with an error's status is no problem document.
    if !is_success && endpoint.also_success != Some(response.status) {
        return Err(unexpected(response, None));
    }
    T::from_response(response).map_err(|mismatch| match mismatch {
        Mismatch::Form => unexpected(response, None),
        Mismatch::Member(name) => unexpected(response, Some(&name)),
    })
}

/// The members of a problem document, which has a code.
fn problem(response: &Incoming) -> Option<Map<String, Value>> {
    let members: Map<String, Value> = serde_json::from_slice(&response.body).ok()?;
    let code = members.get("code").and_then(Value::as_str);
    code.is_some_and(|code| !code.is_empty()).then_some(members)
}

/// What the headers say about the request.
pub(crate) fn meta(response: &Incoming) -> Meta {
    Meta {
        request_id: header(response, "x-request-id"),
        audit_index: header(response, "claviger-audit-index"),
    }
}

fn header(response: &Incoming, name: &str) -> Option<String> {
    let value = response.headers.get(name)?.to_str().ok()?;
    Some(value.to_owned())
}

/// Whole seconds. A date is not understood: the gateway sends none.
fn retry_after(response: &Incoming) -> Option<Duration> {
    let text = response.headers.get(RETRY_AFTER)?.to_str().ok()?;
    // `parse` would take a sign.
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let seconds: u32 = text.parse().ok().filter(|_| is_number)?;
    Some(Duration::from_secs(seconds.into()))
}

fn media_type(response: &Incoming) -> Option<&str> {
    let value = response.headers.get(CONTENT_TYPE)?.to_str().ok()?;
    Some(value.split(';').next().unwrap_or_default().trim())
}

/// The error for a response that is not one of a gateway; `member` is what is not as documented in one that looks like one.
fn unexpected(response: &Incoming, member: Option<&str>) -> Error {
    let kind = media_type(response).unwrap_or("no content type");
    let status = response.status;
    // Statuses of a proxy whose gateway is away.
    let is_away = matches!(status, 502..=504);
    let what_to_do = match member {
        Some(_) => "Check that this release of the client goes with the gateway.",
        None if (300..400).contains(&status) => "Redirects are not followed. Set the address to where the gateway is.",
        None if is_away => {
            "A proxy or a load balancer does not reach the gateway. Check that the gateway runs (/readyz), and what is between."
        }
        None => {
            "Check the address, and what is between the client and the gateway: a proxy or a load balancer answered, or another service."
        }
    };
    let what = member.map_or_else(
        || kind.to_owned(),
        |name| format!("in its body `{name}` is missing or not as documented"),
    );
    let detail = format!("The response is not one of a Claviger gateway: status {status}, {what}.");
    Error::new(ErrorCode::UnexpectedResponse, "Unexpected response", detail)
        .what_to_do_is(what_to_do)
        .with(|parts| {
            parts.status = Some(status);
            parts.request_id = meta(response).request_id;
            // JSON that ends too early is a response that was lost on the way.
            parts.retryable = is_away || (status < 300 && kind == "application/json" && member.is_none());
            parts.maybe_executed = status < 300 || is_away;
            parts.retry_after = retry_after(response);
        })
}
