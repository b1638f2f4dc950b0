//! What ends a connection that is dead, and what a server says that it did not process.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use reqwest::Method;
use reqwest::header::HeaderMap;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use zeroize::Zeroizing;

use super::{Authorities, Client, Egress, EgressPolicy, Options, Request, Script, SendError, egress, get, options};
use crate::Share;

/// How long an end is waited for.
const PATIENCE: Duration = Duration::from_secs(40);

/// More than our limit and the pause between two probes of TCP, and less than reqwest's own limit of 30 s.
const SOON: Duration = Duration::from_secs(25);

/// More than a ping and the time for its answer take, and less than the HTTP client's own limit of 25 s.
const PINGED: Duration = Duration::from_secs(20);

/// Types of HTTP/2's frames (RFC 9113, section 6).
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
/// The flags ACK, and END_STREAM with END_HEADERS.
const ACK: u8 = 1;
const WHOLE: u8 = 5;
/// Codes of RST_STREAM and GOAWAY (RFC 9113, section 7).
const NO_ERROR: u32 = 0;
const INTERNAL_ERROR: u32 = 2;
const REFUSED_STREAM: u32 = 7;
const CANCEL: u32 = 8;
/// A header block with status 200 alone: entry 8 of the static table (RFC 7541).
const STATUS_200: &[u8] = &[0x88];

/// A server of HTTP/2, as bare frames.
struct Http2 {
    listener: TcpListener,
    acceptor: TlsAcceptor,
}

impl Http2 {
    /// The server, and a client that trusts it, whose calls have this time.
    async fn start(timeout: Duration) -> (Self, Client) {
        let egress = egress(&Script::new(&[&["127.0.0.1"]]));
        let made = rcgen::generate_simple_self_signed(vec!["kms.test".to_owned()]).unwrap();
        let key = PrivateKeyDer::from_pem_slice(made.signing_key.serialize_pem().as_bytes()).unwrap();
        let mut config = rustls::ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        config.alpn_protocols = vec![b"h2".to_vec()];
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("https://kms.test:{}", listener.local_addr().unwrap().port());
        let options = Options {
            authorities: Authorities::from_pem(&made.cert.pem()).unwrap(),
            timeout,
            ..options()
        };
        let client = egress.client(egress.destination(&address).unwrap(), options).unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        (Self { listener, acceptor }, client)
    }

    async fn accept(&self) -> Connection {
        let (stream, _) = self.listener.accept().await.unwrap();
        let mut stream = self.acceptor.accept(stream).await.unwrap();
        let mut preface = [0; 24];
        stream.read_exact(&mut preface).await.unwrap();
        let mut connection = Connection(stream);
        connection.write(SETTINGS, 0, 0, &[]).await;
        connection
    }
}

struct Connection(TlsStream<TcpStream>);

impl Connection {
    async fn write(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let mut frame = length[1..].to_vec();
        frame.extend([kind, flags]);
        frame.extend(stream.to_be_bytes());
        frame.extend(payload);
        self.0.write_all(&frame).await.unwrap();
        self.0.flush().await.unwrap();
    }

    /// The next frame's type and stream; `None` at the end of the connection.
    async fn read(&mut self) -> Option<(u8, u32)> {
        let mut head = [0; 9];
        self.0.read_exact(&mut head).await.ok()?;
        let mut payload = vec![0; usize::from(head[1]) << 8 | usize::from(head[2])];
        self.0.read_exact(&mut payload).await.ok()?;
        if (head[3], head[4]) == (SETTINGS, 0) {
            self.write(SETTINGS, ACK, 0, &[]).await;
        }
        Some((head[3], u32::from_be_bytes([head[5], head[6], head[7], head[8]])))
    }

    /// The stream of the next request.
    async fn request(&mut self) -> u32 {
        loop {
            let (kind, stream) = self.read().await.expect("a request");
            if kind == HEADERS {
                return stream;
            }
        }
    }

    async fn answer(&mut self, stream: u32) {
        self.write(HEADERS, WHOLE, stream, STATUS_200).await;
    }

    async fn refuse(&mut self, how: Refusal, stream: u32) {
        match how {
            Refusal::GoAway { last, code } => {
                let payload = [last.to_be_bytes(), code.to_be_bytes()].concat();
                self.write(GOAWAY, 0, 0, &payload).await;
            }
            Refusal::Reset { code } => self.write(RST_STREAM, 0, stream, &code.to_be_bytes()).await,
            Refusal::Close => {}
        }
    }
}

/// How a server leaves a request without a response, and then closes the connection.
#[derive(Debug, Clone, Copy)]
enum Refusal {
    GoAway {
        /// The last stream that it says it may have processed. A request is the first of its connection: stream 1.
        last: u32,
        code: u32,
    },
    Reset {
        code: u32,
    },
    Close,
}

/// A call that changes something at the provider, as one that makes a key does.
async fn post(client: &Client) -> Result<u16, SendError> {
    let call = Request {
        method: Method::POST,
        path: &["v1"],
        query: &[],
        headers: HeaderMap::new(),
        json: Some(Zeroizing::new(b"{}".to_vec())),
    };
    client.send(call).await.map(|answer| answer.status.as_u16())
}

/// A call to a server that refuses the first requests so, as many as these, and answers the next one. Returns the
/// result, and how often the call arrived.
async fn refused_times(times: usize, how: Refusal) -> (Result<u16, SendError>, usize) {
    let (server, client) = Http2::start(PATIENCE).await;
    let arrived = AtomicUsize::new(0);
    let serve = async {
        loop {
            let mut connection = server.accept().await;
            let stream = connection.request().await;
            if arrived.fetch_add(1, Ordering::Relaxed) < times {
                connection.refuse(how, stream).await;
                // Until the client has read it.
                connection.0.shutdown().await.unwrap();
                while connection.read().await.is_some() {}
            } else {
                connection.answer(stream).await;
                while connection.read().await.is_some() {}
            }
        }
    };
    let result = tokio::select! {
        result = post(&client) => result,
        () = serve => unreachable!(),
    };
    (result, arrived.into_inner())
}

#[tokio::test]
async fn a_connection_of_http2_is_pinged_and_closed_without_an_answer() {
    let (server, client) = Http2::start(PATIENCE).await;
    let serve = async {
        let mut connection = server.accept().await;
        let stream = connection.request().await;
        connection.answer(stream).await;
        let mut pings = 0;
        // It answers none.
        while let Some((kind, _)) = connection.read().await {
            pings += u32::from(kind == PING);
        }
        pings
    };
    let (answer, pings) = tokio::join!(get(&client), timeout(PATIENCE, serve));
    answer.unwrap();
    assert_eq!(pings.unwrap(), 1);
}

/// The other side is gone while it owes a response, and its socket stays open: the call ends before its time, and the
/// next one has a new connection.
#[tokio::test]
async fn a_call_on_a_silent_connection_of_http2_ends_and_the_next_one_is_answered() {
    let (server, client) = Http2::start(PATIENCE * 2).await;
    let serve = async {
        let mut silent = server.accept().await;
        silent.request().await;
        let mut next = server.accept().await;
        let stream = next.request().await;
        next.answer(stream).await;
        (silent, next)
    };
    let call = async {
        let lost = timeout(PINGED, post(&client)).await.expect("an end by the pings");
        assert!(matches!(lost, Err(SendError::Timeout)), "{lost:?}");
        get(&client).await.map(|answer| answer.status)
    };
    let (answer, served) = tokio::join!(call, timeout(PATIENCE, serve));
    assert_eq!(answer.unwrap(), 200);
    drop(served.unwrap());
}

#[tokio::test]
async fn what_a_server_did_not_process_is_sent_again() {
    let last = 0;
    for how in [Refusal::GoAway { last, code: NO_ERROR }, Refusal::Reset { code: REFUSED_STREAM }] {
        let (result, arrived) = refused_times(1, how).await;
        assert_eq!(result.unwrap(), 200, "{how:?}");
        assert_eq!(arrived, 2, "{how:?}");
        // A server that processes nothing is not asked for ever.
        let (result, arrived) = refused_times(usize::MAX, how).await;
        assert!(matches!(result, Err(SendError::Broken(_))), "{how:?}: {result:?}");
        assert_eq!(arrived, 3, "{how:?}");
    }
}

/// Whether a change took effect then is not known.
#[tokio::test]
async fn what_a_server_may_have_processed_is_sent_once() {
    for how in [
        Refusal::GoAway { last: 1, code: NO_ERROR },
        Refusal::GoAway {
            last: 1,
            code: INTERNAL_ERROR,
        },
        Refusal::Reset { code: NO_ERROR },
        Refusal::Reset { code: INTERNAL_ERROR },
        Refusal::Reset { code: CANCEL },
        Refusal::Close,
    ] {
        let (result, arrived) = refused_times(1, how).await;
        assert!(matches!(result, Err(SendError::Broken(_))), "{how:?}: {result:?}");
        assert_eq!(arrived, 1, "{how:?}");
    }
}

/// The other side takes no bytes, as one does that is gone: TCP gives up what it does not acknowledge, before the limit
/// of the call.
#[tokio::test]
async fn bytes_that_nobody_takes_end_a_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address: SocketAddr = listener.local_addr().unwrap();
    let egress = egress(&Script::new(&[]));
    let destination = egress.destination(&format!("http://{address}")).unwrap();
    let options = Options {
        timeout: PATIENCE * 2,
        ..options()
    };
    let client = egress.client(destination, options).unwrap();
    let call = Request {
        method: Method::POST,
        path: &["v1"],
        query: &[],
        headers: HeaderMap::new(),
        json: Some(Zeroizing::new(vec![b' '; 32 << 20])),
    };
    let (sent, accepted) = tokio::join!(timeout(SOON, client.send(call)), listener.accept());
    let sent = sent.expect("an end before that of the HTTP client").map(|answer| answer.status);
    assert!(matches!(sent, Err(SendError::Timeout | SendError::Broken(_))), "{sent:?}");
    drop(accepted);
}

/// Behind a load balancer, the open connection leads to a server that cannot serve, and a new one to another server.
#[tokio::test]
async fn a_server_that_cannot_serve_is_not_asked_again_on_its_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let egress = egress(&Script::new(&[]));
    let destination = egress.destination(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
    let client = egress.client(destination, options()).unwrap();
    tokio::spawn(async move {
        for status in ["503 Sealed", "200 OK"] {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let mut request = Vec::new();
                while stream.read_buf(&mut request).await.is_ok_and(|read| read > 0) {
                    if request.ends_with(b"\r\n\r\n") {
                        request.clear();
                        let response = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n");
                        stream.write_all(response.as_bytes()).await.unwrap();
                    }
                }
            });
        }
    });
    assert_eq!(get(&client).await.unwrap().status, 503);
    assert_eq!(get(&client).await.unwrap().status, 200);
}

/// The queue of the first address is full, so what is sent to it gets no answer, as from a host that is gone.
#[tokio::test]
async fn an_address_that_swallows_what_is_sent_leaves_time_for_the_next() {
    let good = TcpListener::bind("127.0.0.2:0").await.unwrap();
    let port = good.local_addr().unwrap().port();
    let full = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    full.bind(&SocketAddr::from(([127, 0, 0, 3], port)).into()).unwrap();
    full.listen(0).unwrap();
    let _queued = TcpStream::connect(("127.0.0.3", port)).await.unwrap();
    let silent = timeout(Duration::from_millis(500), TcpStream::connect(("127.0.0.3", port)));
    assert!(silent.await.is_err(), "its queue is not full");
    let policy = EgressPolicy {
        allow: vec!["127.0.0.0/8".parse().unwrap()],
        allow_plain_http: true,
    };
    let egress = Egress::with_lookup(policy, Script::new(&[&["127.0.0.3", "127.0.0.2"]]));
    let dialer = egress.dialer(Share::default());
    let opened = dialer.connect("two.test", port, Duration::from_secs(2)).await.unwrap();
    assert_eq!(opened.peer_addr().unwrap(), good.local_addr().unwrap());
}
