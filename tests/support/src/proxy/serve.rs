//! Accepts connections, reads calls, and hands them on to the service.

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, mpsc};

use bytes::Bytes;
use futures::stream::{self, StreamExt};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, header};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

use super::State;
use super::calls::{Act, Call, classify, meet};
use super::wire::{Control, Wire, split};
use crate::endpoint::Stream;

type Body = BoxBody<Bytes, io::Error>;

/// Headers of one connection, which are not handed on (RFC 9110, section 7.6.1).
const OF_CONNECTION: [HeaderName; 4] = [
    header::CONNECTION,
    header::TRANSFER_ENCODING,
    header::CONTENT_LENGTH,
    HeaderName::from_static("keep-alive"),
];

/// What the test and the proxy's thread share.
pub(super) struct Shared {
    pub(super) upstream: String,
    pub(super) state: Mutex<State>,
    /// Swallowed connections that were sent a request.
    pub(super) touched: Arc<AtomicUsize>,
    /// Whether it is to listen.
    pub(super) up: watch::Sender<bool>,
    /// Whether it does.
    pub(super) listens: watch::Sender<bool>,
}

/// The client of the service. It keeps no connection open, so that a service may be restarted.
pub(super) fn upstream(ca: Option<&str>) -> reqwest::Client {
    let authorities = ca.map(|pem| reqwest::Certificate::from_pem(pem.as_bytes()).expect("an authority"));
    let builder = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none());
    // HTTP/1.1, in which the caller's own Host can be handed on.
    let builder = builder.http1_only().pool_max_idle_per_host(0).tls_certs_only(authorities);
    builder.build().expect("a client")
}

/// Listens on this address and serves for ever. Its port is there again when it comes up again.
pub(super) async fn run(listen: IpAddr, shared: Arc<Shared>, client: reqwest::Client, told: mpsc::Sender<SocketAddr>) {
    let [listener] = crate::listen_on([listen]);
    let address = listener.local_addr().expect("its address");
    listener.set_nonblocking(true).expect("a listener that waits for nobody");
    let mut listener = Some(TcpListener::from_std(listener).expect("a listener of the runtime"));
    shared.listens.send_replace(true);
    told.send(address).expect("somebody who waits");
    let mut up = shared.up.subscribe();
    loop {
        match &listener {
            Some(open) => tokio::select! {
                biased;
                _down = up.wait_for(|up| !up) => {
                    listener = None;
                    shared.listens.send_replace(false);
                }
                accepted = open.accept() => {
                    if let Ok((tcp, _)) = accepted {
                        accept(tcp, Arc::clone(&shared), client.clone());
                    }
                }
            },
            None => {
                drop(up.wait_for(|up| *up).await);
                listener = Some(TcpListener::bind(address).await.expect("its port"));
                shared.listens.send_replace(true);
            }
        }
    }
}

fn accept(tcp: TcpStream, shared: Arc<Shared>, client: reqwest::Client) {
    let (control, tls) = {
        let mut state = shared.state();
        state.opened += 1;
        let wire = if state.swallows_new { Wire::Swallowed } else { Wire::Open };
        let control = Control::new(state.opened, wire);
        state.open.insert(control.number, control.clone());
        (control, state.tls.clone())
    };
    let (near, carried) = split(tcp, &control, Arc::clone(&shared.touched));
    let number = control.number;
    let served = serve(near, tls, control, Arc::clone(&shared), client);
    let serving = tokio::spawn(served);
    tokio::spawn(async move {
        carried.await;
        serving.abort();
        shared.state().open.remove(&number);
    });
}

async fn serve(
    near: tokio::io::DuplexStream,
    tls: Option<claviger_fake::Tls>,
    control: Control,
    shared: Arc<Shared>,
    client: reqwest::Client,
) {
    let stream: Stream = match tls {
        None => Box::new(near),
        Some(tls) => match TlsAcceptor::from(tls.server_config()).accept(near).await {
            Ok(stream) => Box::new(stream),
            Err(_) => {
                shared.state().handshakes_failed += 1;
                return;
            }
        },
    };
    let mut draining = control.draining.subscribe();
    let service = service_fn(move |request| {
        let (shared, client, control) = (Arc::clone(&shared), client.clone(), control.clone());
        async move { Ok::<_, Infallible>(answer(request, shared, client, control).await) }
    });
    let server = auto::Builder::new(TokioExecutor::new());
    let mut serving = std::pin::pin!(server.serve_connection(TokioIo::new(stream), service));
    tokio::select! {
        // The client learns of a failure by itself.
        _ended = serving.as_mut() => return,
        _drain = draining.wait_for(|draining| *draining) => serving.as_mut().graceful_shutdown(),
    }
    let _ended = serving.await;
}

async fn answer(request: Request<Incoming>, shared: Arc<Shared>, client: reqwest::Client, control: Control) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let Ok(body) = body.collect().await else {
        return plain(StatusCode::BAD_REQUEST, "the proxy got no whole call");
    };
    let body = body.to_bytes();
    let path = parts.uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
    let (kind, operation) = classify(&parts.method, &path, &parts.headers, &body);
    let call = Call {
        kind,
        operation,
        method: parts.method.clone(),
        path,
        connection: control.number,
        status: None,
    };
    let (number, act) = {
        let mut state = shared.state();
        let act = meet(&mut state.faults, &call, &body);
        state.calls.push(call.clone());
        (state.calls.len() - 1, act)
    };
    let mut cut = false;
    match act {
        None => {}
        Some(Act::Delay(time)) => tokio::time::sleep(time).await,
        Some(Act::Cut) => cut = true,
        Some(Act::Hang) => match pending().await {},
        Some(Act::Reset) => {
            control.wire.send_replace(Wire::Reset);
            match pending().await {}
        }
        Some(Act::Lose) => {
            drop(hand_on(&client, &shared.upstream, &call, parts.headers, host(&parts.uri), body).await);
            match pending().await {}
        }
        Some(Act::Respond { status, headers, body }) => {
            let mut response = plain(StatusCode::from_u16(status).expect("a status"), body);
            for (name, value) in headers {
                let name: HeaderName = name.parse().expect("a header's name");
                response.headers_mut().insert(name, value.parse().expect("a header's value"));
            }
            note(&shared, number, &call, status);
            return response;
        }
    }
    match hand_on(&client, &shared.upstream, &call, parts.headers, host(&parts.uri), body).await {
        Ok((status, headers, body)) => {
            note(&shared, number, &call, status.as_u16());
            let mut response = if cut { half(body) } else { plain(StatusCode::OK, body) };
            *response.status_mut() = status;
            response.headers_mut().extend(headers);
            response
        }
        Err(error) => plain(StatusCode::BAD_GATEWAY, format!("the proxy got no answer: {error}")),
    }
}

/// Never ends.
async fn pending() -> Infallible {
    std::future::pending().await
}

/// Adds the status of a call. The calls may have been forgotten meanwhile.
fn note(shared: &Shared, number: usize, call: &Call, status: u16) {
    if let Some(noted) = shared.state().calls.get_mut(number).filter(|noted| *noted == call) {
        noted.status = Some(status);
    }
}

/// The host in a request of HTTP/2, which has no header for it.
fn host(uri: &http::Uri) -> Option<HeaderValue> {
    HeaderValue::from_str(uri.authority()?.as_str()).ok()
}

async fn hand_on(
    client: &reqwest::Client,
    upstream: &str,
    call: &Call,
    mut headers: HeaderMap,
    host: Option<HeaderValue>,
    body: Bytes,
) -> reqwest::Result<(StatusCode, HeaderMap, Bytes)> {
    for name in OF_CONNECTION {
        headers.remove(name);
    }
    if let Some(host) = host {
        headers.entry(header::HOST).or_insert(host);
    }
    let request = client.request(call.method.clone(), format!("{upstream}{}", call.path));
    let mut response = request.headers(headers).body(body).send().await?;
    let status = response.status();
    let mut headers = std::mem::take(response.headers_mut());
    for name in OF_CONNECTION {
        headers.remove(name);
    }
    Ok((status, headers, response.bytes().await?))
}

fn plain(status: StatusCode, body: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(Full::new(body.into()).map_err(|never| match never {}).boxed());
    *response.status_mut() = status;
    response
}

/// A response that announces its whole length, and ends in the middle.
fn half(body: Bytes) -> Response<Body> {
    let length = HeaderValue::from(body.len());
    let first = stream::once(std::future::ready(Ok(Frame::data(body.slice(..body.len().div_ceil(2))))));
    let end = stream::once(async {
        // The server writes what it has when the body is not ready, and nothing after a failure.
        tokio::task::yield_now().await;
        Err(io::Error::new(io::ErrorKind::ConnectionAborted, "cut by the proxy"))
    });
    let mut response = Response::new(BodyExt::boxed(StreamBody::new(first.chain(end))));
    response.headers_mut().insert(header::CONTENT_LENGTH, length);
    response
}
