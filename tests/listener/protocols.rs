use std::time::Duration;

use claviger::config::server::TlsFiles;
use claviger::listener::{Tls, TlsError};
use reqwest::Version;
use tokio::net::TcpStream;

use crate::setup::{Speaks, certificate, client, exchange, limits, plain, read_to_close, start, tls};

#[tokio::test]
async fn plain_http_1_keeps_its_connection_and_tells_the_peer() {
    let (running, _gate) = plain(limits()).await;
    let client = client(None, Speaks::Http1);
    let url = format!("http://{}/hello", running.local_addr());
    let first = client.get(&url).send().await.unwrap().text().await.unwrap();
    let second = client.get(&url).send().await.unwrap().text().await.unwrap();
    assert!(first.ends_with("false HTTP/1.1"), "{first}");
    assert_eq!(first, second, "the second request came from the same port: the connection was kept");
}

#[tokio::test]
async fn plain_http_2_is_spoken_to_who_begins_with_it() {
    let (running, _gate) = plain(limits()).await;
    let client = client(None, Speaks::Http2);
    let answer = client.get(format!("http://{}/hello", running.local_addr())).send().await.unwrap();
    assert_eq!(answer.version(), Version::HTTP_2);
}

#[tokio::test]
async fn tls_negotiates_http_2_and_http_1() {
    let certificate = certificate();
    let (running, _gate) = start(Some(tls(&certificate)), limits()).await;
    let url = format!("https://localhost:{}", running.local_addr().port());
    for (speaks, version) in [(Speaks::Both, Version::HTTP_2), (Speaks::Http1, Version::HTTP_11)] {
        let client = client(Some(&certificate), speaks);
        let answer = client.get(format!("{url}/hello")).send().await.unwrap();
        assert_eq!(answer.version(), version);
        assert!(answer.text().await.unwrap().contains(" true HTTP/"));
        let echoed = client.post(format!("{url}/echo")).body("x".repeat(200_000)).send().await.unwrap();
        assert_eq!(echoed.bytes().await.unwrap().len(), 200_000);
    }
}

#[tokio::test]
async fn a_tls_listener_answers_no_plain_request_and_no_stranger_for_long() {
    let certificate = certificate();
    let short = claviger::config::server::Limits {
        handshake_timeout: Duration::from_millis(200),
        ..limits()
    };
    let (running, _gate) = start(Some(tls(&certificate)), short).await;
    let answer = exchange(running.local_addr(), b"GET /hello HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert!(!answer.contains("HTTP/1.1 200"), "{answer}");
    let mut silent = TcpStream::connect(running.local_addr()).await.unwrap();
    assert_eq!(read_to_close(&mut silent).await, "");
}

#[tokio::test]
async fn certificate_and_key_must_exist_and_belong_together() {
    let (one, other) = (certificate(), certificate());
    let mixed = TlsFiles {
        certificate: one.files.certificate.clone(),
        key: other.files.key.clone(),
    };
    assert!(matches!(Tls::load("api", &mixed), Err(TlsError::Refused(_))));
    let swapped = TlsFiles {
        certificate: one.files.key.clone(),
        key: one.files.certificate.clone(),
    };
    assert!(matches!(
        Tls::load("api", &swapped),
        Err(TlsError::Empty {
            expected: "certificate",
            ..
        })
    ));
    let missing = TlsFiles {
        certificate: "no/such.crt".into(),
        ..one.files.clone()
    };
    assert!(matches!(Tls::load("api", &missing), Err(TlsError::Unreadable { .. })));
}
