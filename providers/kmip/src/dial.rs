//! Opens connections to the server, with the client certificate as it is now.

use std::sync::Arc;
use std::time::Duration;

use claviger_provider::egress::{ClientCertificate, Egress, Endpoint, TlsDialer, TlsOptions};
use claviger_provider::kit::secrets::{ConnectionSecrets, SecretsError, secret};
use claviger_provider::kit::settings::Secrets;
use claviger_provider::{Place, Share};
use parking_lot::Mutex;

use crate::connection::Connection;
use crate::errors::CallError;

/// What the server's address and the client certificate make.
pub(crate) struct Dial {
    egress: Egress,
    endpoint: Endpoint,
    ca: Option<String>,
    secrets: ConnectionSecrets,
    /// The longest time until a connection is open, TLS included.
    timeout: Duration,
    share: Share,
    /// The dialer of the secrets that were read last.
    latest: Mutex<Option<(Arc<Secrets>, TlsDialer)>>,
}

impl Dial {
    pub(crate) fn new(
        egress: Egress,
        endpoint: Endpoint,
        ca: Option<String>,
        secrets: ConnectionSecrets,
        timeout: Duration,
        share: Share,
    ) -> Self {
        Self {
            egress,
            endpoint,
            ca,
            secrets,
            timeout,
            share,
            latest: Mutex::new(None),
        }
    }

    /// Checks the secrets that the connection was made with.
    ///
    /// # Errors
    /// When they cannot be used.
    pub(crate) fn check(&self) -> Result<(), CallError> {
        self.dialer(&self.secrets.latest()).map(drop)
    }

    /// Opens a connection, which takes this place. The operator's files, if the secrets come from some, are read each time.
    pub(crate) async fn connect(&self, place: Place) -> Result<Connection, CallError> {
        let secrets = self.secrets.read().await.map_err(|error| unusable(error.to_string()))?;
        let known = self
            .latest
            .lock()
            .as_ref()
            .filter(|(of, _)| Arc::ptr_eq(of, &secrets))
            .map(|(_, dialer)| dialer.clone());
        let dialer = match known {
            Some(dialer) => dialer,
            None => {
                let dialer = self.dialer(&secrets)?;
                *self.latest.lock() = Some((secrets, dialer.clone()));
                dialer
            }
        };
        Ok(Connection::new(dialer.connect().await?, place, self.share.clone(), self.timeout))
    }

    fn dialer(&self, secrets: &Secrets) -> Result<TlsDialer, CallError> {
        let pair = secret(secrets, "certificate").zip(secret(secrets, "key"));
        let certificate = pair.and_then(|(certificate, key)| ClientCertificate::from_pem(certificate.expose(), key.expose()));
        let certificate = certificate.ok_or_else(|| unusable("no certificate with its key".to_owned()))?;
        let options = TlsOptions {
            ca: self.ca.as_deref(),
            client_certificate: Some(&certificate),
            connect_timeout: self.timeout,
            share: self.share.clone(),
        };
        self.egress
            .tls(self.endpoint.clone(), options)
            .map_err(|error| unusable(error.to_string()))
    }
}

fn unusable(cause: String) -> CallError {
    CallError::NoSource {
        advice: SecretsError::ADVICE,
        cause,
    }
}
