//! A peer that does not read its answers is closed, and one that reads slowly is not.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use claviger::config::server::Limits;
use h2::client::{ResponseFuture, SendRequest};
use http::Request;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinHandle;

use crate::setup::{PATIENCE, limits, plain, read_to_close};

const WINDOW: Duration = Duration::from_secs(1);
/// What an honest slow reader takes each second, in bytes.
const HONEST: usize = 2048;

fn soon() -> Limits {
    Limits {
        slow_reader_timeout: WINDOW,
        idle_timeout: PATIENCE * 2,
        ..limits()
    }
}

/// A connection of HTTP/2 with this window for each stream, and the task that ends with it.
async fn http2(address: SocketAddr, window: u32) -> (SendRequest<Bytes>, JoinHandle<()>) {
    let stream = TcpStream::connect(address).await.unwrap();
    let mut builder = h2::client::Builder::new();
    builder.initial_window_size(window);
    let (send, connection) = builder.handshake(stream).await.unwrap();
    let ended = tokio::spawn(async move { drop(connection.await) });
    (send, ended)
}

async fn get(send: &SendRequest<Bytes>, path: &str) -> Result<ResponseFuture, h2::Error> {
    let mut ready = send.clone().ready().await?;
    let request = Request::get(format!("http://gateway{path}")).body(()).unwrap();
    Ok(ready.send_request(request, true)?.0)
}

#[tokio::test]
async fn who_reads_nothing_is_closed_over_http_1() {
    let (running, _gate) = plain(soon()).await;
    let mut stream = TcpStream::connect(running.local_addr()).await.unwrap();
    stream.write_all(b"GET /bytes/32768 HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    // This is the time that must pass, not a wait for something to happen.
    tokio::time::sleep(WINDOW * 5).await;
    let answer = read_to_close(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer:.200}");
    assert!(answer.len() < 32 << 20, "{}", answer.len());
}

#[tokio::test]
async fn who_opens_no_window_is_closed_over_http_2() {
    let (running, _gate) = plain(soon()).await;
    let (send, ended) = http2(running.local_addr(), 0).await;
    let begun = Instant::now();
    let mut answers = Vec::new();
    for _ in 0..8 {
        let response = get(&send, "/bytes/64").await.unwrap().await.unwrap();
        answers.push(response.into_body());
    }
    tokio::time::timeout(PATIENCE, ended).await.expect("the connection ends").unwrap();
    assert!(begun.elapsed() >= WINDOW, "{:?}", begun.elapsed());
}

#[tokio::test]
async fn small_answers_that_are_read_excuse_no_large_one_that_is_not() {
    let (running, _gate) = plain(soon()).await;
    let (send, ended) = http2(running.local_addr(), 4096).await;
    let unread = get(&send, "/bytes/64").await.unwrap().await.unwrap();
    let reads = async {
        // A KiB each, one after the other, until the connection ends.
        while let Ok(response) = get(&send, "/bytes/1").await {
            let Ok(response) = response.await else { break };
            let mut body = response.into_body();
            while let Some(Ok(chunk)) = body.data().await {
                let _ = body.flow_control().release_capacity(chunk.len());
            }
        }
    };
    tokio::time::timeout(PATIENCE, async { tokio::join!(reads, ended) })
        .await
        .expect("the connection ends")
        .1
        .unwrap();
    drop(unread);
}

#[tokio::test]
async fn who_drops_an_answer_is_not_taken_for_a_slow_reader() {
    let (running, _gate) = plain(soon()).await;
    let (send, ended) = http2(running.local_addr(), 0).await;
    drop(get(&send, "/bytes/64").await.unwrap().await.unwrap());
    // This is the time that must pass, not a wait for something to happen.
    tokio::time::sleep(WINDOW * 4).await;
    assert!(!ended.is_finished());
    assert_eq!(get(&send, "/hello").await.unwrap().await.unwrap().status(), 200);
}

#[tokio::test]
async fn who_reads_two_kibibytes_a_second_keeps_the_connection() {
    let window = Duration::from_secs(4);
    let (running, _gate) = plain(Limits {
        slow_reader_timeout: window,
        ..soon()
    })
    .await;
    let address = running.local_addr();
    let over_http1 = async {
        let socket = TcpSocket::new_v4().unwrap();
        // Otherwise the system reads ahead for the reader.
        socket.set_recv_buffer_size(4096).unwrap();
        let mut stream = socket.connect(address).await.unwrap();
        stream.write_all(b"GET /bytes/16384 HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        let mut second = tokio::time::interval(Duration::from_secs(1));
        for _ in 0..5 * window.as_secs() {
            second.tick().await;
            let mut bytes = [0; HONEST];
            stream.read_exact(&mut bytes).await.expect("the connection is kept");
        }
    };
    let over_http2 = async {
        let (send, ended) = http2(address, 4096).await;
        let mut body = get(&send, "/bytes/16384").await.unwrap().await.unwrap().into_body();
        let mut second = tokio::time::interval(Duration::from_secs(1));
        for _ in 0..5 * window.as_secs() {
            second.tick().await;
            let mut read = 0;
            while read < HONEST {
                let chunk = body.data().await.unwrap().expect("the connection is kept");
                read += chunk.len();
                body.flow_control().release_capacity(chunk.len()).unwrap();
            }
        }
        assert!(!ended.is_finished());
    };
    tokio::join!(over_http1, over_http2);
}

/// A body that the gateway does not read waits at its peer: what has come of it counts against nobody.
#[tokio::test]
async fn little_of_a_body_arrives_before_it_is_read() {
    let (running, gate) = plain(limits()).await;
    let (send, _ended) = http2(running.local_addr(), 65_535).await;
    let mut ready = send.clone().ready().await.unwrap();
    let request = Request::post("http://gateway/slow").body(()).unwrap();
    let (response, mut body) = ready.send_request(request, false).unwrap();
    gate.begun.notified().await;
    body.reserve_capacity(16 << 20);
    let mut sent = 0;
    while let Ok(Some(Ok(_))) = tokio::time::timeout(WINDOW, std::future::poll_fn(|cx| body.poll_capacity(cx))).await {
        let capacity = body.capacity();
        sent += capacity;
        body.send_data(Bytes::from(vec![0; capacity]), false).unwrap();
    }
    assert!((64 << 10..=128 << 10).contains(&sent), "{sent} bytes");
    gate.end.notify_one();
    drop((response, body));
}
