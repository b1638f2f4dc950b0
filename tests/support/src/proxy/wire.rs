//! One connection to the proxy, below TLS: what it carries, until it is swallowed or reset.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, DuplexStream, copy_bidirectional, duplex};
use tokio::net::TcpStream;
use tokio::sync::watch;

/// The bytes between the socket and the server, in each direction.
const BUFFER: usize = 64 * 1024;

/// Less than any request has, and more than the farewells of TLS and HTTP/2 with a ping before them.
const REQUEST: usize = 128;

/// What becomes of a connection's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wire {
    /// They pass.
    Open,
    /// They are read and thrown away, and nothing is sent, not even an end.
    Swallowed,
    /// The connection is reset.
    Reset,
}

/// The test's end of an open connection.
#[derive(Debug, Clone)]
pub(super) struct Control {
    pub(super) number: u64,
    pub(super) wire: watch::Sender<Wire>,
    /// Whether the server is to say that the connection takes no more requests.
    pub(super) draining: watch::Sender<bool>,
}

impl Control {
    pub(super) fn new(number: u64, wire: Wire) -> Self {
        Self {
            number,
            wire: watch::Sender::new(wire),
            draining: watch::Sender::new(false),
        }
    }
}

/// Splits a socket from the server that answers it: returns the server's end, and what carries the bytes.
/// `touched` counts the swallowed connections that were sent a request.
pub(super) fn split(tcp: TcpStream, control: &Control, touched: Arc<AtomicUsize>) -> (DuplexStream, impl Future<Output = ()> + use<>) {
    let (near, far) = duplex(BUFFER);
    let carried = carry(tcp, far, control.wire.subscribe(), touched);
    (near, carried)
}

async fn carry(mut tcp: TcpStream, mut far: DuplexStream, mut wire: watch::Receiver<Wire>, touched: Arc<AtomicUsize>) {
    let state = tokio::select! {
        biased;
        state = wire.wait_for(|wire| *wire != Wire::Open) => state.map_or(Wire::Reset, |state| *state),
        _ended = copy_bidirectional(&mut tcp, &mut far) => return,
    };
    match state {
        Wire::Open => {}
        Wire::Swallowed => {
            drop(far);
            let reset = wire.wait_for(|wire| *wire == Wire::Reset);
            tokio::select! {
                // Whatever the client does to its end.
                _ended = swallow(&mut tcp, &touched) => {}
                _reset = reset => reset_now(&tcp),
            }
        }
        Wire::Reset => reset_now(&tcp),
    }
}

async fn swallow(tcp: &mut TcpStream, touched: &AtomicUsize) -> io::Result<()> {
    let mut bytes = [0; 4096];
    let mut swallowed = 0;
    loop {
        let read = tcp.read(&mut bytes).await?;
        if read == 0 {
            return Ok(());
        }
        if swallowed < REQUEST && swallowed + read >= REQUEST {
            touched.fetch_add(1, Ordering::SeqCst);
        }
        swallowed += read;
    }
}

/// The socket's drop sends a reset from now on.
fn reset_now(tcp: &TcpStream) {
    let set = tcp.set_zero_linger();
    set.expect("an open socket");
}
