//! Responses that are not as they should be: typed errors that say what to do.

use std::time::{Duration, Instant};

use claviger_client::{Client, Error, ErrorCode, ErrorKind};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use super::acme::{Acme, binary};
use super::stub::{Answer, CLOSE, Stub, key, object, problem, responds, response, response_of_length, unwrapped};
use super::support::{TOKEN, failed};
use claviger_test_support::{Tune, free_address};

const PLAINTEXT: &str = "c2VjcmV0LWNvbnRlbnQ=";
const CONTENT: &str = "secret-content";

#[tokio::test]
async fn a_truncated_response_is_repeated_and_then_an_error() {
    let body = unwrapped(PLAINTEXT).to_string();
    let cut = Answer::Bytes(response_of_length(200, "application/json", &body, 4000, &[]));
    let stub = Stub::new(vec![cut.clone(), object(&unwrapped(PLAINTEXT))]).await;
    let client = stub.client();
    let opened = client.unwrap("clv1.x").await.unwrap();
    assert_eq!((opened.plaintext.expose(), stub.count()), (CONTENT.as_bytes(), 2));
    stub.set(vec![cut.clone()]);
    let error = failed(client.with_retries(1).unwrap("clv1.x").await, ErrorKind::TruncatedResponse);
    assert_eq!((error.code(), error.status()), (&ErrorCode::ResponseTruncated, None));
    assert!(error.is_retryable() && error.maybe_executed() && error.what_to_do().is_some());
    assert_eq!(stub.count(), 4);
    // A change is not sent again.
    failed(client.delete_key("orders").await, ErrorKind::TruncatedResponse);
    assert_eq!(stub.count(), 5);
    // Neither chunks that end too early.
    let chunks = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n10\r\n{\"plaintext\": \"c";
    stub.set(vec![Answer::Bytes(chunks.into())]);
    failed(client.with_retries(0).unwrap("clv1.x").await, ErrorKind::TruncatedResponse);
}

#[tokio::test]
async fn the_html_page_of_a_proxy_is_an_error_of_its_own() {
    let page = responds(502, "text/html; charset=utf-8", "<html><h1>502 Bad Gateway</h1></html>");
    let stub = Stub::new(vec![page]).await;
    let client = stub.client().with_retries(1);
    let get = async |detail: &str| {
        let error = failed(client.get_key("orders").await, ErrorKind::UnexpectedResponse);
        assert!(error.to_string().contains(detail), "{error}");
        error
    };
    let error = get("status 502, text/html").await;
    assert!(error.is_retryable() && error.status() == Some(502) && error.what_to_do().unwrap().contains("/readyz"));
    assert_eq!(stub.count(), 2);
    stub.set(vec![responds(200, "text/html", "<html>Sign in</html>")]);
    get("a proxy or a load balancer answered").await;
    stub.set(vec![responds(414, "text/plain", "")]);
    get("status 414").await;
    stub.set(vec![Answer::Bytes(response(
        307,
        "text/plain",
        "",
        &["location: http://127.0.0.1:1/"],
    ))]);
    get("Redirects are not followed").await;
    stub.set(vec![Answer::Bytes(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n".to_vec())]);
    get("no content type").await;
    assert_eq!(stub.count(), 6);
}

#[tokio::test]
async fn a_server_that_is_no_gateway() {
    let stub = Stub::new(vec![Answer::Bytes(b"SSH-2.0-OpenSSH_9.2\r\n\r\n".to_vec())]).await;
    let error = failed(stub.client().get_key("orders").await, ErrorKind::UnexpectedResponse);
    assert!(
        error.detail().contains("does not speak HTTP") && error.what_to_do().unwrap().contains("scheme"),
        "{error}"
    );
    assert!(!error.is_retryable());
    // TLS where there is none.
    let address = stub.address.replace("http:", "https:");
    let client = Client::builder(address).token(TOKEN).build().unwrap();
    let error = failed(client.get_key("orders").await, ErrorKind::GatewayUnreachable);
    assert!(
        error.detail().contains("does not speak TLS") && !error.is_retryable() && !error.maybe_executed(),
        "{error}"
    );
    assert!(error.what_to_do().unwrap().contains("scheme"), "{error}");
    assert_eq!(stub.count(), 1);
}

#[tokio::test]
async fn a_response_that_is_too_large_is_not_read() {
    let stub = Stub::new(vec![Answer::Bytes(response_of_length(200, "application/json", "{", 65 << 20, &[]))]).await;
    let error = failed(stub.client().get_key("orders").await, ErrorKind::UnexpectedResponse);
    assert!(error.detail().contains("larger") && !error.is_retryable(), "{error}");
    // Without a length.
    let endless = format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n{}", "x".repeat(65 << 20));
    stub.set(vec![Answer::Bytes(endless.into())]);
    let error = failed(stub.client().get_key("orders").await, ErrorKind::UnexpectedResponse);
    assert!(error.detail().contains("larger"), "{error}");
}

#[tokio::test]
async fn a_gateway_that_is_not_there() {
    let client = Client::builder(format!("http://{}", free_address()))
        .token(TOKEN)
        .retries(1)
        .build()
        .unwrap();
    let error = failed(client.update_key("orders", "*").await, ErrorKind::GatewayUnreachable);
    assert!(error.is_retryable() && !error.maybe_executed(), "{error}");
    assert!(
        error.detail().contains("refused") && error.what_to_do().unwrap().contains("gateway runs"),
        "{error}"
    );
    let client = Client::builder("https://no-such-host.invalid")
        .token(TOKEN)
        .retries(0)
        .build()
        .unwrap();
    let error = failed(client.get_key("orders").await, ErrorKind::GatewayUnreachable);
    assert!(
        error.detail().contains("no-such-host.invalid") && !error.detail().contains("orders"),
        "{error}"
    );
}

#[tokio::test]
async fn a_connection_that_ends_is_repeated_where_that_is_safe() {
    let stub = Stub::new(vec![CLOSE, object(&key())]).await;
    let client = stub.client();
    assert_eq!(client.create_key("orders", "embedded").await.unwrap().name, "orders");
    let seen = stub.seen();
    assert_eq!(seen[0].line, "POST /v1/keys HTTP/1.1");
    assert_eq!(
        (&seen[0].body, &seen[0].headers["idempotency-key"]),
        (&seen[1].body, &seen[1].headers["idempotency-key"])
    );
    stub.set(vec![CLOSE]);
    let error = failed(
        client.update_key("orders", "*").labels([("a", "b")]).await,
        ErrorKind::ConnectionLost,
    );
    assert!(error.maybe_executed() && error.detail().contains("it was closed"), "{error}");
    assert_eq!(stub.count(), 3);
}

#[tokio::test]
async fn a_gateway_that_does_not_answer_in_time() {
    let stub = Stub::new(vec![Answer::Silence]).await;
    let client = stub.client().with_timeout(Duration::from_millis(300));
    let began = Instant::now();
    let error = failed(client.get_key("orders").await, ErrorKind::DeadlineExceeded);
    assert!((Duration::from_millis(250)..Duration::from_secs(30)).contains(&began.elapsed()));
    assert!(error.maybe_executed() && error.request_id().is_none() && error.is_retryable());
    let sent: u32 = stub.seen()[0].headers["claviger-timeout"].trim_end_matches("ms").parse().unwrap();
    assert!((100..=270).contains(&sent), "{sent}");
    // Nor one whose response comes byte by byte.
    let head = response_of_length(200, "application/json", "", 100_000, &[]);
    stub.set(vec![Answer::Trickle(head)]);
    failed(client.get_key("orders").await, ErrorKind::DeadlineExceeded);
    assert_eq!(stub.count(), 2);
}

/// Nothing was sent, so what must not happen twice may be called again.
#[tokio::test]
async fn a_deadline_that_passes_while_it_connects() {
    // Nobody accepts. TCP connects all the same until the queue is full, and TLS waits for its handshake.
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    let call = async |scheme: &str| {
        let client = Client::builder(format!("{scheme}://{address}")).token(TOKEN);
        let client = client.timeout(Duration::from_millis(300)).build().unwrap();
        let began = Instant::now();
        let error = client.update_key("orders", "*").await.unwrap_err();
        assert!((Duration::from_millis(250)..Duration::from_secs(30)).contains(&began.elapsed()));
        error
    };
    let unreachable = |error: &Error| {
        assert_eq!(error.kind(), ErrorKind::GatewayUnreachable, "{error}");
        assert!(error.is_retryable() && !error.maybe_executed(), "{error}");
        assert!(
            error.detail().contains("took too long") && error.what_to_do().unwrap().contains("reached"),
            "{error}"
        );
    };
    unreachable(&call("https").await);
    let mut queue = Vec::new();
    while let Ok(connected) = timeout(Duration::from_millis(250), TcpStream::connect(address)).await {
        queue.push(connected.unwrap());
    }
    unreachable(&call("http").await);
}

#[tokio::test]
async fn nothing_secret_is_in_an_error() {
    let body = unwrapped(PLAINTEXT).to_string();
    for answer in [
        responds(200, "application/json", &body[..body.len() - 9]),
        Answer::Bytes(response_of_length(200, "application/json", &body, 4000, &[])),
        responds(200, "text/html", &format!("<html>{CONTENT}")),
        Answer::Bytes(format!("HTTP/1.1 200 {CONTENT}\r\nA{CONTENT}\r\n\r\n").into()),
        Answer::Bytes(format!("HTTP/1.1 {CONTENT}\r\n\r\n").into()),
        problem(CONTENT, 200, false),
        CLOSE,
    ] {
        let stub = Stub::new(vec![answer]).await;
        let client = stub.client().with_retries(0);
        let error = client.unwrap("clv1.x").await.unwrap_err();
        let mut text = format!("{error} {error:?} {client:?}");
        let mut cause: Option<&dyn std::error::Error> = std::error::Error::source(&error);
        while let Some(at) = cause {
            text.push_str(&format!("{at} {at:?}"));
            cause = at.source();
        }
        for hidden in [CONTENT, PLAINTEXT, &TOKEN[17..]] {
            assert!(!text.contains(hidden), "{text}");
        }
    }
}

/// Connections that the client keeps are those of the process before.
#[tokio::test]
async fn a_gateway_that_is_restarted() {
    let address = free_address();
    let tune = Tune::default().set("CLAVIGER_SERVER__LISTEN", address.to_string());
    let folder = claviger_test_support::Gateway::new(&binary());
    let started = folder.serve(&tune);
    let client = Client::builder(format!("http://{address}"))
        .token_file(folder.token_file())
        .retries(20)
        .timeout(Duration::from_secs(60))
        .build()
        .unwrap();
    client.create_tenant("acme").await.unwrap();
    started.kill();
    // A connection that is kept is lost, unless the client has noticed its end already; a new one is refused.
    let error = client.with_retries(0).get_tenant("acme").await.unwrap_err();
    assert!(
        matches!(error.kind(), ErrorKind::ConnectionLost | ErrorKind::GatewayUnreachable),
        "{error}"
    );
    // Under way while the next process starts.
    let call = tokio::spawn({
        let client = client.clone();
        async move { client.get_tenant("acme").await }
    });
    let restarted = tokio::task::spawn_blocking(move || {
        let started = folder.serve(&tune);
        (folder, started)
    });
    assert_eq!(call.await.unwrap().unwrap().name, "acme");
    let (folder, started) = restarted.await.unwrap();
    assert!(client.who_am_i().await.unwrap().operator);
    drop((folder, started));
}

#[tokio::test]
async fn addresses_that_are_refused() {
    let made = |address: &str| Client::builder(address).token(TOKEN).build();
    for address in [
        "",
        "localhost",
        "ftp://localhost",
        "http://",
        "http://gateway.example",
        "https://u:p@gateway",
        "https://gateway?x",
        "https://gateway?",
        "https://gateway#x",
        "https://gateway:99999",
        "https://gateway:0",
        "https://gate way",
        "http://127.0.0.1.example",
    ] {
        let error = failed(made(address), ErrorKind::InvalidArgument);
        assert!(!error.to_string().contains("u:p"), "{error}");
    }
    for address in ["http://[::1]:8420/prefix/", "http://127.0.0.2", "http://localhost:1"] {
        made(address).unwrap();
    }
    assert_eq!(
        format!("{:?}", made("http://[::1]:8420/prefix/").unwrap()),
        "Client(\"http://[::1]:8420/prefix\")"
    );
    Client::builder("http://gateway.example")
        .token(TOKEN)
        .allow_plain_http()
        .build()
        .unwrap();
}

#[tokio::test]
async fn a_prefix_of_the_address_is_kept() {
    let stub = Stub::new(vec![object(&key())]).await;
    let client = Client::builder(format!("{}/prefix/", stub.address)).token(TOKEN).build().unwrap();
    client.get_key("a b").await.unwrap();
    assert_eq!(stub.seen()[0].line, "GET /prefix/v1/keys/a%20b HTTP/1.1");
}

#[tokio::test]
async fn settings_that_are_refused() {
    let builder = || Client::builder("https://localhost");
    failed(builder().build(), ErrorKind::InvalidArgument);
    failed(builder().token(TOKEN).token_file("x").build(), ErrorKind::InvalidArgument);
    failed(builder().token("clv_short").build(), ErrorKind::Token);
    for file in ["/no/such/file", concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")] {
        let error = failed(builder().token(TOKEN).ca_file(file).build(), ErrorKind::InvalidArgument);
        assert!(error.detail().contains(file), "{error}");
    }
    failed(builder().token(TOKEN).ca_pem("none").build(), ErrorKind::InvalidArgument);
    failed(builder().token(TOKEN).timeout(Duration::ZERO).build(), ErrorKind::InvalidArgument);
    failed(builder().token(TOKEN).tenant("a\nb").build(), ErrorKind::InvalidArgument);
}

#[tokio::test]
async fn what_the_gateway_refuses_has_its_place() {
    let acme = Acme::start().await;
    let error = failed(
        acme.client().list_keys().page_size(1001).items().all().await,
        ErrorKind::InvalidRequest,
    );
    assert_eq!(error.places()[0].pointer, "query:page_size");
    let error = failed(acme.client().create_key("No Name", "embedded").await, ErrorKind::InvalidRequest);
    assert_eq!(error.places()[0].pointer, "/name");
}
