use std::time::Duration;

use claviger::listener::Drained;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::setup::{PATIENCE, Speaks, certificate, client, limits, plain, read_to_close, start, tls};

#[tokio::test]
async fn a_drain_finishes_what_was_accepted_and_refuses_the_rest() {
    let (running, gate) = plain(limits()).await;
    let address = running.local_addr();
    let mut busy = TcpStream::connect(address).await.unwrap();
    busy.write_all(b"GET /slow HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    gate.begun.notified().await;
    let mut idle = TcpStream::connect(address).await.unwrap();
    idle.write_all(b"GET /hello HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    idle.readable().await.unwrap();

    let draining = tokio::spawn(running.drain(PATIENCE));
    // The idle connection is closed although the busy one still waits.
    assert!(read_to_close(&mut idle).await.starts_with("HTTP/1.1 200"));
    assert!(TcpStream::connect(address).await.is_err(), "the socket is closed");
    assert!(!draining.is_finished());

    gate.end.notify_one();
    let answer = read_to_close(&mut busy).await;
    assert!(
        answer.starts_with("HTTP/1.1 200") && answer.contains("connection: close") && answer.ends_with("done"),
        "{answer}"
    );
    assert_eq!(draining.await.unwrap(), Drained::Complete);
}

#[tokio::test]
async fn a_drain_over_tls_and_http_2_finishes_the_stream() {
    let certificate = certificate();
    let (running, gate) = start(Some(tls(&certificate)), limits()).await;
    let url = format!("https://localhost:{}/slow", running.local_addr().port());
    let request = tokio::spawn(client(Some(&certificate), Speaks::Both).get(url).send());
    gate.begun.notified().await;
    let draining = tokio::spawn(running.drain(PATIENCE));
    gate.end.notify_one();
    let answer = request.await.unwrap().unwrap();
    assert_eq!(answer.version(), reqwest::Version::HTTP_2);
    assert_eq!(answer.text().await.unwrap(), "done");
    assert_eq!(draining.await.unwrap(), Drained::Complete);
}

#[tokio::test]
async fn a_drain_cuts_what_does_not_end() {
    let (running, gate) = plain(limits()).await;
    let mut stuck = TcpStream::connect(running.local_addr()).await.unwrap();
    stuck.write_all(b"GET /slow HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    gate.begun.notified().await;
    assert_eq!(running.drain(Duration::from_millis(100)).await, Drained::Aborted(1));
    assert_eq!(read_to_close(&mut stuck).await, "");
}

#[tokio::test]
async fn a_drain_does_not_wait_for_a_handshake() {
    let certificate = certificate();
    let (running, _gate) = start(Some(tls(&certificate)), limits()).await;
    let mut silent = TcpStream::connect(running.local_addr()).await.unwrap();
    assert_eq!(running.drain(Duration::from_secs(5)).await, Drained::Complete);
    assert_eq!(read_to_close(&mut silent).await, "");
}
