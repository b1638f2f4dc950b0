//! Entra's token endpoint, as far as applications use it: client credentials with a secret or
//! with an assertion.

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
use crate::{base64url, from_base64url};

const ASSERTION: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
/// The longest life of an assertion, in seconds, and how far clocks may differ.
const MAX_LIFE: i64 = 24 * 3600;
const SKEW: i64 = 300;

/// Why there is no token.
struct NoToken {
    status: StatusCode,
    error: &'static str,
    code: u32,
    message: &'static str,
}

const fn none(status: StatusCode, error: &'static str, code: u32, message: &'static str) -> NoToken {
    NoToken {
        status,
        error,
        code,
        message,
    }
}

impl IntoResponse for NoToken {
    fn into_response(self) -> Response {
        let body = json!({
            "error": self.error, "error_description": format!("AADSTS{}: {}", self.code, self.message),
            "error_codes": [self.code], "trace_id": "fake", "correlation_id": "fake",
        });
        (self.status, Json(body)).into_response()
    }
}

/// Where a directory's endpoints are (OpenID Connect Discovery 1.0), which Microsoft's libraries ask
/// first. `root` is the address of the fake.
pub(crate) fn configuration(directory: &str, root: &str) -> Response {
    if !directory.eq_ignore_ascii_case(DIRECTORY) {
        return none(StatusCode::BAD_REQUEST, "invalid_tenant", 90002, "Tenant was not found.").into_response();
    }
    let here = format!("{root}/{directory}");
    let endpoint = |name: &str| format!("{here}/oauth2/v2.0/{name}");
    Json(json!({
        "issuer": format!("{here}/v2.0"), "token_endpoint": endpoint("token"), "authorization_endpoint": endpoint("authorize"),
        "device_authorization_endpoint": endpoint("devicecode"), "jwks_uri": format!("{here}/discovery/v2.0/keys"),
        "response_types_supported": ["code"], "subject_types_supported": ["pairwise"], "id_token_signing_alg_values_supported": ["RS256"],
    }))
    .into_response()
}

/// One request for a token of a directory. `here` is the endpoint's own address.
pub(crate) fn token(access: &Access, directory: &str, here: &str, body: &[u8], now: i64) -> Response {
    match given(access, directory, here, body, now) {
        Ok((client_id, token, life)) => {
            let body = json!({"token_type": "Bearer", "expires_in": life, "ext_expires_in": life, "access_token": token});
            let mut answer = Json(body).into_response();
            answer.extensions_mut().insert(Caller(client_id));
            answer
        }
        Err(no) => no.into_response(),
    }
}

fn given(access: &Access, directory: &str, here: &str, body: &[u8], now: i64) -> Result<(String, String, i64), NoToken> {
    let bad = |message| none(StatusCode::BAD_REQUEST, "invalid_request", 900144, message);
    if !directory.eq_ignore_ascii_case(DIRECTORY) {
        return Err(none(StatusCode::BAD_REQUEST, "invalid_request", 90002, "Tenant was not found."));
    }
    let form: HashMap<String, String> = serde_urlencoded::from_bytes(body).map_err(|_| bad("The body is no form."))?;
    let field = |name: &str| form.get(name).map(String::as_str);
    if field("grant_type") != Some("client_credentials") {
        return Err(none(
            StatusCode::BAD_REQUEST,
            "unsupported_grant_type",
            70003,
            "The grant type is not supported.",
        ));
    }
    let client_id = field("client_id").ok_or_else(|| bad("The request must contain client_id."))?;
    let scope = field("scope").ok_or_else(|| bad("The request must contain scope."))?;
    // Microsoft's libraries ask for these beside it, and an application gets none of them.
    let mut asked = scope
        .split_ascii_whitespace()
        .filter(|word| !matches!(*word, "openid" | "offline_access" | "profile"));
    let only = asked.next().filter(|_| asked.next().is_none());
    let resource = only.and_then(|scope| scope.strip_suffix("/.default")).ok_or_else(|| {
        none(
            StatusCode::BAD_REQUEST,
            "invalid_scope",
            1_002_012,
            "The scope must end in /.default.",
        )
    })?;
    let application = access.application(client_id).map_err(|()| {
        none(
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
                return Err(none(
                    StatusCode::UNAUTHORIZED,
                    "invalid_client",
                    7_000_215,
                    "Invalid client secret provided.",
                ));
            }
            (None, Some(assertion)) if field("client_assertion_type") == Some(ASSERTION) => {
                vouched(&application, client_id, here, assertion, now)?;
            }
            (_, _) => {
                return Err(none(
                    StatusCode::UNAUTHORIZED,
                    "invalid_client",
                    7_000_218,
                    "A client_assertion or client_secret is needed.",
                ));
            }
        }
    }
    let (token, life) = access.give(client_id, resource, now);
    Ok((client_id.to_owned(), token, life))
}

/// Whether an assertion speaks for an application.
fn vouched(application: &Application, client_id: &str, here: &str, assertion: &str, now: i64) -> Result<(), NoToken> {
    if application.federated.iter().any(|own| own == assertion) {
        return Ok(());
    }
    let wrong = none(
        StatusCode::UNAUTHORIZED,
        "invalid_client",
        700_027,
        "The assertion is not signed by a certificate of the application.",
    );
    let late = none(
        StatusCode::UNAUTHORIZED,
        "invalid_client",
        700_024,
        "The assertion is not within its valid time range.",
    );
    let Some(read) = Assertion::read(assertion) else {
        return Err(match application.certificates.is_empty() {
            true => none(
                StatusCode::UNAUTHORIZED,
                "invalid_client",
                700_213,
                "No matching federated identity record found.",
            ),
            false => wrong,
        });
    };
    if !application.certificates.iter().any(|pem| read.signed_by(pem)) {
        return Err(wrong);
    }
    let claims = |name: &str| read.claims.get(name);
    let named = |name: &str, value: &str| claims(name).and_then(Value::as_str) == Some(value);
    if !named("iss", client_id) || !named("sub", client_id) || !named("aud", here) || claims("jti").is_none() {
        return Err(wrong);
    }
    // Some libraries write fractions of a second.
    let whole = |value: &Value| value.as_i64().or_else(|| format!("{:.0}", value.as_f64()?).parse().ok());
    let at = |name: &str| claims(name).and_then(whole);
    match (at("nbf").or_else(|| at("iat")), at("exp")) {
        (Some(from), Some(to)) if from <= now + SKEW && to > now - SKEW && to - from <= MAX_LIFE => Ok(()),
        (_, _) => Err(late),
    }
}

/// A signed JWT.
struct Assertion<'a> {
    header: Value,
    claims: Value,
    signed: &'a str,
    signature: Vec<u8>,
}

impl<'a> Assertion<'a> {
    fn read(text: &'a str) -> Option<Self> {
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
        // Microsoft's own library for Python pads them.
        let thumbprint = |name: &str, algorithm| {
            let own = base64url(digest(algorithm, &der).as_ref());
            header(name).is_none_or(|told| told.trim_end_matches('=') == own)
        };
        // One of the two says which certificate it was.
        let told = header("x5t").is_some() || header("x5t#S256").is_some();
        if !told || !thumbprint("x5t", &SHA1_FOR_LEGACY_USE_ONLY) || !thumbprint("x5t#S256", &SHA256) {
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
