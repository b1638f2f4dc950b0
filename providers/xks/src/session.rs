//! The access key that signs a connection's requests: one of two, so that its owner can replace them one after the
//! other while calls go on. If the proxy refuses one, the call is sent once more with the other, which then stays.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use claviger_provider::egress::{Destination, Egress, Options};
use claviger_provider::kit::secrets::{ConnectionSecrets, SecretsError, secret};
use claviger_provider::kit::session::{self, CredentialSource, Lifetime, Standing, Term};
use claviger_provider::kit::settings::Secrets;
use claviger_provider::{Error, ErrorKind, LoginReport, OpContext, SeverSwitch};
use parking_lot::Mutex;
use serde::de::{DeserializeOwned, IgnoredAny};

use crate::auth::{ACCESS_KEYS, Auth, client_certificate, repeat_access_key};
use crate::client::{Proxy, Request};
use crate::errors::{CallError, Refusal, fault, refused_access_key};
use crate::names::Region;
use crate::signature::KeyPair;

/// What a client of the proxy is made from.
pub(crate) struct Connector {
    pub(crate) egress: Egress,
    pub(crate) destination: Destination,
    /// Without a client certificate.
    pub(crate) options: Options,
    /// With the path prefix, without a slash at the end.
    pub(crate) address: String,
    pub(crate) region: Region,
}

impl Connector {
    fn proxy(&self, auth: &Auth, secrets: &Secrets) -> Result<Proxy, Error> {
        let misconfigured = |context| fault(ErrorKind::Misconfigured, context);
        let client_certificate =
            client_certificate(auth, secrets).map_err(|()| misconfigured("the client certificate is missing or cannot be used"))?;
        let options = Options {
            client_certificate,
            ..self.options.clone()
        };
        let client = self.egress.client(self.destination.clone(), options);
        let client = client.map_err(|error| misconfigured("no HTTP client").source(error))?;
        Ok(Proxy::new(client, self.address.clone(), self.region.clone()))
    }
}

/// An access key, and the proxy as it is reached with the secrets of the same time.
pub(crate) struct Signer {
    /// Its place in [`ACCESS_KEYS`].
    place: usize,
    pair: KeyPair,
    proxy: Arc<Proxy>,
}

impl Lifetime for Signer {
    fn term(&self) -> Term {
        Term::ENDLESS
    }
}

/// The access keys of one connection.
pub(crate) struct AccessKeys {
    connector: Connector,
    auth: Auth,
    secrets: ConnectionSecrets,
    /// The proxy, and the secrets whose client certificate its client has.
    proxy: Mutex<(Arc<Secrets>, Arc<Proxy>)>,
    /// The place of the one that signs.
    current: AtomicUsize,
}

impl AccessKeys {
    /// Sends no request.
    ///
    /// # Errors
    /// `Misconfigured` when a secret is missing or cannot be used.
    pub(crate) fn new(connector: Connector, auth: Auth, secrets: ConnectionSecrets) -> Result<Self, Error> {
        let latest = secrets.latest();
        if pair(&latest, 0).is_none() {
            return Err(fault(ErrorKind::Misconfigured, "the connection's access key is missing"));
        }
        if repeat_access_key(&latest) {
            return Err(fault(ErrorKind::Misconfigured, "the second access key is the first")
                .advice("The second access key has the id of the first: give another one, or `\"second\": null` for none."));
        }
        let proxy = connector.proxy(&auth, &latest)?;
        Ok(Self {
            connector,
            auth,
            secrets,
            proxy: Mutex::new((latest, Arc::new(proxy))),
            current: AtomicUsize::new(0),
        })
    }

    async fn signer(&self) -> Result<Signer, CallError> {
        let unusable = |cause: String| CallError::NoSource {
            advice: SecretsError::ADVICE,
            cause,
        };
        let secrets = self.secrets.read().await.map_err(|error| unusable(error.to_string()))?;
        let wanted = self.current.load(Ordering::Relaxed);
        // The other one may have been removed meanwhile.
        let found = [wanted, 1 - wanted]
            .into_iter()
            .find_map(|place| Some((place, pair(&secrets, place)?)));
        let (place, pair) = found.ok_or_else(|| unusable("the access key is missing".to_owned()))?;
        let mut proxy = self.proxy.lock();
        if !Arc::ptr_eq(&proxy.0, &secrets) {
            let made = self
                .connector
                .proxy(&self.auth, &secrets)
                .map_err(|error| unusable(error.to_string()))?;
            *proxy = (secrets, Arc::new(made));
        }
        Ok(Signer {
            place,
            pair,
            proxy: Arc::clone(&proxy.1),
        })
    }
}

/// The access key at this place.
fn pair(secrets: &Secrets, place: usize) -> Option<KeyPair> {
    KeyPair::parse(&secret(secrets, ACCESS_KEYS.get(place)?)?)
}

impl CredentialSource for AccessKeys {
    type Credential = Signer;
    type Refusal = Refusal;

    async fn fetch(&self, _: Option<&Signer>) -> Result<Signer, CallError> {
        self.signer().await.map_err(CallError::in_login)
    }

    async fn standing(&self, refused: &Signer) -> Result<Standing, CallError> {
        let other = 1 - refused.place;
        if pair(&self.secrets.latest(), other).is_none() {
            return Ok(Standing::Only { accepted: Some(false) });
        }
        self.current.store(other, Ordering::Relaxed);
        Ok(Standing::Replaceable)
    }

    /// The proxy sees an access key with the first call alone.
    fn is_proven(&self, _: &Signer) -> bool {
        false
    }

    fn files(&self) -> Vec<PathBuf> {
        self.secrets.paths()
    }
}

/// The session of one connection.
pub(crate) struct Session(session::Session<AccessKeys>);

impl Session {
    pub(crate) fn new(keys: AccessKeys, report: LoginReport, switch: SeverSwitch) -> Self {
        Self(session::Session::new(keys, report, switch))
    }

    pub(crate) fn region(&self) -> &Region {
        &self.0.source().connector.region
    }

    /// Whether the proxy accepts a call with the other access key, if there is one. Its result is not looked at.
    async fn accepts_other(&self, cx: &OpContext, refused: &Signer, request: &Request, deadline: Instant) -> bool {
        let Some(pair) = pair(&self.0.source().secrets.latest(), 1 - refused.place) else {
            return false;
        };
        let result = refused.proxy.call::<IgnoredAny>(cx.into(), &pair, request, deadline).await;
        result
            .err()
            .is_none_or(|error| error.refusal().is_some_and(|refusal| !refusal.is_unauthenticated()))
    }

    pub(crate) fn budget(&self) -> Duration {
        self.0.source().connector.options.timeout
    }

    /// Makes one call, and once more with the other access key if the proxy refuses the first, both within one budget.
    ///
    /// # Errors
    /// The call's, or why there is no access key.
    pub(crate) async fn call<D: DeserializeOwned>(&self, cx: &OpContext, request: &Request) -> Result<D, CallError> {
        let deadline = Instant::now() + self.budget();
        let send = |signer: Arc<Signer>| async move {
            let result = signer.proxy.call(cx.into(), &signer.pair, request, deadline).await;
            match result {
                Err(CallError::Refused(refusal)) if refusal.blames_clock() => {
                    // The date may be that of something in between: the clock is wrong if the other access key is refused,
                    // too. Boxed: it is rare, and the future of every call would be larger by it.
                    let skewed = !Box::pin(self.accepts_other(cx, &signer, request, deadline)).await;
                    Err(CallError::Refused(Refusal { skewed, ..refusal }))
                }
                result => result,
            }
        };
        self.0.call(cx.login(), refused_access_key, send).await
    }
}
