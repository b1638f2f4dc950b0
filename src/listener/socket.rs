//! The kinds of sockets that a listener accepts from.

use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};

use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

use super::open_socket::Stream;
use super::service::PeerAddress;

/// Bytes that the kernel takes for a connection before it has sent what it took earlier. So the bytes
/// that it takes show how fast the peer reads: without a bound it takes megabytes at once.
const UNSENT: u32 = 16 << 10;

/// A bound socket.
pub trait Socket: Send + Sync + 'static {
    /// The type of the socket's own address.
    type Address: Clone + Send + std::fmt::Debug;
    /// An accepted connection.
    type Stream: Stream;

    /// Waits for the next connection.
    fn accept(&self) -> impl Future<Output = io::Result<(Self::Stream, PeerAddress)>> + Send;
}

impl Socket for TcpListener {
    type Address = SocketAddr;
    type Stream = TcpStream;

    async fn accept(&self) -> io::Result<(TcpStream, PeerAddress)> {
        let (stream, address) = Self::accept(self).await?;
        // Answers are written whole, so waiting for more bytes only adds latency. A socket that
        // refuses an option is about to fail anyway.
        let _ = stream.set_nodelay(true);
        let _ = SockRef::from(&stream).set_tcp_notsent_lowat(UNSENT);
        // A socket for both families names an IPv4 peer by its mapped IPv6 address.
        let address = SocketAddr::new(address.ip().to_canonical(), address.port());
        Ok((stream, PeerAddress::Ip(address)))
    }
}

/// A Unix socket. Its file is removed when it is dropped.
pub struct UnixSocket {
    socket: UnixListener,
    path: PathBuf,
}

impl UnixSocket {
    /// Binds the path, for this process's user alone. Replaces the file of a socket on which nobody
    /// listens any more.
    ///
    /// # Errors
    /// When the path cannot be bound, or a process listens there.
    pub(super) async fn bind(path: &Path) -> io::Result<Self> {
        let socket = match UnixListener::bind(path) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && is_abandoned(path).await => {
                std::fs::remove_file(path)?;
                UnixListener::bind(path)?
            }
            bound => bound?,
        };
        let bound = Self {
            socket,
            path: path.to_owned(),
        };
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
        Ok(bound)
    }
}

/// Whether the path is a socket that refuses connections.
async fn is_abandoned(path: &Path) -> bool {
    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket());
    is_socket
        && UnixStream::connect(path)
            .await
            .is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
}

impl Drop for UnixSocket {
    fn drop(&mut self) {
        // A file that is gone already needs no removal.
        let _ = std::fs::remove_file(&self.path);
    }
}

impl Socket for UnixSocket {
    type Address = PathBuf;
    type Stream = UnixStream;

    async fn accept(&self) -> io::Result<(UnixStream, PeerAddress)> {
        let (stream, _) = self.socket.accept().await?;
        let peer = stream.peer_cred()?;
        let address = PeerAddress::Unix {
            uid: peer.uid(),
            gid: peer.gid(),
        };
        Ok((stream, address))
    }
}
