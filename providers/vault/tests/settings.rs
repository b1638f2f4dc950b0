//! What a connection's settings may say, and what is told of what they may not.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops where an expectation fails")]

use claviger_provider::egress::{Egress, EgressPolicy};
use claviger_provider::{ErrorKind, Factory, SettingsError, SettingsOrigin};
use claviger_provider_vault::VaultFactory;
use serde_json::{Value, json};

fn factory() -> VaultFactory {
    VaultFactory::new(Egress::new(EgressPolicy::default()))
}

fn wrong(settings: &Value) -> Vec<SettingsError> {
    factory().parse(&settings.to_string(), SettingsOrigin::Tenant).unwrap_err()
}

fn pointers(settings: &Value) -> Vec<String> {
    wrong(settings).into_iter().map(|error| error.pointer).collect()
}

#[test]
fn secrets_are_parted_from_what_is_shown() {
    let approle = json!({"approle": {"role_id": "role", "secret_id": "hidden"}});
    let jwt = json!({"jwt": {"role": "role", "jwt": "hidden", "mount": "auth/ci"}});
    let kubernetes = json!({"kubernetes": {"role": "role", "jwt": "hidden"}});
    for (auth, name, shown) in [
        (json!({"token": "hidden"}), "token", json!({"token": {}})),
        (approle, "secret_id", json!({"approle": {"role_id": "role", "mount": "approle"}})),
        (jwt, "jwt", json!({"jwt": {"role": "role", "mount": "auth/ci"}})),
        (kubernetes, "jwt", json!({"kubernetes": {"role": "role", "mount": "kubernetes"}})),
    ] {
        let settings =
            json!({"address": "https://Vault.example:443", "namespace": "team/a", "proxy": "http://proxy.example:3128", "auth": auth});
        let parsed = factory().parse(&settings.to_string(), SettingsOrigin::Tenant).unwrap();
        assert!(!parsed.public.contains("hidden"));
        let public: Value = serde_json::from_str(&parsed.public).unwrap();
        let expected = json!({
            "address": "https://vault.example/", "namespace": "team/a", "mount": "transit", "auth": shown,
            "proxy": "http://proxy.example:3128/",
        });
        assert_eq!(public, expected);
        let [(kept, secret)] = parsed.secrets.as_slice() else {
            panic!("one secret")
        };
        assert_eq!((kept.as_str(), secret.expose()), (name, b"hidden".as_slice()));
    }
}

#[test]
fn all_mistakes_are_told_at_once_and_no_value_comes_back() {
    let settings = json!({
        "address": "http://SECRET.example", "namespace": "/SECRET/", "mount": "SECRET?", "ca": "SECRET", "proxy": "http://SECRET@proxy",
        "SECRET": true, "auth": {"approle": {"role_id": 7, "mount": "../SECRET", "SECRET": 1}},
    });
    let errors = wrong(&settings);
    let pointers: Vec<&str> = errors.iter().map(|error| error.pointer.as_str()).collect();
    assert_eq!(
        pointers,
        [
            "/address",
            "/namespace",
            "/mount",
            "/proxy",
            "/ca",
            "/auth/approle/role_id",
            "/auth/approle/secret_id",
            "/auth/approle/mount",
            "/auth/approle",
            ""
        ]
    );
    assert!(errors.iter().all(|error| !error.operator_only && !error.expected.is_empty()));
    assert!(!format!("{errors:?}").contains("SECRET"));
}

#[test]
fn what_is_no_login_is_told_with_every_form() {
    for auth in [
        Value::Null,
        json!("token"),
        json!({}),
        json!({"token": "t", "jwt": {}}),
        json!({"password": "p"}),
        json!({"certificate": {}}),
    ] {
        let errors = wrong(&json!({"address": "https://vault.example", "auth": auth}));
        assert!(
            errors.len() == 1 && errors[0].pointer == "/auth" && errors[0].expected.contains("approle"),
            "{auth}: {errors:?}"
        );
    }
    assert_eq!(pointers(&json!({"address": "https://vault.example"})), ["/auth"]);
    for token in [json!(""), json!("a b"), json!("a\nb"), json!(7), json!("x".repeat(8193))] {
        assert_eq!(
            pointers(&json!({"address": "https://vault.example", "auth": {"token": token}})),
            ["/auth/token"]
        );
    }
    for text in ["", "[]", "7", "{", "null"] {
        assert!(factory().parse(text, SettingsOrigin::Tenant).is_err(), "{text}");
    }
}

#[test]
fn files_are_the_operators_alone() {
    let file = json!("/etc/passwd");
    for (settings, pointer) in [
        (
            json!({"address": "https://v.example", "auth": {"token": "t"}, "ca_file": file}),
            "/ca_file",
        ),
        (
            json!({"address": "https://v.example", "auth": {"token_file": file}}),
            "/auth/token_file",
        ),
        (
            json!({"address": "https://v.example", "auth": {"kubernetes": {"role": "r", "jwt": "j", "jwt_file": file}}}),
            "/auth/kubernetes/jwt_file",
        ),
    ] {
        let errors = wrong(&settings);
        assert!(
            errors.len() == 1 && errors[0].operator_only && errors[0].pointer == pointer,
            "{errors:?}"
        );
    }
}

#[test]
fn a_list_of_authorities_holds_certificates_and_no_key() {
    let pem = |ca: &str| json!({"address": "https://v.example", "auth": {"token": "t"}, "ca": ca});
    let made = rcgen::generate_simple_self_signed(["v.example".to_owned()]).unwrap();
    let (certificate, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    assert!(factory().parse(&pem(&certificate).to_string(), SettingsOrigin::Tenant).is_ok());
    for ca in [
        String::new(),
        "text".to_owned(),
        key.clone(),
        format!("{certificate}{key}"),
        certificate.repeat(80),
    ] {
        assert_eq!(pointers(&pem(&ca)), ["/ca"]);
    }
}

#[test]
fn special_addresses_are_refused_when_given_and_when_the_policy_has_changed() {
    for address in [
        "https://127.0.0.1:8200",
        "https://0x7f.1",
        "https://[::ffff:169.254.169.254]",
        "https://localhost@v.example",
    ] {
        assert_eq!(
            pointers(&json!({"address": address, "auth": {"token": "t"}})),
            ["/address"],
            "{address}"
        );
    }
    let open = VaultFactory::new(Egress::new(EgressPolicy {
        allow: vec!["127.0.0.0/8".parse().unwrap()],
        allow_plain_http: true,
    }));
    let settings = json!({"address": "http://127.0.0.1:8200", "auth": {"token": "t"}}).to_string();
    let parsed = open.parse(&settings, SettingsOrigin::Tenant).unwrap();
    let error = factory().provider(&parsed.public, parsed.secrets).err().unwrap();
    assert_eq!(error.kind, ErrorKind::Misconfigured);
}
