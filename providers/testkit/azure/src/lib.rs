//! A fake of Azure Key Vault, Managed HSM and Entra's token endpoint on loopback, with real
//! cryptography, for tests. `README.md` beside this crate says what it does and what it does not.
//!
//! Everything is at one port, under HTTPS with an authority of the fake's own. The host's name
//! says which service is asked: `https://127.0.0.1:PORT` is a Key Vault, `https://localhost:PORT`
//! a Managed HSM, and `/{directory}/oauth2/v2.0/token` under either gives out tokens.

mod access;
mod answers;
mod crypto;
mod login;
mod operations;
mod routes;
mod store;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use axum::Router;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use claviger_fake::{Dialect, Running, Switches, Tls, serve};
use parking_lot::Mutex;

pub use access::{Access, Application, DIRECTORY};
use store::Store;

/// What the service works with.
pub(crate) struct Fake {
    pub(crate) store: Mutex<Store>,
    pub(crate) access: Arc<Access>,
    pub(crate) switches: Switches,
}

/// The service, its access and its switches, to be served by [`claviger_fake`].
pub fn service(switches: &Switches, access: &Arc<Access>) -> Router {
    routes::router(Arc::new(Fake {
        store: Mutex::default(),
        access: Arc::clone(access),
        switches: switches.clone(),
    }))
}

/// How Azure tells what every service may answer.
pub fn dialect() -> impl Dialect {
    answers::Azure
}

/// A fake at work inside a test; it ends when this is dropped.
pub struct FakeAzure {
    running: Running,
    tls: Tls,
    access: Arc<Access>,
    switches: Switches,
}

impl FakeAzure {
    /// Starts one on a free port.
    ///
    /// # Errors
    /// When it cannot listen.
    pub async fn start() -> io::Result<Self> {
        let (switches, access) = (Switches::default(), Arc::new(Access::default()));
        let tls = Tls::new(&[])?;
        let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let running = serve(service(&switches, &access), dialect(), &switches, listen, Some(&tls)).await?;
        Ok(Self {
            running,
            tls,
            access,
            switches,
        })
    }

    /// The address of its Key Vault, which also gives out tokens; without a slash at its end.
    pub fn url(&self) -> String {
        self.running.url()
    }

    /// The address of its Managed HSM.
    pub fn hsm_url(&self) -> String {
        format!("https://localhost:{}", self.running.address().port())
    }

    /// The certificate of its authority as PEM, for clients to trust.
    pub fn ca_pem(&self) -> &str {
        self.tls.ca_pem()
    }

    /// Applications and tokens.
    pub fn access(&self) -> &Access {
        &self.access
    }

    /// Its journal, faults and clock.
    pub fn switches(&self) -> &Switches {
        &self.switches
    }
}

/// As Azure writes bytes.
pub(crate) fn base64url(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// As Azure reads them: without padding.
pub(crate) fn from_base64url(text: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).ok()
}
