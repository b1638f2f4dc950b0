//! Refusals, each with the kind of error that a caller gets.

use std::collections::BTreeMap;
use std::time::Duration;

use claviger_fake::{Act, Fault};
use claviger_fake_xks::{Denial, Transport};
use claviger_provider::ErrorKind::{
    CiphertextRejected, ExternalDenied, InvalidInput, KeyNotFound, KeyState, Misconfigured, ProviderDenied, RateLimited, Unsupported,
    UpstreamProtocol, UpstreamTimeout, UpstreamUnavailable,
};
use claviger_provider::{Concerns, Provider, Purpose, Retry};
use serde_json::json;

use crate::fixture::{Fixture, context, cx, dek, kek};

#[tokio::test]
async fn each_name_has_its_kind() {
    let fixture = Fixture::new().await;
    for (status, name, kind, retried) in [
        (400, "ValidationException", InvalidInput, false),
        (400, "InvalidStateException", KeyState, false),
        (400, "InvalidCiphertextException", CiphertextRejected, false),
        (400, "InvalidKeyUsageException", KeyState, false),
        (401, "AuthenticationFailedException", ProviderDenied, false),
        (403, "AccessDeniedException", ExternalDenied, false),
        (404, "KeyNotFoundException", KeyNotFound, false),
        (404, "InvalidUriPathException", Misconfigured, false),
        (429, "ThrottlingException", RateLimited, true),
        (500, "InternalException", UpstreamUnavailable, true),
        (501, "UnsupportedOperationException", Unsupported, false),
        (503, "DependencyTimeoutException", UpstreamTimeout, true),
        // A proxy that has its own mind about statuses: the name counts.
        (400, "ThrottlingException", RateLimited, true),
        (500, "AccessDeniedException", ExternalDenied, false),
    ] {
        fixture.respond("/encrypt", status, &json!({"errorName": name, "errorMessage": "because"}));
        let error = fixture.wrap().await.unwrap_err();
        let (code, message) = (error.upstream_code.as_deref(), error.message.as_ref().map(ToString::to_string));
        assert_eq!((error.kind, error.retry != Retry::Never), (kind, retried), "{name}");
        assert_eq!((code, message.as_deref()), (Some(name), Some("because")));
        let concerns = if name.starts_with("Authentication") {
            Concerns::Connection
        } else {
            Concerns::Call
        };
        assert_eq!(error.concerns, concerns, "{name}");
    }
}

#[tokio::test]
async fn a_refusal_with_a_malformed_message_is_a_refusal() {
    let fixture = Fixture::new().await;
    for message in ["7", "null", "{\"text\": \"no\"}", "[\"no\"]", "\"\\ud800\""] {
        let act = Act::Respond {
            status: 403,
            headers: BTreeMap::new(),
            body: format!("{{\"errorMessage\": {message}, \"errorName\": \"AccessDeniedException\"}}"),
        };
        fixture.bench.fake.switches().faults.set(vec![Fault::once("/encrypt", act)]);
        let error = fixture.wrap().await.unwrap_err();
        assert_eq!((error.kind, error.message.is_none()), (ExternalDenied, true), "{message}");
    }
}

#[tokio::test]
async fn what_is_no_response_of_a_proxy_is_told_as_such() {
    let fixture = Fixture::new().await;
    for (status, body, kind) in [
        (200, json!({}), UpstreamProtocol),
        (200, json!([]), UpstreamProtocol),
        (204, json!({}), UpstreamProtocol),
        (302, json!({}), UpstreamProtocol),
        (401, json!({"message": "who are you?"}), UpstreamProtocol),
        (403, json!("forbidden by a firewall"), ExternalDenied),
        (403, json!({"errorName": "SomethingElse"}), ExternalDenied),
        (404, json!({}), UpstreamProtocol),
        (400, json!({"errorName": "SomethingElse"}), UpstreamProtocol),
        (400, json!({"errorName": "Forged\nINFO all is well"}), UpstreamProtocol),
        (429, json!({}), RateLimited),
        (502, json!({}), UpstreamUnavailable),
        (503, json!({"errorName": "SomethingElse"}), UpstreamUnavailable),
    ] {
        fixture.respond("/encrypt", status, &body);
        let error = fixture.wrap().await.unwrap_err();
        assert_eq!(error.kind, kind, "{status} {body}");
        let code = error.upstream_code.as_deref();
        assert!(code.is_none_or(|code| code == status.to_string()), "{status} {body}: {code:?}");
    }
}

#[tokio::test]
async fn a_throttled_call_waits_as_long_as_the_proxy_asks() {
    let fixture = Fixture::new().await;
    let throttled = Fault::once("/encrypt", Act::Throttle { retry_after: Some(7) });
    fixture.bench.fake.switches().faults.set(vec![throttled]);
    assert_eq!(fixture.wrap().await.unwrap_err().retry, Retry::After(Duration::from_secs(7)));
}

#[tokio::test]
async fn nothing_of_the_data_key_is_in_an_error() {
    let fixture = Fixture::new().await;
    let message = "cannot decode BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=";
    fixture.respond(
        "/encrypt",
        400,
        &json!({"errorName": "ValidationException", "errorMessage": message}),
    );
    let error = fixture.wrap().await.unwrap_err();
    assert_eq!(error.message.unwrap().to_string(), "cannot decode [...]");
}

/// The owner of the keys decides by what requests carry, from one call to the next.
#[tokio::test]
async fn an_owner_denies_and_permits_by_operation_and_principal() {
    let fixture = Fixture::new().await;
    let wrapped = fixture.wrap().await.unwrap();
    let deny = |member: &str, value: &str| {
        let denial = Denial {
            member: member.to_owned(),
            value: value.to_owned(),
        };
        fixture.bench.fake.access().change(|settings| settings.denials = vec![denial]);
    };
    deny("kmsOperation", "Decrypt");
    let error = fixture.unwrap(&wrapped).await.unwrap_err();
    assert_eq!(
        (error.kind, error.concerns, error.retry),
        (ExternalDenied, Concerns::Call, Retry::Never)
    );
    fixture.wrap().await.unwrap();
    deny("kmsOperation", "GenerateDataKey");
    let generating = cx().serving(Some(Purpose::GenerateDataKey));
    let error = fixture
        .provider
        .wrap_key(&generating, &kek(), &dek(), &context())
        .await
        .unwrap_err();
    assert_eq!(error.kind, ExternalDenied);
    fixture.wrap().await.unwrap();
    deny(
        "awsPrincipalArn",
        &format!("arn:claviger:iam::{}:principal/system", "01".repeat(16)),
    );
    assert_eq!(fixture.wrap().await.unwrap_err().kind, ExternalDenied);
    fixture.bench.fake.access().change(|settings| settings.denials.clear());
    assert_eq!(fixture.unwrap(&wrapped).await.unwrap(), dek());
}

/// Ten minutes: told as such, and not as a wrong access key; and a call works as soon as the clocks agree.
#[tokio::test]
async fn a_clock_that_is_ten_minutes_off_is_told_as_such() {
    for transport in [Transport::Plain, Transport::Tls] {
        let fixture = Fixture::over(transport).await;
        fixture.wrap().await.unwrap();
        fixture.bench.fake.switches().clock.advance(Duration::from_secs(600));
        let error = fixture.wrap().await.unwrap_err();
        assert_eq!((error.kind, error.concerns), (Misconfigured, Concerns::Connection));
        assert!(error.advice.unwrap().contains("clock"));
    }
    // What is refused for another reason is not the clock's fault.
    let fixture = Fixture::new().await;
    let refused = Act::Respond {
        status: 401,
        headers: BTreeMap::from([("date".to_owned(), "Tue, 14 Nov 2023 22:13:20 GMT".to_owned())]),
        body: json!({"errorName": "AccessDeniedException"}).to_string(),
    };
    fixture.bench.fake.switches().faults.set(vec![Fault::once("/encrypt", refused)]);
    assert_eq!(fixture.wrap().await.unwrap_err().kind, ExternalDenied);
}
