//! Each attempt and each token request is reported. Google's responses carry no request id.

use std::sync::Arc;

use claviger_provider::{Algorithm, BackgroundCalls, CallResult, ConnectionId, ErrorKind, Provider, ProviderCall, TenantId};
use parking_lot::Mutex;
use serde_json::json;
use wiremock::matchers::path;
use wiremock::{Mock, MockServer, ResponseTemplate};

use crate::fixture::{KEY, b64, connect, connect_observed, context, crc, cx, on, reason, refusal, wrapped};

#[derive(Default)]
struct Observed(Mutex<Vec<ProviderCall>>);

impl BackgroundCalls for Observed {
    fn called(&self, _: TenantId, _: ConnectionId, call: ProviderCall) {
        self.0.lock().push(call);
    }
}

#[tokio::test]
async fn a_call_is_reported_by_its_method() {
    let server = MockServer::builder().start().await;
    let plaintext = json!({"plaintext": b64("key"), "plaintextCrc32c": crc("key")});
    on(&server, ":decrypt", plaintext).await;
    let of_unwrap = cx();
    let provider = connect(&server).await;
    let opened = provider
        .unwrap_key(&of_unwrap, &wrapped(Algorithm::ProviderOpaque), &context())
        .await;
    opened.unwrap();
    assert_eq!(of_unwrap.take_calls().calls, [ProviderCall::new("Decrypt", None, CallResult::Ok)]);
}

#[tokio::test]
async fn a_replaced_token_makes_two_attempts_and_two_background_calls() {
    let server = MockServer::builder().start().await;
    let token = json!({"access_token": "ya29.fresh", "expires_in": 3600});
    Mock::given(path("/v1/token"))
        .respond_with(ResponseTemplate::new(200).set_body_json(token))
        .mount(&server)
        .await;
    Mock::given(path(format!("/v1/{KEY}:decrypt")))
        .respond_with(refusal(401, "UNAUTHENTICATED", reason("ACCESS_TOKEN_EXPIRED")))
        .mount(&server)
        .await;
    let audience = "//iam.googleapis.com/projects/12/locations/global/workloadIdentityPools/pool/providers/own";
    let auth = json!({"workload_identity": {"audience": audience, "subject_token": "e30.e30.sig"}});
    let observed = Arc::new(Observed::default());
    let background: Arc<dyn BackgroundCalls> = Arc::clone(&observed) as _;
    let provider = connect_observed(&server.uri(), json!({"auth": auth}), Some(background)).await;
    let of_unwrap = cx();
    let refused = provider
        .unwrap_key(&of_unwrap, &wrapped(Algorithm::ProviderOpaque), &context())
        .await;
    refused.unwrap_err();
    let attempt = ProviderCall::new("Decrypt", None, CallResult::Error(ErrorKind::ProviderDenied));
    assert_eq!(of_unwrap.take_calls().calls, [attempt.clone(), attempt]);
    let exchange = ProviderCall::new("ExchangeToken", None, CallResult::Ok);
    assert_eq!(*observed.0.lock(), [exchange.clone(), exchange]);
}
