//! A fake XKS proxy on loopback, with a key manager of its own: AWS's External Key Store Proxy API, version 1, with
//! real AES-256-GCM and verified SigV4 signatures, for tests. The crate's `README.md` lists what it supports.

mod access;
mod crypto;
mod keys;
mod responses;
mod routes;
mod signature;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use axum::Router;
use claviger_fake::{Dialect, Running, Switches, Tls, serve};

pub use access::{Access, AccessKey, Denial, Settings};
pub use keys::{Key, Keys};
use routes::Service;
pub use signature::SERVICE;

/// The proxy as a router, for [`claviger_fake::serve`].
pub fn service(switches: &Switches, access: &Arc<Access>, keys: &Arc<Keys>, prefix: &str) -> Router {
    let service = Service {
        access: Arc::clone(access),
        keys: Arc::clone(keys),
        clock: Arc::clone(&switches.clock),
        prefix: prefix.to_owned(),
    };
    routes::router(Arc::new(service))
}

/// The proxy's responses for throttling and outages.
pub fn dialect() -> impl Dialect {
    responses::Xks
}

/// How a fake is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// Plain HTTP.
    Plain,
    /// HTTPS.
    Tls,
    /// HTTPS, for clients with a certificate of the fake's authority.
    MutualTls,
}

/// A running fake inside a test. It stops when dropped.
pub struct FakeXks {
    running: Running,
    tls: Option<Tls>,
    prefix: String,
    access: Arc<Access>,
    keys: Arc<Keys>,
    switches: Switches,
}

impl FakeXks {
    /// Starts a fake on a free port. `prefix` is the part of the path before `/kms/xks/v1`: empty, or with a slash at
    /// its beginning.
    ///
    /// # Errors
    /// When the port cannot be opened.
    pub async fn start(transport: Transport, prefix: &str) -> io::Result<Self> {
        Self::start_at(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), transport, prefix).await
    }

    /// As [`FakeXks::start`], at this address. For a fake that is to be restarted: its port must be none that the system
    /// gives to connections which leave, or one of those can take it meanwhile.
    ///
    /// # Errors
    /// When the port cannot be opened.
    pub async fn start_at(listen: SocketAddr, transport: Transport, prefix: &str) -> io::Result<Self> {
        let (switches, access, keys) = (Switches::default(), Arc::new(Access::default()), Arc::new(Keys::default()));
        let tls = match transport {
            Transport::Plain => None,
            Transport::Tls => Some(Tls::new(&[])?),
            Transport::MutualTls => Some(Tls::mutual(&[])?),
        };
        let service = service(&switches, &access, &keys, prefix);
        let running = serve(service, dialect(), &switches, listen, tls.as_ref()).await?;
        Ok(Self {
            running,
            tls,
            prefix: prefix.to_owned(),
            access,
            keys,
            switches,
        })
    }

    /// Stops it, and starts it again at its address: another process, behind which the same key manager has the same
    /// keys.
    ///
    /// # Errors
    /// When the port cannot be opened.
    pub async fn restarted(self) -> io::Result<Self> {
        let listen = self.running.address();
        self.running.stop().await;
        let service = service(&self.switches, &self.access, &self.keys, &self.prefix);
        let running = serve(service, dialect(), &self.switches, listen, self.tls.as_ref()).await?;
        Ok(Self { running, ..self })
    }

    /// Its address with the prefix, without a slash at the end.
    pub fn url(&self) -> String {
        format!("{}{}", self.running.url(), self.prefix)
    }

    /// How many connections it has accepted so far.
    pub fn connections(&self) -> usize {
        self.running.connections()
    }

    /// Its TLS; `None` for plain HTTP.
    pub const fn tls(&self) -> Option<&Tls> {
        self.tls.as_ref()
    }

    /// Who may call it.
    pub fn access(&self) -> &Access {
        &self.access
    }

    /// The keys of the key manager behind it.
    pub fn keys(&self) -> &Arc<Keys> {
        &self.keys
    }

    /// The journal, the faults and the clock, shared with the running fake.
    pub const fn switches(&self) -> &Switches {
        &self.switches
    }
}
