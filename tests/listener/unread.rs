//! Bodies that nobody reads: what follows on the connection, and what the client gets to know.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::setup::{PATIENCE, limits, plain};

/// Everything until the server closes; an error of the socket is a failure here.
async fn to_the_end(mut stream: TcpStream) -> String {
    let mut answer = String::new();
    let read = tokio::time::timeout(PATIENCE, stream.read_to_string(&mut answer)).await;
    read.expect("the server closes the connection").expect("without a reset");
    answer
}

fn post(length: &str) -> String {
    format!("POST /hello HTTP/1.1\r\nhost: x\r\n{length}\r\n")
}

const LAST: &str = "GET /hello HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";

#[tokio::test]
async fn a_short_one_leaves_the_connection_open() {
    let (running, _gate) = plain(limits()).await;
    for body in [
        post("content-length: 5\r\n") + "abcde",
        post("transfer-encoding: chunked\r\n") + "2\r\nab\r\n0\r\n\r\n",
    ] {
        let mut stream = TcpStream::connect(running.local_addr()).await.unwrap();
        stream.write_all(format!("{body}{LAST}").as_bytes()).await.unwrap();
        let answers = to_the_end(stream).await;
        assert_eq!(answers.matches("HTTP/1.1 200").count(), 2, "{answers}");
        assert_eq!(
            answers.matches("connection: close").count(),
            1,
            "only what was asked for: {answers}"
        );
    }
}

#[tokio::test]
async fn a_long_one_ends_the_connection_which_says_so_and_is_not_reset() {
    let (running, _gate) = plain(limits()).await;
    let mut stream = TcpStream::connect(running.local_addr()).await.unwrap();
    stream.write_all(post("content-length: 900000\r\n").as_bytes()).await.unwrap();
    // The response is there before the body is.
    let mut begun = [0; 12];
    stream.read_exact(&mut begun).await.unwrap();
    assert_eq!(&begun, b"HTTP/1.1 200");
    stream.write_all(&vec![b'x'; 900_000]).await.expect("the socket stays open");
    let answer = to_the_end(stream).await;
    assert!(answer.contains("connection: close"), "{answer}");
}

#[tokio::test]
async fn one_that_waits_for_a_100_continue_gets_none() {
    let (running, _gate) = plain(limits()).await;
    let mut stream = TcpStream::connect(running.local_addr()).await.unwrap();
    let request = post("content-length: 5\r\nexpect: 100-continue\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let answer = to_the_end(stream).await;
    assert!(
        answer.starts_with("HTTP/1.1 200") && answer.contains("connection: close"),
        "{answer}"
    );
}

#[tokio::test]
async fn one_that_got_a_100_continue_and_is_refused_in_the_middle_is_not_reset() {
    let (running, _gate) = plain(limits()).await;
    let mut stream = TcpStream::connect(running.local_addr()).await.unwrap();
    let head = "POST /part HTTP/1.1\r\nhost: x\r\ncontent-length: 900000\r\nexpect: 100-continue\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut go_on = [0; 25];
    stream.read_exact(&mut go_on).await.unwrap();
    assert_eq!(&go_on, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(b"first").await.unwrap();
    let mut begun = [0; 12];
    stream.read_exact(&mut begun).await.unwrap();
    assert_eq!(&begun, b"HTTP/1.1 200");
    stream.write_all(&vec![b'x'; 899_995]).await.expect("the socket stays open");
    let answer = to_the_end(stream).await;
    assert!(answer.contains("connection: close") && answer.ends_with("enough"), "{answer}");
}

#[tokio::test]
async fn one_that_never_ends_keeps_its_socket_for_a_moment_only() {
    let (running, _gate) = plain(limits()).await;
    let mut stream = TcpStream::connect(running.local_addr()).await.unwrap();
    stream.write_all(post("content-length: 900000\r\n").as_bytes()).await.unwrap();
    let answer = to_the_end(stream).await;
    assert!(answer.contains("connection: close"), "{answer}");
}
