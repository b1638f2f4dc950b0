//! A fake of Google Cloud KMS over its REST API (v1) on loopback, with real cryptography, for
//! tests. The crate's `README.md` lists what it supports.

mod access;
mod call;
mod control;
mod import;
mod json;
mod keys;
mod material;
mod names;
mod operations;
mod refusal;
mod resources;
mod rings;
mod routes;
mod rsa_pool;
mod service;
mod tokens;
mod versions;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use claviger_fake::{Arguments, Program, Running, Switches, serve};

pub use access::{Access, Account, Pool};
use names::ResourcePath;
use routes::{Google, router};
use service::Service;

/// A running fake on a free loopback port, over HTTP. It stops when dropped.
pub struct FakeGoogle {
    running: Running,
    switches: Switches,
    service: Arc<Service>,
}

impl FakeGoogle {
    /// Starts a fake without key rings that accepts any bearer token.
    ///
    /// # Errors
    /// The system's error when the port cannot be opened.
    pub async fn start() -> io::Result<Self> {
        let (switches, service) = parts();
        let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let running = serve(router(&service), Google, &switches, listen, None).await?;
        Ok(Self {
            running,
            switches,
            service,
        })
    }

    /// The base URL, such as `http://127.0.0.1:41867`.
    pub fn url(&self) -> String {
        self.running.url()
    }

    /// Creates the key ring `projects/P/locations/L/keyRings/R`.
    ///
    /// # Errors
    /// `InvalidInput` for a malformed name, `AlreadyExists` for an existing ring.
    pub fn make_ring(&self, name: &str) -> io::Result<()> {
        let failed = |kind| io::Error::new(kind, "a key ring's name");
        match ResourcePath::parse(name) {
            Ok((ResourcePath::Ring(ring), None)) => {
                let created = self.service.resources.lock().make_ring(ring, self.service.clock.unix());
                created.map_err(|_| failed(io::ErrorKind::AlreadyExists))
            }
            Ok(_) | Err(_) => Err(failed(io::ErrorKind::InvalidInput)),
        }
    }

    /// The journal, the faults and the clock, shared with the running fake.
    pub fn switches(&self) -> &Switches {
        &self.switches
    }

    /// Sets the accounts and their permissions; `None` accepts any bearer token. Revokes all
    /// issued tokens.
    pub fn set_access(&self, access: Option<Access>) {
        self.service.access.set(access);
    }

    /// Revokes all issued tokens.
    pub fn end_tokens(&self) {
        self.service.access.end_issued();
    }

    /// For how many seconds a disabled version still works; initially 0.
    pub fn set_lag(&self, seconds: u32) {
        self.service.lag.store(seconds.into(), Ordering::SeqCst);
    }

    /// Stops the fake; open connections close after their current response.
    pub async fn stop(self) {
        self.running.stop().await;
    }
}

fn parts() -> (Switches, Arc<Service>) {
    let switches = Switches::default();
    let service = Service {
        clock: Arc::clone(&switches.clock),
        appearance: Arc::clone(&switches.appearance),
        ..Service::default()
    };
    (switches, Arc::new(service))
}

/// The program `claviger-fake-google`: serves until SIGTERM or SIGINT.
///
/// # Errors
/// When the port cannot be opened, or the CA file cannot be written.
pub async fn run(arguments: &Arguments) -> io::Result<()> {
    let (switches, service) = parts();
    let program = Program {
        variable: "FAKE_GOOGLE",
        names: &["*.googleapis.com"],
        service: router(&service),
        dialect: Google,
        switches,
    };
    claviger_fake::run(program, arguments).await
}
