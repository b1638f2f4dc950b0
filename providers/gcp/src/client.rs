//! The client of one connection: one attempt per call, as the connection's identity.

use std::time::Duration;

use google_cloud_gax::client_builder::internal::with_follow_redirects;
use google_cloud_gax::error::Error as GaxError;
use google_cloud_gax::retry_policy::NeverRetry;
use google_cloud_kms_v1::client::KeyManagementService;

use crate::errors::CallError;
use crate::identity::Session;

/// The pipeline's attempts are shorter by far; this holds where nobody waits any more.
const TOTAL: Duration = Duration::from_secs(30);

/// Cloud KMS as one identity.
pub(crate) struct Kms {
    client: KeyManagementService,
    session: Session,
}

impl Kms {
    /// Reaches nothing yet.
    ///
    /// # Errors
    /// When the endpoint's address or this system's TLS cannot be used.
    pub(crate) async fn new(endpoint: Option<&str>, session: Session) -> Result<Self, CallError> {
        let builder = KeyManagementService::builder()
            .with_credentials(session.clone())
            .with_retry_policy(NeverRetry)
            .with_attempt_timeout(TOTAL);
        let builder = match endpoint {
            Some(endpoint) => builder.with_endpoint(endpoint),
            None => builder,
        };
        // Google's library keeps this one to itself, and offers no other way: by default it
        // would go wherever an answer leads, with a data key in the body. A test holds it.
        let builder = with_follow_redirects(builder, false);
        let client = builder.build().await;
        Ok(Self {
            client: client.map_err(|error| CallError::Unmade(claviger_provider::innermost(&error)))?,
            session,
        })
    }

    /// One call; a second one with another token when the first was refused because its token
    /// was dropped in mid-flight. A refusal changes nothing at the service, so repeating it is
    /// safe for every call.
    pub(crate) async fn call<T, F>(&self, send: impl Fn(&KeyManagementService) -> F) -> Result<T, CallError>
    where
        F: Future<Output = Result<T, GaxError>>,
    {
        let generation = self.session.ready().await?;
        match send(&self.client).await.map_err(|error| CallError::of(&error)) {
            Err(refused) if refused.dropped() => {
                if !self.session.refused(generation).await {
                    return Err(refused);
                }
                self.session.ready().await?;
                let result = send(&self.client).await.map_err(|error| CallError::of(&error));
                if result.as_ref().is_err_and(CallError::dropped) {
                    self.session.hold_off().await;
                }
                result
            }
            other => other,
        }
    }
}
