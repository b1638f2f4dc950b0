//! What is wrong below JSON: lengths, endless bodies, and too many at once.

use std::time::{Duration, Instant};

use claviger_test_support::Answer;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::{Api, PATIENCE, parts, read_to_close};

const JSON: &str = "content-type: application/json\r\n";

#[tokio::test]
async fn what_is_no_request_gets_a_bare_answer_and_a_close() {
    let api = Api::with_key().await;
    let post = |more: &str| api.head("POST /v1/keys/orders/data-keys", &format!("{JSON}{more}"));
    let huge = format!("x-huge: {}\r\n", "x".repeat(500_000));
    let long = format!("GET /v1/keys/{}", "a".repeat(70_000));
    for (request, status) in [
        (post("content-length: 2\r\ncontent-length: 3\r\n") + "{} ", 400),
        (post("content-length: 2, 3\r\n") + "{} ", 400),
        (post("content-length: -1\r\n") + "{}", 400),
        (post("content-length: two\r\n") + "{}", 400),
        (post("x-nul: a\0b\r\n"), 400),
        (post("transfer-encoding: gzip\r\n") + "{}", 400),
        (post(&huge), 431),
        (api.head(&long, ""), 414),
    ] {
        let answer = api.exchange(request.as_bytes()).await;
        assert_eq!(parts(&answer).0, status, "{request:.200}: {answer:.300}");
        api.serves().await;
    }
}

#[tokio::test]
async fn a_length_and_chunks_together_are_no_way_to_smuggle() {
    let api = Api::with_key().await;
    let more = format!("{JSON}content-length: 4\r\ntransfer-encoding: chunked\r\n");
    let request = api
        .head("POST /v1/keys/orders/data-keys", &more)
        .replace("connection: close\r\n", "");
    let body = "2\r\n{}\r\n0\r\n\r\n";
    let smuggled = api.head("POST /v1/keys/orders/disable", "content-length: 0\r\n");
    let answer = api.exchange(format!("{request}{body}{smuggled}").as_bytes()).await;
    // Either the whole is refused, or the chunks count and what follows is a request of its own.
    let answers = answer.matches("HTTP/1.1 ").count();
    let state = api.client.get("/v1/keys/orders").await.body["state"].clone();
    match answers {
        1 => assert_eq!(state, "enabled", "{answer}"),
        _ => assert_eq!((answers, state), (2, json!("disabled")), "{answer}"),
    }
}

#[tokio::test]
async fn a_request_of_http_1_1_names_its_host_once() {
    let api = Api::start().await;
    let head = api.head("GET /v1/keys", "");
    for (hosts, status) in [
        ("", 400),
        ("host: gateway\r\nhost: gateway\r\n", 400),
        ("host: a\r\nhost: b\r\n", 400),
        ("host: a\r\n", 200),
    ] {
        let answer = api.exchange(head.replace("host: gateway\r\n", hosts).as_bytes()).await;
        assert_eq!(parts(&answer).0, status, "{hosts:?}: {answer}");
    }
    let old = head.replace("host: gateway\r\n", "").replace("HTTP/1.1", "HTTP/1.0");
    assert_eq!(parts(&api.exchange(old.as_bytes()).await).0, 200);
}

#[tokio::test]
async fn a_body_that_never_ends_meets_the_deadline() {
    let api = Api::with_key().await;
    for (framing, piece) in [
        ("content-length: 60000\r\n", "          "),
        ("transfer-encoding: chunked\r\n", "a\r\n          \r\n"),
    ] {
        let head = api.head(
            "POST /v1/keys/orders/data-keys",
            &format!("{JSON}{framing}claviger-timeout: 500ms\r\n"),
        );
        let mut stream = TcpStream::connect(api.started.address()).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        let (mut reading, mut writing) = stream.split();
        let drip = async {
            let mut ticks = tokio::time::interval(Duration::from_millis(20));
            while writing.write_all(piece.as_bytes()).await.is_ok() {
                ticks.tick().await;
            }
            std::future::pending::<()>().await;
        };
        let mut answer = Vec::new();
        let mut chunk = [0; 4096];
        let read = async {
            while let Ok(length @ 1..) = reading.read(&mut chunk).await {
                answer.extend_from_slice(&chunk[..length]);
            }
        };
        let both = async {
            tokio::select! { () = drip => {}, () = read => {} }
        };
        tokio::time::timeout(PATIENCE, both).await.expect("the deadline ends it");
        let (status, problem) = parts(&String::from_utf8_lossy(&answer));
        assert_eq!((status, &problem["code"]), (504, &json!("deadline_exceeded")), "{framing}");
        api.serves().await;
    }
}

#[tokio::test]
async fn a_body_that_says_it_is_too_large_is_not_waited_for() {
    let api = Api::with_key().await;
    for length in ["65537", "9999999999999"] {
        let head = api.head("POST /v1/keys/orders/data-keys", &format!("{JSON}content-length: {length}\r\n"));
        let begun = Instant::now();
        let mut stream = TcpStream::connect(api.started.address()).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        let (status, problem) = parts(&read_to_close(&mut stream).await);
        assert_eq!((status, &problem["code"]), (413, &json!("too_large")), "{length}");
        assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
    }
    api.serves().await;
}

#[tokio::test]
async fn a_caller_who_leaves_in_the_middle_leaves_nothing_behind() {
    let api = Api::with_key().await;
    let before = api.state().await;
    for _ in 0..20 {
        let head = api.head("POST /v1/keys", &format!("{JSON}content-length: 100\r\n"));
        let mut stream = TcpStream::connect(api.started.address()).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(b"{\"name\":\"half\",").await.unwrap();
        drop(stream);
    }
    api.serves().await;
    assert_eq!(api.state().await, before);
}

#[tokio::test]
async fn more_at_once_than_a_credential_may_have_are_told_to_come_again() {
    let api = Api::start().await;
    let refused = while_its_share_is_taken(&api).await;
    assert!(refused.header("retry-after").parse::<u64>().unwrap() >= 1);
    assert_eq!(refused.expect_problem(429, "rate_limited")["retryable"], true);
    let begun = Instant::now();
    while api.client.get("/v1/keys").await.status == 429 {
        assert!(begun.elapsed() < PATIENCE, "the place is never free again");
    }
    api.serves().await;
}

/// The answer to a credential that has sent nearly all of a batch, and of another one, so that no room is
/// left for a page.
pub async fn while_its_share_is_taken(api: &Api) -> Answer {
    const BATCH: usize = 16 << 20;
    let half = async |sent: usize| {
        let more = format!("{JSON}content-length: {BATCH}\r\n");
        let mut request = TcpStream::connect(api.started.address()).await.unwrap();
        request
            .write_all(api.head("POST /v1/batch/unwrap", &more).as_bytes())
            .await
            .unwrap();
        // It fails where the request is refused before all was sent, which `waits` sees.
        let _ = request.write_all(&vec![b' '; sent]).await;
        request
    };
    let waits = |request: &TcpStream| {
        let answer = request.try_read(&mut [0]);
        answer.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock)
    };
    let begun = Instant::now();
    loop {
        // A page that is read before all has arrived may take the room that one of them needs: then that one is
        // refused, and both are begun anew.
        let (first, second) = (half(BATCH - 1).await, half(2_700_000).await);
        let anew = Instant::now() + Duration::from_secs(2);
        while waits(&first) && waits(&second) && Instant::now() < anew {
            let answer = api.client.get("/v1/keys").await;
            if answer.status != 200 {
                return answer;
            }
            assert!(begun.elapsed() < PATIENCE, "the share is never taken");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}
