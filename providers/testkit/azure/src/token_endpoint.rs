//! Entra's token endpoint for applications: client credentials with a secret or an assertion.

use std::collections::HashMap;

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, SHA256, digest};
use aws_lc_rs::signature::{RSA_PKCS1_2048_8192_SHA256, RSA_PSS_2048_8192_SHA256, UnparsedPublicKey};
use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use claviger_fake::Caller;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde_json::{Value, json};
use x509_parser::prelude::FromDer;

use crate::access::{Access, Application, DIRECTORY};
use crate::encoding::{base64url, from_base64url};
use crate::responses::with_request_id;

const ASSERTION: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
/// The longest lifetime of an assertion, in seconds.
const MAX_LIFETIME: i64 = 24 * 3600;
/// The accepted clock skew, in seconds.
const SKEW: i64 = 300;

/// An error response in OAuth's format, with an AADSTS code.
struct TokenError {
    status: StatusCode,
    error: &'static str,
    code: u32,
    message: &'static str,
}

const fn refusal(status: StatusCode, error: &'static str, code: u32, message: &'static str) -> TokenError {
    TokenError {
        status,
        error,
        code,
        message,
    }
}

impl IntoResponse for TokenError {
    fn into_response(self) -> Response {
        let body = json!({
            "error": self.error, "error_description": format!("AADSTS{}: {}", self.code, self.message),
            "error_codes": [self.code], "trace_id": "fake", "correlation_id": "fake",
        });
        with_request_id((self.status, Json(body)).into_response())
    }
}

/// The OpenID Connect Discovery document of a directory, which Microsoft's libraries fetch first.
/// `root` is the URL of the fake.
pub(crate) fn configuration(directory: &str, root: &str) -> Response {
    if !directory.eq_ignore_ascii_case(DIRECTORY) {
        return refusal(StatusCode::BAD_REQUEST, "invalid_tenant", 90002, "Tenant was not found.").into_response();
    }
    let base = format!("{root}/{directory}");
    let endpoint = |name: &str| format!("{base}/oauth2/v2.0/{name}");
    Json(json!({
        "issuer": format!("{base}/v2.0"), "token_endpoint": endpoint("token"), "authorization_endpoint": endpoint("authorize"),
        "device_authorization_endpoint": endpoint("devicecode"), "jwks_uri": format!("{base}/discovery/v2.0/keys"),
        "response_types_supported": ["code"], "subject_types_supported": ["pairwise"], "id_token_signing_alg_values_supported": ["RS256"],
    }))
    .into_response()
}

/// Responds to a token request. `endpoint_url` is the endpoint's own URL.
pub(crate) fn token(access: &Access, directory: &str, endpoint_url: &str, body: &[u8], now: i64) -> Response {
    match issue(access, directory, endpoint_url, body, now) {
        Ok((client_id, token, lifetime)) => {
            let body = json!({"token_type": "Bearer", "expires_in": lifetime, "ext_expires_in": lifetime, "access_token": token});
            let mut response = with_request_id(Json(body).into_response());
            response.extensions_mut().insert(Caller(client_id));
            response
        }
        Err(error) => error.into_response(),
    }
}

fn issue(access: &Access, directory: &str, endpoint_url: &str, body: &[u8], now: i64) -> Result<(String, String, i64), TokenError> {
    let bad = |message| refusal(StatusCode::BAD_REQUEST, "invalid_request", 900144, message);
    if !directory.eq_ignore_ascii_case(DIRECTORY) {
        return Err(refusal(StatusCode::BAD_REQUEST, "invalid_request", 90002, "Tenant was not found."));
    }
    let form: HashMap<String, String> = serde_urlencoded::from_bytes(body).map_err(|_| bad("The body is no form."))?;
    let field = |name: &str| form.get(name).map(String::as_str);
    if field("grant_type") != Some("client_credentials") {
        return Err(refusal(
            StatusCode::BAD_REQUEST,
            "unsupported_grant_type",
            70003,
            "The grant type is not supported.",
        ));
    }
    let client_id = field("client_id").ok_or_else(|| bad("The request must contain client_id."))?;
    let scope = field("scope").ok_or_else(|| bad("The request must contain scope."))?;
    // Microsoft's libraries add these scopes, which do not apply to applications.
    let mut scopes = scope
        .split_ascii_whitespace()
        .filter(|word| !matches!(*word, "openid" | "offline_access" | "profile"));
    let only = scopes.next().filter(|_| scopes.next().is_none());
    let resource = only.and_then(|scope| scope.strip_suffix("/.default")).ok_or_else(|| {
        refusal(
            StatusCode::BAD_REQUEST,
            "invalid_scope",
            1_002_012,
            "The scope must end in /.default.",
        )
    })?;
    let application = access.application(client_id).map_err(|()| {
        refusal(
            StatusCode::BAD_REQUEST,
            "unauthorized_client",
            700_016,
            "The application was not found in the directory.",
        )
    })?;
    if let Some(application) = application {
        match (field("client_secret"), field("client_assertion")) {
            (Some(secret), None) if application.secrets.iter().any(|own| own == secret) => {}
            (Some(_), None) => {
                return Err(refusal(
                    StatusCode::UNAUTHORIZED,
                    "invalid_client",
                    7_000_215,
                    "Invalid client secret provided.",
                ));
            }
            (None, Some(assertion)) if field("client_assertion_type") == Some(ASSERTION) => {
                verify_assertion(&application, client_id, endpoint_url, assertion, now)?;
            }
            (_, _) => {
                return Err(refusal(
                    StatusCode::UNAUTHORIZED,
                    "invalid_client",
                    7_000_218,
                    "A client_assertion or client_secret is needed.",
                ));
            }
        }
    }
    let (token, lifetime) = access.issue(client_id, resource, now);
    Ok((client_id.to_owned(), token, lifetime))
}

/// Fails unless the application accepts the assertion.
fn verify_assertion(application: &Application, client_id: &str, endpoint_url: &str, assertion: &str, now: i64) -> Result<(), TokenError> {
    if application.federated.iter().any(|own| own == assertion) {
        return Ok(());
    }
    let wrong = refusal(
        StatusCode::UNAUTHORIZED,
        "invalid_client",
        700_027,
        "The assertion is not signed by a certificate of the application.",
    );
    let late = refusal(
        StatusCode::UNAUTHORIZED,
        "invalid_client",
        700_024,
        "The assertion is not within its valid time range.",
    );
    let Some(parsed) = Assertion::parse(assertion) else {
        return Err(match application.certificates.is_empty() {
            true => refusal(
                StatusCode::UNAUTHORIZED,
                "invalid_client",
                700_213,
                "No matching federated identity record found.",
            ),
            false => wrong,
        });
    };
    if !application.certificates.iter().any(|pem| parsed.signed_by(pem)) {
        return Err(wrong);
    }
    let claims = |name: &str| parsed.claims.get(name);
    let named = |name: &str, value: &str| claims(name).and_then(Value::as_str) == Some(value);
    if !named("iss", client_id) || !named("sub", client_id) || !named("aud", endpoint_url) || claims("jti").is_none() {
        return Err(wrong);
    }
    // Some libraries send fractional seconds.
    let seconds = |value: &Value| value.as_i64().or_else(|| format!("{:.0}", value.as_f64()?).parse().ok());
    let at = |name: &str| claims(name).and_then(seconds);
    match (at("nbf").or_else(|| at("iat")), at("exp")) {
        (Some(from), Some(to)) if from <= now + SKEW && to > now - SKEW && to - from <= MAX_LIFETIME => Ok(()),
        (_, _) => Err(late),
    }
}

/// A parsed, signed JWT.
struct Assertion<'a> {
    header: Value,
    claims: Value,
    signed: &'a str,
    signature: Vec<u8>,
}

impl<'a> Assertion<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let (signed, signature) = text.rsplit_once('.')?;
        let (header, claims) = signed.split_once('.')?;
        let json = |part: &str| serde_json::from_slice(&from_base64url(part)?).ok();
        Some(Self {
            header: json(header)?,
            claims: json(claims)?,
            signed,
            signature: from_base64url(signature)?,
        })
    }

    fn signed_by(&self, pem: &str) -> bool {
        let Ok(der) = CertificateDer::from_pem_slice(pem.as_bytes()) else {
            return false;
        };
        let Ok((_, certificate)) = x509_parser::certificate::X509Certificate::from_der(&der) else {
            return false;
        };
        let header = |name: &str| self.header.get(name).and_then(Value::as_str);
        // Microsoft's library for Python pads the thumbprints.
        let thumbprint = |name: &str, algorithm| {
            let own = base64url(digest(algorithm, &der).as_ref());
            header(name).is_none_or(|given| given.trim_end_matches('=') == own)
        };
        // One of the two headers must name the certificate.
        let named = header("x5t").is_some() || header("x5t#S256").is_some();
        if !named || !thumbprint("x5t", &SHA1_FOR_LEGACY_USE_ONLY) || !thumbprint("x5t#S256", &SHA256) {
            return false;
        }
        let scheme = match header("alg") {
            Some("PS256") => &RSA_PSS_2048_8192_SHA256,
            Some("RS256") => &RSA_PKCS1_2048_8192_SHA256,
            Some(_) | None => return false,
        };
        let key = certificate.public_key().subject_public_key.data.as_ref();
        UnparsedPublicKey::new(scheme, key)
            .verify(self.signed.as_bytes(), &self.signature)
            .is_ok()
    }
}
