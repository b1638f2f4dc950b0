//! Callers that do not read what they are answered until what it depends on was revoked.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use claviger_test_support::raw::{Http2, head_of};
use claviger_test_support::{Client, Tune, text_of};
use futures::StreamExt;
use h2::RecvStream;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use crate::world::{HOSTILE, PATIENCE, World, make_key};

/// As many data keys as a batch has: far more bytes than the systems on both sides take for a caller that reads nothing.
const MANY: usize = 1000;
/// What a caller over HTTP/2 takes of a body that it does not read.
const WINDOW: u32 = 4096;
/// A revocation gives callers so long to take what is on its way.
const GRACE: Duration = Duration::from_millis(250);

fn data_keys(key: &str, count: usize) -> Value {
    json!({"items": vec![json!({"key": key}); count]})
}

/// Answers with plaintexts that have begun to arrive, and that nobody reads.
struct Unread {
    name: String,
    http1: TcpStream,
    http2: RecvStream,
    _connection: Http2,
}

/// An answer over HTTP/1.1 to a caller whose system takes next to nothing that it does not read.
async fn unread(address: SocketAddr, token: &str, key: &str, count: usize) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut stream = socket.connect(address).await.unwrap();
    let body = data_keys(key, count).to_string();
    let head = format!(
        "POST /v1/batch/data-keys HTTP/1.1\r\nhost: gateway\r\nauthorization: Bearer {token}\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(body.as_bytes()).await.unwrap();
    tokio::time::timeout(PATIENCE, stream.readable()).await.expect("an answer").unwrap();
    let mut begin = [0; 512];
    let count = stream.peek(&mut begin).await.unwrap();
    assert!(begin.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&begin[..count]));
    stream
}

async fn read_to_end(stream: &mut TcpStream) -> Vec<u8> {
    let mut read = Vec::new();
    let end = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut read)).await;
    // A reset is an end, too.
    let _ = end.expect("the connection ends");
    read
}

/// All that comes of an answer over HTTP/2.
async fn read_stream(stream: &mut RecvStream) -> Vec<u8> {
    let mut read = Vec::new();
    let reading = async {
        while let Some(Ok(bytes)) = stream.data().await {
            read.extend_from_slice(&bytes);
            let _ = stream.flow_control().release_capacity(bytes.len());
        }
    };
    tokio::time::timeout(PATIENCE, reading).await.expect("the stream ends");
    read
}

impl Unread {
    async fn of(world: &World, name: &str, token: &str, key: &str) -> Self {
        let address = world.started.address();
        let http1 = unread(address, token, key, MANY).await;
        let connection = Http2::connect(address, WINDOW).await;
        let sent = connection
            .whole(Method::POST, token, "/v1/batch/data-keys", &data_keys(key, MANY))
            .await;
        let head = head_of(sent).await;
        assert_eq!(head.status(), 200);
        Self {
            name: name.to_owned(),
            http1,
            http2: head.into_body(),
            _connection: connection,
        }
    }

    /// Reads all that comes: over HTTP/1.1, and whether more came than was there, and over HTTP/2.
    async fn read(mut self) -> (Vec<u8>, bool, Vec<u8>) {
        let at_hand = self.http1.peek(&mut vec![0; 1 << 20]).await.unwrap();
        let http1 = read_to_end(&mut self.http1).await;
        let more = http1.len() > at_hand;
        (http1, more, read_stream(&mut self.http2).await)
    }

    /// Nothing comes that was not there.
    async fn expect_cut_off(self) {
        let name = self.name.clone();
        let (http1, more, http2) = self.read().await;
        assert!(!more, "{name}: bytes over HTTP/1.1 after the revocation's answer");
        assert!(!http1.ends_with(b"}"), "{name}: all of it was there");
        assert!(http2.len() <= WINDOW as usize, "{name}: {} bytes over HTTP/2", http2.len());
    }

    /// All of it comes.
    async fn expect_left_alone(self) {
        let name = self.name.clone();
        let (http1, more, http2) = self.read().await;
        assert!(more, "{name}");
        for body in [Bytes::from(http2), Bytes::from(http1[body_at(&http1)..].to_vec())] {
            let answer: Value = serde_json::from_slice(&body).unwrap();
            assert_eq!(answer["items"].as_array().unwrap().len(), MANY, "{name}");
        }
    }
}

fn body_at(answer: &[u8]) -> usize {
    answer.windows(4).position(|bytes| bytes == b"\r\n\r\n").unwrap() + 4
}

/// A token of the hostile tenant for a key of its own on a connection of its own.
async fn own(world: &World, name: &str) -> Value {
    let connection = json!({"name": name, "provider": "local", "settings": {}});
    world.evil.post("/v1/connections", &connection).await.expect_status(201);
    let key = json!({"name": name, "connection": name});
    world.evil.post("/v1/keys", &key).await.expect_status(201);
    world.evil_token(name, &["GenerateDataKey"], None).await
}

#[tokio::test]
async fn what_nobody_read_before_a_revocation_is_never_sent() {
    // Answers that nobody reads stay for all of the test.
    let tune = Tune::default().set("CLAVIGER_SERVER__LIMITS__SLOW_READER_TIMEOUT", "600s");
    let world = World::tuned(&tune).await;
    let honest = world.honest().await;
    let bank = claviger_test_support::token(&world.started.tenant("bank"), "reader", &["GenerateDataKey"], None).await;
    let others = Unread::of(&world, "another tenant", text_of(&bank), "orders").await;
    let same = own(&world, "same").await;
    let same = Unread::of(&world, "another key", text_of(&same), "same").await;
    let revocations: [(&str, Method, &str); 5] = [
        ("disable", Method::POST, "/v1/keys/disable/disable"),
        ("detach", Method::DELETE, "/v1/keys/detach"),
        ("sever", Method::POST, "/v1/connections/sever/sever"),
        ("principal", Method::DELETE, "/v1/principals/principal"),
        ("token", Method::DELETE, ""),
    ];
    for (name, method, path) in revocations {
        let token = own(&world, name).await;
        let of_token = format!("/v1/principals/{name}/tokens/{}", token["id"].as_str().unwrap());
        let path = if path.is_empty() { &of_token } else { path };
        let cut_off = Unread::of(&world, name, text_of(&token), name).await;
        let answer = match method {
            Method::DELETE => world.evil.delete(path).await,
            _ => world.evil.post_empty(path).await,
        };
        assert!(matches!(answer.status, 200 | 204), "{name}: {}", answer.text);
        cut_off.expect_cut_off().await;
    }
    same.expect_left_alone().await;
    let token = own(&world, "suspend").await;
    let suspended = Unread::of(&world, "suspend", text_of(&token), "suspend").await;
    let path = format!("/v1/tenants/{HOSTILE}/suspend");
    world.started.operator().post_empty(&path).await.expect_status(200);
    suspended.expect_cut_off().await;
    others.expect_left_alone().await;
    honest.end().await;
}

/// What a platform operator's credential alone may read beside the API is recalled with it.
#[tokio::test]
async fn metrics_that_nobody_read_before_a_revocation_are_never_sent() {
    /// Less than either page has.
    const TAKEN: u32 = 256;
    let tune = Tune::default().set("CLAVIGER_SERVER__LIMITS__SLOW_READER_TIMEOUT", "600s");
    let world = World::tuned(&tune).await;
    let honest = world.honest().await;
    let operator = world.started.operator();
    let mut left_alone = Vec::new();
    for (number, path) in ["/metrics", "/readyz"].into_iter().enumerate() {
        let mut pages = Vec::new();
        for principal in [format!("scraper-{number}"), format!("other-{number}")] {
            let issued = claviger_test_support::token(&operator, &principal, &["Inspect"], None).await;
            let connection = Http2::connect(world.started.address(), TAKEN).await;
            let page = head_of(connection.get(text_of(&issued), path).await).await;
            assert_eq!(page.status(), 200, "{path}");
            let length: usize = page.headers()["content-length"].to_str().unwrap().parse().unwrap();
            assert!(length > TAKEN as usize, "{path} has {length} bytes");
            let revoked = format!("/v1/principals/{principal}/tokens/{}", issued["id"].as_str().unwrap());
            pages.push((connection, page.into_body(), length, revoked));
        }
        let (_connection, mut page, _, revoked) = pages.swap_remove(0);
        assert_eq!(operator.delete(&revoked).await.status, 204);
        let taken = read_stream(&mut page).await.len();
        assert!(taken <= TAKEN as usize, "{path}: {taken} bytes after the revocation");
        left_alone.extend(pages);
    }
    for (_connection, mut page, length, _) in left_alone {
        assert_eq!(read_stream(&mut page).await.len(), length);
    }
    honest.end().await;
}

/// Whoever repeats the deletion of a principal is told as late that it is done.
#[tokio::test]
async fn a_repeated_deletion_is_answered_no_sooner() {
    let tune = Tune::default().set("CLAVIGER_SERVER__LIMITS__SLOW_READER_TIMEOUT", "600s");
    let world = World::tuned(&tune).await;
    let token = own(&world, "principal").await;
    let cut_off = Unread::of(&world, "principal", text_of(&token), "principal").await;
    let first = world.evil.delete("/v1/principals/principal");
    let repeated = async {
        // It is gone before its deletion is answered.
        while world.evil.get("/v1/principals/principal").await.status != 404 {}
        world.evil.delete("/v1/principals/principal").await
    };
    let mut first = std::pin::pin!(first);
    tokio::select! {
        biased;
        repeated = repeated => assert_eq!(repeated.status, 204),
        first = &mut first => assert_eq!(first.status, 204),
    }
    cut_off.expect_cut_off().await;
}

/// A thousand connections with answers that nobody reads are waited for by nobody's revocation but their own tenant's.
#[tokio::test]
async fn a_thousand_unread_answers_delay_no_other_tenants_revocation() {
    const CONNECTIONS: usize = 1000;
    const CUTS: usize = 20;
    // So few data keys that the gateway's system takes all of the answer: what the gateway holds counts for its tenant.
    const FEW: usize = 15;
    let tune = Tune::default()
        .set("CLAVIGER_SERVER__LIMITS__MAX_CONNECTIONS", "2000")
        .set("CLAVIGER_SERVER__LIMITS__MAX_CONNECTIONS_PER_SOURCE", "2000")
        .set("CLAVIGER_SERVER__LIMITS__SLOW_READER_TIMEOUT", "600s");
    let world = World::tuned(&tune).await;
    let token = own(&world, "unread").await;
    let honest = world.honest().await;
    let address = world.started.address();
    let opening = futures::stream::iter(0..CONNECTIONS).map(|_| unread(address, text_of(&token), "unread", FEW));
    let mut unread: Vec<TcpStream> = opening.buffer_unordered(4).collect().await;
    let bank = world.started.tenant("bank");
    make_key(&bank, "cut").await;
    let mut fastest = Duration::MAX;
    for _ in 0..CUTS {
        data_key(&bank).await;
        let begun = Instant::now();
        bank.post_empty("/v1/keys/cut/disable").await.expect_status(200);
        fastest = fastest.min(begun.elapsed());
        bank.post_empty("/v1/keys/cut/enable").await.expect_status(200);
    }
    // Each of them would have taken as long.
    assert!(fastest < GRACE, "{fastest:?}");
    let answer = read_to_end(&mut unread[0]).await;
    assert!(answer.ends_with(b"}"), "their answers are left alone");
    let begun = Instant::now();
    world.evil.post_empty("/v1/keys/unread/disable").await.expect_status(200);
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    for stream in &mut unread[1..] {
        let at_hand = stream.peek(&mut vec![0; 1 << 20]).await.unwrap();
        assert_eq!(read_to_end(stream).await.len(), at_hand);
    }
    honest.end().await;
}

async fn data_key(client: &Client) {
    client.post("/v1/keys/cut/data-keys", &json!({})).await.expect_status(200);
}
