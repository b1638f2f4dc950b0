//! A fake of Azure Key Vault, Managed HSM and Entra's token endpoint on loopback, with real
//! cryptography, for tests. The crate's `README.md` lists what it supports.
//!
//! All services share one HTTPS port, with a certificate of a CA that the fake creates. The host
//! name selects the service: `https://127.0.0.1:PORT` is a Key Vault, `https://localhost:PORT` a
//! Managed HSM. Both serve the token endpoint `/{directory}/oauth2/v2.0/token`.

mod access;
mod crypto;
mod encoding;
mod operations;
mod responses;
mod routes;
mod service;
mod token_endpoint;
mod vaults;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use axum::Router;
use claviger_fake::{Dialect, Running, Switches, Tls, serve};
use parking_lot::Mutex;

pub use access::{Access, Application, DIRECTORY};
use service::Service;

/// The service as a router, for [`claviger_fake::serve`].
pub fn service(switches: &Switches, access: &Arc<Access>) -> Router {
    routes::router(Arc::new(Service {
        vaults: Mutex::default(),
        access: Arc::clone(access),
        switches: switches.clone(),
    }))
}

/// Azure's responses for throttling and outages.
pub fn dialect() -> impl Dialect {
    responses::Azure
}

/// A running fake inside a test. It stops when dropped.
pub struct FakeAzure {
    running: Running,
    tls: Tls,
    access: Arc<Access>,
    switches: Switches,
}

impl FakeAzure {
    /// Starts a fake on a free port.
    ///
    /// # Errors
    /// When the port cannot be opened.
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

    /// The URL of its Key Vault, without a trailing slash; also serves the token endpoint.
    pub fn url(&self) -> String {
        self.running.url()
    }

    /// The URL of its Managed HSM, without a trailing slash.
    pub fn hsm_url(&self) -> String {
        format!("https://localhost:{}", self.running.address().port())
    }

    /// The CA certificate that clients must trust, as PEM.
    pub fn ca_pem(&self) -> &str {
        self.tls.ca_pem()
    }

    /// The registered applications and the tokens.
    pub fn access(&self) -> &Access {
        &self.access
    }

    /// The journal, the faults and the clock, shared with the running fake.
    pub fn switches(&self) -> &Switches {
        &self.switches
    }
}
