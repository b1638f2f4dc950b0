//! The token endpoints: signed assertions, workload identity federation, impersonation of
//! service accounts.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::Query;
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use crate::access::Issued;
use crate::call::Call;
use crate::json::{camel_case, time};
use crate::refusal::{Refusal, oauth_refusal};
use crate::service::Service;

const ASSERTION: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";
const EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";

/// The fields of a request, in JSON or as a form.
fn fields(body: &[u8]) -> Option<BTreeMap<String, String>> {
    if let Ok(Value::Object(object)) = serde_json::from_slice(body) {
        let text = |(name, value): (String, Value)| Some((camel_case(&name), value.as_str()?.to_owned()));
        return object.into_iter().map(text).collect();
    }
    let form = std::str::from_utf8(body).ok()?;
    let uri: Uri = format!("/?{form}").parse().ok()?;
    let Query(pairs) = Query::<Vec<(String, String)>>::try_from_uri(&uri).ok()?;
    Some(pairs.into_iter().map(|(name, value)| (camel_case(&name), value)).collect())
}

/// Responds on `/token` to assertions (RFC 7523), on `/v1/token` to token exchanges (RFC 8693).
pub(crate) fn respond(service: &Arc<Service>, path: &str, body: &[u8], now: i64) -> Response {
    let Some(fields) = fields(body) else {
        return oauth_refusal(
            StatusCode::BAD_REQUEST,
            "invalid_request",
            "The request is neither JSON nor a form.",
        );
    };
    let field = |name: &str| fields.get(name).map(String::as_str).unwrap_or_default();
    let account = match (path, field("grantType")) {
        ("/token", ASSERTION) => service.access.asserted(field("assertion"), now),
        ("/v1/token", EXCHANGE) if field("requestedTokenType") == ACCESS_TOKEN => {
            service.access.subject(field("audience"), field("subjectToken"))
        }
        _ => {
            return oauth_refusal(
                StatusCode::BAD_REQUEST,
                "unsupported_grant_type",
                "This endpoint does not take the grant.",
            );
        }
    };
    let Some(account) = account else {
        return oauth_refusal(StatusCode::BAD_REQUEST, "invalid_grant", "The token was not accepted.");
    };
    match service.access.issue(&account, now, None) {
        Ok(Issued { token, expires }) => Json(json!({
            "access_token": token, "issued_token_type": ACCESS_TOKEN, "token_type": "Bearer", "expires_in": expires - now,
        }))
        .into_response(),
        Err(refusal) => refusal.into_response(),
    }
}

/// `generateAccessToken` of the IAM Service Account Credentials API.
pub(crate) fn impersonate(call: &Call<'_>, account: &str) -> Result<Value, Refusal> {
    let body = call.fields(&["name", "delegates", "scope", "lifetime"])?;
    let account = account.replace("%40", "@");
    if body.texts("scope")?.is_empty() {
        return Err(Refusal::invalid("scope must be set."));
    }
    if !call.service.access.may_impersonate(call.caller, &account) {
        let resource = format!("projects/-/serviceAccounts/{account}");
        return Err(Refusal::denied("iam.serviceAccounts.getAccessToken", &resource));
    }
    let lifetime = body.text("lifetime")?;
    let lifetime = lifetime.and_then(|text| text.strip_suffix('s')?.parse().ok());
    let Issued { token, expires } = call.service.access.issue(&account, call.now, lifetime)?;
    Ok(json!({"accessToken": token, "expireTime": time(expires)}))
}
