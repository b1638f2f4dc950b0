//! Settings: accepted forms, the stored form, and the report of every mistake.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test stops where an expectation fails"
)]

use claviger_provider::egress::{Egress, EgressPolicy};
use claviger_provider::{ClaimSpan, ErrorKind, Factory, ParsedSettings, SettingsError, SettingsOrigin};
use claviger_provider_azure::{Application, AzureFactory, Installation};
use rcgen::{CertificateParams, KeyPair, PKCS_RSA_SHA256, RsaKeySize};
use serde_json::{Value, json};

const DIRECTORY: &str = "72f988bf-86f1-41af-91ab-2d7cd011db47";
const CLIENT: &str = "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee";

fn factory() -> AzureFactory {
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    AzureFactory::new(Installation::default(), Egress::new(EgressPolicy::default()))
}

fn base(auth: Value) -> Value {
    json!({"vault": "https://acme.vault.azure.net", "auth": auth})
}

fn with_secret() -> Value {
    json!({"client_secret": {"directory": DIRECTORY, "client_id": CLIENT, "secret": "the-secret"}})
}

fn parse(settings: &Value, origin: SettingsOrigin) -> Result<ParsedSettings, Vec<SettingsError>> {
    factory().parse(&settings.to_string(), origin)
}

fn certificate() -> (String, String) {
    let key = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap();
    let certificate = CertificateParams::new(Vec::new()).unwrap().self_signed(&key).unwrap();
    (certificate.pem(), key.serialize_pem())
}

#[test]
fn what_is_shown_holds_no_secret() {
    let (certificate, key) = certificate();
    let application = json!({"directory": DIRECTORY.to_uppercase(), "client_id": CLIENT});
    let with = |more: Value| {
        let mut all = application.clone();
        all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        all
    };
    for (auth, names) in [
        (json!({"client_secret": with(json!({"secret": "the-secret"}))}), &["secret"][..]),
        (
            json!({"client_certificate": with(json!({"certificate": certificate, "key": key}))}),
            &["certificate", "key"][..],
        ),
        (json!({"workload_identity": with(json!({"token": "the-secret"}))}), &["token"][..]),
        (json!({"static": {"token": "the-secret"}}), &["token"][..]),
    ] {
        let parsed = parse(&base(auth), SettingsOrigin::Tenant).unwrap();
        let kept: Vec<&str> = parsed.secrets.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(kept, names);
        assert!(
            !parsed.public.contains("the-secret") && !parsed.public.contains("PRIVATE KEY"),
            "{}",
            parsed.public
        );
        assert!(!parsed.public.contains(&DIRECTORY.to_uppercase()), "{}", parsed.public);
    }
}

#[test]
fn every_setting_is_kept() {
    let settings = json!({
        "vault": "https://acme.managedhsm.azure.net", "aes_algorithm": "A256GCM", "proxy": "http://proxy.example:3128", "auth": with_secret(),
    });
    let parsed = parse(&settings, SettingsOrigin::Tenant).unwrap();
    let shown: Value = serde_json::from_str(&parsed.public).unwrap();
    assert_eq!(
        shown,
        json!({
            "vault": "https://acme.managedhsm.azure.net/", "aes_algorithm": "A256GCM", "proxy": "http://proxy.example:3128/",
            "auth": {"client_secret": {"directory": DIRECTORY, "client_id": CLIENT}},
        })
    );
}

#[test]
fn every_mistake_is_told_with_what_belongs_there() {
    let (certificate, _) = certificate();
    let (_, other) = self::certificate();
    let application = |more: Value| {
        let mut all = json!({"directory": DIRECTORY, "client_id": CLIENT});
        all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        all
    };
    let auth = |auth: Value| base(auth);
    let beside = |more: Value| {
        let mut all = base(with_secret());
        all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        all
    };
    for (settings, pointer, says) in [
        (json!([]), "", "an object"),
        (json!({"auth": with_secret()}), "/vault", "https://NAME.vault.azure.net"),
        (json!({"vault": "https://acme.vault.azure.net"}), "/auth", "client_secret"),
        (
            json!({"vault": "acme", "auth": with_secret()}),
            "/vault",
            "https://NAME.vault.azure.net",
        ),
        (
            json!({"vault": "https://10.0.0.1", "auth": with_secret()}),
            "/vault",
            "https://NAME.vault.azure.net",
        ),
        (
            json!({"vault": "https://acme.vault.azure.net/keys/a", "auth": with_secret()}),
            "/vault",
            "without a path",
        ),
        (beside(json!({"hsm": "yes"})), "/hsm", "true or false"),
        (beside(json!({"aes_algorithm": "A256KW"})), "/aes_algorithm", "a Key Vault has none"),
        (beside(json!({"ca": "no certificate"})), "/ca", "PEM"),
        (beside(json!({"proxy": "http://10.0.0.1:3128"})), "/proxy", "public address"),
        (beside(json!({"region": "x"})), "", "no members but"),
        (beside(json!({"ca_file": "/etc/ca.pem"})), "/ca_file", "give its content as ca"),
        (auth(json!("token")), "/auth", "client_secret"),
        (auth(json!({})), "/auth", "client_secret"),
        (auth(json!({"password": {}})), "/auth", "client_secret"),
        (
            auth(json!({"static": {"token": "a"}, "client_secret": {}})),
            "/auth",
            "client_secret",
        ),
        (auth(json!({"static": {}})), "/auth/static/token", "a token"),
        (
            auth(json!({"static": {"token": "two words"}})),
            "/auth/static/token",
            "without spaces",
        ),
        (
            auth(json!({"client_secret": application(json!({}))})),
            "/auth/client_secret/secret",
            "client secrets",
        ),
        (
            auth(json!({"client_secret": {"directory": "contoso.com", "client_id": CLIENT, "secret": "s"}})),
            "/auth/client_secret/directory",
            "a UUID",
        ),
        (
            auth(json!({"client_secret": {"directory": DIRECTORY, "client_id": "app", "secret": "s"}})),
            "/auth/client_secret/client_id",
            "a UUID",
        ),
        (
            auth(json!({"client_secret": application(json!({"secret_file": "/etc/s"}))})),
            "/auth/client_secret/secret_file",
            "give its content as secret",
        ),
        (
            auth(json!({"client_certificate": application(json!({"certificate": certificate, "key": other}))})),
            "/auth/client_certificate/certificate",
            "whose private key",
        ),
        (
            auth(json!({"workload_identity": application(json!({"token_file": "/run/token"}))})),
            "/auth/workload_identity/token_file",
            "only the operator's",
        ),
        (
            auth(json!({"application": {"directory": DIRECTORY}})),
            "/auth/application",
            "providers.azure.application",
        ),
        (
            auth(json!({"managed_identity": {}})),
            "/auth/managed_identity",
            "only the operator's configuration",
        ),
    ] {
        let wrong = parse(&settings, SettingsOrigin::Tenant).unwrap_err();
        let told = wrong.iter().find(|wrong| wrong.pointer == pointer && wrong.expected.contains(says));
        assert!(told.is_some(), "{settings}: {wrong:?}");
    }
}

#[test]
fn a_hsm_makes_no_difference_between_its_keys() {
    let settings = json!({"vault": "https://acme.managedhsm.azure.net", "hsm": true, "auth": with_secret()});
    let wrong = parse(&settings, SettingsOrigin::Tenant).unwrap_err();
    assert_eq!(wrong[0].pointer, "/hsm");
}

#[test]
fn what_names_the_machine_is_the_operators() {
    for auth in [
        json!({"managed_identity": {}}),
        json!({"managed_identity": {"client_id": CLIENT}}),
        json!({"workload_identity": {"directory": DIRECTORY, "client_id": CLIENT, "token_file": "/run/token"}}),
    ] {
        let wrong = parse(&base(auth.clone()), SettingsOrigin::Tenant).unwrap_err();
        assert!(wrong.iter().any(|wrong| wrong.operator_only), "{auth}: {wrong:?}");
        parse(&base(auth), SettingsOrigin::Operator).unwrap();
    }
}

#[test]
fn new_secrets_have_the_form_of_the_old() {
    let factory = factory();
    let kept = |auth: Value| parse(&base(auth), SettingsOrigin::Operator).unwrap().public;
    let replaced = factory.replace_secrets(&kept(with_secret()), r#"{"secret": "another"}"#).unwrap();
    assert_eq!((replaced[0].0.as_str(), replaced[0].1.expose()), ("secret", &b"another"[..]));
    for (auth, given, says) in [
        (with_secret(), json!({"token": "t"}), "no members but"),
        (with_secret(), json!({}), "client secrets"),
        (with_secret(), json!({"secret": "s", "client_id": CLIENT}), "no members but"),
        (json!({"managed_identity": {}}), json!({"secret": "s"}), "no secrets of its own"),
    ] {
        let wrong = factory.replace_secrets(&kept(auth), &given.to_string()).unwrap_err();
        assert!(wrong.iter().any(|wrong| wrong.expected.contains(says)), "{given}: {wrong:?}");
    }
}

#[test]
fn the_operators_vaults_are_taken_and_go_through_the_policy() {
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    let installation = Installation {
        vaults: vec!["https://10.1.2.3:8443/".to_owned()],
        application: Some(Application {
            client_id: CLIENT.to_owned(),
            secret_file: "/etc/claviger/application".into(),
        }),
        ..Installation::default()
    };
    let settings = json!({"vault": "https://10.1.2.3:8443", "auth": {"application": {"directory": DIRECTORY}}}).to_string();
    let refused = AzureFactory::new(installation.clone(), Egress::new(EgressPolicy::default()));
    let wrong = refused.parse(&settings, SettingsOrigin::Tenant).unwrap_err();
    assert!(wrong[0].pointer == "/vault" && wrong[0].expected.contains("[egress]"), "{wrong:?}");
    let policy = EgressPolicy {
        allow: vec!["10.1.0.0/16".parse().unwrap()],
        allow_plain_http: false,
    };
    let allowed = AzureFactory::new(installation, Egress::new(policy));
    let parsed = allowed.parse(&settings, SettingsOrigin::Tenant).unwrap();
    // Stored settings are validated against the current configuration.
    let parts = claviger_testkit::connection::parts(&parsed.public, Vec::new());
    let error = refused.provider(parts).map(drop).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Misconfigured, "{error}");
}

#[test]
fn keys_are_claimed_for_the_installation_where_the_operator_lends_the_identity() {
    use SettingsOrigin::{Operator, Tenant};
    let lending = AzureFactory::new(
        Installation {
            application: Some(Application {
                client_id: CLIENT.to_owned(),
                secret_file: "/secret".into(),
            }),
            ..Installation::default()
        },
        Egress::new(EgressPolicy::default()),
    );
    let span = |settings: &Value, origin| {
        let parsed = lending.parse(&settings.to_string(), origin).unwrap();
        lending.claims(&parsed.public, origin)
    };
    let workload = |member: &str| json!({"workload_identity": {"directory": DIRECTORY, "client_id": CLIENT, member: "/token"}});
    for own in [with_secret(), json!({"static": {"token": "t"}}), workload("token")] {
        for origin in [Tenant, Operator] {
            assert_eq!(span(&base(own.clone()), origin), ClaimSpan::Tenant, "{own}");
        }
    }
    for operators in [json!({"managed_identity": {}}), workload("token_file")] {
        assert_eq!(span(&base(operators.clone()), Operator), ClaimSpan::INSTALLATION, "{operators}");
    }
    // A tenant names the operator's application itself, and perhaps a way of its own.
    let mut shared = base(json!({"application": {"directory": DIRECTORY}}));
    assert_eq!(span(&shared, Tenant), ClaimSpan::INSTALLATION);
    shared["proxy"] = json!("http://proxy.example:3128");
    assert_eq!(
        (span(&shared, Tenant), span(&shared, Operator)),
        (ClaimSpan::Tenant, ClaimSpan::INSTALLATION)
    );
    let unproven = lending.unproven("{}");
    assert_eq!(unproven.kind, ErrorKind::ProviderDenied);
    assert!(unproven.advice.unwrap().contains("claviger-tenant"));
}
