//! A severed connection sends nothing: neither calls nor logins, nor renewals of its token.

use std::sync::Arc;
use std::time::Duration;

use claviger_provider::layers::PipelineConfig;
use claviger_provider::{Call, ConnectionParts, ErrorKind, Factory, Pipeline, Provider, SettingsOrigin, SeverSwitch};
use claviger_provider_vault::VaultProvider;
use claviger_testkit::connection::parts;
use serde_json::{Value, json};
use wiremock::matchers::path;
use wiremock::{Mock, MockServer, Request, ResponseTemplate};

use crate::{DECRYPT, context, cx, data, factory, wrapped};

/// The shortest lease: it is renewed every two thirds of a second.
const LEASE: u64 = 1;

/// A server whose tokens have the shortest lease and can be renewed.
async fn short_leases() -> MockServer {
    let server = MockServer::builder().start().await;
    let found = data(json!({"ttl": LEASE, "renewable": true}));
    Mock::given(path("/v1/auth/token/lookup-self"))
        .respond_with(found)
        .mount(&server)
        .await;
    let renewed = |request: &Request| {
        let token = request.headers["x-vault-token"].to_str().unwrap();
        let auth = json!({"client_token": token, "lease_duration": LEASE, "renewable": true});
        ResponseTemplate::new(200).set_body_json(json!({"auth": auth}))
    };
    Mock::given(path("/v1/auth/token/renew-self"))
        .respond_with(renewed)
        .mount(&server)
        .await;
    Mock::given(path(DECRYPT))
        .respond_with(data(json!({"plaintext": "AQID"})))
        .mount(&server)
        .await;
    server
}

fn connect(server: &MockServer, auth: &Value, switch: &SeverSwitch) -> VaultProvider {
    let settings = json!({"address": server.uri(), "auth": auth});
    let parsed = factory().parse(&settings.to_string(), SettingsOrigin::Tenant).unwrap();
    let parts = ConnectionParts {
        switch: switch.clone(),
        ..parts(&parsed.public, parsed.secrets)
    };
    factory().provider(parts).unwrap()
}

/// How many requests the server got with this token.
async fn requests(server: &MockServer, token: &str) -> usize {
    let all = server.received_requests().await.unwrap();
    let with = |request: &&Request| request.headers.get("x-vault-token").is_some_and(|value| value == token);
    all.iter().filter(with).count()
}

/// Waits until the token was sent that many times.
async fn sent(server: &MockServer, token: &str, times: usize) {
    while requests(server, token).await < times {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn its_token_is_not_renewed() {
    let server = short_leases().await;
    let (severed, other) = (SeverSwitch::default(), SeverSwitch::default());
    let ours = connect(&server, &json!({"token": "severed"}), &severed);
    let theirs = connect(&server, &json!({"token": "other"}), &other);
    for provider in [&ours, &theirs] {
        provider.unwrap_key(&cx(), &wrapped(), &context()).await.unwrap();
    }
    // Looked up, used, and renewed by the background task.
    sent(&server, "severed", 4).await;
    severed.sever();
    severed.stopped().await;
    let before = requests(&server, "severed").await;
    // Meanwhile the other one is renewed several times.
    sent(&server, "other", requests(&server, "other").await + 3).await;
    let error = ours.unwrap_key(&cx(), &wrapped(), &context()).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Severed);
    assert_eq!(requests(&server, "severed").await, before);
}

#[tokio::test]
async fn its_pipeline_drops_the_provider_and_with_it_the_renewals() {
    let server = short_leases().await;
    let switch = SeverSwitch::default();
    let provider = Arc::new(connect(&server, &json!({"token": "severed"}), &switch));
    let kept = Arc::downgrade(&provider);
    let pipeline = Pipeline::new(provider as Arc<dyn Call>, &PipelineConfig::default(), switch);
    pipeline.unwrap_key(&cx(), &wrapped(), &context()).await.unwrap();
    sent(&server, "severed", 4).await;
    pipeline.sever();
    pipeline.switch().stopped().await;
    assert!(kept.upgrade().is_none(), "the provider is still there");
}

#[tokio::test]
async fn a_login_under_way_leads_to_no_call() {
    let server = short_leases().await;
    let auth = json!({"client_token": "severed", "lease_duration": LEASE, "renewable": true});
    let login = ResponseTemplate::new(200).set_body_json(json!({"auth": auth}));
    Mock::given(path("/v1/auth/jwt/login"))
        .respond_with(login.set_delay(Duration::from_secs(1)))
        .mount(&server)
        .await;
    let switch = SeverSwitch::default();
    let provider = connect(&server, &json!({"jwt": {"role": "r", "jwt": "e.y.j"}}), &switch);
    let cut = async {
        while server.received_requests().await.unwrap().is_empty() {
            tokio::task::yield_now().await;
        }
        switch.sever();
        switch.stopped().await;
    };
    let (cx, wrapped, context) = (cx(), wrapped(), context());
    let (result, ()) = tokio::join!(provider.unwrap_key(&cx, &wrapped, &context), cut);
    assert_eq!(result.unwrap_err().kind, ErrorKind::Severed);
    assert_eq!(server.received_requests().await.unwrap().len(), 1);
}
