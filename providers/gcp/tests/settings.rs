//! Settings: accepted forms, the stored form, and the report of every mistake.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops where an expectation fails")]

use std::time::Duration;

use claviger_provider::{ClaimSpan, ErrorKind, Factory, SettingsOrigin};
use claviger_provider_gcp::{Endpoints, GcpFactory};
use claviger_testkit::connection::parts;
use serde_json::{Value, json};

const RING: &str = "projects/acme-1/locations/europe-west3/keyRings/claviger";
const ACCOUNT: &str = "kms@acme-1.iam.gserviceaccount.com";
const AUDIENCE: &str = "//iam.googleapis.com/projects/12/locations/global/workloadIdentityPools/pool/providers/own";
const PEM: &str = "-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n";

fn factory() -> GcpFactory {
    GcpFactory::new(Endpoints::default(), Duration::from_secs(3))
}

fn key() -> Value {
    json!({"type": "service_account", "client_email": ACCOUNT, "private_key_id": "0123", "private_key": PEM, "project_id": "acme-1"})
}

fn with(member: &str, value: Value) -> Value {
    let mut settings = json!({"key_ring": RING, "auth": {"token": "ya29.hunter2"}});
    settings[member] = value;
    settings
}

fn with_key(member: &str, value: Value) -> Value {
    let mut key = key();
    key[member] = value;
    with("auth", json!({"service_account_key": key}))
}

/// The places of the mistakes, each with whether it is for the operator only.
fn wrong(settings: &Value, origin: SettingsOrigin) -> Vec<(String, bool)> {
    let errors = factory().parse(&settings.to_string(), origin).unwrap_err();
    for error in &errors {
        assert!(!error.expected.contains("hunter2"), "{error:?}");
    }
    errors.into_iter().map(|error| (error.pointer, error.operator_only)).collect()
}

fn taken(settings: &Value, origin: SettingsOrigin) -> (Value, Vec<String>) {
    let parsed = factory().parse(&settings.to_string(), origin).unwrap();
    for secret in ["hunter2", "c2VjcmV0"] {
        assert!(!parsed.public.contains(secret), "{}", parsed.public);
    }
    let secrets = parsed
        .secrets
        .iter()
        .map(|(_, secret)| String::from_utf8(secret.expose().to_vec()).unwrap());
    (serde_json::from_str(&parsed.public).unwrap(), secrets.collect())
}

#[test]
fn secrets_are_kept_apart_from_what_is_shown() {
    let token = taken(&with("hsm_random", json!(true)), SettingsOrigin::Tenant);
    assert_eq!(token.0, json!({"key_ring": RING, "hsm_random": true, "auth": {"token": {}}}));
    assert_eq!(token.1, ["ya29.hunter2"]);
    let keyed = taken(&with("auth", json!({"service_account_key": key()})), SettingsOrigin::Tenant);
    assert_eq!(keyed.0["auth"], json!({"service_account_key": {"client_email": ACCOUNT}}));
    assert_eq!(serde_json::from_str::<Value>(&keyed.1[0]).unwrap(), key());
    let workload = json!({"workload_identity": {"audience": AUDIENCE, "subject_token": "e30.hunter2"}});
    let impersonate = json!({"impersonate": {"service_account": ACCOUNT, "base": workload}});
    let shown = taken(&with("auth", impersonate), SettingsOrigin::Tenant);
    let expected = json!({"impersonate": {"service_account": ACCOUNT, "base": {"workload_identity": {"audience": AUDIENCE}}}});
    assert_eq!((&shown.0["auth"], shown.1), (&expected, vec!["e30.hunter2".to_owned()]));
}

#[test]
fn what_is_wrong_is_told_with_its_place() {
    for (settings, places) in [
        (json!({}), vec!["/key_ring", "/auth"]),
        (json!([]), vec![""]),
        (with("key_ring", json!("claviger")), vec!["/key_ring"]),
        (with("key_ring", json!(format!("{RING}/cryptoKeys/k"))), vec!["/key_ring"]),
        (with("protection_level", json!("external")), vec!["/protection_level"]),
        (with("hsm_random", json!("yes")), vec!["/hsm_random"]),
        (with("region", json!("eu")), vec![""]),
        (with("ca", json!("-----BEGIN CERTIFICATE-----")), vec!["/ca"]),
        (with("proxy", json!("http://proxy.example:3128")), vec!["/proxy"]),
        (with("auth", json!({})), vec!["/auth"]),
        (with("auth", json!({"token": ""})), vec!["/auth/token"]),
        (with("auth", json!({"token": "a b"})), vec!["/auth/token"]),
        (with("auth", json!({"token": "x", "service_account_key": key()})), vec!["/auth"]),
        (
            with("auth", json!({"impersonate": {"service_account": ACCOUNT}})),
            vec!["/auth/impersonate/base"],
        ),
        (
            with(
                "auth",
                json!({"impersonate": {"service_account": "root@example.com", "base": {"token": "x"}}}),
            ),
            vec!["/auth/impersonate/service_account"],
        ),
        (
            with("auth", json!({"workload_identity": {"audience": "https://evil.example"}})),
            vec!["/auth/workload_identity/audience", "/auth/workload_identity/subject_token"],
        ),
    ] {
        let found = wrong(&settings, SettingsOrigin::Tenant);
        let expected: Vec<_> = places.into_iter().map(|place| (place.to_owned(), false)).collect();
        assert_eq!(found, expected, "{settings}");
    }
}

#[test]
fn a_keys_file_leads_nowhere() {
    for (member, value) in [
        ("token_uri", json!("https://oauth2.googleapis.com/token")),
        (
            "client_x509_cert_url",
            json!("https://www.googleapis.com/robot/v1/metadata/x509/kms%40acme-1"),
        ),
        ("universe_domain", json!("googleapis.com")),
        ("client_id", json!("123")),
    ] {
        let (_, secrets) = taken(&with_key(member, value), SettingsOrigin::Tenant);
        assert!(
            !secrets[0].contains("http") && !secrets[0].contains("universe"),
            "{member} is not kept"
        );
    }
    for (member, value, place) in [
        ("token_uri", json!("https://evil.example/token"), "/token_uri"),
        ("auth_uri", json!("file:///etc/passwd"), "/auth_uri"),
        ("universe_domain", json!("evil.example"), "/universe_domain"),
        ("type", json!("external_account"), "/type"),
        ("client_email", json!("root@evil.example"), "/client_email"),
        ("private_key_id", json!(""), "/private_key_id"),
        ("private_key", json!(""), "/private_key"),
        ("credential_source", json!({"file": "/etc/passwd"}), ""),
        ("service_account_impersonation_url", json!("https://evil.example"), ""),
    ] {
        let found = wrong(&with_key(member, value), SettingsOrigin::Tenant);
        let expected = format!("/auth/service_account_key{place}");
        assert!(found.contains(&(expected, false)), "{member}: {found:?}");
    }
}

#[test]
fn files_ambient_identity_and_endpoints_are_the_operators() {
    let from_file = json!({"workload_identity": {"audience": AUDIENCE, "token_file": "/run/token"}});
    for (settings, place) in [
        (with("auth", json!({"ambient": {}})), "/auth/ambient"),
        (with("auth", from_file), "/auth/workload_identity/token_file"),
        (
            with(
                "auth",
                json!({"impersonate": {"service_account": ACCOUNT, "base": {"ambient": {}}}}),
            ),
            "/auth/impersonate/base/ambient",
        ),
        (with("endpoint", json!("https://kms.example")), "/endpoint"),
        (with("sts_endpoint", json!("https://sts.example")), "/sts_endpoint"),
        (with("iam_endpoint", json!("https://iam.example")), "/iam_endpoint"),
    ] {
        let found = wrong(&settings, SettingsOrigin::Tenant);
        assert_eq!(found, [(place.to_owned(), true)], "{settings}");
        taken(&settings, SettingsOrigin::Operator);
    }
    for address in ["kms.example", "ftp://kms.example", "https://u:p@kms.example"] {
        let found = wrong(&with("endpoint", json!(address)), SettingsOrigin::Operator);
        assert_eq!(found, [("/endpoint".to_owned(), false)], "{address}");
    }
}

#[test]
fn new_secrets_are_of_the_same_kind_and_account() {
    let kept = |auth: Value| {
        factory()
            .parse(&with("auth", auth).to_string(), SettingsOrigin::Operator)
            .unwrap()
            .public
    };
    let replaced = |kept: &str, given: Value| factory().replace_secrets(kept, &given.to_string());

    let token = kept(json!({"token": "ya29.old"}));
    let secrets = replaced(&token, json!({"token": "ya29.new"})).unwrap();
    assert_eq!(secrets[0].1.expose(), b"ya29.new");
    let keyed = kept(json!({"service_account_key": key()}));
    assert_eq!(replaced(&keyed, json!({"service_account_key": key()})).unwrap().len(), 1);
    let workload = kept(json!({"workload_identity": {"audience": AUDIENCE, "subject_token": "old"}}));
    assert_eq!(replaced(&workload, json!({"subject_token": "new"})).unwrap()[0].1.expose(), b"new");

    let mut other = key();
    other["client_email"] = json!("other@acme-1.iam.gserviceaccount.com");
    let ambient = kept(json!({"ambient": {}}));
    for (kept, given) in [
        (&token, json!({})),
        (&token, json!({"token": "x", "key_ring": RING})),
        (&token, json!({"subject_token": "x"})),
        (&keyed, json!({"service_account_key": other})),
        (&keyed, json!({"token": "x"})),
        (&workload, json!({"subject_token": "x", "audience": AUDIENCE})),
        (&ambient, json!({"token": "x"})),
    ] {
        assert!(replaced(kept, given.clone()).is_err(), "{kept}: {given}");
    }
}

#[tokio::test]
async fn what_was_kept_must_still_be_whole() {
    // A second installation fails and changes nothing.
    let _installed = rustls::crypto::aws_lc_rs::default_provider().install_default();
    for auth in [json!({"token": "ya29.x"}), json!({"service_account_key": key()})] {
        let kept = factory().parse(&with("auth", auth).to_string(), SettingsOrigin::Tenant).unwrap();
        for settings in [kept.public.as_str(), "{}", "{\"key_ring\": \"x\", \"auth\": {\"token\": {}}}"] {
            let Err(error) = factory().provider(parts(settings, Vec::new())).await else {
                panic!("{settings} makes a connection");
            };
            assert_eq!(error.kind, ErrorKind::Misconfigured, "{settings}");
        }
    }
}

#[test]
fn keys_are_claimed_for_the_installation_where_the_operator_lends_the_identity() {
    let span = |auth: &Value, origin| {
        let settings = json!({"key_ring": RING, "auth": auth});
        let parsed = factory().parse(&settings.to_string(), origin).unwrap();
        factory().claims(&parsed.public, origin)
    };
    let impersonated = |base: &Value| json!({"impersonate": {"service_account": ACCOUNT, "base": base}});
    let workload = |member: &str| json!({"workload_identity": {"audience": AUDIENCE, member: "/token"}});
    for own in [
        json!({"token": "ya29.t"}),
        json!({"service_account_key": key()}),
        workload("subject_token"),
    ] {
        for origin in [SettingsOrigin::Tenant, SettingsOrigin::Operator] {
            assert_eq!(span(&own, origin), ClaimSpan::Tenant, "{own}");
            assert_eq!(span(&impersonated(&own), origin), ClaimSpan::Tenant, "{own}");
        }
    }
    for operators in [json!({"ambient": {}}), workload("token_file")] {
        assert_eq!(span(&operators, SettingsOrigin::Operator), ClaimSpan::INSTALLATION, "{operators}");
        assert_eq!(
            span(&impersonated(&operators), SettingsOrigin::Operator),
            ClaimSpan::INSTALLATION,
            "{operators}"
        );
    }
    let unproven = factory().unproven("{}");
    assert_eq!(unproven.kind, ErrorKind::ProviderDenied);
    assert!(unproven.advice.unwrap().contains("claviger-tenant"));
}
