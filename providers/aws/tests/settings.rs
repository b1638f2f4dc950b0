//! The settings that a connection accepts, and the reports on mistakes in them.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops where an expectation fails")]

use std::sync::Once;

use claviger_fake::Tls;
use claviger_provider::egress::{Egress, EgressPolicy};
use claviger_provider::{ClaimSpan, ErrorKind, Factory, SettingsError, SettingsOrigin};
use claviger_provider_aws::{AwsFactory, Endpoints};
use claviger_testkit::connection::parts;
use serde_json::{Value, json};

const ROLE: &str = "arn:aws:iam::111122223333:role/claviger";

fn factory() -> AwsFactory {
    static STACK: Once = Once::new();
    STACK.call_once(|| drop(rustls::crypto::aws_lc_rs::default_provider().install_default()));
    AwsFactory::new(Endpoints::default(), Egress::new(EgressPolicy::default()))
}

fn access_key() -> Value {
    json!({"static": {"access_key_id": "AKIAIOSFODNN7EXAMPLE", "secret_access_key": "hidden"}})
}

fn wrong(settings: &Value, origin: SettingsOrigin) -> Vec<SettingsError> {
    factory().parse(&settings.to_string(), origin).unwrap_err()
}

fn pointers(errors: &[SettingsError]) -> Vec<&str> {
    errors.iter().map(|error| error.pointer.as_str()).collect()
}

#[test]
fn secrets_are_parted_from_what_is_shown() {
    let token = json!({"static": {"access_key_id": "ASIAIOSFODNN7EXAMPLE", "secret_access_key": "hidden", "session_token": "hidden-too"}});
    let plain = "AKIAIOSFODNN7EXAMPLE\nhidden";
    for (auth, shown, secret) in [
        (access_key(), json!({"static": {}}), plain),
        (token, json!({"static": {}}), "ASIAIOSFODNN7EXAMPLE\nhidden\nhidden-too"),
        (
            json!({"assume_role": {"role_arn": ROLE, "base": access_key()}}),
            json!({"assume_role": {"role_arn": ROLE, "base": {"static": {}}}}),
            plain,
        ),
    ] {
        let settings = json!({"region": "eu-central-1", "fips": true, "auth": auth});
        let parsed = factory().parse(&settings.to_string(), SettingsOrigin::Tenant).unwrap();
        let public: Value = serde_json::from_str(&parsed.public).unwrap();
        assert_eq!(public, json!({"region": "eu-central-1", "fips": true, "auth": shown}));
        let [(name, kept)] = parsed.secrets.as_slice() else {
            panic!("one secret")
        };
        assert_eq!((name.as_str(), kept.expose()), ("access_key", secret.as_bytes()));
    }
}

#[test]
fn all_mistakes_are_told_at_once_and_no_value_comes_back() {
    let settings = json!({
        "region": "SECRET.example", "fips": "SECRET", "SECRET": true,
        "auth": {"assume_role": {"role_arn": "SECRET", "SECRET": 1, "base": {"static": {"access_key_id": "SEC RET", "secret_access_key": 7}}}},
    });
    let errors = wrong(&settings, SettingsOrigin::Tenant);
    assert_eq!(
        pointers(&errors),
        [
            "/region",
            "/fips",
            "/auth/assume_role/role_arn",
            "/auth/assume_role/base/static/access_key_id",
            "/auth/assume_role/base/static/secret_access_key",
            "/auth/assume_role",
            ""
        ]
    );
    assert!(errors.iter().all(|error| !error.operator_only && !error.expected.is_empty()));
    assert!(!format!("{errors:?}").contains("SECRET"));
    assert_eq!(pointers(&wrong(&json!({}), SettingsOrigin::Tenant)), ["/region", "/auth"]);
    for text in ["", "[]", "null", "7", "{"] {
        assert_eq!(factory().parse(text, SettingsOrigin::Tenant).unwrap_err().len(), 1, "{text}");
    }
}

#[test]
fn what_is_no_identity_is_told_with_every_form() {
    let both = json!({"static": access_key()["static"], "assume_role": {"role_arn": ROLE, "base": access_key()}});
    for auth in [json!({}), both] {
        let errors = wrong(&json!({"region": "eu-central-1", "auth": auth}), SettingsOrigin::Tenant);
        assert!(
            errors.len() == 1 && errors[0].pointer == "/auth" && errors[0].expected.contains("assume_role"),
            "{auth}: {errors:?}"
        );
    }
    for (auth, pointer) in [
        (json!("static"), "/auth"),
        (json!({"static": "key"}), "/auth/static"),
        (json!({"assume_role": {"role_arn": ROLE}}), "/auth/assume_role/base"),
        (json!({"assume_role": {"role_arn": ROLE, "base": {}}}), "/auth/assume_role/base"),
        (
            json!({"assume_role": {"role_arn": ROLE, "base": {"assume_role": {}}}}),
            "/auth/assume_role/base",
        ),
    ] {
        let errors = wrong(&json!({"region": "eu-central-1", "auth": auth}), SettingsOrigin::Tenant);
        assert!(errors.iter().any(|error| error.pointer == pointer), "{auth}: {errors:?}");
    }
}

#[test]
fn what_is_the_operators_is_refused_from_a_tenant_and_named() {
    let key = access_key();
    let base = |base: Value| json!({"assume_role": {"role_arn": ROLE, "base": base}});
    let web = json!({"web_identity": {"role_arn": ROLE, "token_file": "/run/token"}});
    for (auth, more, pointer) in [
        (json!({"profile": {"name": "default"}}), json!({}), "/auth/profile"),
        (json!({"ambient": {}}), json!({}), "/auth/ambient"),
        (web.clone(), json!({}), "/auth/web_identity"),
        (base(json!({"ambient": {}})), json!({}), "/auth/assume_role/base/ambient"),
        (key.clone(), json!({"endpoint": "https://kms.example"}), "/endpoint"),
        (key.clone(), json!({"sts_endpoint": "https://sts.example"}), "/sts_endpoint"),
    ] {
        let mut settings = json!({"region": "eu-central-1", "auth": auth});
        for (name, value) in more.as_object().unwrap() {
            settings[name] = value.clone();
        }
        let errors = wrong(&settings, SettingsOrigin::Tenant);
        assert!(
            errors.len() == 1 && errors[0].operator_only && errors[0].pointer == pointer,
            "{settings}: {errors:?}"
        );
        assert!(
            factory().parse(&settings.to_string(), SettingsOrigin::Operator).is_ok(),
            "{settings}"
        );
    }
}

#[test]
fn an_endpoint_is_an_address_and_goes_without_fips() {
    for wrong in [
        "",
        "kms.example",
        "ftp://kms.example",
        "https://user@kms.example",
        "https://kms.example/?a",
    ] {
        let settings = json!({"region": "eu-central-1", "auth": access_key(), "endpoint": wrong});
        assert_eq!(
            pointers(&self::wrong(&settings, SettingsOrigin::Operator)),
            ["/endpoint"],
            "{wrong}"
        );
    }
    let settings = json!({"region": "eu-central-1", "auth": access_key(), "endpoint": "http://127.0.0.1:5000"});
    assert!(factory().parse(&settings.to_string(), SettingsOrigin::Operator).is_ok());

    let settings = json!({"region": "eu-central-1", "auth": access_key(), "fips": true});
    let endpoints = Endpoints {
        kms: Some("https://kms.example".to_owned()),
        sts: None,
    };
    let led = AwsFactory::new(endpoints, Egress::new(EgressPolicy::default()));
    let errors = led.parse(&settings.to_string(), SettingsOrigin::Tenant).unwrap_err();
    assert_eq!(pointers(&errors), ["/fips"]);
}

#[test]
fn new_secrets_take_the_place_of_all_old_ones() {
    let role = json!({"assume_role": {"role_arn": ROLE, "base": access_key()}});
    for auth in [access_key(), role] {
        let settings = json!({"region": "eu-central-1", "auth": auth});
        let kept = factory().parse(&settings.to_string(), SettingsOrigin::Tenant).unwrap().public;
        let given = json!({"access_key_id": "ASIAIOSFODNN7EXAMPLE", "secret_access_key": "new", "session_token": "token"});
        let secrets = factory().replace_secrets(&kept, &given.to_string()).unwrap();
        let [(name, secret)] = secrets.as_slice() else {
            panic!("one secret")
        };
        assert_eq!(
            (name.as_str(), secret.expose()),
            ("access_key", b"ASIAIOSFODNN7EXAMPLE\nnew\ntoken".as_slice())
        );

        for wrong in [
            json!({}),
            json!({"region": "us-east-1"}),
            json!({"access_key_id": "ASIAIOSFODNN7EXAMPLE"}),
            json!({"access_key_id": "ASIAIOSFODNN7EXAMPLE", "secret_access_key": "new", "session_token": ""}),
            json!([]),
        ] {
            assert!(factory().replace_secrets(&kept, &wrong.to_string()).is_err(), "{wrong}");
        }
    }
    let ambient = json!({"region": "eu-central-1", "auth": {"ambient": {}}});
    let kept = factory().parse(&ambient.to_string(), SettingsOrigin::Operator).unwrap().public;
    assert!(factory().replace_secrets(&kept, &access_key()["static"].to_string()).is_err());
}

#[tokio::test]
async fn what_was_kept_must_still_be_whole() {
    let settings = json!({"region": "eu-central-1", "auth": access_key()});
    let kept = factory().parse(&settings.to_string(), SettingsOrigin::Tenant).unwrap();
    // The secret is missing.
    let error = factory().provider(parts(&kept.public, Vec::new())).await.err().unwrap();
    assert_eq!(error.kind, ErrorKind::Misconfigured);
    let error = factory().provider(parts("{}", Vec::new())).await.err().unwrap();
    assert_eq!(error.kind, ErrorKind::Misconfigured);
}

#[test]
fn an_authority_and_a_proxy_are_kept_or_refused_with_what_is_expected() {
    let ca = Tls::new(&[]).unwrap().ca_pem().to_owned();
    for origin in [SettingsOrigin::Tenant, SettingsOrigin::Operator] {
        let settings = json!({"region": "eu-central-1", "auth": access_key(), "ca": ca, "proxy": "http://Proxy.example:3128"});
        let kept = factory().parse(&settings.to_string(), origin).unwrap().public;
        let kept: Value = serde_json::from_str(&kept).unwrap();
        assert_eq!((&kept["ca"], &kept["proxy"]), (&json!(ca), &json!("http://proxy.example:3128/")));
        for (ca, proxy) in [
            ("-----BEGIN CERTIFICATE-----", "http://127.0.0.1:3128"),
            ("-----BEGIN PRIVATE KEY-----", "http://user:SECRET@proxy.example"),
            ("", "proxy.example:3128"),
        ] {
            let settings = json!({"region": "eu-central-1", "auth": access_key(), "ca": ca, "proxy": proxy});
            let errors = wrong(&settings, origin);
            assert_eq!(pointers(&errors), ["/ca", "/proxy"], "{ca} {proxy}");
            assert!(!format!("{errors:?}").contains("SECRET"), "{errors:?}");
        }
    }
}

/// The span that the keys of a connection with these settings are claimed in.
fn claims(settings: &Value, origin: SettingsOrigin) -> ClaimSpan {
    let parsed = factory().parse(&settings.to_string(), origin).unwrap();
    factory().claims(&parsed.public, origin)
}

#[test]
fn keys_are_claimed_for_the_installation_where_the_operator_lends_the_identity() {
    use SettingsOrigin::{Operator, Tenant};
    let with = |auth: &Value| json!({"region": "eu-central-1", "auth": auth});
    let role = |base: Value| json!({"assume_role": {"role_arn": ROLE, "base": base}});
    let proxied = |mut settings: Value| {
        settings["proxy"] = json!("http://proxy.example:3128");
        settings
    };
    for own in [access_key(), role(access_key())] {
        for origin in [Tenant, Operator] {
            assert_eq!(claims(&with(&own), origin), ClaimSpan::Tenant, "{own}");
        }
    }
    let web_identity = json!({"web_identity": {"role_arn": ROLE, "token_file": "/token"}});
    for operators in [json!({"ambient": {}}), json!({"profile": {"name": "p"}}), web_identity] {
        for auth in [operators.clone(), role(operators)] {
            assert_eq!(claims(&with(&auth), Operator), ClaimSpan::INSTALLATION, "{auth}");
            // The proxy that the operator wrote is the operator's.
            assert_eq!(claims(&proxied(with(&auth)), Operator), ClaimSpan::INSTALLATION, "{auth}");
            // Lent to a tenant who names a proxy.
            let parsed = factory().parse(&proxied(with(&auth)).to_string(), Operator).unwrap();
            assert_eq!(factory().claims(&parsed.public, Tenant), ClaimSpan::Tenant, "{auth}");
        }
    }
}

#[test]
fn a_key_that_another_has_claimed_reads_as_one_that_aws_denies() {
    let operators = json!({"region": "eu-central-1", "auth": {"ambient": {}}}).to_string();
    let role = json!({"region": "eu-central-1", "auth": {"assume_role": {"role_arn": ROLE, "base": {"ambient": {}}}}}).to_string();
    for (settings, says) in [
        (operators, "kms:EncryptionContext:claviger:tenant"),
        (role, "AWS denies this identity the call"),
    ] {
        let error = factory().unproven(&settings);
        assert_eq!(error.kind, ErrorKind::ProviderDenied);
        assert!(error.advice.unwrap().contains(says), "{settings}");
    }
}
