//! A fake's control from another process: lines of JSON over TCP on loopback.
//!
//! Each line is a [`Request`], each answer one line: `{"ok": true}`, with `"journal"` where
//! one was asked for, or `{"ok": false, "error": "..."}`. For instance
//! `{"do": "plan", "op": "unwrap_key", "fault": {"kind": "hang"}, "times": 2}`.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use claviger_provider::KeyState;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

use crate::{FakeServer, Journal, Plan};

/// The most bytes of one line.
const MAX_LINE: u64 = 64 * 1024;

/// The most connections at once; the next waits.
const MAX_CONNECTIONS: usize = 16;

/// What a fake can be told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// The requests that follow on this connection are for the named server
    /// ([`FakeServer::named`]).
    Server {
        /// Its name.
        name: String,
    },
    /// Plans a fault.
    Plan(Plan),
    /// Forgets all faults and opens the gate.
    Clear,
    /// Lets through who waits at the gate.
    OpenGate,
    /// Answers with the journal.
    Journal,
    /// Starts a new journal.
    ResetJournal,
    /// Makes a key that no gateway made.
    MakeKey {
        /// The server's name of it.
        id: String,
    },
    /// Removes a key.
    RemoveKey {
        /// The server's name of it.
        id: String,
    },
    /// Gives a key a new version, as its owner may at any time; the older ones wrap no more.
    RotateKey {
        /// The server's name of it.
        id: String,
    },
    /// Enables or disables a key at the server.
    ChangeState {
        /// The server's name of it.
        id: String,
        /// Whether it is to be usable.
        enabled: bool,
    },
}

/// What a fake answers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// Whether it was done.
    pub ok: bool,
    /// The journal, if asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub journal: Option<Journal>,
    /// Why it was not done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// A control port; closed when dropped.
pub struct Control {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Control {
    /// Where it listens, with the port that the system chose for port 0.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Opens a control port.
///
/// # Errors
/// `InvalidInput` for an address that is not loopback: whoever reaches the port commands the
/// fake. Otherwise the system's error.
pub async fn serve(address: SocketAddr, server: Arc<FakeServer>) -> io::Result<Control> {
    if !address.ip().is_loopback() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "a fake's control port listens on loopback only",
        ));
    }
    let listener = TcpListener::bind(address).await?;
    let address = listener.local_addr()?;
    let task = tokio::spawn(async move {
        // Aborting this task drops the set, which aborts the connections.
        let mut connections = JoinSet::new();
        loop {
            if connections.len() >= MAX_CONNECTIONS {
                connections.join_next().await;
            }
            let Ok((stream, _)) = listener.accept().await else {
                return;
            };
            let server = Arc::clone(&server);
            // A connection that breaks is its client's to notice.
            connections.spawn(async move { converse(stream, server).await.ok() });
        }
    });
    Ok(Control { address, task })
}

async fn converse(stream: TcpStream, first: Arc<FakeServer>) -> io::Result<()> {
    let mut server = Arc::clone(&first);
    let (read, mut write) = stream.into_split();
    let mut read = BufReader::new(read);
    loop {
        let Some(line) = line(&mut read).await? else {
            return Ok(());
        };
        let answer = match serde_json::from_str(&line) {
            Ok(Request::Server { name }) => {
                server = first.named(&name);
                done()
            }
            Ok(request) => obey(&server, request),
            Err(error) => refused(error.to_string()),
        };
        let mut text = serde_json::to_vec(&answer)?;
        text.push(b'\n');
        write.write_all(&text).await?;
    }
}

/// The next line; `None` at the end, an error when it is too long.
async fn line(read: &mut (impl AsyncBufReadExt + Unpin)) -> io::Result<Option<String>> {
    let mut line = String::new();
    read.take(MAX_LINE).read_line(&mut line).await?;
    if line.is_empty() {
        Ok(None)
    } else if line.ends_with('\n') {
        Ok(Some(line))
    } else {
        Err(io::Error::new(io::ErrorKind::InvalidData, "a line is cut off or too long"))
    }
}

fn done() -> Answer {
    Answer {
        ok: true,
        ..Answer::default()
    }
}

fn refused(error: String) -> Answer {
    Answer {
        ok: false,
        journal: None,
        error: Some(error),
    }
}

fn obey(server: &FakeServer, request: Request) -> Answer {
    let mut answer = done();
    match request {
        // Only the connection knows which server it is for.
        Request::Server { .. } => {}
        Request::Plan(plan) => server.faults().plan(plan),
        Request::Clear => server.faults().clear(),
        Request::OpenGate => server.faults().open_gate(),
        Request::Journal => answer.journal = Some(server.faults().journal()),
        Request::ResetJournal => server.faults().reset_journal(),
        Request::MakeKey { id } => server.make_key(&id),
        Request::RemoveKey { id } => server.remove_key(&id),
        Request::RotateKey { id } => {
            if !server.rotate_key(&id) {
                return refused("no such key".into());
            }
        }
        Request::ChangeState { id, enabled } => {
            let state = if enabled { KeyState::Enabled } else { KeyState::Disabled };
            if !server.change_state(&id, state) {
                return refused("no such key".into());
            }
        }
    }
    answer
}

/// The other end of a control port.
pub struct Client {
    read: BufReader<tokio::net::tcp::OwnedReadHalf>,
    write: tokio::net::tcp::OwnedWriteHalf,
}

impl Client {
    /// Connects to a control port.
    ///
    /// # Errors
    /// The system's.
    pub async fn connect(address: SocketAddr) -> io::Result<Self> {
        let (read, write) = TcpStream::connect(address).await?.into_split();
        Ok(Self {
            read: BufReader::new(read),
            write,
        })
    }

    /// Tells the fake something and gives its answer.
    ///
    /// # Errors
    /// `InvalidInput` with the fake's words when it refuses; otherwise the connection's error.
    pub async fn tell(&mut self, request: &Request) -> io::Result<Answer> {
        let mut text = serde_json::to_vec(request)?;
        text.push(b'\n');
        self.write.write_all(&text).await?;
        let line = line(&mut self.read).await?.ok_or(io::ErrorKind::UnexpectedEof)?;
        let answer: Answer = serde_json::from_str(&line)?;
        if answer.ok {
            Ok(answer)
        } else {
            Err(io::Error::new(io::ErrorKind::InvalidInput, answer.error.unwrap_or_default()))
        }
    }

    /// The fake's journal.
    ///
    /// # Errors
    /// See [`Client::tell`].
    pub async fn journal(&mut self) -> io::Result<Journal> {
        Ok(self.tell(&Request::Journal).await?.journal.unwrap_or_default())
    }
}
