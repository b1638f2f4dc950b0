//! A proxy before a key service, that has the faults of the field: a failover that swallows the open
//! sockets, hangs, resets, delays, answers that end in the middle, refused logins, another certificate.
//!
//! It speaks HTTP/1.1 and HTTP/2, plain or over TLS, and reads each call whole before it hands it on, so
//! that a test can ask which calls there were, of which kind and on which connection. It runs on a thread of
//! its own: a test of any runtime, or of none, can hold it.

mod calls;
mod serve;
mod wire;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Once, PoisonError, mpsc};
use std::thread::JoinHandle;

use claviger_fake::Tls;
use tokio::sync::{oneshot, watch};

pub use calls::{Act, Call, Fault, Kind, Which};
use serve::Shared;
use wire::{Control, Wire};

/// How a proxy is set up.
pub struct Setup {
    upstream: String,
    upstream_ca: Option<String>,
    tls: Option<Tls>,
    listen: IpAddr,
}

impl Setup {
    /// Before the service at this address, such as `http://127.0.0.1:8200`. Plain HTTP on 127.0.0.1.
    pub fn before(upstream: &str) -> Self {
        Self {
            upstream: upstream.trim_end_matches('/').to_owned(),
            upstream_ca: None,
            tls: None,
            listen: IpAddr::V4(Ipv4Addr::LOCALHOST),
        }
    }

    /// The service's certificate comes from this authority, as PEM.
    #[must_use]
    pub fn trusting(mut self, ca: &str) -> Self {
        self.upstream_ca = Some(ca.to_owned());
        self
    }

    /// The proxy speaks TLS, with this certificate.
    #[must_use]
    pub fn over_tls(mut self, tls: Tls) -> Self {
        self.tls = Some(tls);
        self
    }

    /// It listens on this address of loopback.
    #[must_use]
    pub const fn listening_on(mut self, address: IpAddr) -> Self {
        self.listen = address;
        self
    }

    /// Starts it.
    ///
    /// # Panics
    /// When it cannot listen.
    pub fn start(self) -> FaultProxy {
        static STACK: Once = Once::new();
        STACK.call_once(|| drop(rustls::crypto::aws_lc_rs::default_provider().install_default()));
        let shared = Arc::new(Shared {
            upstream: self.upstream,
            state: Mutex::new(State {
                tls: self.tls,
                ..State::default()
            }),
            touched: Arc::new(AtomicUsize::new(0)),
            up: watch::Sender::new(true),
            listens: watch::Sender::new(false),
        });
        let (told, tell) = mpsc::channel();
        let (stop, stopped) = oneshot::channel::<()>();
        let inside = Arc::clone(&shared);
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(async move {
                let client = serve::upstream(self.upstream_ca.as_deref());
                tokio::select! {
                    () = serve::run(self.listen, inside, client, told) => {}
                    _dropped = stopped => {}
                }
            });
        });
        FaultProxy {
            address: tell.recv().expect("an address"),
            shared,
            stop: Some(stop),
            thread: Some(thread),
        }
    }
}

/// What a proxy does now, and what it saw.
#[derive(Default)]
struct State {
    tls: Option<Tls>,
    faults: Vec<Fault>,
    calls: Vec<Call>,
    opened: u64,
    handshakes_failed: usize,
    swallows_new: bool,
    open: BTreeMap<u64, Control>,
}

/// A running proxy. It ends with its value.
pub struct FaultProxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl FaultProxy {
    /// A plain one before a plain service.
    pub fn before(upstream: &str) -> Self {
        Setup::before(upstream).start()
    }

    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its URL, without a slash at the end.
    pub fn url(&self) -> String {
        let scheme = if self.state().tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.address)
    }

    /// The authority of its certificate, as PEM; `None` where it speaks no TLS.
    pub fn ca_pem(&self) -> Option<String> {
        self.state().tls.as_ref().map(|tls| tls.ca_pem().to_owned())
    }

    /// Uses another certificate for new connections, as after a renewal by another authority.
    pub fn swap_certificate(&self, tls: Tls) {
        self.state().tls = Some(tls);
    }

    /// Swallows the connections that are open now: what they carry is read and thrown away, and nothing is
    /// sent. New ones work. Returns how many there are.
    pub fn swallow_open(&self) -> usize {
        self.to_open(|control| {
            control.wire.send_replace(Wire::Swallowed);
        })
    }

    /// Resets the connections that are open now, swallowed ones too. Returns how many there are.
    pub fn reset_open(&self) -> usize {
        self.to_open(|control| {
            control.wire.send_replace(Wire::Reset);
        })
    }

    /// Tells the clients of the connections that are open now that these take no more requests: GOAWAY with
    /// HTTP/2, an end after the current answer with HTTP/1.1. Returns how many there are.
    pub fn drain_open(&self) -> usize {
        self.to_open(|control| {
            control.draining.send_replace(true);
        })
    }

    /// Whether new connections are swallowed, too.
    pub fn swallow_new(&self, swallow: bool) {
        self.state().swallows_new = swallow;
    }

    /// Stops to listen, and resets what is open: the service is down.
    pub fn go_down(&self) {
        self.shared.up.send_replace(false);
        self.await_listening(false);
        self.reset_open();
    }

    /// Listens again, on the same port.
    pub fn come_up(&self) {
        self.shared.up.send_replace(true);
        self.await_listening(true);
    }

    /// Replaces all faults.
    pub fn set(&self, faults: impl Into<Vec<Fault>>) {
        self.state().faults = faults.into();
    }

    /// Adds a fault. Of those that apply to a call, it meets the first.
    pub fn add(&self, fault: Fault) {
        self.state().faults.push(fault);
    }

    /// Removes all faults.
    pub fn clear(&self) {
        self.state().faults.clear();
    }

    /// Answers every login so until the faults are cleared or set.
    pub fn refuse_logins(&self, status: u16, body: &str) {
        self.add(Fault::on(Which::Of(Kind::Login), Act::respond(status, body)));
    }

    /// The calls so far, in the order in which they came, without health checks: those come when they are due, also
    /// during a call that takes long.
    pub fn calls(&self) -> Vec<Call> {
        let calls = self.state().calls.clone();
        calls
            .into_iter()
            .filter(|call| !call.path.ends_with("/kms/xks/v1/health"))
            .collect()
    }

    /// How many calls of this kind there were.
    pub fn count(&self, kind: Kind) -> usize {
        self.state().calls.iter().filter(|call| call.kind == kind).count()
    }

    /// How many calls with this name there were.
    pub fn count_named(&self, operation: &str) -> usize {
        self.state().calls.iter().filter(|call| call.operation == operation).count()
    }

    /// Forgets the calls so far.
    pub fn forget_calls(&self) {
        self.state().calls.clear();
    }

    /// How many connections were opened so far.
    pub fn opened(&self) -> u64 {
        self.state().opened
    }

    /// How many connections are open now, swallowed ones among them.
    pub fn open(&self) -> usize {
        self.state().open.len()
    }

    /// How many swallowed connections were sent a request after that.
    pub fn touched(&self) -> usize {
        self.shared.touched.load(Ordering::SeqCst)
    }

    /// How many TLS handshakes failed: the client did not trust the certificate.
    pub fn handshakes_failed(&self) -> usize {
        self.state().handshakes_failed
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state()
    }

    fn to_open(&self, change: impl Fn(&Control)) -> usize {
        let state = self.state();
        state.open.values().for_each(change);
        state.open.len()
    }

    fn await_listening(&self, listening: bool) {
        // The proxy's thread does it; here is perhaps no runtime to wait in.
        while *self.shared.listens.borrow() != listening {
            std::thread::yield_now();
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic there has been reported on its own.
            let _ended = thread.join();
        }
    }
}
