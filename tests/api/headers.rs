//! What every answer carries, and what a request's own headers do.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use claviger::protocols::rest::endpoints::routes;
use claviger_test_support::Tune;
use reqwest::Method;
use reqwest::header::HeaderValue;
use serde_json::json;

use crate::support::Api;

#[tokio::test]
async fn the_request_id_is_ours_and_the_caller_s_is_kept_beside_it() {
    let api = Api::with_key().await;
    let mut seen = BTreeSet::new();
    for theirs in ["abc-1.2_3", &"x".repeat(64)] {
        let client = api.client.clone().with_header("x-request-id", theirs);
        let answer = client.get("/v1/keys/orders").await;
        let ours = answer.header("x-request-id").to_owned();
        assert_ne!(ours, theirs);
        assert_eq!(api.outcome(&answer)["client_request_id"], theirs);
        assert!(seen.insert(ours));
    }
    for bad in ["", "two words", "a/b", &"x".repeat(65), "a;b"] {
        let client = api.client.clone().with_header("x-request-id", bad);
        let answer = client.get("/v1/keys/orders").await;
        assert!(api.outcome(&answer).get("client_request_id").is_none(), "{bad:?}");
        answer.expect_status(200);
    }
}

#[tokio::test]
async fn a_justification_is_kept_or_refused() {
    let api = Api::with_key().await;
    let longest = "~".repeat(256);
    for text in ["ticket 17: restore of the archive", longest.as_str()] {
        let answer = api
            .client
            .clone()
            .with_header("claviger-justification", text)
            .get("/v1/keys/orders")
            .await;
        assert_eq!(api.outcome(&answer)["justification"], text);
        answer.expect_status(200);
    }
    for text in ["x".repeat(257), "caf\u{e9}".to_owned(), "a\tb".to_owned()] {
        let client = api.client.clone().with_header("claviger-justification", &text);
        let answer = client.get("/v1/keys/orders").await;
        assert!(api.outcome(&answer).get("justification").is_none());
        let problem = answer.expect_problem(400, "invalid_request");
        assert_eq!(problem["errors"][0]["pointer"], "header:Claviger-Justification");
    }
}

#[tokio::test]
async fn a_timeout_shortens_and_nonsense_is_refused() {
    let api = Api::with_key().await;
    for text in ["10s", "5000ms", "1h"] {
        let answer = api
            .client
            .clone()
            .with_header("claviger-timeout", text)
            .get("/v1/keys/orders")
            .await;
        answer.expect_status(200);
    }
    for text in ["", "0s", "0ms", "99ms", "-1s", "1", "1.5s", "soon", "99999999999999999999s"] {
        let answer = api
            .client
            .clone()
            .with_header("claviger-timeout", text)
            .get("/v1/keys/orders")
            .await;
        let problem = answer.expect_problem(400, "invalid_request");
        assert_eq!(problem["errors"][0]["pointer"], "header:Claviger-Timeout", "{text}");
    }
}

/// Longer than the default.
#[tokio::test]
async fn the_operator_sets_the_deadline() {
    use tokio::io::AsyncWriteExt;
    const DEADLINE: Duration = Duration::from_secs(12);
    let api = Api::tuned(&Tune::default().set("CLAVIGER_SERVER__REQUEST_DEADLINE", "12s")).await;
    let head = api.head(
        "POST /v1/keys/orders/wrap",
        "claviger-timeout: 60s\r\ncontent-type: application/json\r\ncontent-length: 100\r\n",
    );
    let begun = Instant::now();
    let mut stream = tokio::net::TcpStream::connect(api.started.address()).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    let (status, problem) = crate::support::parts(&crate::support::read_to_close(&mut stream).await);
    assert_eq!((status, &problem["code"]), (504, &json!("deadline_exceeded")));
    assert!(begun.elapsed() >= DEADLINE, "{:?}", begun.elapsed());
}

#[tokio::test]
async fn the_deadline_ends_a_wait_for_a_body() {
    use tokio::io::AsyncWriteExt;
    let api = Api::with_key().await;
    let head = api.head(
        "POST /v1/keys/orders/wrap",
        "claviger-timeout: 300ms\r\ncontent-type: application/json\r\ncontent-length: 100\r\n",
    );
    let begun = Instant::now();
    let mut stream = tokio::net::TcpStream::connect(api.started.address()).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(b"{\"plaintext\":").await.unwrap();
    let (status, problem) = crate::support::parts(&crate::support::read_to_close(&mut stream).await);
    assert_eq!((status, &problem["code"]), (504, &json!("deadline_exceeded")));
    assert!(
        (Duration::from_millis(300)..Duration::from_secs(8)).contains(&begun.elapsed()),
        "{:?}",
        begun.elapsed()
    );
    api.serves().await;
}

#[tokio::test]
async fn no_answer_may_be_stored_or_sniffed() {
    let api = Api::with_key().await;
    let path_of = |path: &str| {
        path.replace("{key}", "orders")
            .replace("{connection}", "embedded")
            .replace("{principal}", "nobody")
            .replace("{tenant}", "acme")
            .replace("{token}", &"0".repeat(32))
    };
    let mut answers = Vec::new();
    for row in routes() {
        let path = path_of(row.path);
        answers.push(api.client.send(api.client.request(row.method.clone(), &path)).await);
        let stranger = api.client.with_token("clv_nothing");
        answers.push(stranger.send(stranger.request(row.method.clone(), &path)).await);
    }
    for path in [
        "/healthz",
        "/readyz",
        "/metrics",
        "/openapi.json",
        "/docs",
        "/docs/absent",
        "/nowhere",
        "/",
    ] {
        answers.push(api.client.get(path).await);
        answers.push(api.client.send(api.client.request(Method::PUT, path)).await);
    }
    for answer in answers {
        assert_eq!(answer.header("cache-control"), "no-store", "{}", answer.text);
        assert_eq!(answer.header("x-content-type-options"), "nosniff");
        assert_eq!(answer.header("content-encoding"), "");
        assert!(answer.header("x-request-id").len() == 32, "{}", answer.text);
        if answer.status >= 400 && !answer.text.contains("no such file") {
            let code = answer.body["code"].as_str().unwrap_or_default().to_owned();
            let status = answer.status;
            answer.expect_problem(status, &code);
        }
    }
}

#[tokio::test]
async fn no_compression_is_spoken() {
    let api = Api::with_key().await;
    let client = api.client.clone().with_header("accept-encoding", "gzip, br, zstd, deflate");
    let answer = client.post("/v1/keys/orders/data-keys", &json!({})).await;
    assert_eq!(answer.header("content-encoding"), "");
    answer.expect_status(200);
    // And none is understood: what is no JSON as it stands is refused.
    let request = api.client.request(Method::POST, "/v1/keys/orders/data-keys");
    let request = request
        .header("content-type", "application/json")
        .header("content-encoding", "gzip")
        .body(&b"\x1f\x8b\x08"[..]);
    let refused = api.client.send(request).await;
    assert!([400, 415].contains(&refused.status), "{}", refused.text);
}

/// Behind a trusted proxy the source in a record is what the proxy wrote, whatever the client wrote before it.
#[tokio::test]
async fn a_client_behind_a_proxy_cannot_choose_its_source() {
    let api = Api::tuned(&Tune::default().set("CLAVIGER_SERVER__TRUSTED_PROXIES", "127.0.0.0/8")).await;
    for (lines, source) in [
        (&[][..], "127.0.0.1"),
        (&["203.0.113.7"], "203.0.113.7"),
        (&["::ffff:203.0.113.7"], "203.0.113.7"),
        (&["198.51.100.6, 203.0.113.7, 127.0.0.5"], "203.0.113.7"),
        (&["198.51.100.6", "203.0.113.7"], "203.0.113.7"),
        (&["198.51.100.6", "\u{e9}, 203.0.113.7"], "203.0.113.7"),
        (&["198.51.100.6", "\u{e9}"], "127.0.0.1"),
        (&["198.51.100.6, unknown"], "127.0.0.1"),
    ] {
        let request = lines.iter().fold(api.client.request(Method::GET, "/v1/keys"), |request, line| {
            request.header("x-forwarded-for", HeaderValue::from_bytes(line.as_bytes()).unwrap())
        });
        let answer = api.client.send(request).await;
        assert_eq!(api.recorded(&answer, "ReadKey", "success")["source"], source, "{lines:?}");
    }
}
