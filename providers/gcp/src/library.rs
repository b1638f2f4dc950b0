//! Google's client. It opens its connections by itself, and can neither give them up nor close idle ones
//! soon: for both, another client takes its place.
//!
//! Its TCP connections have the keepalive and the user timeout of reqwest's defaults (15 s and 30 s).

use std::sync::Arc;

use claviger_provider::egress::pool::{Attempt, Connections, PoolHealth};
use claviger_provider::kit::http::CALL_TIMEOUT;
use claviger_provider::{ProviderKind, SeverSwitch, innermost};
use google_cloud_gax::client_builder::internal::with_follow_redirects;
use google_cloud_gax::retry_policy::NeverRetry;
use google_cloud_kms_v1::client::KeyManagementService;
use parking_lot::Mutex;

use crate::errors::CallError;
use crate::session::Session;

/// Google's client for one connection.
pub(crate) struct Library {
    endpoint: Option<String>,
    session: Session,
    switch: SeverSwitch,
    health: Arc<PoolHealth>,
    current: Mutex<(u64, KeyManagementService)>,
    /// Held while another client is made.
    making: tokio::sync::Mutex<()>,
}

impl Library {
    /// Sends no request.
    ///
    /// # Errors
    /// When the endpoint's URL or this system's TLS cannot be used.
    pub(crate) async fn new(endpoint: Option<&str>, session: Session, switch: SeverSwitch) -> Result<Self, CallError> {
        let first = make(endpoint, &session).await?;
        Ok(Self {
            endpoint: endpoint.map(str::to_owned),
            session,
            switch,
            health: PoolHealth::with_idle_limit(ProviderKind::Gcp),
            current: Mutex::new((0, first)),
            making: tokio::sync::Mutex::new(()),
        })
    }

    /// Begins an attempt, and returns the client for it.
    ///
    /// # Errors
    /// As [`Library::new`].
    pub(crate) async fn attempt(&self) -> Result<(Attempt, KeyManagementService), CallError> {
        let attempt = self.health.attempt(&self.switch);
        let client = match attempt.connections() {
            Connections::New => make(self.endpoint.as_deref(), &self.session).await?,
            Connections::Pooled(generation) => match self.of(generation) {
                Some(client) => client,
                None => self.renewed(generation).await?,
            },
        };
        Ok((attempt, client))
    }

    /// The client of a generation that has none yet. After a failover, all calls ask for it at once: one makes it,
    /// which takes a while, and the others wait.
    async fn renewed(&self, generation: u64) -> Result<KeyManagementService, CallError> {
        let _one_at_a_time = self.making.lock().await;
        if let Some(client) = self.of(generation) {
            return Ok(client);
        }
        let made = make(self.endpoint.as_deref(), &self.session).await?;
        *self.current.lock() = (generation, made.clone());
        Ok(made)
    }

    fn of(&self, generation: u64) -> Option<KeyManagementService> {
        let current = self.current.lock();
        (current.0 >= generation).then(|| current.1.clone())
    }
}

async fn make(endpoint: Option<&str>, session: &Session) -> Result<KeyManagementService, CallError> {
    let builder = KeyManagementService::builder()
        .with_credentials(session.clone())
        .with_retry_policy(NeverRetry)
        .with_attempt_timeout(CALL_TIMEOUT);
    let builder = match endpoint {
        Some(endpoint) => builder.with_endpoint(endpoint),
        None => builder,
    };
    // By default the client follows redirects to any host, with a data key in the body.
    // Google's library has no public setting for this; a test covers it.
    let builder = with_follow_redirects(builder, false);
    let client = builder.build().await;
    client.map_err(|error| CallError::Unbuilt(innermost(&error)))
}
