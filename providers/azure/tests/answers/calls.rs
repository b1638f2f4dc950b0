//! Each attempt and each token request is reported with Azure's request id.

use std::sync::Arc;
use std::time::Duration;

use claviger_fake::{Act, Fault};
use claviger_provider::{
    BackgroundCalls, CallResult, ConnectionId, ErrorKind, KeySpec, Provider, ProviderCall, Secret, SettingsOrigin, TenantId,
};
use parking_lot::Mutex;

use crate::bench::{Bench, Place, client_secret};
use crate::fixture::{context, cx, fault, made, response};

#[derive(Default)]
struct Observed(Mutex<Vec<ProviderCall>>);

impl BackgroundCalls for Observed {
    fn called(&self, _: TenantId, _: ConnectionId, call: ProviderCall) {
        self.0.lock().push(call);
    }
}

/// The operations and results, each of which must have a request id of the fake's form.
fn outcomes(calls: Vec<ProviderCall>) -> Vec<(&'static str, CallResult)> {
    let is_id = |id: &str| id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    for call in &calls {
        assert!(call.request_id.as_deref().is_some_and(is_id), "{call:?}");
    }
    calls.into_iter().map(|call| (call.operation, call.result)).collect()
}

#[tokio::test]
async fn every_attempt_is_reported_with_its_request_id() {
    let bench = Bench::start().await;
    for (place, wrap, unwrap) in [(Place::Hsm, "KeyWrap", "KeyUnwrap"), (Place::HsmGcm, "KeyEncrypt", "KeyDecrypt")] {
        let provider = bench.connect(place);
        let kek = made(&provider, KeySpec::Aes256).await;
        let of_wrap = cx();
        let wrapped = provider.wrap_key(&of_wrap, &kek, &Secret::random(32), &context()).await.unwrap();
        let calls = of_wrap.take_calls().calls;
        assert_eq!(calls[0].request_id, wrapped.upstream_request_id);
        assert_eq!(outcomes(calls), [(wrap, CallResult::Ok)]);
        let of_unwrap = cx();
        provider.unwrap_key(&of_unwrap, &wrapped, &context()).await.unwrap();
        assert_eq!(outcomes(of_unwrap.take_calls().calls), [(unwrap, CallResult::Ok)]);
    }
}

#[tokio::test]
async fn refusals_and_replaced_tokens_are_attempts_too() {
    let bench = Bench::start().await;
    let provider = bench.connect(Place::Hsm);
    let kek = made(&provider, KeySpec::Aes256).await;
    let wrapped = provider.wrap_key(&cx(), &kek, &Secret::random(32), &context()).await.unwrap();
    bench.fake.access().revoke_all();
    let replaced = cx();
    provider.unwrap_key(&replaced, &wrapped, &context()).await.unwrap();
    let refused = CallResult::Error(ErrorKind::ProviderDenied);
    let expected = [("KeyUnwrap", refused), ("KeyUnwrap", CallResult::Ok)];
    assert_eq!(outcomes(replaced.take_calls().calls), expected);

    let id = [("x-ms-request-id", "0123456789abcdef0123456789abcdef")];
    fault(&bench, "unwrapkey", response(503, &id, "{}"));
    let failed = cx();
    provider.unwrap_key(&failed, &wrapped, &context()).await.unwrap_err();
    let expected = [("KeyUnwrap", CallResult::Error(ErrorKind::UpstreamUnavailable))];
    assert_eq!(outcomes(failed.take_calls().calls), expected);
}

#[tokio::test]
async fn an_attempt_that_nobody_waits_for_is_abandoned() {
    let bench = Bench::start().await;
    let provider = bench.connect(Place::Hsm);
    let kek = made(&provider, KeySpec::Aes256).await;
    let wrapped = provider.wrap_key(&cx(), &kek, &Secret::random(32), &context()).await.unwrap();
    bench.fake.switches().faults.set(vec![Fault::always("unwrapkey", Act::Hang)]);
    let (abandoned, context) = (cx(), context());
    let attempt = provider.unwrap_key(&abandoned, &wrapped, &context);
    tokio::time::timeout(Duration::from_millis(500), attempt).await.unwrap_err();
    assert_eq!(
        abandoned.take_calls().calls,
        [ProviderCall::new("KeyUnwrap", None, CallResult::Abandoned)]
    );
}

#[tokio::test]
async fn a_token_request_is_a_background_call() {
    let bench = Bench::start().await;
    let observed = Arc::new(Observed::default());
    let background: Arc<dyn BackgroundCalls> = Arc::clone(&observed) as _;
    let settings = bench.settings(Place::Hsm, client_secret());
    let provider = Bench::connect_observed(&bench.installation(), &settings, SettingsOrigin::Tenant, Some(background));
    fault(&bench, "oauth2", response(503, &[], "{}"));
    let request = crate::fixture::request(KeySpec::Aes256, None);
    provider.create_key(&cx(), &request).await.unwrap_err();
    bench.fake.switches().faults.set(Vec::new());
    made(&provider, KeySpec::Aes256).await;
    let mut calls = observed.0.lock().split_off(0);
    let unavailable = CallResult::Error(ErrorKind::UpstreamUnavailable);
    assert_eq!(calls.remove(0), ProviderCall::new("oauth2/token", None, unavailable));
    assert_eq!(outcomes(calls), [("oauth2/token", CallResult::Ok)]);
}
