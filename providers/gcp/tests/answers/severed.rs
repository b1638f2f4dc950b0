//! A severed connection sends nothing: neither calls nor token exchanges, though its token has ended.

use std::time::Duration;

use claviger_provider::{Algorithm, Error, ErrorKind, Provider, SeverSwitch};
use claviger_provider_gcp::GcpProvider;
use serde_json::json;
use wiremock::matchers::path;
use wiremock::{Mock, MockServer, ResponseTemplate};

use crate::fixture::{KEY, b64, connect_severable, context, crc, cx, wrapped};
use crate::refusals::WORKLOAD;

/// A server for calls and tokens, whose tokens end at once and take this long; and a connection to it.
async fn connected(exchange: Duration) -> (MockServer, GcpProvider, SeverSwitch) {
    let server = MockServer::builder().start().await;
    let token = json!({"access_token": "ya29.short", "expires_in": 0});
    let issued = ResponseTemplate::new(200).set_body_json(token).set_delay(exchange);
    Mock::given(path("/v1/token")).respond_with(issued).mount(&server).await;
    let opened = json!({"plaintext": b64("key"), "plaintextCrc32c": crc("key")});
    Mock::given(path(format!("/v1/{KEY}:decrypt")))
        .respond_with(ResponseTemplate::new(200).set_body_json(opened))
        .mount(&server)
        .await;
    let auth = json!({"workload_identity": {"audience": WORKLOAD, "subject_token": "e30.e30.sig"}});
    let switch = SeverSwitch::default();
    let provider = connect_severable(&server.uri(), json!({"auth": auth}), None, switch.clone()).await;
    (server, provider, switch)
}

async fn unwrap(provider: &GcpProvider) -> Result<(), Error> {
    let wrapped = wrapped(Algorithm::ProviderOpaque);
    provider.unwrap_key(&cx(), &wrapped, &context()).await.map(drop)
}

async fn requests(server: &MockServer) -> usize {
    server.received_requests().await.unwrap().len()
}

#[tokio::test]
async fn no_token_is_exchanged_and_nothing_called() {
    let (server, provider, switch) = connected(Duration::ZERO).await;
    unwrap(&provider).await.unwrap();
    unwrap(&provider).await.unwrap();
    let before = requests(&server).await;
    assert!(before >= 4, "each call exchanges a token that has ended: {before}");
    switch.sever();
    for _ in 0..3 {
        assert_eq!(unwrap(&provider).await.unwrap_err().kind, ErrorKind::Severed);
    }
    assert_eq!(requests(&server).await, before);
}

#[tokio::test]
async fn an_exchange_under_way_leads_to_no_call() {
    let (server, provider, switch) = connected(Duration::from_secs(1)).await;
    let cut = async {
        while requests(&server).await == 0 {
            tokio::task::yield_now().await;
        }
        switch.sever();
        switch.stopped().await;
    };
    let (result, ()) = tokio::join!(unwrap(&provider), cut);
    assert_eq!(result.unwrap_err().kind, ErrorKind::Severed);
    assert_eq!(requests(&server).await, 1);
}
