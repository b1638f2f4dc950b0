//! Serving a fake on loopback.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::serve::ListenerExt;
use axum::{Router, middleware};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::middleware::{Dialect, FakeLayer, control, intercept};
use crate::tls::TlsListener;
use crate::{Switches, Tls};

/// A running fake. It stops when dropped.
#[derive(Debug)]
pub struct Running {
    address: SocketAddr,
    encrypted: bool,
    connections: Arc<AtomicUsize>,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<io::Result<()>>,
}

impl Running {
    /// The address it listens on, with the actual port.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The base URL, without a trailing slash.
    pub fn url(&self) -> String {
        let scheme = if self.encrypted { "https" } else { "http" };
        format!("{scheme}://{}", self.address)
    }

    /// How many connections it has accepted so far, TLS included.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// Stops it: accepts no new connections, and closes open ones after their current response.
    pub async fn stop(mut self) {
        drop(self.stop.take());
        // It was asked to stop, so its result does not matter.
        let _stopped = (&mut self.task).await;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Dropping the sender is the signal to stop.
        drop(self.stop.take());
    }
}

/// Serves a service on loopback, behind the journal, the faults and the control endpoints.
///
/// # Errors
/// `InvalidInput` for an address that is not loopback, because a fake protects nothing.
/// Otherwise the system's error.
pub async fn serve(
    service: Router,
    dialect: impl Dialect,
    switches: &Switches,
    listen: SocketAddr,
    tls: Option<&Tls>,
) -> io::Result<Running> {
    if !listen.ip().is_loopback() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "a fake listens on loopback only"));
    }
    let state = Arc::new(FakeLayer {
        switches: switches.clone(),
        dialect: Box::new(dialect),
    });
    let app = service
        .merge(control(switches.clone()))
        .layer(middleware::from_fn_with_state(state, intercept));
    let listener = TcpListener::bind(listen).await?;
    let address = listener.local_addr()?;
    let (stop, stopped) = oneshot::channel::<()>();
    let signal = async move {
        // An error means that the sender was dropped, which is the signal.
        let _dropped = stopped.await;
    };
    let connections = Arc::new(AtomicUsize::new(0));
    let accepted = Arc::clone(&connections);
    let count = move || {
        accepted.fetch_add(1, Ordering::Relaxed);
    };
    let task = match tls {
        Some(tls) => {
            let encrypted = TlsListener::new(listener, tls, address).tap_io(move |_| count());
            tokio::spawn(async move { axum::serve(encrypted, app).with_graceful_shutdown(signal).await })
        }
        None => {
            let plain = listener.tap_io(move |_| count());
            tokio::spawn(async move { axum::serve(plain, app).with_graceful_shutdown(signal).await })
        }
    };
    Ok(Running {
        address,
        encrypted: tls.is_some(),
        connections,
        stop: Some(stop),
        task,
    })
}
