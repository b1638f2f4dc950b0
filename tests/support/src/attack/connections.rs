//! Attacks on the places for connections.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::Course;
use crate::raw::{Http2, try_answer_of};
use crate::{Endpoint, Stream, Version};

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

/// A connection that is kept.
enum Kept {
    Http1(Stream),
    Http2(Http2),
}

impl Kept {
    async fn open(endpoint: &Endpoint, version: Version) -> std::io::Result<Self> {
        Ok(match version {
            Version::Http1 => Self::Http1(endpoint.connect(version).await?),
            Version::Http2 => Self::Http2(Http2::try_connect(endpoint, super::WINDOW).await?),
        })
    }

    async fn is_probed(&mut self) -> bool {
        match self {
            Self::Http1(stream) => is_probed(stream, "/healthz").await,
            Self::Http2(connection) => match connection.try_get("", "/healthz").await {
                Ok(response) => try_answer_of(response).await.is_ok_and(|(status, _)| status == 200),
                Err(_) => false,
            },
        }
    }

    async fn closed(&mut self) {
        match self {
            Self::Http1(stream) => drop(stream.read(&mut [0]).await),
            Self::Http2(connection) => connection.closed().await,
        }
    }
}

/// Opens sockets from one address; every fourth sends a probe at first.
pub(super) fn idle_sockets(tasks: &mut JoinSet<()>, course: &Course<'_>) {
    for number in 0..SOCKETS / course.parts {
        keep(tasks, course, 0, number % 4 == 0);
    }
}

/// Opens connections from several addresses, and keeps them by a probe.
pub(super) fn idle_connections(tasks: &mut JoinSet<()>, course: &Course<'_>) {
    for number in 0..SOCKETS / course.parts {
        keep(tasks, course, number % MACHINES, true);
    }
}

/// Keeps a connection, and opens it again when it was closed.
fn keep(tasks: &mut JoinSet<()>, course: &Course<'_>, machine: usize, probes: bool) {
    let (endpoint, version, answers) = (course.machine(machine), course.version, course.answers.clone());
    tasks.spawn(async move {
        loop {
            if let Ok(mut connection) = Kept::open(&endpoint, version).await {
                while !probes || connection.is_probed().await {
                    if probes {
                        answers.note(200);
                    }
                    if timeout(PROBE, connection.closed()).await.is_ok() {
                        break;
                    }
                }
            }
            answers.note(0);
            tokio::time::sleep(AGAIN).await;
        }
    });
}
