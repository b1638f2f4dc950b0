//! The fault proxy itself: each fault is what it says, and calls are counted by kind.

use std::net::Ipv6Addr;
use std::time::Duration;

use axum::Router;
use claviger_fake::Tls;
use claviger_test_support::proxy::{Act, Fault, FaultProxy, Kind, Setup, Which};
use reqwest::{Certificate, Client};
use tokio::net::TcpListener;

/// A service that answers each path with itself; returns its address.
async fn service() -> String {
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("its address");
    let app = Router::new().fallback(|uri: axum::http::Uri| async move { uri.to_string() });
    tokio::spawn(async move { axum::serve(listener, app).await });
    format!("http://{address}")
}

fn client(ca: Option<String>) -> Client {
    let ca = ca.map(|pem| Certificate::from_pem(pem.as_bytes()).expect("a certificate"));
    let builder = Client::builder().no_proxy().tls_certs_only(ca);
    builder.timeout(Duration::from_secs(2)).build().expect("a client")
}

async fn get(client: &Client, proxy: &FaultProxy, path: &str) -> reqwest::Result<(u16, String)> {
    let response = client.get(format!("{}{path}", proxy.url())).send().await?;
    Ok((response.status().as_u16(), response.text().await?))
}

#[tokio::test]
async fn calls_pass_and_are_counted_by_kind_and_connection() {
    let proxy = FaultProxy::before(&service().await);
    let client = client(None);
    assert_eq!(
        get(&client, &proxy, "/v1/a?b=c").await.expect("an answer"),
        (200, "/v1/a?b=c".to_owned())
    );
    get(&client, &proxy, "/v1/auth/approle/login").await.expect("an answer");
    let calls = proxy.calls();
    assert_eq!(calls.iter().map(|call| call.connection).collect::<Vec<_>>(), [1, 1]);
    assert_eq!(calls[0].status, Some(200));
    assert_eq!((proxy.count(Kind::Login), proxy.count(Kind::Operation)), (1, 1));
    assert_eq!((proxy.opened(), proxy.open()), (1, 1));
}

#[tokio::test]
async fn open_sockets_are_swallowed_and_new_ones_work() {
    let proxy = FaultProxy::before(&service().await);
    let client = client(None);
    let both = tokio::join!(get(&client, &proxy, "/1"), get(&client, &proxy, "/2"));
    both.0.and(both.1).expect("answers");
    let open = proxy.swallow_open();
    assert!(open > 0);
    for _ in 0..open {
        let lost = get(&client, &proxy, "/lost").await.expect_err("no answer");
        assert!(lost.is_timeout(), "{lost:?}");
    }
    assert_eq!(proxy.touched(), open);
    get(&client, &proxy, "/new").await.expect("an answer on a new connection");
    assert!(proxy.calls().iter().all(|call| call.path != "/lost"));
}

#[tokio::test]
async fn a_call_meets_its_fault() {
    let proxy = FaultProxy::before(&service().await);
    let client = client(None);
    proxy.set([
        Fault::on(Which::At("/cut".to_owned()), Act::Cut),
        Fault::on(Which::At("/reset".to_owned()), Act::Reset),
        Fault::on(Which::At("/hang".to_owned()), Act::Hang),
        Fault::on(Which::At("/share".to_owned()), Act::respond(503, "{}")).share(2, 3),
    ]);
    proxy.refuse_logins(403, r#"{"errors":["no"]}"#);
    let cut = get(&client, &proxy, "/cut").await.expect_err("half an answer");
    assert!(cut.is_body() || cut.is_decode(), "{cut:?}");
    let reset = get(&client, &proxy, "/reset").await.expect_err("a reset");
    assert!(reset.is_request() && !reset.is_timeout() && !reset.is_connect(), "{reset:?}");
    assert!(get(&client, &proxy, "/hang").await.expect_err("no answer").is_timeout());
    let mut statuses = Vec::new();
    for _ in 0..6 {
        statuses.push(get(&client, &proxy, "/share").await.expect("an answer").0);
    }
    assert_eq!(statuses, [503, 503, 200, 503, 503, 200]);
    let refused = get(&client, &proxy, "/v1/auth/approle/login").await.expect("an answer");
    assert_eq!(refused, (403, r#"{"errors":["no"]}"#.to_owned()));
    proxy.clear();
    assert_eq!(get(&client, &proxy, "/v1/auth/approle/login").await.expect("an answer").0, 200);
}

#[tokio::test]
async fn a_service_goes_down_and_comes_up_on_its_port() {
    let proxy = FaultProxy::before(&service().await);
    let client = client(None);
    get(&client, &proxy, "/").await.expect("an answer");
    proxy.go_down();
    assert!(get(&client, &proxy, "/").await.expect_err("nobody listens").is_connect());
    proxy.come_up();
    get(&client, &proxy, "/").await.expect("an answer");
}

#[tokio::test]
async fn another_authority_is_not_trusted_and_http_2_is_drained() {
    let tls = Tls::new(&[]).expect("a certificate");
    let proxy = Setup::before(&service().await).over_tls(tls).start();
    let client = client(proxy.ca_pem());
    get(&client, &proxy, "/").await.expect("an answer");
    assert_eq!(proxy.drain_open(), 1);
    get(&client, &proxy, "/").await.expect("an answer on another connection");
    assert_eq!(proxy.opened(), 2);
    proxy.swap_certificate(Tls::new(&[]).expect("a certificate"));
    proxy.reset_open();
    assert!(get(&client, &proxy, "/").await.expect_err("no trust").is_connect());
    assert_eq!(proxy.handshakes_failed(), 1);
}

#[tokio::test]
async fn it_listens_on_ipv6() {
    let proxy = Setup::before(&service().await).listening_on(Ipv6Addr::LOCALHOST.into()).start();
    assert!(proxy.url().starts_with("http://[::1]:"));
    get(&client(None), &proxy, "/").await.expect("an answer");
}
