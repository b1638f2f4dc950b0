//! The settings of a connection.
#![allow(clippy::unwrap_used, reason = "a test stops where an expectation fails")]

use claviger_provider::egress::{Egress, EgressPolicy};
use claviger_provider::{ClaimSpan, Factory, SettingsOrigin};
use claviger_provider_kmip::KmipFactory;
use claviger_testkit::connection::parts;
use serde_json::{Value, json};

fn factory() -> KmipFactory {
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    KmipFactory::new(Egress::new(EgressPolicy::default()))
}

/// A certificate and its key, as PEM.
fn pair() -> (String, String) {
    let made = rcgen::generate_simple_self_signed(["client.test".to_owned()]).unwrap();
    (made.cert.pem(), made.signing_key.serialize_pem())
}

fn good() -> Value {
    let (certificate, key) = pair();
    json!({"address": "KMS.example:5696", "auth": {"cert": {"certificate": certificate, "key": key}}})
}

/// The places of the mistakes in settings.
fn mistakes(settings: &Value) -> Vec<String> {
    let wrong = factory().parse(&settings.to_string(), SettingsOrigin::Tenant).unwrap_err();
    wrong.into_iter().map(|mistake| mistake.pointer).collect()
}

#[test]
fn what_is_stored_has_no_secret_and_makes_a_provider() {
    let mut settings = good();
    settings["ca"] = json!(pair().0);
    for more in [
        json!({}),
        json!({"protocol_version": "1.4", "server_iv": true, "correlation": true, "budget_ms": 1000, "canary_key": "k-1"}),
    ] {
        for (name, value) in more.as_object().unwrap() {
            settings[name] = value.clone();
        }
        let parsed = factory().parse(&settings.to_string(), SettingsOrigin::Tenant).unwrap();
        assert!(!parsed.public.contains("PRIVATE") && parsed.public.contains("\"kms.example:5696\""));
        let names: Vec<_> = parsed.secrets.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["certificate", "key"]);
        factory().provider(parts(&parsed.public, parsed.secrets)).unwrap();
    }
}

#[test]
fn each_mistake_has_its_place() {
    for (name, value, place) in [
        ("address", json!("kms.example"), "/address"),
        ("address", json!("https://kms.example:5696"), "/address"),
        ("address", json!("127.0.0.1:5696"), "/address"),
        ("address", json!(5696), "/address"),
        ("ca", json!("none"), "/ca"),
        ("protocol_version", json!("1.2"), "/protocol_version"),
        ("protocol_version", json!("2.1"), "/protocol_version"),
        ("server_iv", json!("yes"), "/server_iv"),
        ("budget_ms", json!(49), "/budget_ms"),
        ("budget_ms", json!("250"), "/budget_ms"),
        ("canary_key", json!("a\nb"), "/canary_key"),
        ("proxy", json!("http://proxy.example:3128"), ""),
        ("auth", json!({}), "/auth/cert"),
        ("auth", json!({"cert": {"certificate": "x", "key": "y"}}), "/auth/cert/certificate"),
        (
            "auth",
            json!({"cert": {"certificate_file": "/x", "key_file": "/y"}}),
            "/auth/cert/certificate_file",
        ),
    ] {
        let mut settings = good();
        settings[name] = value;
        let places = mistakes(&settings);
        assert!(places.iter().any(|found| found == place), "{name}: {places:?}");
    }
    let (certificate, _) = pair();
    let mut strangers = good();
    strangers["auth"]["cert"]["certificate"] = json!(certificate);
    assert_eq!(mistakes(&strangers), ["/auth/cert/certificate"]);
}

#[test]
fn an_address_is_refused_as_the_egress_policy_says() {
    let mut settings = good();
    settings["address"] = json!("[::1]:5696");
    let wrong = factory().parse(&settings.to_string(), SettingsOrigin::Tenant).unwrap_err();
    assert!(wrong[0].expected.contains("[egress]"), "{}", wrong[0].expected);
}

#[test]
fn secrets_and_network_settings_change() {
    let parsed = factory().parse(&good().to_string(), SettingsOrigin::Tenant).unwrap();
    let (certificate, key) = pair();
    let secrets = json!({"certificate": certificate, "key": key}).to_string();
    assert_eq!(factory().replace_secrets(&parsed.public, &secrets).unwrap().len(), 2);
    assert!(factory().replace_secrets(&parsed.public, "{}").is_err());
    let changed = json!({"address": "other.example:1", "ca": certificate}).to_string();
    let changed: Value = serde_json::from_str(&factory().change_network(&parsed.public, &changed).unwrap()).unwrap();
    assert_eq!(
        (&changed["address"], &changed["ca"]),
        (&json!("other.example:1"), &json!(certificate))
    );
    let without = factory().change_network(&changed.to_string(), "{\"ca\": null}").unwrap();
    assert!(!without.contains("CERTIFICATE"));
    for wrong in [r#"{"proxy": "http://p.example"}"#, r#"{"address": "x"}"#, r#"{"server_iv": true}"#] {
        assert!(factory().change_network(&parsed.public, wrong).is_err(), "{wrong}");
    }
}

#[test]
fn only_the_operators_settings_claim_for_all_tenants() {
    let public = factory().parse(&good().to_string(), SettingsOrigin::Operator).unwrap().public;
    let service = "kms.example:5696".to_owned();
    assert_eq!(
        factory().claims(&public, SettingsOrigin::Operator),
        ClaimSpan::Installation { service }
    );
    assert_eq!(factory().claims(&public, SettingsOrigin::Tenant), ClaimSpan::Tenant);
}
