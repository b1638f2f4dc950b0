//! Refusals, and responses that are not a vault's.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use claviger_fake::{Act, Fault};
use claviger_provider::{ErrorKind, KeySpec, Provider, Retry, Secret};
use serde_json::json;

use crate::bench::{Bench, Place};
use crate::fixture::{context, cx, fault, made, owner, request, requests, response};

#[tokio::test]
async fn throttling_tells_how_long_to_wait() {
    let bench = Bench::start().await;
    let provider = bench.connect(Place::Hsm);
    let kek = made(&provider, KeySpec::Aes256).await;
    for (act, retry) in [
        (Act::Throttle { retry_after: Some(7) }, Retry::After(Duration::from_secs(7))),
        // Azure may ask for hours; the gateway limits the pause.
        (Act::Throttle { retry_after: Some(3600) }, Retry::After(Duration::from_secs(60))),
        (Act::Throttle { retry_after: None }, Retry::Backoff),
        (
            response(429, &[("x-ms-retry-after-ms", "250"), ("retry-after", "9")], ""),
            Retry::After(Duration::from_millis(250)),
        ),
        (response(429, &[("retry-after", "soon")], "slow down"), Retry::Backoff),
        (
            response(429, &[("retry-after", "Fri, 01 Jan 2100 00:00:00 GMT")], "slow down"),
            Retry::After(Duration::from_secs(60)),
        ),
    ] {
        fault(&bench, "wrapkey", act);
        let error = provider.wrap_key(&cx(), &kek, &Secret::random(32), &context()).await.unwrap_err();
        assert_eq!((error.kind, error.retry), (ErrorKind::RateLimited, retry), "{error}");
    }
    fault(&bench, "wrapkey", Act::Unavailable);
    let error = provider.wrap_key(&cx(), &kek, &Secret::random(32), &context()).await.unwrap_err();
    assert_eq!(
        (error.kind, error.retry),
        (ErrorKind::UpstreamUnavailable, Retry::Backoff),
        "{error}"
    );
    // One attempt per call: the pipeline retries.
    assert_eq!(requests(&bench, "POST", "wrapkey"), 7);
}

#[tokio::test]
async fn one_zero_byte_too_many_is_taken_off_where_the_length_is_known() {
    let bench = Bench::start().await;
    let dek = Secret::copy_from(&[7; 32]);
    for (place, spec) in [
        (Place::Hsm, KeySpec::Aes256),
        (Place::HsmGcm, KeySpec::Aes256),
        (Place::Hsm, KeySpec::Rsa3072),
        (Place::Vault, KeySpec::Rsa3072),
    ] {
        let provider = bench.connect(place);
        bench.fake.switches().faults.set(Vec::new());
        let kek = made(&provider, spec).await;
        let wrapped = provider.wrap_key(&cx(), &kek, &dek, &context()).await.unwrap();
        let path = if place == Place::HsmGcm { "decrypt" } else { "unwrapkey" };
        for (more, opens) in [
            (&[0][..], place != Place::Vault),
            (&[1][..], false),
            (&[0, 0][..], false),
            (&[][..], true),
        ] {
            let value = URL_SAFE_NO_PAD.encode([&[7; 32], more].concat());
            fault(
                &bench,
                path,
                Act::Change {
                    patch: json!({"value": value}),
                },
            );
            let opened = provider.unwrap_key(&cx(), &wrapped, &context()).await;
            match (opens, spec) {
                (true, _) => assert_eq!(opened.unwrap(), dek),
                (false, KeySpec::Aes256) => assert_eq!(opened.unwrap_err().kind, ErrorKind::UpstreamProtocol),
                // Under RSA the length is unknown; the envelope's commitment rejects another key.
                (false, KeySpec::Rsa3072 | KeySpec::Rsa4096) => assert_eq!(opened.unwrap().len(), 32 + more.len()),
            }
        }
    }
}

#[tokio::test]
async fn an_answer_about_another_key_or_host_is_no_answer() {
    let bench = Bench::start().await;
    let provider = bench.connect(Place::Hsm);
    let kek = made(&provider, KeySpec::Aes256).await;
    let other = made(&provider, KeySpec::Aes256).await;
    let wrapped = provider.wrap_key(&cx(), &kek, &Secret::random(32), &context()).await.unwrap();
    let (id, version) = (&kek.key.id, &kek.key.version);
    let name = id.rsplit('/').next().unwrap();
    for kid in [
        json!(format!("https://evil.example/keys/{name}/{version}")),
        json!(format!("{id}/{}", "0".repeat(32))),
        json!(format!("{}/{}", other.key.id, other.key.version)),
        json!(id),
        json!(null),
        json!(format!("{id}/{version}").replace("https", "http")),
    ] {
        fault(
            &bench,
            "wrapkey",
            Act::Change {
                patch: json!({"kid": kid}),
            },
        );
        let error = provider.wrap_key(&cx(), &kek, &Secret::random(32), &context()).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::UpstreamProtocol, "{kid}: {error}");
        let error = provider.unwrap_key(&cx(), &wrapped, &context()).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::UpstreamProtocol, "{kid}: {error}");
    }
    let patch = json!({"key": {"kid": format!("https://evil.example/keys/{name}/{version}")}});
    fault(&bench, name, Act::Change { patch });
    let error = provider.describe(&cx(), &kek).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::UpstreamProtocol, "{error}");
}

#[tokio::test]
async fn a_ciphertext_of_another_length_is_no_answer() {
    let bench = Bench::start().await;
    let provider = bench.connect(Place::Hsm);
    let kek = made(&provider, KeySpec::Aes256).await;
    for value in [json!(null), json!(""), json!("AAAA"), json!("not base64!")] {
        fault(
            &bench,
            "wrapkey",
            Act::Change {
                patch: json!({"value": value}),
            },
        );
        let error = provider.wrap_key(&cx(), &kek, &Secret::random(32), &context()).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::UpstreamProtocol, "{value}: {error}");
    }
}

#[tokio::test]
async fn a_link_to_another_host_is_not_followed() {
    let bench = Bench::start().await;
    let other = Bench::start().await;
    let provider = bench.connect(Place::Hsm);
    let kek = made(&provider, KeySpec::Aes256).await;
    let link = format!("{}/keys/x/versions", other.fake.url());
    fault(
        &bench,
        "/versions",
        Act::Change {
            patch: json!({"nextLink": link}),
        },
    );
    let error = provider.describe(&cx(), &kek).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::UpstreamProtocol, "{error}");
    assert!(other.fake.switches().journal.all().is_empty());
}

#[tokio::test]
async fn what_is_no_answer_of_azures_says_so() {
    let bench = Bench::start().await;
    let provider = bench.connect(Place::Hsm);
    let kek = made(&provider, KeySpec::Aes256).await;
    let page = "<!DOCTYPE html><html><body>Blocked by the proxy</body></html>";
    let html = [("content-type", "text/html")];
    for (status, kind, says) in [
        (200, ErrorKind::UpstreamProtocol, ""),
        (403, ErrorKind::UpstreamProtocol, "not one of Azure's"),
        (404, ErrorKind::UpstreamProtocol, "not one of Azure's"),
        (502, ErrorKind::UpstreamUnavailable, ""),
        (503, ErrorKind::UpstreamUnavailable, ""),
    ] {
        fault(&bench, "wrapkey", response(status, &html, page));
        let error = provider.wrap_key(&cx(), &kek, &Secret::random(32), &context()).await.unwrap_err();
        assert_eq!(error.kind, kind, "{status}: {error}");
        assert!(error.advice.unwrap_or_default().contains(says), "{status}: {:?}", error.advice);
        assert!(!error.to_string().contains("Blocked"), "{error}");
    }
    fault(&bench, "wrapkey", Act::BreakOff);
    let error = provider.wrap_key(&cx(), &kek, &Secret::random(32), &context()).await.unwrap_err();
    assert_eq!(
        (error.kind, error.retry),
        (ErrorKind::UpstreamUnavailable, Retry::Backoff),
        "{error}"
    );
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let bench = Bench::start().await;
    let other = Bench::start().await;
    let provider = bench.connect(Place::Hsm);
    let kek = made(&provider, KeySpec::Aes256).await;
    for status in [301, 302, 307, 308] {
        fault(&bench, "wrapkey", response(status, &[("location", &other.fake.url())], ""));
        let error = provider.wrap_key(&cx(), &kek, &Secret::random(32), &context()).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::UpstreamProtocol, "{status}: {error}");
        assert!(error.advice.unwrap().contains("redirects"));
    }
    assert!(other.fake.switches().journal.all().is_empty());
}

#[tokio::test]
async fn every_refusal_of_a_vault_has_its_kind() {
    let bench = Bench::start().await;
    let provider = bench.connect(Place::Hsm);
    let kek = made(&provider, KeySpec::Aes256).await;
    for (status, code, inner, kind, says) in [
        (403, "Forbidden", "ForbiddenByRbac", ErrorKind::ProviderDenied, "grant"),
        (403, "Forbidden", "ForbiddenByPolicy", ErrorKind::ProviderDenied, "grant"),
        (403, "Forbidden", "AccessDenied", ErrorKind::ProviderDenied, "grant"),
        (403, "Forbidden", "", ErrorKind::ProviderDenied, "grant"),
        (403, "Forbidden", "ForbiddenByFirewall", ErrorKind::ProviderDenied, "firewall"),
        (
            403,
            "Forbidden",
            "ForbiddenByConnection",
            ErrorKind::ProviderDenied,
            "private endpoints",
        ),
        (
            403,
            "Forbidden",
            "KeyDisabled",
            ErrorKind::KeyState,
            "claviger keys enable --at-provider",
        ),
        (403, "Forbidden", "KeyExpired", ErrorKind::KeyState, "expired"),
        (403, "Forbidden", "KeyNotYetValid", ErrorKind::KeyState, "not valid yet"),
        (
            403,
            "Forbidden",
            "KeyOperationForbidden",
            ErrorKind::KeyState,
            "permitted operations",
        ),
        (404, "KeyNotFound", "", ErrorKind::KeyNotFound, ""),
        (409, "Conflict", "ObjectIsBeingDeleted", ErrorKind::KeyState, "being deleted"),
        (409, "Conflict", "", ErrorKind::Conflict, ""),
        (400, "BadParameter", "", ErrorKind::InvalidInput, ""),
        (401, "Unauthorized", "", ErrorKind::ProviderDenied, "token"),
        (500, "InternalServerError", "", ErrorKind::UpstreamUnavailable, ""),
        (418, "SomethingNew", "", ErrorKind::UpstreamProtocol, ""),
    ] {
        let secret = "what-was-sent";
        let mut body = json!({"error": {"code": code, "message": format!("Property has invalid value {secret}")}});
        if !inner.is_empty() {
            body["error"]["innererror"] = json!({"code": inner});
        }
        fault(
            &bench,
            "wrapkey",
            response(status, &[("content-type", "application/json")], &body.to_string()),
        );
        let error = provider.wrap_key(&cx(), &kek, &Secret::random(32), &context()).await.unwrap_err();
        assert_eq!(error.kind, kind, "{code} {inner}: {error}");
        assert!(
            error.advice.unwrap_or_default().contains(says),
            "{code} {inner}: {:?}",
            error.advice
        );
        let expected = if inner.is_empty() { code } else { inner };
        assert_eq!(error.upstream_code.as_deref(), Some(expected));
        assert!(code != "BadParameter" || !error.to_string().contains(secret), "{error}");
    }
}

#[tokio::test]
async fn a_rejected_value_has_azures_reason() {
    let bench = Bench::start().await;
    let provider = bench.connect(Place::Hsm);
    let kek = made(&provider, KeySpec::Aes256).await;
    let body = json!({"error": {"code": "BadParameter", "message": "The algorithm A256KW is not supported by the key."}});
    fault(
        &bench,
        "wrapkey",
        response(400, &[("content-type", "application/json")], &body.to_string()),
    );
    let error = provider.wrap_key(&cx(), &kek, &Secret::random(32), &context()).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::InvalidInput);
    let message = error.message.unwrap().to_string();
    assert!(
        message.starts_with("The algorithm A256KW is not supported by the key."),
        "{message}"
    );
}

#[tokio::test]
async fn a_host_that_is_not_reached_says_what_to_compare() {
    let bench = Bench::start().await;
    let provider = bench.connect(Place::Vault);
    drop(bench);
    let error = provider.create_key(&cx(), &request(KeySpec::Rsa3072, None)).await.unwrap_err();
    assert_eq!(
        (error.kind, error.retry),
        (ErrorKind::UpstreamUnavailable, Retry::Backoff),
        "{error}"
    );
    assert!(error.advice.unwrap().contains("vaultUri"));
}

#[tokio::test]
async fn a_key_of_another_vault_is_not_asked_for() {
    let bench = Bench::start().await;
    let provider = bench.connect(Place::Hsm);
    let kek = made(&provider, KeySpec::Aes256).await;
    let wrapped = provider.wrap_key(&cx(), &kek, &Secret::random(32), &context()).await.unwrap();
    bench.fake.switches().faults.set(vec![Fault::always("", Act::Unavailable)]);
    for id in [
        kek.key.id.replace("localhost", "127.0.0.1"),
        "https://evil.example/keys/k".to_owned(),
        format!("{}/../x", kek.key.id),
        String::new(),
    ] {
        let mut forged = wrapped.clone();
        forged.key.id.clone_from(&id);
        let error = provider.unwrap_key(&cx(), &forged, &context()).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::KeyNotFound, "{id}: {error}");
    }
}

/// What its owner changes after the key was adopted. Azure heeds a version's dates where it wraps, and opens all the same.
#[tokio::test]
async fn dates_and_operations_that_are_changed_later_are_told() {
    let bench = Bench::start().await;
    let provider = bench.connect(Place::Vault);
    let kek = made(&provider, KeySpec::Rsa3072).await;
    let dek = Secret::random(32);
    let wrapped = provider.wrap_key(&cx(), &kek, &dek, &context()).await.unwrap();
    let change = async |what: serde_json::Value| drop(owner(&bench, "PATCH", &kek.key.id, what).await);
    for (what, back, says) in [
        (json!({"attributes": {"exp": 1}}), json!({"attributes": {"exp": null}}), "--expires"),
        (
            json!({"attributes": {"nbf": 4_102_444_800_i64}}),
            json!({"attributes": {"nbf": 1}}),
            "--not-before",
        ),
        (
            json!({"key_ops": ["unwrapKey"]}),
            json!({"key_ops": ["wrapKey", "unwrapKey"]}),
            "--ops",
        ),
    ] {
        change(what.clone()).await;
        let error = provider.wrap_key(&cx(), &kek, &dek, &context()).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::KeyState, "{what}: {error}");
        assert!(error.advice.unwrap().contains(says), "{what}: {:?}", error.advice);
        assert_eq!(provider.unwrap_key(&cx(), &wrapped, &context()).await.unwrap(), dek, "{what}");
        change(back).await;
        provider.wrap_key(&cx(), &kek, &dek, &context()).await.unwrap();
    }
    change(json!({"key_ops": ["wrapKey"]})).await;
    let error = provider.unwrap_key(&cx(), &wrapped, &context()).await.unwrap_err();
    assert!(
        error.kind == ErrorKind::KeyState && error.advice.unwrap().contains("--ops"),
        "{error}"
    );
}
