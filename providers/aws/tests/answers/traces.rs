//! The provider's own request ids, of calls and of logins.

use std::sync::Arc;

use claviger_provider::egress::{Egress, EgressPolicy};
use claviger_provider::{BackgroundCalls, CallResult, ConnectionId, ErrorKind, Provider, ProviderCall, SettingsOrigin, TenantId};
use claviger_provider_aws::Endpoints;
use parking_lot::Mutex;
use serde_json::json;
use wiremock::MockServer;

use crate::fixture::{ARN, REGION, TENANT, answer, b64, context, cx, kms, observed, refusal, role, session, sts, wrapped};

/// Collects background calls.
#[derive(Default)]
struct Seen(Mutex<Vec<(TenantId, ConnectionId, ProviderCall)>>);

impl BackgroundCalls for Seen {
    fn called(&self, tenant: TenantId, connection: ConnectionId, call: ProviderCall) {
        self.0.lock().push((tenant, connection, call));
    }
}

#[tokio::test]
async fn every_attempt_and_login_is_traced_with_awss_id() {
    let server = MockServer::builder().start().await;
    let login = session("ONE").insert_header("x-amzn-requestid", "id-of-the-login");
    sts("AssumeRole").respond_with(login).mount(&server).await;
    let expired = refusal("ExpiredTokenException").insert_header("x-amzn-requestid", "id-of-the-refusal");
    kms("Decrypt").respond_with(expired).up_to_n_times(1).mount(&server).await;
    kms("Decrypt")
        .respond_with(answer(json!({"KeyId": ARN, "Plaintext": b64([1; 32])})))
        .mount(&server)
        .await;
    let seen = Arc::new(Seen::default());
    let endpoints = Endpoints {
        kms: Some(server.uri()),
        sts: Some(server.uri()),
    };
    let settings = json!({"region": REGION, "auth": role()});
    let egress = Egress::new(EgressPolicy::default());
    let background = Some(Arc::clone(&seen) as Arc<dyn BackgroundCalls>);
    let provider = observed(endpoints, egress, SettingsOrigin::Operator, &settings, background).await;
    let cx = cx();
    provider.unwrap().unwrap_key(&cx, &wrapped(), &context()).await.unwrap();
    let decrypt = |request_id, result| ProviderCall::new("Decrypt", Some(request_id), result);
    let traced = cx.take_calls();
    assert_eq!(
        traced.calls,
        [
            decrypt("id-of-the-refusal", CallResult::Error(ErrorKind::ProviderDenied)),
            decrypt("id-of-the-call", CallResult::Ok),
        ]
    );
    assert_eq!(traced.omitted, 0);
    let login = ProviderCall::new("AssumeRole", Some("id-of-the-login"), CallResult::Ok);
    let expected = (TENANT, ConnectionId::from_bytes([9; 16]), login);
    assert_eq!(*seen.0.lock(), [expected.clone(), expected]);
}
