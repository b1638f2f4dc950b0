//! Which connections are taken, and which make room for others.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use claviger::config::server::Limits;
use claviger::listener::Drained;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use crate::setup::{PATIENCE, Speaks, certificate, client, limits, plain, read_to_close, start, tls};

const HERE: Ipv4Addr = Ipv4Addr::LOCALHOST;
const ELSEWHERE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

/// No connection ends by itself while a test looks at it.
fn patient() -> Limits {
    Limits {
        handshake_timeout: PATIENCE * 3,
        idle_timeout: PATIENCE * 3,
        ..limits()
    }
}

/// A connection from this address.
async fn from(source: Ipv4Addr, to: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::from((source, 0))).unwrap();
    tokio::time::timeout(PATIENCE, socket.connect(to)).await.unwrap().unwrap()
}

/// The body of an answer on an open connection; `None` if the connection was closed.
async fn get(stream: &mut TcpStream, path: &str) -> Option<String> {
    let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n");
    stream.write_all(request.as_bytes()).await.ok()?;
    let answer = async {
        let mut text = String::new();
        loop {
            let mut chunk = [0; 1024];
            match stream.read(&mut chunk).await {
                Ok(0) | Err(_) => return None,
                Ok(length) => text.push_str(&String::from_utf8_lossy(&chunk[..length])),
            }
            if let Some((_, body)) = text.split_once("\r\n\r\n")
                && !body.is_empty()
            {
                return Some(body.to_owned());
            }
        }
    };
    tokio::time::timeout(PATIENCE, answer).await.expect("an answer or a close")
}

/// Waits for the close, without any request.
async fn is_closed(stream: &mut TcpStream) -> bool {
    read_to_close(stream).await.is_empty()
}

#[tokio::test]
async fn a_source_has_its_bound_and_others_are_served_with_the_default_figures() {
    let (running, _gate) = plain(Limits::default()).await;
    let to = running.local_addr();
    let mut idle = Vec::new();
    for taken in 0..Limits::default().max_connections_per_source {
        let mut stream = from(ELSEWHERE, to).await;
        // One request each of every second one.
        assert!(taken % 2 == 0 || get(&mut stream, "/hello").await.is_some());
        idle.push(stream);
    }
    for _ in 0..1024 - idle.len() {
        assert!(is_closed(&mut from(ELSEWHERE, to).await).await);
    }
    assert!(get(&mut from(HERE, to).await, "/hello").await.is_some(), "another source is served");
    for stream in &mut idle {
        assert!(get(stream, "/hello").await.is_some(), "what was taken is kept");
    }
    // A place that is given back is there for the next one.
    assert!(get(&mut idle[0], "/hello").await.is_some());
    drop(idle.pop());
    let again = async { while get(&mut from(ELSEWHERE, to).await, "/hello").await.is_none() {} };
    tokio::time::timeout(PATIENCE, again).await.expect("a place");
}

#[tokio::test]
async fn a_connection_above_the_bound_is_closed_before_tls() {
    let certificate = certificate();
    let few = Limits {
        max_connections_per_source: 1,
        ..patient()
    };
    let (running, _gate) = start(Some(tls(&certificate)), few).await;
    let url = format!("https://localhost:{}/hello", running.local_addr().port());
    let silent = from(HERE, running.local_addr()).await;
    assert!(client(Some(&certificate), Speaks::Both).get(&url).send().await.is_err());
    assert!(is_closed(&mut from(HERE, running.local_addr()).await).await);
    drop(silent);
    let served = async { while client(Some(&certificate), Speaks::Both).get(&url).send().await.is_err() {} };
    tokio::time::timeout(PATIENCE, served).await.expect("a place");
}

#[tokio::test]
async fn a_proxy_that_is_trusted_has_no_bound() {
    let few = Limits {
        max_connections_per_source: 1,
        unlimited_sources: vec!["127.0.0.2/32".parse().unwrap()],
        ..patient()
    };
    let (running, _gate) = plain(few).await;
    let to = running.local_addr();
    let mut proxied = Vec::new();
    for _ in 0..8 {
        let mut stream = from(ELSEWHERE, to).await;
        assert!(get(&mut stream, "/hello").await.is_some());
        proxied.push(stream);
    }
    let mut direct = from(HERE, to).await;
    assert!(get(&mut direct, "/hello").await.is_some());
    assert!(is_closed(&mut from(HERE, to).await).await);
}

#[tokio::test]
async fn the_stranger_that_came_first_makes_room_whatever_it_asks() {
    let (running, _gate) = plain(Limits {
        max_connections: 3,
        ..patient()
    })
    .await;
    let to = running.local_addr();
    let mut known = from(HERE, to).await;
    assert!(get(&mut known, "/known").await.is_some());
    let mut first = from(HERE, to).await;
    assert!(get(&mut first, "/hello").await.is_some());
    let mut second = from(HERE, to).await;
    assert!(get(&mut second, "/hello").await.is_some());
    assert!(get(&mut first, "/hello").await.is_some(), "the last request was of the first one");

    let mut third = from(HERE, to).await;
    assert!(get(&mut third, "/hello").await.is_some(), "a new one is always taken");
    assert!(is_closed(&mut first).await);
    let mut fourth = from(HERE, to).await;
    assert!(get(&mut fourth, "/hello").await.is_some());
    assert!(is_closed(&mut second).await);
    for kept in [&mut known, &mut third, &mut fourth] {
        assert!(get(kept, "/hello").await.is_some());
    }
}

#[tokio::test]
async fn of_those_that_authenticated_the_longest_idle_one_makes_room() {
    let (running, _gate) = plain(Limits {
        max_connections: 3,
        ..patient()
    })
    .await;
    let to = running.local_addr();
    let mut streams = Vec::new();
    for _ in 0..3 {
        let mut stream = from(HERE, to).await;
        assert!(get(&mut stream, "/known").await.is_some());
        streams.push(stream);
    }
    let [first, second, third] = &mut streams[..] else {
        panic!("three");
    };
    assert!(get(first, "/hello").await.is_some());
    let mut stranger = from(HERE, to).await;
    assert!(get(&mut stranger, "/hello").await.is_some());
    assert!(is_closed(second).await);
    let mut next = from(HERE, to).await;
    assert!(get(&mut next, "/known").await.is_some());
    assert!(is_closed(&mut stranger).await, "a stranger goes before them");
    assert!(get(first, "/hello").await.is_some());
    assert!(get(third, "/hello").await.is_some());
}

#[tokio::test]
async fn a_silent_handshake_makes_room_and_a_known_connection_of_http_2_stays() {
    let certificate = certificate();
    let (running, _gate) = start(
        Some(tls(&certificate)),
        Limits {
            max_connections: 2,
            ..patient()
        },
    )
    .await;
    let url = format!("https://localhost:{}", running.local_addr().port());
    let known = client(Some(&certificate), Speaks::Both);
    let whoami = async || known.get(format!("{url}/hello")).send().await.unwrap().text().await.unwrap();
    known.get(format!("{url}/known")).send().await.unwrap();
    let me = whoami().await;
    assert!(me.ends_with("HTTP/2.0"), "{me}");
    let mut silent = from(HERE, running.local_addr()).await;
    for _ in 0..3 {
        let new = client(Some(&certificate), Speaks::Both);
        assert_eq!(new.get(format!("{url}/hello")).send().await.unwrap().status(), 200);
    }
    assert!(is_closed(&mut silent).await);
    assert_eq!(whoami().await, me, "it came from the same port: the connection was kept");
}

#[tokio::test]
async fn a_request_under_way_is_not_closed_for_a_new_connection_which_waits() {
    let (running, gate) = plain(Limits {
        max_connections: 1,
        ..patient()
    })
    .await;
    let mut first = from(HERE, running.local_addr()).await;
    first.write_all(b"GET /slow HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    gate.begun.notified().await;
    let mut second = from(HERE, running.local_addr()).await;
    second
        .write_all(b"GET /hello HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        .await
        .unwrap();
    let mut byte = [0];
    let early = tokio::time::timeout(Duration::from_millis(300), second.peek(&mut byte)).await;
    assert!(early.is_err(), "the second is answered only when the first is idle");
    gate.end.notify_one();
    assert!(read_to_close(&mut second).await.starts_with("HTTP/1.1 200"));
    assert!(read_to_close(&mut first).await.ends_with("done"));
    assert_eq!(running.drain(PATIENCE).await, Drained::Complete);
}
