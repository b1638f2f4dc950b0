//! The SDK's transport to a vault. It authenticates the SDK's requests with the connection's own
//! token, replaces a token that the vault refuses, validates the vault's challenges, and reports
//! each request.
//!
//! The SDK itself would request a token for the scope that a vault's challenge names, so it only
//! gets a [`Placeholder`], which this transport replaces.

use std::fmt;
use std::sync::Arc;

use azure_core::credentials::{AccessToken, TokenCredential, TokenRequestOptions};
use azure_core::http::headers::AUTHORIZATION;
use azure_core::http::{AsyncRawResponse, HttpClient, Request};
use azure_core::time::{Duration, OffsetDateTime};
use claviger_provider::CallResult;
use claviger_provider::egress::{Client, Response};
use claviger_provider::kit::session::BearerToken;
use reqwest::{StatusCode, header};

use crate::attempts;
use crate::challenge::ChallengeGuard;
use crate::errors::{CallError, Refusal, TransportError, request_id};
use crate::http::{raw_request, raw_response, response_headers};
use crate::session::Session;

/// The SDK's credential: a token that never reaches a vault.
#[derive(Debug)]
pub(crate) struct Placeholder;

#[async_trait::async_trait]
impl TokenCredential for Placeholder {
    async fn get_token(&self, _: &[&str], _: Option<TokenRequestOptions<'_>>) -> azure_core::Result<AccessToken> {
        Ok(AccessToken::new("placeholder", OffsetDateTime::now_utc() + Duration::days(365)))
    }
}

/// The transport to one vault.
pub(crate) struct VaultTransport {
    client: Client,
    session: Session,
    guard: ChallengeGuard,
}

/// Whether a vault did not accept the token.
fn token_refused(error: &CallError) -> bool {
    error.refusal().is_some_and(|refusal| refusal.status == 401)
}

impl VaultTransport {
    pub(crate) fn new(client: Client, session: Session, guard: ChallengeGuard) -> Arc<Self> {
        Arc::new(Self { client, session, guard })
    }

    async fn exchange(&self, request: &Request) -> Result<AsyncRawResponse, CallError> {
        if request.headers().get_optional_str(&AUTHORIZATION).is_some() {
            return self
                .session
                .call(&attempts::login(), token_refused, |token| self.attempt(request, token))
                .await;
        }
        // The SDK's first request to a vault, which has no token and no body. It only asks for the
        // challenge, so it is not reported as an attempt of the operation.
        let response = self.client.forward(raw_request(request)?).await?;
        self.check(&response)?;
        let headers = response_headers(&response.headers);
        Ok(raw_response(response, headers))
    }

    async fn attempt(&self, request: &Request, token: Arc<BearerToken>) -> Result<AsyncRawResponse, CallError> {
        let mut raw = raw_request(request)?;
        raw.headers.insert(header::AUTHORIZATION, token.header()?);
        let begun = attempts::begin();
        let response = match self.client.forward(raw).await {
            Ok(response) => response,
            Err(error) => {
                let error = CallError::from(error);
                attempts::finish(&begun, None, error.result());
                return Err(error);
            }
        };
        let headers = response_headers(&response.headers);
        let id = request_id(&headers);
        if response.status.is_success() {
            attempts::finish(&begun, id, CallResult::Ok);
            return Ok(raw_response(response, headers));
        }
        let refused = CallError::Refused(Refusal::of(response.status.as_u16(), &headers, &response.body));
        attempts::finish(&begun, id, refused.result());
        self.check(&response)?;
        // On a 401 response, the SDK would request another token and send the request again.
        match response.status {
            StatusCode::UNAUTHORIZED => Err(refused),
            _ => Ok(raw_response(response, headers)),
        }
    }

    fn check(&self, response: &Response) -> Result<(), CallError> {
        match response.status {
            StatusCode::UNAUTHORIZED => self.guard.check(&response.headers),
            _ => Ok(()),
        }
    }
}

impl fmt::Debug for VaultTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("VaultTransport")
    }
}

#[async_trait::async_trait]
impl HttpClient for VaultTransport {
    async fn execute_request(&self, request: &Request) -> azure_core::Result<AsyncRawResponse> {
        self.exchange(request).await.map_err(|error| TransportError(error).into())
    }
}
