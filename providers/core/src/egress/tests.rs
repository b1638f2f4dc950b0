//! Egress against real sockets: names whose addresses change, redirects, proxies, and servers that
//! send too much, too late or another's certificate.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops where an expectation fails")]

mod liveness;
mod places;
mod tls;

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::process::Command;
use std::sync::{Arc, Once};
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use reqwest::Method;
use reqwest::header::HeaderMap;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use wiremock::matchers::any;
use wiremock::{Mock, MockServer, ResponseTemplate};

use super::{Authorities, Client, DialError, Egress, EgressPolicy, Lookup, Options, Request, Response, SendError};
use crate::{ProviderKind, SeverSwitch, Share};

/// Resolves each name to the next list of addresses, and to the last one from then on. Records the
/// names.
#[derive(Default)]
struct Script {
    answers: Mutex<VecDeque<Vec<IpAddr>>>,
    asked: Mutex<Vec<String>>,
}

impl Script {
    fn new(answers: &[&[&str]]) -> Arc<Self> {
        let list = |answer: &&[&str]| answer.iter().map(|address| address.parse().unwrap()).collect();
        Arc::new(Self {
            answers: Mutex::new(answers.iter().map(list).collect()),
            asked: Mutex::default(),
        })
    }
}

#[async_trait]
impl Lookup for Script {
    async fn lookup(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        self.asked.lock().push(name.to_owned());
        let mut answers = self.answers.lock();
        match answers.len() {
            0 | 1 => answers.front().cloned().ok_or(io::ErrorKind::NotFound.into()),
            _ => answers.pop_front().ok_or(io::ErrorKind::NotFound.into()),
        }
    }
}

/// An egress that allows one loopback address only.
fn egress(lookup: &Arc<Script>) -> Egress {
    static STACK: Once = Once::new();
    STACK.call_once(|| drop(rustls::crypto::aws_lc_rs::default_provider().install_default()));
    let policy = EgressPolicy {
        allow: vec!["127.0.0.1/32".parse().unwrap()],
        allow_plain_http: true,
    };
    Egress::with_lookup(policy, Arc::clone(lookup) as Arc<dyn Lookup>)
}

fn options() -> Options {
    Options {
        provider: ProviderKind::Vault,
        authorities: Authorities::Only(Vec::new()),
        client_certificate: None,
        proxy: None,
        connect_timeout: Duration::from_secs(5),
        timeout: Duration::from_secs(20),
        max_response: 1024,
        switch: SeverSwitch::default(),
    }
}

fn client(lookup: &Arc<Script>, address: &str) -> Client {
    let egress = egress(lookup);
    egress.client(egress.destination(address).unwrap(), options()).unwrap()
}

async fn get(client: &Client) -> Result<Response, SendError> {
    let call = Request {
        method: Method::GET,
        path: &["v1"],
        query: &[],
        headers: HeaderMap::new(),
        json: None,
    };
    client.send(call).await
}

fn refused(result: Result<Response, SendError>) {
    assert!(
        matches!(result, Err(SendError::Refused(_))),
        "{:?}",
        result.map(|answer| answer.status)
    );
}

async fn server(address: SocketAddr, answer: ResponseTemplate) -> MockServer {
    let server = MockServer::builder().listener(TcpListener::bind(address).unwrap()).start().await;
    Mock::given(any()).respond_with(answer).mount(&server).await;
    server
}

/// A server on the allowed address, and one on the same port of another loopback address.
async fn neighbours(answer: ResponseTemplate) -> (MockServer, MockServer) {
    let allowed = server("127.0.0.1:0".parse().unwrap(), answer).await;
    let port = allowed.address().port();
    let forbidden = server(SocketAddr::new("127.0.0.2".parse().unwrap(), port), ResponseTemplate::new(200)).await;
    (allowed, forbidden)
}

async fn visits(server: &MockServer) -> usize {
    server.received_requests().await.unwrap().len()
}

#[tokio::test]
async fn a_raw_connection_goes_through_the_policy() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let patience = Duration::from_secs(5);
    let lookup = Script::new(&[&["127.0.0.2", "127.0.0.1"], &["127.0.0.2"]]);
    let dialer = egress(&lookup).dialer(Share::default());
    // Of a name's addresses only the permitted ones are tried.
    let opened = dialer.connect("server.test", port, patience).await.unwrap();
    assert_eq!(opened.peer_addr().unwrap(), listener.local_addr().unwrap());
    dialer.connect("127.0.0.1", port, patience).await.unwrap();
    for host in ["server.test", "127.0.0.2"] {
        let refused = dialer.connect(host, port, patience).await;
        assert!(matches!(refused, Err(DialError::Refused(_))), "{host}: {refused:?}");
    }
    drop(listener);
    let closed = dialer.connect("127.0.0.1", port, patience).await;
    assert!(
        matches!(closed, Err(DialError::Unreachable(io::ErrorKind::ConnectionRefused))),
        "{closed:?}"
    );
}

#[tokio::test]
async fn a_name_that_leads_elsewhere_a_moment_later_is_refused() {
    let closing = ResponseTemplate::new(200).insert_header("connection", "close");
    let (allowed, forbidden) = neighbours(closing).await;
    let lookup = Script::new(&[&["127.0.0.1"], &["127.0.0.2"]]);
    let client = client(&lookup, &format!("http://rebind.test:{}", allowed.address().port()));
    assert_eq!(get(&client).await.unwrap().status, 200);
    refused(get(&client).await);
    assert_eq!((visits(&allowed).await, visits(&forbidden).await), (1, 0));
    assert_eq!(lookup.asked.lock().len(), 2);
}

#[tokio::test]
async fn among_many_addresses_only_permitted_ones_are_met() {
    let (allowed, forbidden) = neighbours(ResponseTemplate::new(200)).await;
    let lookup = Script::new(&[&["127.0.0.2", "169.254.169.254", "::1", "127.0.0.1"]]);
    let client = client(&lookup, &format!("http://many.test:{}", allowed.address().port()));
    assert_eq!(get(&client).await.unwrap().status, 200);
    assert_eq!((visits(&allowed).await, visits(&forbidden).await), (1, 0));
}

#[tokio::test]
async fn a_name_of_special_addresses_alone_is_refused_in_every_form() {
    let (_allowed, forbidden) = neighbours(ResponseTemplate::new(200)).await;
    let port = forbidden.address().port();
    for address in [
        "127.0.0.2",
        "::ffff:127.0.0.2",
        "::127.0.0.2",
        "64:ff9b::7f00:2",
        "2002:7f00:2::",
        "169.254.169.254",
        "fe80::1",
        "::1",
        "::",
    ] {
        let lookup = Script::new(&[&[address]]);
        refused(get(&client(&lookup, &format!("http://special.test:{port}"))).await);
    }
    assert_eq!(visits(&forbidden).await, 0);
}

#[tokio::test]
async fn the_systems_own_names_are_judged_too() {
    let policy = EgressPolicy {
        allow: Vec::new(),
        allow_plain_http: true,
    };
    drop(egress(&Script::new(&[])));
    let egress = Egress::new(policy);
    let client = egress.client(egress.destination("http://localhost:1").unwrap(), options()).unwrap();
    refused(get(&client).await);
}

#[tokio::test]
async fn a_redirect_is_an_answer_and_not_followed() {
    let target = server("127.0.0.1:0".parse().unwrap(), ResponseTemplate::new(200)).await;
    for status in [301, 302, 303, 307, 308] {
        let answer = ResponseTemplate::new(status).insert_header("location", target.uri());
        let leading = server("127.0.0.1:0".parse().unwrap(), answer).await;
        let client = client(&Script::new(&[]), &leading.uri());
        assert_eq!(get(&client).await.unwrap().status, status);
    }
    assert_eq!(visits(&target).await, 0);
}

#[tokio::test]
async fn an_answer_has_a_bound_whether_its_length_is_announced_or_not() {
    let fits = server(
        "127.0.0.1:0".parse().unwrap(),
        ResponseTemplate::new(200).set_body_bytes(vec![b'a'; 1024]),
    )
    .await;
    let announced = server(
        "127.0.0.1:0".parse().unwrap(),
        ResponseTemplate::new(200).set_body_bytes(vec![b'a'; 1025]),
    )
    .await;
    let lookup = Script::new(&[]);
    assert_eq!(get(&client(&lookup, &fits.uri())).await.unwrap().body.len(), 1024);
    assert!(matches!(get(&client(&lookup, &announced.uri())).await, Err(SendError::TooLong)));

    let chunk = format!("100\r\n{}\r\n", "a".repeat(256));
    let unannounced = endless("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", chunk, Duration::ZERO).await;
    assert!(matches!(
        get(&client(&lookup, &format!("http://{unannounced}"))).await,
        Err(SendError::TooLong)
    ));
}

/// A server that sends the head, and then the same chunk without end.
async fn endless(head: &'static str, piece: String, pause: Duration) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        assert_ne!(stream.read(&mut [0; 1024]).await.unwrap(), 0);
        let mut sent = stream.write_all(head.as_bytes()).await;
        while sent.is_ok() {
            sent = stream.write_all(piece.as_bytes()).await;
            tokio::time::sleep(pause).await;
        }
    });
    address
}

#[tokio::test]
async fn neither_endless_headers_nor_a_body_in_drops_hold_a_call() {
    let lookup = Script::new(&[]);
    let headers = endless("HTTP/1.1 200 OK\r\n", format!("a: {}\r\n", "a".repeat(4096)), Duration::ZERO).await;
    let result = get(&client(&lookup, &format!("http://{headers}"))).await;
    assert!(
        matches!(result, Err(SendError::Broken(_))),
        "{:?}",
        result.map(|answer| answer.status)
    );

    let drops = endless(
        "HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n",
        "a".to_owned(),
        Duration::from_millis(20),
    )
    .await;
    let egress = egress(&lookup);
    let short = Options {
        timeout: Duration::from_millis(300),
        ..options()
    };
    let client = egress
        .client(egress.destination(&format!("http://{drops}")).unwrap(), short)
        .unwrap();
    assert!(matches!(get(&client).await, Err(SendError::Timeout)));
}

#[tokio::test]
async fn silence_ends_with_the_time_limit() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let egress = egress(&Script::new(&[]));
    let destination = egress.destination(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
    let short = Options {
        timeout: Duration::from_millis(100),
        ..options()
    };
    let client = egress.client(destination, short).unwrap();
    assert!(matches!(get(&client).await, Err(SendError::Timeout)));
}

#[tokio::test]
async fn a_proxy_is_met_under_the_policy_and_resolves_what_is_behind_it() {
    let (allowed, forbidden) = neighbours(ResponseTemplate::new(200)).await;
    let port = allowed.address().port();
    for (address, right) in [("127.0.0.1", true), ("127.0.0.2", false)] {
        let lookup = Script::new(&[&[address]]);
        let egress = egress(&lookup);
        let through = Options {
            proxy: Some(egress.proxy(&format!("http://proxy.test:{port}")).unwrap()),
            ..options()
        };
        let client = egress.client(egress.destination("http://behind.test").unwrap(), through).unwrap();
        let result = get(&client).await;
        if right {
            assert_eq!(result.unwrap().status, 200);
        } else {
            refused(result);
        }
        assert_eq!(*lookup.asked.lock(), ["proxy.test"]);
    }
    assert_eq!((visits(&allowed).await, visits(&forbidden).await), (1, 0));
    let request = &allowed.received_requests().await.unwrap()[0];
    assert_eq!(request.url.host_str(), Some("behind.test"));
}

#[tokio::test]
async fn a_severed_client_drops_its_request_and_sends_no_other() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let egress = egress(&Script::new(&[]));
    let destination = egress.destination(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
    let switch = SeverSwitch::default();
    let severable = Options {
        switch: switch.clone(),
        ..options()
    };
    let client = egress.client(destination, severable).unwrap();
    let server = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        // The whole request, and no answer to it.
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            assert_ne!(stream.read_buf(&mut request).await.unwrap(), 0);
        }
        switch.sever();
        // The client closes its connection.
        assert_eq!(stream.read_buf(&mut request).await.unwrap(), 0);
    };
    let (result, ()) = tokio::join!(get(&client), server);
    assert!(matches!(result, Err(SendError::Severed(_))));

    assert!(matches!(get(&client).await, Err(SendError::Severed(_))));
    let another = tokio::time::timeout(Duration::from_millis(200), listener.accept()).await;
    assert!(another.is_err(), "it connected again");
}

/// The timer of a socket in /proc/net/tcp, by its local port: which one (2 is keepalive), and the
/// hundredths of a second until it ends; `None` once the socket is closed.
fn timer(port: u16) -> Option<(u8, u64)> {
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let line = table.lines().find(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        // 01 is ESTABLISHED.
        fields.get(1).is_some_and(|local| local.ends_with(&format!(":{port:04X}"))) && fields.get(3) == Some(&"01")
    })?;
    let (which, left) = line.split_whitespace().nth(5)?.split_once(':')?;
    Some((which.parse().ok()?, u64::from_str_radix(left, 16).ok()?))
}

#[tokio::test]
async fn idle_sockets_are_probed_and_closed() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = client(&Script::new(&[]), &format!("http://{}", listener.local_addr().unwrap()));
    let server = async {
        let (mut stream, peer) = listener.accept().await.unwrap();
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            assert_ne!(stream.read_buf(&mut request).await.unwrap(), 0);
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
        (stream, peer.port())
    };
    let (answer, (mut stream, port)) = tokio::join!(get(&client), server);
    answer.unwrap();
    let (which, left) = timer(port).unwrap();
    assert!(which == 2 && left <= 1000, "timer {which}, {left}");
    // The pool's own limit ends it, without another request, and long before that of the HTTP client (90 s).
    let mut rest = [0; 16];
    let closed = tokio::time::timeout(super::pool::POOL_IDLE * 3, stream.read(&mut rest));
    assert_eq!(closed.await.unwrap().unwrap(), 0);
}

/// The server's address, for the child process of [`the_environments_proxy_is_not_taken`].
const TARGET: &str = "CLAVIGER_TEST_EGRESS_TARGET";

#[tokio::test]
async fn the_environments_proxy_is_not_taken() {
    if let Ok(target) = std::env::var(TARGET) {
        assert_eq!(get(&client(&Script::new(&[]), &target)).await.unwrap().status, 200);
        return;
    }
    let target = server("127.0.0.1:0".parse().unwrap(), ResponseTemplate::new(200)).await;
    let proxy = server("127.0.0.1:0".parse().unwrap(), ResponseTemplate::new(502)).await;
    let mut child = Command::new(std::env::current_exe().unwrap());
    child
        .args(["--exact", "egress::tests::the_environments_proxy_is_not_taken"])
        .env(TARGET, target.uri());
    for variable in ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY", "https_proxy", "HTTPS_PROXY"] {
        child.env(variable, proxy.uri());
    }
    for variable in ["no_proxy", "NO_PROXY"] {
        child.env_remove(variable);
    }
    let output = tokio::task::spawn_blocking(move || child.output()).await.unwrap().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    assert_eq!((visits(&target).await, visits(&proxy).await), (1, 0));
}
