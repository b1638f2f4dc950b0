//! The settings that a connection accepts, and the reports on mistakes in them.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops where an expectation fails")]

use claviger_provider::egress::{Egress, EgressPolicy};
use claviger_provider::{ClaimSpan, ErrorKind, Factory, ParsedSettings, SettingsError, SettingsOrigin};
use claviger_provider_vault::VaultFactory;
use claviger_testkit::connection::parts;
use serde_json::{Value, json};

fn factory() -> VaultFactory {
    VaultFactory::new(Egress::new(EgressPolicy::default()))
}

fn wrong(settings: &Value) -> Vec<SettingsError> {
    parse(settings).unwrap_err()
}

fn parse(settings: &Value) -> Result<ParsedSettings, Vec<SettingsError>> {
    factory().parse(&settings.to_string(), SettingsOrigin::Tenant)
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
        let parsed = parse(&settings).unwrap();
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

/// A client certificate and its key, as PEM.
fn certificate() -> (String, String) {
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    let made = rcgen::generate_simple_self_signed(["claviger".to_owned()]).unwrap();
    (made.cert.pem(), made.signing_key.serialize_pem())
}

#[test]
fn a_client_certificate_is_kept_with_its_key() {
    let (certificate, key) = certificate();
    let with = |auth: Value| json!({"address": "https://v.example", "auth": {"cert": auth}});
    for (more, shown) in [
        (json!({}), json!({"cert": {"mount": "cert"}})),
        (
            json!({"name": "gateway", "mount": "certs"}),
            json!({"cert": {"name": "gateway", "mount": "certs"}}),
        ),
    ] {
        let mut auth = more;
        (auth["certificate"], auth["key"]) = (json!(certificate), json!(key));
        let parsed = parse(&with(auth)).unwrap();
        let public: Value = serde_json::from_str(&parsed.public).unwrap();
        assert_eq!(public["auth"], shown);
        let names: Vec<&str> = parsed.secrets.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["certificate", "key"]);
        factory().provider(parts(&parsed.public, parsed.secrets)).unwrap();
    }
    let (_, strangers) = self::certificate();
    for (auth, pointer) in [
        (json!({"certificate": certificate}), "/auth/cert/key"),
        (json!({"key": key}), "/auth/cert/certificate"),
        (json!({"certificate": certificate, "key": strangers}), "/auth/cert/certificate"),
        (json!({"certificate": key, "key": certificate}), "/auth/cert/certificate"),
        (json!({"certificate": certificate, "key": "\u{e4}"}), "/auth/cert/key"),
        (json!({"certificate": certificate, "key": key, "name": ""}), "/auth/cert/name"),
    ] {
        assert_eq!(pointers(&with(auth)), [pointer]);
    }
}

#[test]
fn new_secrets_take_the_place_of_those_of_the_same_login() {
    let (certificate, key) = certificate();
    let (newer, newer_key) = self::certificate();
    for (auth, given, names) in [
        (json!({"token": "old"}), json!({"token": "new"}), vec!["token"]),
        (
            json!({"approle": {"role_id": "r", "secret_id": "old"}}),
            json!({"secret_id": "new"}),
            vec!["secret_id"],
        ),
        (json!({"jwt": {"role": "r", "jwt": "old"}}), json!({"jwt": "new"}), vec!["jwt"]),
        (
            json!({"kubernetes": {"role": "r", "jwt": "old"}}),
            json!({"jwt": "new"}),
            vec!["jwt"],
        ),
        (
            json!({"cert": {"certificate": certificate, "key": key}}),
            json!({"certificate": newer, "key": newer_key}),
            vec!["certificate", "key"],
        ),
    ] {
        let settings = json!({"address": "https://v.example", "auth": auth});
        let parsed = parse(&settings).unwrap();
        let replaced = factory().replace_secrets(&parsed.public, &given.to_string()).unwrap();
        let kept: Vec<_> = parsed.secrets.iter().map(|(name, _)| name.as_str()).collect();
        let told: Vec<_> = replaced.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!((&kept, &told), (&names, &names));
        factory().provider(parts(&parsed.public, replaced)).unwrap();
        for wrong in [
            json!({}),
            json!({"token": 7, "secret_id": 7, "jwt": 7, "certificate": 7, "key": 7}),
            json!({"certificate": newer, "key": key}),
            json!({"address": "https://elsewhere.example"}),
            json!([]),
        ] {
            let errors = factory().replace_secrets(&parsed.public, &wrong.to_string()).unwrap_err();
            assert!(
                !errors.is_empty() && errors.iter().all(|error| !error.expected.is_empty()),
                "{wrong}"
            );
        }
    }
}

#[test]
fn the_type_behind_aes_256_is_one_of_two() {
    let with = |kind: Value| json!({"address": "https://v.example", "auth": {"token": "t"}, "symmetric_key_type": kind});
    let shown =
        |kind: &str| serde_json::from_str::<Value>(&parse(&with(json!(kind))).unwrap().public).unwrap()["symmetric_key_type"].clone();
    assert_eq!(shown("chacha20-poly1305"), "chacha20-poly1305");
    // Defaults are not stored.
    assert_eq!(shown("aes256-gcm96"), Value::Null);
    for other in [json!("xchacha20-poly1305"), json!("rsa-3072"), json!(7)] {
        assert_eq!(pointers(&with(other)), ["/symmetric_key_type"]);
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
            "/auth/approle/mount",
            "/auth/approle/secret_id",
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
    assert!(parse(&pem(&certificate)).is_ok());
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
    let error = factory().provider(parts(&parsed.public, parsed.secrets)).err().unwrap();
    assert_eq!(error.kind, ErrorKind::Misconfigured);
}

#[test]
fn keys_are_claimed_for_the_installation_where_all_is_the_operator_s() {
    let settings = json!({"address": "https://vault.example:8200", "namespace": "team/a", "auth": {"token": "hidden"}});
    let public = parse(&settings).unwrap().public;
    assert_eq!(factory().claims(&public, SettingsOrigin::Tenant), ClaimSpan::Tenant);
    // In the operator's Vault, and in no other: a key's id does not name it.
    let service = serde_json::from_str::<Value>(&public).unwrap()["address"]
        .as_str()
        .unwrap()
        .to_owned();
    assert_eq!(
        factory().claims(&public, SettingsOrigin::Operator),
        ClaimSpan::Installation { service }
    );
}

#[test]
fn the_address_of_the_api_is_refused_and_a_proxys_path_is_not() {
    let with = |address: &str| json!({"address": address, "auth": {"token": "t"}});
    for address in ["https://v.example/v1", "https://v.example:8200/v1/", "https://v.example/vault/v1"] {
        let [mistake] = wrong(&with(address)).try_into().unwrap();
        assert_eq!(mistake.pointer, "/address");
        assert!(mistake.expected.contains("without \"/v1\""), "{}", mistake.expected);
        let stored = parse(&with("https://v.example")).unwrap().public;
        let change = json!({"address": address}).to_string();
        let [mistake] = factory().change_network(&stored, &change).unwrap_err().try_into().unwrap();
        assert_eq!(mistake.pointer, "/address");
    }
    for address in ["https://v.example/vault", "https://v.example/v1/vault", "https://v.example/kv1"] {
        parse(&with(address)).unwrap();
    }
}
