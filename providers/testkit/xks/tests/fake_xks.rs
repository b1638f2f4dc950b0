//! The fake without a signature: what it answers before it looks at anything else. Signed calls are in
//! `tests/vendors/xks`, and in the tests of the adapter.
#![allow(clippy::unwrap_used, reason = "a test stops where an expectation fails")]

use claviger_fake::{Act, Fault};
use claviger_fake_xks::{FakeXks, Transport};
use serde_json::{Value, json};

fn client() -> reqwest::Client {
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    reqwest::Client::builder().no_proxy().tls_certs_only([]).build().unwrap()
}

#[tokio::test]
async fn what_is_not_signed_is_refused() {
    let fake = FakeXks::start(Transport::Plain, "/a").await.unwrap();
    let client = client();
    for path in ["/kms/xks/v1/health", "/kms/xks/v1/keys/k/encrypt", "/elsewhere"] {
        let url = format!("{}{path}", fake.url());
        let answer = client.post(&url).json(&json!({})).send().await.unwrap();
        assert_eq!(answer.status(), 401);
        let date = answer.headers()["date"].to_str().unwrap().to_owned();
        assert!(date.ends_with(" GMT"), "{date}");
        let body: Value = answer.json().await.unwrap();
        assert_eq!(body["errorName"], "AuthenticationFailedException");
        assert_eq!(client.get(&url).send().await.unwrap().status(), 405);
    }
    assert_eq!(fake.switches().journal.all()[0].caller, None);
}

#[tokio::test]
async fn faults_speak_the_api() {
    let fake = FakeXks::start(Transport::Plain, "").await.unwrap();
    let url = format!("{}/kms/xks/v1/health", fake.url());
    for (act, status, name) in [
        (Act::Throttle { retry_after: Some(1) }, 429, "ThrottlingException"),
        (Act::Unavailable, 503, "DependencyTimeoutException"),
    ] {
        fake.switches().faults.set(vec![Fault::once("health", act)]);
        let answer = client().post(&url).send().await.unwrap();
        assert_eq!(answer.status(), status);
        assert_eq!(answer.json::<Value>().await.unwrap()["errorName"], name);
    }
}

#[tokio::test]
async fn a_client_without_a_certificate_gets_no_connection() {
    let fake = FakeXks::start(Transport::MutualTls, "").await.unwrap();
    drop(client());
    let tls = fake.tls().unwrap();
    let trusting = || {
        let authority = reqwest::Certificate::from_pem(tls.ca_pem().as_bytes()).unwrap();
        reqwest::Client::builder().no_proxy().tls_certs_only([authority])
    };
    let url = format!("{}/kms/xks/v1/health", fake.url());
    assert!(trusting().build().unwrap().post(&url).send().await.is_err());
    let (certificate, key) = tls.client_certificate("client").unwrap();
    let identity = reqwest::Identity::from_pem(format!("{certificate}{key}").as_bytes()).unwrap();
    let answer = trusting().identity(identity).build().unwrap().post(&url).send().await.unwrap();
    assert_eq!(answer.status(), 401);
}
