//! A fake at work on loopback.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::{Router, middleware};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::layer::{Dialect, Front, control, front};
use crate::tls::Encrypted;
use crate::{Clock, Faults, Journal, Tls};

/// What a test has in its hands of a fake.
#[derive(Debug, Clone, Default)]
pub struct Switches {
    /// What was asked.
    pub journal: Arc<Journal>,
    /// What goes wrong.
    pub faults: Arc<Faults>,
    /// What time it is.
    pub clock: Arc<Clock>,
}

/// A fake at work; it ends when this is dropped.
#[derive(Debug)]
pub struct Running {
    address: SocketAddr,
    encrypted: bool,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<io::Result<()>>,
}

impl Running {
    /// Where it listens, with the port that the system chose for port 0.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The same as an address on the web, without a slash at its end.
    pub fn url(&self) -> String {
        let scheme = if self.encrypted { "https" } else { "http" };
        format!("{scheme}://{}", self.address)
    }

    /// Ends it: no new connections, and those that are open close after their answer.
    pub async fn stop(mut self) {
        drop(self.stop.take());
        // Ended on request; how it ended tells nobody anything.
        let _ended = (&mut self.task).await;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Whoever calls `stop` has taken it; for all others the sender's end is the signal.
        drop(self.stop.take());
    }
}

/// Serves on loopback.
///
/// # Errors
/// `InvalidInput` for an address that is not loopback: a fake checks no credential that
/// anybody could not make. Otherwise the system's error.
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
    let state = Arc::new(Front {
        switches: switches.clone(),
        dialect: Box::new(dialect),
    });
    let app = service
        .merge(control(switches.clone()))
        .layer(middleware::from_fn_with_state(state, front));
    let listener = TcpListener::bind(listen).await?;
    let address = listener.local_addr()?;
    let (stop, stopped) = oneshot::channel::<()>();
    let signal = async move {
        // An error says that the sender is gone, which is the signal.
        let _gone = stopped.await;
    };
    let task = match tls {
        Some(tls) => {
            let encrypted = Encrypted::new(listener, tls, address);
            tokio::spawn(async move { axum::serve(encrypted, app).with_graceful_shutdown(signal).await })
        }
        None => tokio::spawn(async move { axum::serve(listener, app).with_graceful_shutdown(signal).await }),
    };
    Ok(Running {
        address,
        encrypted: tls.is_some(),
        stop: Some(stop),
        task,
    })
}
