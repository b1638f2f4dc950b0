//! The settings that a connection accepts, and the reports on mistakes in them.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops where an expectation fails")]

use claviger_fake::Tls;
use claviger_fake_xks::AccessKey;
use claviger_provider::egress::{Egress, EgressPolicy};
use claviger_provider::{ClaimSpan, ErrorKind, Factory, ParsedSettings, SettingsError, SettingsOrigin};
use claviger_provider_xks::XksFactory;
use claviger_testkit::connection::parts;
use serde_json::{Value, json};

fn factory() -> XksFactory {
    XksFactory::new(Egress::new(EgressPolicy::default()))
}

fn parse(settings: &Value) -> Result<ParsedSettings, Vec<SettingsError>> {
    factory().parse(&settings.to_string(), SettingsOrigin::Tenant)
}

fn pointers(settings: &Value) -> Vec<String> {
    let mistakes = parse(settings).unwrap_err();
    assert!(mistakes.iter().all(|mistake| !mistake.expected.is_empty()));
    mistakes.into_iter().map(|mistake| mistake.pointer).collect()
}

fn access_key(key: &AccessKey) -> Value {
    json!({"access_key_id": key.id, "secret_access_key": key.secret})
}

fn sound() -> Value {
    json!({"address": "https://xks.example", "region": "eu-central-1", "auth": {"sigv4": access_key(&AccessKey::first())}})
}

fn certificate() -> Value {
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    let (certificate, key) = Tls::new(&[]).unwrap().client_certificate("claviger").unwrap();
    json!({"certificate": certificate, "key": key})
}

/// Sets members of `auth.sigv4`.
fn with(members: &[(&str, Value)]) -> Value {
    let mut settings = sound();
    for (name, value) in members {
        settings["auth"]["sigv4"][name] = value.clone();
    }
    settings
}

#[test]
fn secrets_are_parted_from_what_is_shown() {
    let (first, second) = (AccessKey::first(), AccessKey::second());
    let mut settings = with(&[("second", access_key(&second)), ("client_certificate", certificate())]);
    settings["address"] = json!("https://Xks.example:443/tenants/a/kms/xks/v1");
    settings["budget_ms"] = json!(1000);
    settings["proxy"] = json!("http://proxy.example:3128");
    let parsed = parse(&settings).unwrap();
    let public: Value = serde_json::from_str(&parsed.public).unwrap();
    let expected = json!({
        "address": "https://xks.example/tenants/a", "region": "eu-central-1", "budget_ms": 1000,
        "auth": {"sigv4": {"client_certificate": {}}}, "proxy": "http://proxy.example:3128/",
    });
    assert_eq!(public, expected);
    let names: Vec<&str> = parsed.secrets.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["access_key", "second_access_key", "certificate", "key"]);
    let kept = |at: usize| String::from_utf8(parsed.secrets[at].1.expose().to_vec()).unwrap();
    assert_eq!(kept(0), format!("{}\n{}", first.id, first.secret));
    assert_eq!(kept(1), format!("{}\n{}", second.id, second.secret));
    factory().provider(parts(&parsed.public, parsed.secrets)).unwrap();
    let least: Value = serde_json::from_str(&parse(&sound()).unwrap().public).unwrap();
    assert_eq!(
        least,
        json!({"address": "https://xks.example", "region": "eu-central-1", "auth": {"sigv4": {}}})
    );
}

#[test]
fn every_mistake_has_its_place() {
    let cert = certificate();
    let change = |name: &str, value: Value| {
        let mut settings = sound();
        settings[name] = value;
        settings
    };
    for (settings, expected) in [
        (json!({}), vec!["/address", "/region", "/auth"]),
        (change("address", json!("http://xks.example")), vec!["/address"]),
        (change("address", json!("https://127.0.0.1")), vec!["/address"]),
        (change("address", json!("https://xks.example/a b")), vec!["/address"]),
        (change("address", json!("https://xks.example/a.b")), vec!["/address"]),
        (change("region", json!("EU")), vec!["/region"]),
        (change("region", json!(1)), vec!["/region"]),
        (change("budget_ms", json!(49)), vec!["/budget_ms"]),
        (change("canary_key", json!("a/b")), vec!["/canary_key"]),
        (change("canary_key", json!(7)), vec!["/canary_key"]),
        (change("budget_ms", json!(10_001)), vec!["/budget_ms"]),
        (change("budget_ms", json!("250")), vec!["/budget_ms"]),
        (change("budget_ms", json!(250.5)), vec!["/budget_ms"]),
        (change("ca", json!("no certificate")), vec!["/ca"]),
        (change("mount", json!("x")), vec![""]),
        (change("auth", json!({})), vec!["/auth/sigv4"]),
        (change("auth", json!({"token": "x"})), vec!["/auth/sigv4", "/auth"]),
        (with(&[("access_key_id", json!("TOO-SHORT"))]), vec!["/auth/sigv4/access_key_id"]),
        (
            with(&[("access_key_id", json!("abcdefghijklmnopqrst"))]),
            vec!["/auth/sigv4/access_key_id"],
        ),
        (
            with(&[("secret_access_key", json!("short"))]),
            vec!["/auth/sigv4/secret_access_key"],
        ),
        (
            with(&[("second", json!({"access_key_id": AccessKey::second().id}))]),
            vec!["/auth/sigv4/second/secret_access_key"],
        ),
        (
            with(&[("second", access_key(&AccessKey::first()))]),
            vec!["/auth/sigv4/second/access_key_id"],
        ),
        (with(&[("second", Value::Null)]), vec!["/auth/sigv4/second"]),
        (
            with(&[("client_certificate", json!({"certificate": cert["certificate"]}))]),
            vec!["/auth/sigv4/client_certificate/key"],
        ),
        (
            with(&[(
                "client_certificate",
                json!({"certificate": cert["certificate"], "key": certificate()["key"]}),
            )]),
            vec!["/auth/sigv4/client_certificate/certificate"],
        ),
        (
            with(&[("access_key_id_file", json!("/etc/passwd"))]),
            vec!["/auth/sigv4/access_key_id_file"],
        ),
    ] {
        assert_eq!(pointers(&settings), expected, "{settings}");
    }
}

#[test]
fn a_mistake_shows_nothing_of_a_secret() {
    let settings = with(&[("secret_access_key", json!("hidden")), ("access_key_id", json!("hidden"))]);
    let mistakes = parse(&settings).unwrap_err();
    assert_eq!(mistakes.len(), 2);
    assert!(mistakes.iter().all(|mistake| !mistake.expected.contains("hidden")));
}

#[test]
fn access_keys_and_certificate_are_replaced_each_as_a_whole() {
    let plain = parse(&sound()).unwrap();
    let mutual = parse(&with(&[("client_certificate", certificate())])).unwrap();
    let (first, second) = (access_key(&AccessKey::first()), access_key(&AccessKey::second()));
    let both = json!({"access_key_id": first["access_key_id"], "secret_access_key": first["secret_access_key"], "second": second});
    for (public, given, names) in [
        (&plain.public, first.clone(), vec!["access_key"]),
        (&plain.public, json!({"second": second}), vec!["second_access_key"]),
        (&plain.public, json!({"second": null}), vec!["second_access_key"]),
        (&plain.public, both, vec!["access_key", "second_access_key"]),
        (
            &mutual.public,
            json!({"client_certificate": certificate()}),
            vec!["certificate", "key"],
        ),
    ] {
        let replaced = factory().replace_secrets(public, &given.to_string()).unwrap();
        let found: Vec<&str> = replaced.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(found, names);
    }
    for (public, given, pointer) in [
        (&plain.public, json!({}), "/access_key_id"),
        (
            &plain.public,
            json!({"access_key_id": first["access_key_id"]}),
            "/secret_access_key",
        ),
        (&plain.public, json!({"second": {}}), "/second/access_key_id"),
        (&plain.public, json!({"client_certificate": certificate()}), "/client_certificate"),
        (&plain.public, json!({"token": "x"}), ""),
    ] {
        let mistakes = factory().replace_secrets(public, &given.to_string()).unwrap_err();
        assert!(mistakes.iter().any(|mistake| mistake.pointer == pointer), "{given}: {mistakes:?}");
    }
}

#[test]
fn network_settings_change_and_nothing_else() {
    let stored = parse(&sound()).unwrap().public;
    let changed = factory()
        .change_network(&stored, r#"{"address": "https://other.example/b/kms/xks/v1"}"#)
        .unwrap();
    let changed: Value = serde_json::from_str(&changed).unwrap();
    assert_eq!(changed["address"], "https://other.example/b");
    for (given, pointer) in [
        (r#"{"address": "https://other.example/b.c"}"#, "/address"),
        (r#"{"region": "us-east-1"}"#, ""),
    ] {
        let mistakes = factory().change_network(&stored, given).unwrap_err();
        assert_eq!(mistakes[0].pointer, pointer);
    }
}

#[test]
fn a_provider_key_is_claimed_for_the_installation_by_the_operator_alone() {
    let stored = parse(&sound()).unwrap().public;
    assert_eq!(factory().claims(&stored, SettingsOrigin::Tenant), ClaimSpan::Tenant);
    let service = "https://xks.example".to_owned();
    assert_eq!(
        factory().claims(&stored, SettingsOrigin::Operator),
        ClaimSpan::Installation { service }
    );
}

#[test]
fn stored_settings_that_no_longer_fit_are_misconfigured() {
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    let parsed = parse(&sound()).unwrap();
    let error = |settings: &str, secrets| factory().provider(parts(settings, secrets)).err().map(|error| error.kind);
    assert_eq!(error("{}", Vec::new()), Some(ErrorKind::Misconfigured));
    assert_eq!(error(&parsed.public, Vec::new()), Some(ErrorKind::Misconfigured));
    let forbidden = parsed.public.replace("https://xks.example", "http://127.0.0.1:1");
    assert_eq!(error(&forbidden, parsed.secrets), Some(ErrorKind::Misconfigured));
}
