//! `claviger dev`, attacked from a web page on the same machine.

use claviger_test_support::{Gateway, Started, Tune};
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::support::{parts, read_to_close};

/// The status and the problem of a request for this host.
async fn asked_for(started: &Started, path: &str, host: &str) -> (u16, serde_json::Value) {
    let mut stream = TcpStream::connect(started.address()).await.unwrap();
    let head = format!(
        "GET {path} HTTP/1.1\r\nhost: {host}\r\nauthorization: Bearer {}\r\nclaviger-tenant: dev\r\nconnection: close\r\n\r\n",
        started.token()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    parts(&read_to_close(&mut stream).await)
}

/// A page whose name was made to lead to 127.0.0.1 counts as of the same origin: its requests carry its name.
#[tokio::test]
async fn a_request_for_another_host_is_refused() {
    let gateway = Gateway::empty(crate::BINARY);
    let control = gateway.data().with_extension("control");
    let started = gateway.dev(&Tune::default(), &control);
    let port = started.address().port();
    for path in ["/v1/keys", "/openapi.json", "/docs", "/metrics", "/healthz"] {
        for host in [format!("localhost:{port}"), format!("127.0.0.1:{port}"), "[::1]".to_owned()] {
            assert_eq!(asked_for(&started, path, &host).await.0, 200, "{path} for {host}");
        }
        for host in [
            format!("rebind.example:{port}"),
            "127.0.0.1.rebind.example".to_owned(),
            "192.0.2.1".to_owned(),
        ] {
            let (status, problem) = asked_for(&started, path, &host).await;
            assert_eq!(
                (status, &problem["code"]),
                (403, &json!("permission_denied")),
                "{path} for {host}: {problem}"
            );
            assert!(!problem.to_string().contains("rebind"), "{problem}");
        }
    }
    assert!(started.terminate());
}

/// A gateway that is reached by name serves every host: what protects it is its credential.
#[tokio::test]
async fn serve_answers_every_host() {
    let gateway = Gateway::new(crate::BINARY);
    let started = gateway.serve(&Tune::default());
    assert_eq!(asked_for(&started, "/healthz", "gateway.example").await.0, 200);
    assert!(started.terminate());
}
