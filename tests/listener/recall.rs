//! What a revocation recalls of responses that were handed over.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use claviger::config::server::Limits;
use claviger::listener::{Listener, Recall};
use http::Request;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream, UnixStream};
use tokio_rustls::TlsConnector;

use crate::setup::{PATIENCE, app, certificate, limits, reached_by, read_to_close, tls};

/// What is revoked.
const REVOKED: [u8; 16] = [7; 16];
/// More than the systems on both sides take for a peer that reads nothing.
const LARGE: usize = 1024;
/// So little that the gateway's system takes all of it.
const SMALL: usize = 12;

/// A peer whose system takes next to nothing that it does not read.
async fn deaf(address: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    socket.connect(address).await.unwrap()
}

async fn ask(stream: &mut TcpStream, id: u8, kib: usize, more: &str) {
    let request = format!("GET /depends/{id}/{kib} HTTP/1.1\r\nhost: x\r\n{more}\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    stream.readable().await.unwrap();
}

/// What the peer's system has, in bytes.
async fn at_hand(stream: &TcpStream) -> usize {
    stream.peek(&mut vec![0; 1 << 20]).await.unwrap()
}

#[tokio::test]
async fn what_the_peer_does_not_have_is_never_sent() {
    let recall = Arc::default();
    let running = reached_by(&recall, None).await;
    // Half of a response that is large, and one that was written to its end: on a connection that stays open, and on one
    // that has ended for the gateway.
    for (kib, more) in [(LARGE, ""), (SMALL, ""), (SMALL, "connection: close\r\n")] {
        let mut peer = deaf(running.local_addr()).await;
        ask(&mut peer, 7, kib, more).await;
        let mut other = deaf(running.local_addr()).await;
        ask(&mut other, 8, kib, "connection: close\r\n").await;
        recall.depending_on(&REVOKED).await;
        let at_hand = at_hand(&peer).await;
        let received = read_to_close(&mut peer).await.len();
        assert_eq!(received, at_hand, "of {kib} KiB {more}");
        assert!(received < kib << 10, "{received}");
        // A response that depends on nothing of it is left alone.
        assert!(read_to_close(&mut other).await.len() > kib << 10);
    }
}

#[tokio::test]
async fn who_reads_has_all_of_it_and_keeps_the_connection() {
    let recall = Arc::default();
    let running = reached_by(&recall, None).await;
    let mut peer = TcpStream::connect(running.local_addr()).await.unwrap();
    for _ in 0..3 {
        ask(&mut peer, 7, SMALL, "").await;
        recall.depending_on(&REVOKED).await;
        let at_hand = at_hand(&peer).await;
        assert!(at_hand > SMALL << 10, "{at_hand}");
        let mut answer = vec![0; at_hand];
        peer.read_exact(&mut answer).await.unwrap();
    }
}

/// A connection that makes room for another one ends once its peer has what it was answered, however slowly it reads.
#[tokio::test]
async fn who_makes_room_has_all_of_its_response() {
    let one = Limits {
        max_connections: 1,
        ..limits()
    };
    let listener = Listener::bind((Ipv4Addr::LOCALHOST, 0).into(), None, one).await.unwrap();
    let running = listener.reached_by(&Arc::default()).serve(app());
    let mut peer = deaf(running.local_addr()).await;
    ask(&mut peer, 8, SMALL, "").await;
    let address = running.local_addr();
    let other = tokio::spawn(async move {
        let mut other = TcpStream::connect(address).await.unwrap();
        ask(&mut other, 8, 1, "connection: close\r\n").await;
        read_to_close(&mut other).await.len()
    });
    let mut received = 0;
    let mut some = [0; 1024];
    loop {
        // It reads slowly, so that the other one waits for it.
        tokio::time::sleep(Duration::from_millis(50)).await;
        match peer.read(&mut some).await {
            Ok(count @ 1..) => received += count,
            Ok(0) | Err(_) => break,
        }
    }
    assert!(received > SMALL << 10, "{received}");
    assert!(other.await.unwrap() > 1 << 10);
}

#[tokio::test]
async fn it_is_not_sent_over_tls_either() {
    let certificate = certificate();
    let recall = Arc::default();
    let running = reached_by(&recall, Some(tls(&certificate))).await;
    let mut roots = rustls::RootCertStore::empty();
    let der = rustls::pki_types::pem::PemObject::from_pem_slice(certificate.pem.as_bytes()).unwrap();
    roots.add(der).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let peer = deaf(running.local_addr()).await;
    let name = ServerName::try_from("localhost").unwrap();
    let mut peer = TlsConnector::from(Arc::new(config)).connect(name, peer).await.unwrap();
    let request = format!("GET /depends/7/{LARGE} HTTP/1.1\r\nhost: x\r\n\r\n");
    peer.write_all(request.as_bytes()).await.unwrap();
    let mut first = [0; 1];
    peer.read_exact(&mut first).await.unwrap();
    recall.depending_on(&REVOKED).await;
    // The records that have arrived, in part or whole.
    let at_hand = at_hand(peer.get_ref().0).await + (32 << 10);
    let received = read_to_close(&mut peer).await.len();
    assert!(received <= at_hand && received < LARGE << 10, "{received} {at_hand}");
}

#[tokio::test]
async fn over_http_2_the_connection_ends_with_the_stream_that_nobody_reads() {
    const WINDOW: u32 = 16 << 10;
    let recall = Arc::default();
    let running = reached_by(&recall, None).await;
    let stream = TcpStream::connect(running.local_addr()).await.unwrap();
    let mut builder = h2::client::Builder::new();
    builder.initial_window_size(WINDOW);
    let (send, connection) = builder.handshake::<_, Bytes>(stream).await.unwrap();
    let ended = tokio::spawn(async move { drop(connection.await) });
    let mut ready = send.ready().await.unwrap();
    let request = Request::get(format!("http://gateway/depends/7/{LARGE}")).body(()).unwrap();
    let (response, _) = ready.send_request(request, true).unwrap();
    let mut body = response.await.unwrap().into_body();
    recall.depending_on(&REVOKED).await;
    let mut received = 0;
    while let Some(Ok(bytes)) = body.data().await {
        received += bytes.len();
        let _ = body.flow_control().release_capacity(bytes.len());
    }
    assert!(received <= WINDOW as usize, "{received}");
    tokio::time::timeout(PATIENCE, ended).await.unwrap().unwrap();
}

#[tokio::test]
async fn over_a_unix_socket_the_rest_is_not_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let recall: Arc<Recall> = Arc::default();
    let listener = Listener::bind_unix(&path, limits()).await.unwrap();
    let _running = listener.reached_by(&recall).serve(app());
    let mut peer = UnixStream::connect(&path).await.unwrap();
    let request = format!("GET /depends/7/{LARGE} HTTP/1.1\r\nhost: x\r\n\r\n");
    peer.write_all(request.as_bytes()).await.unwrap();
    peer.readable().await.unwrap();
    recall.depending_on(&REVOKED).await;
    let received = read_to_close(&mut peer).await.len();
    assert!(received < LARGE << 10, "{received}");
}
