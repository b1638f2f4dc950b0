//! The settings of a connection: what is accepted, and what is refused with its place.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops where an expectation fails")]

use std::sync::Arc;

use claviger_provider::{ClaimSpan, Factory, SettingsOrigin};
use claviger_provider_pkcs11::{HelperProgram, Pkcs11Factory};
use claviger_testkit::MemoryStore;
use serde_json::{Value, json};

fn factory() -> Pkcs11Factory {
    Pkcs11Factory::new(HelperProgram::own(&["none"]), Arc::new(MemoryStore::default()))
}

fn settings() -> Value {
    json!({"module": "/usr/lib/module.so", "token": {"label": "orders"}, "pin": "1234"})
}

fn with(member: &str, value: Value) -> Value {
    let mut settings = settings();
    settings[member] = value;
    settings
}

/// The places of the mistakes.
fn mistakes(settings: &Value, origin: SettingsOrigin) -> Vec<String> {
    let mistakes = factory().parse(&settings.to_string(), origin).unwrap_err();
    mistakes.into_iter().map(|mistake| mistake.pointer).collect()
}

#[test]
fn the_pin_is_the_only_secret() {
    for (given, shown) in [
        (
            settings(),
            json!({"module": "/usr/lib/module.so", "token": {"label": "orders"}, "sessions": 8}),
        ),
        (
            json!({
                "module": "/m.so", "token": {"serial": "a/b 1"}, "pin": "p\u{e4}ss", "sessions": 64,
                "environment": {"SOFTHSM2_CONF": "/etc/s.conf"}, "adopt_any": true, "token_iv": true, "known_as": "7",
                "budget_ms": 1000, "canary_key": "0aff"
            }),
            json!({
                "module": "/m.so", "token": {"serial": "a/b 1"}, "sessions": 64,
                "environment": {"SOFTHSM2_CONF": "/etc/s.conf"}, "adopt_any": true, "token_iv": true, "known_as": "7",
                "budget_ms": 1000, "canary_key": "0aff"
            }),
        ),
    ] {
        let parsed = factory().parse(&given.to_string(), SettingsOrigin::Operator).unwrap();
        assert_eq!(serde_json::from_str::<Value>(&parsed.public).unwrap(), shown);
        let [(name, pin)] = parsed.secrets.as_slice() else {
            panic!("one secret")
        };
        assert_eq!((name.as_str(), pin.expose()), ("pin", given["pin"].as_str().unwrap().as_bytes()));
    }
}

#[test]
fn each_mistake_has_its_place() {
    for (given, place) in [
        (with("module", json!("module.so")), "/module"),
        (with("module", json!(null)), "/module"),
        (with("token", json!("orders")), "/token"),
        (with("token", json!({})), "/token"),
        (with("token", json!({"label": "orders "})), "/token/label"),
        (with("token", json!({"label": "x".repeat(33)})), "/token/label"),
        (with("token", json!({"serial": "x".repeat(17)})), "/token/serial"),
        (with("environment", json!([])), "/environment"),
        (with("environment", json!({"A B": "x"})), "/environment"),
        (with("environment", json!({"A": 1})), "/environment"),
        (with("sessions", json!(0)), "/sessions"),
        (with("sessions", json!(65)), "/sessions"),
        (with("sessions", json!("8")), "/sessions"),
        (with("adopt_any", json!("yes")), "/adopt_any"),
        (with("token_iv", json!("yes")), "/token_iv"),
        (with("known_as", json!("7 ")), "/known_as"),
        (with("budget_ms", json!(49)), "/budget_ms"),
        (with("canary_key", json!("0AFF")), "/canary_key"),
        (with("canary_key", json!("")), "/canary_key"),
        (with("pin", json!("")), "/pin"),
        (with("pin", json!("1\u{0}")), "/pin"),
        (with("other", json!(1)), ""),
    ] {
        assert_eq!(mistakes(&given, SettingsOrigin::Operator)[0], place, "{given}");
    }
    assert!(mistakes(&with("token", json!({"label": "a", "serial": "b"})), SettingsOrigin::Operator).contains(&"/token".to_owned()));
}

#[test]
fn only_the_operator_names_a_module() {
    let mut without = settings();
    without.as_object_mut().unwrap().remove("module");
    for given in [settings(), without] {
        assert_eq!(mistakes(&given, SettingsOrigin::Tenant), ["/module"]);
    }
    let refused = factory().parse(&settings().to_string(), SettingsOrigin::Tenant).unwrap_err();
    assert!(refused[0].operator_only);
}

#[test]
fn the_pin_can_be_replaced_and_a_key_has_one_owner() {
    let public = factory().parse(&settings().to_string(), SettingsOrigin::Operator).unwrap().public;
    let replaced = factory().replace_secrets(&public, r#"{"pin": "5678"}"#).unwrap();
    assert_eq!((replaced[0].0.as_str(), replaced[0].1.expose()), ("pin", b"5678".as_slice()));
    for given in ["{}", r#"{"pin": 1}"#, r#"{"pin": "1", "module": "/m.so"}"#] {
        assert!(factory().replace_secrets(&public, given).is_err(), "{given}");
    }
    assert_eq!(factory().claims(&public, SettingsOrigin::Operator), ClaimSpan::INSTALLATION);
}
