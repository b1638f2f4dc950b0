//! The journal, the faults and the clock over HTTP.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test stops where an expectation fails")]

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use claviger_fake::{Act, Caller, Dialect, Fault, Running, Switches, Tls, serve};
use reqwest::Client;
use serde_json::{Value, json};

struct Plain;

impl Dialect for Plain {
    fn throttled(&self) -> Response {
        (StatusCode::TOO_MANY_REQUESTS, "slower").into_response()
    }

    fn unavailable(&self) -> Response {
        (StatusCode::SERVICE_UNAVAILABLE, "out of order").into_response()
    }
}

const LOOPBACK: ([u8; 4], u16) = ([127, 0, 0, 1], 0);

async fn echo(body: Json<Value>) -> Response {
    let mut response = Json(json!({"got": body.0, "more": 1})).into_response();
    response.extensions_mut().insert(Caller("somebody".to_owned()));
    response
}

async fn start(tls: Option<&Tls>) -> (Running, Switches) {
    let switches = Switches::default();
    let service = Router::new().route("/v1/thing", post(echo));
    let running = serve(service, Plain, &switches, SocketAddr::from(LOOPBACK), tls).await.unwrap();
    (running, switches)
}

/// A client without a proxy and without trusted CAs.
fn client() -> Client {
    // A second installation fails and changes nothing.
    let _installed = rustls::crypto::aws_lc_rs::default_provider().install_default();
    Client::builder().no_proxy().tls_certs_only([]).build().unwrap()
}

async fn request(client: &Client, running: &Running) -> reqwest::Result<reqwest::Response> {
    client
        .post(format!("{}/v1/thing?a=b", running.url()))
        .json(&json!({"x": "y"}))
        .send()
        .await
}

#[tokio::test]
async fn the_journal_has_what_was_asked() {
    let ((running, _switches), client) = (start(None).await, client());
    assert_eq!(request(&client, &running).await.unwrap().status(), 200);
    client.get(format!("{}/nowhere", running.url())).send().await.unwrap();
    let journal = format!("{}/_fake/journal", running.url());
    let recorded: Value = client.get(&journal).send().await.unwrap().json().await.unwrap();
    let host = running.address().to_string();
    let first = json!({
        "number": 1, "method": "POST", "host": host, "path": "/v1/thing", "query": "a=b",
        "caller": "somebody", "body": {"x": "y"}, "status": 200,
    });
    assert_eq!(recorded[0], first);
    assert_eq!((&recorded[1]["path"], &recorded[1]["status"]), (&json!("/nowhere"), &json!(404)));
    assert_eq!(recorded.as_array().unwrap().len(), 2, "its control is not written down");
    assert_eq!(client.delete(&journal).send().await.unwrap().status(), 204);
    let recorded: Value = client.get(&journal).send().await.unwrap().json().await.unwrap();
    assert_eq!(recorded, json!([]));
}

#[tokio::test]
async fn a_fault_happens_after_and_times() {
    let ((running, switches), client) = (start(None).await, client());
    let faults = json!([
        {"path": "thing", "after": 1, "times": 1, "act": {"kind": "throttle", "retry_after": 7}},
        {"path": "elsewhere", "act": {"kind": "hang"}},
        {"method": "GET", "act": {"kind": "hang"}},
    ]);
    let set = client.put(format!("{}/_fake/faults", running.url())).json(&faults).send().await;
    assert_eq!(set.unwrap().status(), 204);
    let mut seen = Vec::new();
    for _ in 0..3 {
        let response = request(&client, &running).await.unwrap();
        let pause = response
            .headers()
            .get("retry-after")
            .map(|value| value.to_str().unwrap().to_owned());
        seen.push((response.status().as_u16(), pause));
    }
    assert_eq!(seen, [(200, None), (429, Some("7".to_owned())), (200, None)]);
    assert_eq!(switches.faults.all()[0].times, Some(0));
    let unknown = json!([{"act": {"kind": "unheard of"}}]);
    let set = client.put(format!("{}/_fake/faults", running.url())).json(&unknown).send().await;
    assert_eq!(set.unwrap().status(), 422);
}

#[tokio::test]
async fn each_act_is_what_it_says() {
    let ((running, switches), client) = (start(None).await, client());
    let faults = &switches.faults;

    faults.set(vec![Fault::once("", Act::Unavailable)]);
    assert_eq!(request(&client, &running).await.unwrap().status(), 503);

    let patch = json!({"more": null, "got": {"x": 2}});
    faults.set(vec![Fault::once("", Act::Change { patch })]);
    let changed: Value = request(&client, &running).await.unwrap().json().await.unwrap();
    assert_eq!(changed, json!({"got": {"x": 2}}));

    let act = Act::Respond {
        status: 302,
        headers: [("location".to_owned(), "http://elsewhere.example/".to_owned())].into(),
        body: "<html>".to_owned(),
    };
    let direct = Client::builder()
        .no_proxy()
        .tls_certs_only([])
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .unwrap();
    faults.set(vec![Fault::once("", act)]);
    let response = request(&direct, &running).await.unwrap();
    assert_eq!(response.headers()["location"], "http://elsewhere.example/");
    assert_eq!(
        (response.status().as_u16(), response.text().await.unwrap().as_str()),
        (302, "<html>")
    );

    faults.set(vec![Fault::once("", Act::BreakOff)]);
    // The head of the response may or may not have been sent.
    let broken = match request(&client, &running).await {
        Ok(response) => response.bytes().await.unwrap_err(),
        Err(error) => error,
    };
    assert!(!broken.is_connect() && !broken.is_timeout(), "{broken:?}");
    assert_eq!(switches.journal.all().last().unwrap().status, None);

    faults.set(vec![Fault::once("", Act::Delay { milliseconds: 150 })]);
    let start = Instant::now();
    assert_eq!(request(&client, &running).await.unwrap().status(), 200);
    assert!(start.elapsed() >= Duration::from_millis(150));

    faults.set(vec![Fault::always("", Act::Hang)]);
    let waited = tokio::time::timeout(Duration::from_millis(200), request(&client, &running)).await;
    assert!(waited.is_err());
}

#[tokio::test]
async fn the_clock_goes_forward_only() {
    let ((running, switches), client) = (start(None).await, client());
    let before = switches.clock.unix();
    let clock = format!("{}/_fake/clock", running.url());
    let set = client.post(&clock).json(&json!({"seconds": 86_400})).send().await.unwrap();
    assert_eq!(set.status(), 204);
    let after = switches.clock.unix();
    assert!((86_400..86_460).contains(&(after - before)), "{before} {after}");
    let back = client.post(&clock).json(&json!({"seconds": -1})).send().await.unwrap();
    assert_eq!(back.status(), 422);
}

#[tokio::test]
async fn https_is_under_an_authority_of_its_own() {
    let plain = client();
    let tls = Tls::new(&["*.vault.example"]).unwrap();
    let (running, _switches) = start(Some(&tls)).await;
    assert!(running.url().starts_with("https://127.0.0.1:"));
    assert!(request(&plain, &running).await.unwrap_err().is_connect());
    let ca = reqwest::Certificate::from_pem(tls.ca_pem().as_bytes()).unwrap();
    let trusting = Client::builder()
        .no_proxy()
        .tls_certs_only([ca])
        .resolve("a.vault.example", running.address())
        .build()
        .unwrap();
    assert_eq!(request(&trusting, &running).await.unwrap().status(), 200);
    let named = format!("https://a.vault.example:{}/v1/thing", running.address().port());
    let response = trusting.post(named).json(&json!({})).send().await.unwrap();
    assert_eq!((response.status().as_u16(), response.version()), (200, reqwest::Version::HTTP_2));
}

#[tokio::test]
async fn it_listens_on_loopback_only_and_ends() {
    let switches = Switches::default();
    let refused = serve(Router::new(), Plain, &switches, ([0, 0, 0, 0], 0).into(), None).await;
    assert_eq!(refused.unwrap_err().kind(), std::io::ErrorKind::InvalidInput);
    let ((running, _switches), client) = (start(None).await, client());
    let address = running.url();
    running.stop().await;
    let gone = client.get(format!("{address}/v1/thing")).send().await.unwrap_err();
    assert!(gone.is_connect());
}
