//! A response whose deadline has passed is not written.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::setup::{PATIENCE, Speaks, certificate, client, exchange, limits, plain, read_to_close, start, tls};

#[tokio::test]
async fn a_response_that_is_late_already_closes_the_connection_without_a_byte() {
    let (running, _gate) = plain(limits()).await;
    let answer = exchange(running.local_addr(), b"GET /past HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert_eq!(answer, "");
}

#[tokio::test]
async fn what_a_slow_peer_has_not_read_by_then_is_not_written() {
    let (running, _gate) = plain(limits()).await;
    let mut slow = TcpStream::connect(running.local_addr()).await.unwrap();
    slow.write_all(b"GET /until/64 HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    // This is the time that must pass, not a wait for something to happen.
    tokio::time::sleep(Duration::from_millis(700)).await;
    let answer = read_to_close(&mut slow).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer:.200}");
    assert!(answer.len() < 64 << 20, "{}", answer.len());
}

#[tokio::test]
async fn a_response_in_time_leaves_the_connection_to_the_next_one() {
    let (running, _gate) = plain(limits()).await;
    let mut stream = TcpStream::connect(running.local_addr()).await.unwrap();
    stream.write_all(b"GET /until/1 HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut first = vec![0; 1 << 20];
    tokio::time::timeout(PATIENCE, stream.read_exact(&mut first))
        .await
        .unwrap()
        .unwrap();
    // The deadline of what was written concerns nothing that follows.
    tokio::time::sleep(Duration::from_millis(700)).await;
    stream
        .write_all(b"GET /hello HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        .await
        .unwrap();
    assert!(read_to_close(&mut stream).await.contains(" false HTTP/1.1"));
}

#[tokio::test]
async fn the_same_over_tls_and_http_2() {
    let certificate = certificate();
    let (running, _gate) = start(Some(tls(&certificate)), limits()).await;
    let url = format!("https://localhost:{}", running.local_addr().port());
    for speaks in [Speaks::Http1, Speaks::Both] {
        let client = client(Some(&certificate), speaks);
        assert!(client.get(format!("{url}/past")).send().await.is_err());
        let whole = client.get(format!("{url}/until/1")).send().await.unwrap().bytes().await.unwrap();
        assert_eq!(whole.len(), 1 << 20);
        tokio::time::sleep(Duration::from_millis(700)).await;
        assert_eq!(client.get(format!("{url}/hello")).send().await.unwrap().status(), 200);
    }
}
