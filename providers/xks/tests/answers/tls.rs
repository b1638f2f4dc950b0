//! Mutual TLS, and certificates that are not trusted.

use claviger_fake::Tls;
use claviger_fake_xks::Transport;
use claviger_provider::{ErrorKind, Factory};
use serde_json::json;

use crate::bench::{connect, factory};
use crate::fixture::{Fixture, context, cx, dek, kek};
use claviger_provider::Provider;

async fn kind(settings: &serde_json::Value) -> Result<(), (ErrorKind, bool)> {
    let provider = connect(settings);
    let wrapped = provider.wrap_key(&cx(), &kek(), &dek(), &context()).await;
    wrapped.map(drop).map_err(|error| (error.kind, error.advice.is_some()))
}

#[tokio::test]
async fn a_client_certificate_is_presented_and_a_wrong_one_is_told() {
    let fixture = Fixture::over(Transport::MutualTls).await;
    let settings = fixture.bench.settings();
    assert_eq!(kind(&settings).await, Ok(()));
    let mut without = settings.clone();
    without["auth"]["sigv4"].as_object_mut().unwrap().remove("client_certificate");
    assert_eq!(kind(&without).await, Err((ErrorKind::Misconfigured, true)));
    let (certificate, key) = Tls::new(&[]).unwrap().client_certificate("claviger").unwrap();
    let mut strangers = settings.clone();
    strangers["auth"]["sigv4"]["client_certificate"] = json!({"certificate": certificate, "key": key});
    assert_eq!(kind(&strangers).await, Err((ErrorKind::Misconfigured, true)));
    assert_eq!(
        fixture.bench.fake.switches().journal.all().len(),
        1,
        "no request without the right certificate"
    );
}

#[tokio::test]
async fn a_server_of_another_authority_is_not_trusted() {
    let fixture = Fixture::over(Transport::Tls).await;
    let mut settings = fixture.bench.settings();
    settings["auth"]["sigv4"].as_object_mut().unwrap().remove("client_certificate");
    settings["ca"] = json!(Tls::new(&[]).unwrap().ca_pem());
    assert_eq!(kind(&settings).await, Err((ErrorKind::Misconfigured, true)));
    assert!(fixture.bench.fake.switches().journal.all().is_empty());
}

/// A new client certificate takes the place of the old one with the connection's next client, and cannot be added.
#[tokio::test]
async fn a_client_certificate_is_replaced_as_a_whole() {
    let fixture = Fixture::over(Transport::MutualTls).await;
    let settings = fixture.bench.settings();
    let parsed = factory()
        .parse(&settings.to_string(), claviger_provider::SettingsOrigin::Tenant)
        .unwrap();
    let (certificate, key) = fixture.bench.fake.tls().unwrap().client_certificate("claviger").unwrap();
    let given = json!({"client_certificate": {"certificate": certificate, "key": key}}).to_string();
    let names: Vec<String> = factory()
        .replace_secrets(&parsed.public, &given)
        .unwrap()
        .into_iter()
        .map(|(name, _)| name)
        .collect();
    assert_eq!(names, ["certificate", "key"]);
    let half = json!({"client_certificate": {"certificate": certificate}}).to_string();
    assert!(factory().replace_secrets(&parsed.public, &half).is_err());
}
