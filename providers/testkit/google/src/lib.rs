//! A fake of Google Cloud KMS over its REST protocol (v1), on loopback, with real cryptography.
//! `README.md` beside this crate says what it does and what not. For tests alone.

mod access;
mod control;
mod import;
mod keys;
mod material;
mod names;
mod operations;
mod refusal;
mod rings;
mod service;
mod tokens;
mod versions;
mod wire;
mod world;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use claviger_fake::{Arguments, Program, Running, Switches, serve};

pub use access::{Access, Account, Pool};
use names::Place;
use service::{Google, Service, router};

/// A fake at work on a free port of loopback, over HTTP; it ends when this is dropped.
pub struct FakeGoogle {
    running: Running,
    switches: Switches,
    service: Arc<Service>,
}

impl FakeGoogle {
    /// Starts one, without any key ring, open to any bearer token.
    ///
    /// # Errors
    /// The system's, when it cannot listen.
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

    /// Its address, such as `http://127.0.0.1:41867`.
    pub fn url(&self) -> String {
        self.running.url()
    }

    /// Makes a key ring, as its owner would: `projects/P/locations/L/keyRings/R`.
    ///
    /// # Errors
    /// `InvalidInput` for a name that is none, `AlreadyExists` for one that is there.
    pub fn make_ring(&self, name: &str) -> io::Result<()> {
        let mistaken = |kind| io::Error::new(kind, "a key ring's name");
        match Place::parse(name) {
            Ok((Place::Ring(ring), None)) => {
                let made = self.service.world.lock().make_ring(ring, self.service.clock.unix());
                made.map_err(|_| mistaken(io::ErrorKind::AlreadyExists))
            }
            Ok(_) | Err(_) => Err(mistaken(io::ErrorKind::InvalidInput)),
        }
    }

    /// The journal, the faults and the clock.
    pub fn switches(&self) -> &Switches {
        &self.switches
    }

    /// Says who there is and what each may; `None` opens it to any bearer token. All tokens
    /// that it issued end.
    pub fn set_access(&self, access: Option<Access>) {
        self.service.gate.set(access);
    }

    /// Ends all tokens that it issued, as a service does with credentials that were revoked.
    pub fn end_tokens(&self) {
        self.service.gate.end_issued();
    }

    /// How many seconds a version goes on to work after it was disabled; none at first.
    pub fn set_lag(&self, seconds: u32) {
        self.service.lag.store(seconds.into(), Ordering::SeqCst);
    }

    /// Ends it, and what is under way with it.
    pub async fn stop(self) {
        self.running.stop().await;
    }
}

fn parts() -> (Switches, Arc<Service>) {
    let switches = Switches::default();
    let service = Service {
        clock: Arc::clone(&switches.clock),
        ..Service::default()
    };
    (switches, Arc::new(service))
}

/// The program `claviger-fake-google`: serves until SIGTERM or SIGINT.
///
/// # Errors
/// When it cannot listen, or its authority cannot be written.
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
