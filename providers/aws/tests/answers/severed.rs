//! A severed connection sends nothing: neither calls nor logins, though its session is due.

use std::time::Duration;

use claviger_fake::Tls;
use claviger_provider::egress::{Egress, EgressPolicy};
use claviger_provider::{Error, Provider, SettingsOrigin, SeverSwitch};
use claviger_provider_aws::{AwsProvider, Endpoints};
use serde_json::{Value, json};
use wiremock::MockServer;

use crate::fixture::{ARN, REGION, answer, b64, context, cx, kms, role, session_until, severable, sts, wrapped};

/// Each connection's HTTP client: the one that connections share, and one of its own.
const OWN_CLIENT: [bool; 2] = [false, true];

/// A server for KMS and STS, whose sessions are due at once and take this long; and a connection to it.
async fn connected(own_client: bool, login: Duration) -> (MockServer, AwsProvider, SeverSwitch) {
    let server = MockServer::builder().start().await;
    let assumed = session_until("ONE", "2001-01-01T00:00:00Z").set_delay(login);
    sts("AssumeRole").respond_with(assumed).mount(&server).await;
    kms("Decrypt")
        .respond_with(answer(json!({"KeyId": ARN, "Plaintext": b64([1; 32])})))
        .mount(&server)
        .await;
    let endpoints = Endpoints {
        kms: Some(server.uri()),
        sts: Some(server.uri()),
    };
    let mut settings = json!({"region": REGION, "auth": role()});
    if own_client {
        settings["ca"] = Value::from(Tls::new(&["kms.test"]).unwrap().ca_pem());
    }
    let switch = SeverSwitch::default();
    let egress = Egress::new(EgressPolicy::default());
    let made = severable(endpoints, egress, SettingsOrigin::Operator, &settings, None, switch.clone()).await;
    (server, made.unwrap(), switch)
}

async fn unwrap(provider: &AwsProvider) -> Result<(), Error> {
    provider.unwrap_key(&cx(), &wrapped(), &context()).await.map(drop)
}

async fn requests(server: &MockServer) -> usize {
    server.received_requests().await.unwrap().len()
}

#[tokio::test]
async fn no_role_is_assumed_and_nothing_called() {
    for own_client in OWN_CLIENT {
        let (server, provider, switch) = connected(own_client, Duration::ZERO).await;
        unwrap(&provider).await.unwrap();
        unwrap(&provider).await.unwrap();
        let before = requests(&server).await;
        assert!(before >= 4, "each call logs in again: {before}");
        switch.sever();
        for _ in 0..3 {
            unwrap(&provider).await.unwrap_err();
        }
        assert_eq!(requests(&server).await, before, "own client: {own_client}");
    }
}

#[tokio::test]
async fn a_login_under_way_leads_to_no_call() {
    for own_client in OWN_CLIENT {
        let (server, provider, switch) = connected(own_client, Duration::from_secs(1)).await;
        let cut = async {
            while requests(&server).await == 0 {
                tokio::task::yield_now().await;
            }
            switch.sever();
            switch.stopped().await;
        };
        let (result, ()) = tokio::join!(unwrap(&provider), cut);
        result.unwrap_err();
        assert_eq!(requests(&server).await, 1, "own client: {own_client}");
    }
}
