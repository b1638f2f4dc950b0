//! Attacks on the places for connections.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::Attacker;
use crate::{Endpoint, Stream};

/// Sockets, as many as the listener takes by default.
const SOCKETS: usize = 1024;
/// Machines of the attack from many addresses.
const MACHINES: usize = 16;
/// Time between two probes on a connection: shorter than an idle one lives.
const PROBE: Duration = Duration::from_secs(50);
/// Time before a socket that was closed is opened again.
const AGAIN: Duration = Duration::from_secs(1);

/// Sends one probe to this path, and says whether it was answered with 200.
pub async fn is_probed(stream: &mut Stream, path: &str) -> bool {
    let mut chunk = [0; 4096];
    let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n");
    if stream.write_all(request.as_bytes()).await.is_err() {
        return false;
    }
    let answered = stream.read(&mut chunk).await;
    matches!(answered, Ok(1..)) && chunk.starts_with(b"HTTP/1.1 200")
}

/// Opens sockets from one address; every fourth sends a probe at first.
pub(super) fn idle_sockets(tasks: &mut JoinSet<()>, attacker: &Attacker) {
    for number in 0..SOCKETS {
        keep(tasks, attacker, attacker.way.machine(0), number % 4 == 0);
    }
}

/// Opens connections from several addresses, and keeps them by a probe.
pub(super) fn idle_connections(tasks: &mut JoinSet<()>, attacker: &Attacker) {
    for number in 0..SOCKETS {
        keep(tasks, attacker, attacker.way.machine(number % MACHINES), true);
    }
}

/// Keeps a connection, and opens it again when it was closed.
fn keep(tasks: &mut JoinSet<()>, attacker: &Attacker, endpoint: Endpoint, probes: bool) {
    let answers = attacker.answers.clone();
    tasks.spawn(async move {
        loop {
            if let Ok(mut stream) = endpoint.connect("http/1.1").await {
                while !probes || is_probed(&mut stream, "/healthz").await {
                    if probes {
                        answers.note(200);
                    }
                    let closed = timeout(PROBE, stream.read(&mut [0])).await;
                    if closed.is_ok() {
                        break;
                    }
                }
            }
            answers.note(0);
            tokio::time::sleep(AGAIN).await;
        }
    });
}
