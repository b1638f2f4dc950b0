use std::time::{Duration, Instant};

use claviger::config::server::Limits;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::setup::{PATIENCE, Speaks, client, exchange, limits, plain, read_to_close};

/// What is no request gets a bare answer and a close, and the server goes on.
async fn refused(bytes: &[u8], status: &str) {
    let (running, _gate) = plain(limits()).await;
    let answer = exchange(running.local_addr(), bytes).await;
    assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
    let after = client(None, Speaks::Http1)
        .get(format!("http://{}/hello", running.local_addr()))
        .send()
        .await
        .unwrap();
    assert_eq!(after.status(), 200);
}

#[tokio::test]
async fn two_lengths_that_differ() {
    refused(
        b"POST /echo HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\ncontent-length: 4\r\n\r\nabcd",
        "400",
    )
    .await;
}

#[tokio::test]
async fn a_nul_in_a_header() {
    refused(b"GET /hello HTTP/1.1\r\nhost: x\r\nx-a: b\0c\r\n\r\n", "400").await;
}

#[tokio::test]
async fn a_space_before_the_colon() {
    refused(b"POST /echo HTTP/1.1\r\nhost: x\r\ncontent-length : 3\r\n\r\nabc", "400").await;
}

#[tokio::test]
async fn a_huge_header() {
    let request = format!("GET /hello HTTP/1.1\r\nhost: x\r\nx-a: {}\r\n\r\n", "a".repeat(200_000));
    refused(request.as_bytes(), "431").await;
}

#[tokio::test]
async fn too_many_headers() {
    let request = format!("GET /hello HTTP/1.1\r\nhost: x\r\n{}\r\n", "a: b\r\n".repeat(200));
    refused(request.as_bytes(), "431").await;
}

#[tokio::test]
async fn a_long_uri() {
    let request = format!("GET /hello?{} HTTP/1.1\r\nhost: x\r\n\r\n", "a".repeat(66_000));
    refused(request.as_bytes(), "414").await;
}

#[tokio::test]
async fn a_huge_header_over_http_2() {
    let (running, _gate) = plain(limits()).await;
    let client = client(None, Speaks::Http2);
    let url = format!("http://{}/hello", running.local_addr());
    assert_eq!(
        client.get(&url).header("x-a", "a".repeat(100_000)).send().await.unwrap().status(),
        431
    );
    assert_eq!(client.get(&url).send().await.unwrap().status(), 200);
}

#[tokio::test]
async fn a_head_that_drips_is_cut() {
    let short = Limits {
        header_timeout: Duration::from_millis(400),
        ..limits()
    };
    let (running, _gate) = plain(short).await;
    let mut stream = TcpStream::connect(running.local_addr()).await.unwrap();
    let begun = Instant::now();
    let (mut reading, mut writing) = stream.split();
    let drip = async {
        let mut ticks = tokio::time::interval(Duration::from_millis(50));
        writing.write_all(b"GET /hello HTTP/1.1\r\nx-a: ").await.unwrap();
        while writing.write_all(b"a").await.is_ok() {
            ticks.tick().await;
        }
    };
    let mut byte = [0];
    let closed = tokio::io::AsyncReadExt::read(&mut reading, &mut byte);
    tokio::select! {
        () = drip => {}
        _ = tokio::time::timeout(PATIENCE, closed) => {}
    }
    assert!(
        begun.elapsed() >= Duration::from_millis(400) && begun.elapsed() < Duration::from_secs(10),
        "{:?}",
        begun.elapsed()
    );
}

#[tokio::test]
async fn a_preface_that_never_ends_and_a_silent_peer_are_cut() {
    let short = Limits {
        header_timeout: Duration::from_millis(300),
        idle_timeout: Duration::from_millis(300),
        ..limits()
    };
    let (running, _gate) = plain(short).await;
    for sent in [&b""[..], b"P", b"PRI * HTTP/2.0\r\n\r\nSM", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"] {
        let mut stream = TcpStream::connect(running.local_addr()).await.unwrap();
        stream.write_all(sent).await.unwrap();
        read_to_close(&mut stream).await;
    }
}

#[tokio::test]
async fn an_idle_connection_outlives_the_time_of_a_head() {
    let limits = Limits {
        header_timeout: Duration::from_millis(200),
        idle_timeout: PATIENCE * 2,
        ..limits()
    };
    let (running, _gate) = plain(limits).await;
    let mut stream = TcpStream::connect(running.local_addr()).await.unwrap();
    stream.write_all(b"GET /hello HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    stream.readable().await.unwrap();
    // This is the time that must pass, not a wait for something to happen.
    tokio::time::sleep(Duration::from_millis(700)).await;
    stream
        .write_all(b"GET /hello HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        .await
        .unwrap();
    assert_eq!(read_to_close(&mut stream).await.matches("HTTP/1.1 200").count(), 2);
}
