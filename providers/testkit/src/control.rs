//! Control of a fake from another process: lines of JSON over TCP on loopback.
//!
//! Each line is a [`Request`]; the response is one line: `{"ok": true}`, with `"journal"` if
//! requested, or `{"ok": false, "error": "..."}`. For example
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

/// The longest line, in bytes.
const MAX_LINE: u64 = 64 * 1024;

/// The most connections at once; further ones wait.
const MAX_CONNECTIONS: usize = 16;

/// A command to a fake.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// The requests that follow on this connection are for the named server
    /// ([`FakeServer::named`]).
    Server {
        /// Name of the server.
        name: String,
    },
    /// Plans a fault.
    Plan(Plan),
    /// Removes all faults and opens the gate.
    Clear,
    /// Releases the calls that wait at the gate.
    OpenGate,
    /// Returns the journal.
    Journal,
    /// Clears the journal.
    ResetJournal,
    /// Creates a key outside of the gateway.
    MakeKey {
        /// The key's id at the server.
        id: String,
    },
    /// Removes a key.
    RemoveKey {
        /// The key's id at the server.
        id: String,
    },
    /// Hides each key that connections create from now on from the next calls with it.
    HideNewKeys {
        /// The number of calls that do not find it.
        calls: u32,
    },
    /// Adds a version to a key, as its owner may. Older versions still wrap where they are named.
    RotateKey {
        /// The key's id at the server.
        id: String,
    },
    /// Makes the versions that a key has now exportable and allows their backup in plaintext.
    ExposeKey {
        /// The key's id at the server.
        id: String,
    },
    /// Lets the server fail whenever it is to use a key, or use it again.
    BreakKey {
        /// The key's id at the server.
        id: String,
        /// Whether it fails.
        broken: bool,
    },
    /// Enables or disables one version of a key at the server.
    ChangeVersion {
        /// The key's id at the server.
        id: String,
        /// The version's number.
        version: usize,
        /// Whether the version shall be enabled.
        enabled: bool,
    },
    /// Enables or disables a key at the server.
    ChangeState {
        /// The key's id at the server.
        id: String,
        /// Whether the key shall be enabled.
        enabled: bool,
    },
}

/// The response of a fake.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Response {
    /// Whether the command succeeded.
    pub ok: bool,
    /// The journal, if requested.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub journal: Option<Journal>,
    /// Why the command failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// An open control port. It closes when dropped.
pub struct Control {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Control {
    /// The address it listens on, with the actual port.
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
/// `InvalidInput` for an address that is not loopback, because the port has no authentication.
/// Otherwise the system's error.
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
            // A broken connection is reported to its client only.
            connections.spawn(async move { handle(stream, server).await.ok() });
        }
    });
    Ok(Control { address, task })
}

async fn handle(stream: TcpStream, first: Arc<FakeServer>) -> io::Result<()> {
    let mut server = Arc::clone(&first);
    let (read, mut write) = stream.into_split();
    let mut read = BufReader::new(read);
    loop {
        let Some(line) = line(&mut read).await? else {
            return Ok(());
        };
        let response = match serde_json::from_str(&line) {
            Ok(Request::Server { name }) => {
                server = first.named(&name);
                done()
            }
            Ok(request) => execute(&server, request),
            Err(error) => refused(error.to_string()),
        };
        let mut text = serde_json::to_vec(&response)?;
        text.push(b'\n');
        write.write_all(&text).await?;
    }
}

/// The next line; `None` at the end of the stream.
///
/// # Errors
/// For a line that is incomplete or too long.
async fn line(read: &mut (impl AsyncBufReadExt + Unpin)) -> io::Result<Option<String>> {
    let mut line = String::new();
    read.take(MAX_LINE).read_line(&mut line).await?;
    if line.is_empty() {
        Ok(None)
    } else if line.ends_with('\n') {
        Ok(Some(line))
    } else {
        Err(io::Error::new(io::ErrorKind::InvalidData, "a line is incomplete or too long"))
    }
}

fn done() -> Response {
    Response {
        ok: true,
        ..Response::default()
    }
}

fn refused(error: String) -> Response {
    Response {
        ok: false,
        journal: None,
        error: Some(error),
    }
}

fn execute(server: &FakeServer, request: Request) -> Response {
    let mut response = done();
    match request {
        // Only the connection knows which server it is for.
        Request::Server { .. } => {}
        Request::Plan(plan) => server.faults().plan(plan),
        Request::Clear => server.faults().clear(),
        Request::OpenGate => server.faults().open_gate(),
        Request::Journal => response.journal = Some(server.faults().journal()),
        Request::ResetJournal => server.faults().reset_journal(),
        Request::MakeKey { id } => server.make_key(&id),
        Request::RemoveKey { id } => server.remove_key(&id),
        Request::HideNewKeys { calls } => server.hide_new_keys(calls),
        Request::RotateKey { id } => {
            if !server.rotate_key(&id) {
                return refused("no such key".into());
            }
        }
        Request::ExposeKey { id } => {
            if !server.expose_key(&id) {
                return refused("no such key".into());
            }
        }
        Request::BreakKey { id, broken } => {
            if !server.break_key(&id, broken) {
                return refused("no such key".into());
            }
        }
        Request::ChangeVersion { id, version, enabled } => {
            if !server.change_version(&id, version, enabled) {
                return refused("no such version".into());
            }
        }
        Request::ChangeState { id, enabled } => {
            let state = if enabled { KeyState::Enabled } else { KeyState::Disabled };
            if !server.change_state(&id, state) {
                return refused("no such key".into());
            }
        }
    }
    response
}

/// A client of a control port.
pub struct Client {
    read: BufReader<tokio::net::tcp::OwnedReadHalf>,
    write: tokio::net::tcp::OwnedWriteHalf,
}

impl Client {
    /// Connects to a control port.
    ///
    /// # Errors
    /// The system's error.
    pub async fn connect(address: SocketAddr) -> io::Result<Self> {
        let (read, write) = TcpStream::connect(address).await?.into_split();
        Ok(Self {
            read: BufReader::new(read),
            write,
        })
    }

    /// Sends a command and returns the response.
    ///
    /// # Errors
    /// `InvalidInput` with the fake's reason when the command failed; otherwise the connection's error.
    pub async fn tell(&mut self, request: &Request) -> io::Result<Response> {
        let mut text = serde_json::to_vec(request)?;
        text.push(b'\n');
        self.write.write_all(&text).await?;
        let line = line(&mut self.read).await?.ok_or(io::ErrorKind::UnexpectedEof)?;
        let response: Response = serde_json::from_str(&line)?;
        if response.ok {
            Ok(response)
        } else {
            Err(io::Error::new(io::ErrorKind::InvalidInput, response.error.unwrap_or_default()))
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
