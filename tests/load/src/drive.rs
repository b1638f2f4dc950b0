//! The load generator: keep-alive connections over TLS, each with one request under way,
//! the same for every server that is measured.

use std::net::SocketAddr;
use std::sync::{Arc, Barrier, OnceLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use hdrhistogram::Histogram;
use http::{HeaderMap, Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::task::LocalSet;
use tokio_rustls::TlsConnector;

use crate::usage::{self, Usage};

/// A run that takes so much longer than it was told has failed.
const PATIENCE: Duration = Duration::from_secs(60);
/// Latencies are counted in microseconds up to one minute, to three digits.
const LONGEST: u64 = 60_000_000;

/// What is sent, and what must come back.
#[derive(Clone)]
pub struct Ask {
    /// The path.
    pub uri: Uri,
    /// Credential and content type.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
    /// The answer of a warm server; others of status 200 are counted apart.
    pub answer: Option<Bytes>,
}

/// A server under load.
#[derive(Clone)]
pub struct Target {
    /// Where it listens.
    pub address: SocketAddr,
    /// Its process.
    pub pid: u32,
    /// The client's side of TLS.
    pub tls: Arc<ClientConfig>,
    /// What its connections ask for, each in turn and each beginning elsewhere.
    pub asks: Arc<[Ask]>,
}

/// How much load.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    /// Connections.
    pub connections: usize,
    /// Under load, and not measured yet.
    pub warm_up: Duration,
    /// Measured.
    pub time: Duration,
}

/// What was measured.
pub struct Sample {
    /// Latencies in microseconds, from the request's begin to the answer's last byte.
    pub latencies: Histogram<u64>,
    /// Answers that were not the one of a warm server.
    pub others: u64,
    /// How long it was measured.
    pub time: Duration,
    /// What the server, the generator and the machine used meanwhile.
    pub usage: Usage,
}

impl Sample {
    /// Requests per second.
    pub fn throughput(&self) -> f64 {
        self.latencies.len() as f64 / self.time.as_secs_f64()
    }
}

/// Loads the target and measures. Stops the program when an answer is not 200.
pub fn run(target: &Target, load: Load) -> Sample {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = cores.min(load.connections);
    let ready = Arc::new(Barrier::new(threads + 1));
    let window = Arc::new(OnceLock::new());
    let workers: Vec<_> = (0..threads)
        .map(|thread| {
            let (target, ready, window) = (target.clone(), Arc::clone(&ready), Arc::clone(&window));
            let mine: Vec<usize> = (thread..load.connections).step_by(threads).collect();
            std::thread::spawn(move || worker(&target, load, &mine, &ready, &window))
        })
        .collect();
    ready.wait();
    let begin = Instant::now() + load.warm_up;
    window.set((begin, begin + load.time)).expect("it is set once");
    std::thread::sleep(load.warm_up);
    let before = usage::now(target.pid);
    std::thread::sleep(load.time);
    let usage = usage::now(target.pid).since(&before);
    let mut latencies = histogram();
    let mut others = 0;
    for worker in workers {
        let (of_worker, others_of_worker) = worker.join().expect("a worker stopped: see above");
        latencies.add(of_worker).expect("the same bounds");
        others += others_of_worker;
    }
    assert!(!latencies.is_empty(), "no request was answered within the time");
    Sample {
        latencies,
        others,
        time: load.time,
        usage,
    }
}

fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LONGEST, 3).expect("bounds that hold")
}

/// One thread with its share of the connections.
fn worker(target: &Target, load: Load, mine: &[usize], ready: &Barrier, window: &OnceLock<(Instant, Instant)>) -> (Histogram<u64>, u64) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let local = LocalSet::new();
    let connected = local.block_on(&runtime, async {
        let mut all = Vec::new();
        for connection in mine {
            all.push((*connection, connect(target).await));
        }
        all
    });
    ready.wait();
    let (begin, end) = *window.wait();
    local.block_on(&runtime, async {
        let connections = connected.into_iter().map(|(connection, sender)| {
            let asks = Arc::clone(&target.asks);
            // Spread over what there is, so that few connections see all of it too.
            let first = connection * asks.len() / load.connections;
            tokio::task::spawn_local(async move { connection_loop(sender, &asks, first, begin, end).await })
        });
        let connections: Vec<_> = connections.collect();
        let mut latencies = histogram();
        let mut others = 0;
        for connection in connections {
            let ended = tokio::time::timeout_at((end + PATIENCE).into(), connection).await;
            let (of_connection, others_of_connection) = ended.expect("an answer within a minute").expect("a connection");
            latencies.add(of_connection).expect("the same bounds");
            others += others_of_connection;
        }
        (latencies, others)
    })
}

async fn connect(target: &Target) -> SendRequest<Full<Bytes>> {
    let stream = TcpStream::connect(target.address).await.expect("a connection");
    stream.set_nodelay(true).expect("a socket");
    let name = ServerName::from(target.address.ip());
    let stream = TlsConnector::from(Arc::clone(&target.tls)).connect(name, stream).await;
    let (sender, connection) = handshake(TokioIo::new(stream.expect("TLS"))).await.expect("HTTP");
    tokio::task::spawn_local(async move {
        let _ = connection.await;
    });
    sender
}

async fn connection_loop(
    mut sender: SendRequest<Full<Bytes>>,
    asks: &[Ask],
    first: usize,
    begin: Instant,
    end: Instant,
) -> (Histogram<u64>, u64) {
    let mut latencies = histogram();
    let mut others = 0;
    for ask in asks.iter().cycle().skip(first) {
        let begun = Instant::now();
        if begun >= end {
            break;
        }
        let answer = call(&mut sender, ask).await;
        let done = Instant::now();
        if done >= begin && done <= end {
            let micros = u64::try_from((done - begun).as_micros()).unwrap_or(LONGEST);
            latencies.saturating_record(micros.max(1));
            others += u64::from(ask.answer.as_ref().is_some_and(|expected| *expected != answer));
        }
    }
    (latencies, others)
}

/// One request to its answer's end.
async fn call(sender: &mut SendRequest<Full<Bytes>>, ask: &Ask) -> Bytes {
    let mut request = Request::new(Full::new(ask.body.clone()));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = ask.uri.clone();
    *request.headers_mut() = ask.headers.clone();
    sender.ready().await.expect("the connection was closed");
    let response = sender.send_request(request).await.expect("an answer");
    let status = response.status();
    let body = response.into_body().collect().await.expect("a whole body").to_bytes();
    assert_eq!(status, StatusCode::OK, "{}: {}", ask.uri, String::from_utf8_lossy(&body));
    body
}

/// Calls one after the other on one connection, to look at their answers before anything is
/// measured.
pub fn each(target: &Target, asks: impl Iterator<Item = Ask>) -> Vec<Bytes> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    LocalSet::new().block_on(&runtime, async {
        let mut sender = connect(target).await;
        let mut answers = Vec::new();
        for ask in asks {
            answers.push(call(&mut sender, &ask).await);
        }
        answers
    })
}

/// One call by itself.
pub fn once(target: &Target, ask: &Ask) -> Bytes {
    each(target, std::iter::once(ask.clone())).remove(0)
}
