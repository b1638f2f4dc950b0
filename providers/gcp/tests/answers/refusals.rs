//! Refusals, proxies, redirects, and token services that fail.

use std::time::{Duration, Instant};

use claviger_provider::{Algorithm, Error, ErrorKind, KeySpec, Provider, Retry, Secret};
use serde_json::{Value, json};
use wiremock::matchers::{path, path_regex};
use wiremock::{Mock, MockServer, ResponseTemplate};

use crate::fixture::{always, b64, connect, connect_with, context, crc, cx, kek, reason, refusal, violations, wrapped};

async fn refused(response: ResponseTemplate) -> Error {
    let server = always(response).await;
    let result = connect(&server)
        .await
        .unwrap_key(&cx(), &wrapped(Algorithm::ProviderOpaque), &context())
        .await;
    let error = result.unwrap_err();
    let requests = server.received_requests().await.unwrap();
    let paths: Vec<_> = requests.iter().map(|request| request.url.path()).collect();
    assert_eq!(paths.len(), 1, "one attempt for each call: {error}: {paths:?}");
    assert!(!error.to_string().contains("topsecret"), "{error}");
    error
}

#[tokio::test]
async fn a_refusal_means_what_google_says() {
    let none = Value::Null;
    for (status, code, details, kind, retry) in [
        (400, "INVALID_ARGUMENT", none.clone(), ErrorKind::CiphertextRejected, Retry::Never),
        (
            400,
            "FAILED_PRECONDITION",
            violations(&["KEY_DISABLED"]),
            ErrorKind::KeyState,
            Retry::Never,
        ),
        (
            400,
            "FAILED_PRECONDITION",
            violations(&["KEY_DESTROYED"]),
            ErrorKind::KeyState,
            Retry::Never,
        ),
        (
            400,
            "FAILED_PRECONDITION",
            violations(&["KEY_DISABLED", "EXTERNAL_PERMISSION_DENIED"]),
            ErrorKind::ExternalDenied,
            Retry::Never,
        ),
        (
            400,
            "FAILED_PRECONDITION",
            violations(&["KEY_ENABLED", "EXTERNAL_NOT_FOUND"]),
            ErrorKind::KeyState,
            Retry::Never,
        ),
        (
            401,
            "UNAUTHENTICATED",
            reason("ACCESS_TOKEN_EXPIRED"),
            ErrorKind::ProviderDenied,
            Retry::Never,
        ),
        (
            403,
            "PERMISSION_DENIED",
            reason("IAM_PERMISSION_DENIED"),
            ErrorKind::ProviderDenied,
            Retry::Never,
        ),
        (
            403,
            "PERMISSION_DENIED",
            reason("SERVICE_DISABLED"),
            ErrorKind::Misconfigured,
            Retry::Never,
        ),
        (404, "NOT_FOUND", none.clone(), ErrorKind::KeyNotFound, Retry::Never),
        (409, "ALREADY_EXISTS", none.clone(), ErrorKind::Conflict, Retry::Never),
        (409, "ABORTED", none.clone(), ErrorKind::Conflict, Retry::Never),
        (429, "RESOURCE_EXHAUSTED", none.clone(), ErrorKind::RateLimited, Retry::Backoff),
        (500, "INTERNAL", none.clone(), ErrorKind::UpstreamUnavailable, Retry::Backoff),
        (501, "UNIMPLEMENTED", none.clone(), ErrorKind::Unsupported, Retry::Never),
        (503, "UNAVAILABLE", none.clone(), ErrorKind::UpstreamUnavailable, Retry::Backoff),
        (504, "DEADLINE_EXCEEDED", none, ErrorKind::UpstreamTimeout, Retry::Backoff),
    ] {
        let error = refused(refusal(status, code, details.clone())).await;
        assert_eq!((error.kind, error.retry), (kind, retry), "{code} {details}: {error}");
    }
}

/// A server that refuses each decryption without a reason, and describes version 1 as `described`.
async fn refusing(described: ResponseTemplate) -> MockServer {
    let server = MockServer::builder().start().await;
    for method in [":decrypt$", ":asymmetricDecrypt$"] {
        Mock::given(path_regex(method))
            .respond_with(refusal(400, "FAILED_PRECONDITION", Value::Null))
            .mount(&server)
            .await;
    }
    Mock::given(path(format!("/v1/{}/cryptoKeyVersions/1", crate::fixture::KEY)))
        .respond_with(described)
        .mount(&server)
        .await;
    server
}

fn version_in(state: u8) -> ResponseTemplate {
    let version = json!({"name": format!("{}/cryptoKeyVersions/1", crate::fixture::KEY), "state": state});
    ResponseTemplate::new(200).set_body_json(version)
}

#[tokio::test]
async fn a_refusal_without_a_reason_is_the_callers_mistake_only_under_a_usable_version() {
    let denied = || refusal(403, "PERMISSION_DENIED", Value::Null);
    for (described, kind, says) in [
        // CryptoKeyVersionState by its numbers: enabled, disabled, destroyed, scheduled, pending, failed.
        (version_in(1), ErrorKind::CiphertextRejected, None),
        (version_in(2), ErrorKind::KeyState, Some("claviger keys enable --at-provider")),
        (version_in(3), ErrorKind::KeyState, Some("destroyed or scheduled")),
        (version_in(4), ErrorKind::KeyState, Some("gcloud kms keys versions restore")),
        (version_in(5), ErrorKind::KeyState, Some("still generating")),
        (version_in(6), ErrorKind::KeyState, Some("import")),
        (version_in(8), ErrorKind::KeyState, Some("state or purpose")),
        (denied(), ErrorKind::KeyState, Some("state or purpose")),
    ] {
        for algorithm in [Algorithm::ProviderOpaque, Algorithm::RsaOaep256] {
            let server = refusing(described.clone()).await;
            let provider = connect(&server).await;
            let error = provider.unwrap_key(&cx(), &wrapped(algorithm), &context()).await.unwrap_err();
            assert_eq!(error.kind, kind, "{error}");
            match says {
                Some(says) => assert!(error.advice.unwrap().contains(says), "{:?}", error.advice),
                None => assert_eq!(error.advice, None),
            }
            let asked = server.received_requests().await.unwrap();
            assert_eq!(asked.len(), 2, "the decryption, and the version: {error}");
        }
    }
}

#[tokio::test]
async fn refusals_without_a_reason_look_the_version_up_once_a_second() {
    // A caller who sends ciphertexts that do not open, and an identity that may not look.
    for described in [version_in(1), refusal(403, "PERMISSION_DENIED", Value::Null)] {
        let server = refusing(described.set_delay(Duration::from_millis(200))).await;
        let provider = connect(&server).await;
        let (cx, wrapped, context) = (cx(), wrapped(Algorithm::ProviderOpaque), context());
        let begun = Instant::now();
        let unwraps = (0..32).map(|_| provider.unwrap_key(&cx, &wrapped, &context));
        let kinds = futures::future::join_all(unwraps).await;
        assert!(kinds.iter().all(Result::is_err));
        let asked = server.received_requests().await.unwrap();
        let looked = asked.iter().filter(|request| request.method == "GET").count();
        assert_eq!(asked.len() - looked, 32);
        let seconds = usize::try_from(begun.elapsed().as_secs()).unwrap();
        assert!((1..=1 + seconds).contains(&looked), "{looked} in {seconds} s");
    }
}

#[tokio::test]
async fn a_service_that_asks_for_a_pause_gets_it() {
    for (value, retry) in [
        ("7", Retry::After(Duration::from_secs(7))),
        ("999999", Retry::After(Duration::from_secs(60))),
        ("Fri, 01 Jan 2100 00:00:00 GMT", Retry::After(Duration::from_secs(60))),
        ("Fri, 01 Jan 1999 00:00:00 GMT", Retry::After(Duration::ZERO)),
        ("soon", Retry::Backoff),
    ] {
        let throttled = refusal(429, "RESOURCE_EXHAUSTED", Value::Null).insert_header("retry-after", value);
        let error = refused(throttled).await;
        assert_eq!((error.kind, error.retry), (ErrorKind::RateLimited, retry), "{value}");
        // A proxy's response.
        let error = refused(ResponseTemplate::new(429).insert_header("retry-after", value)).await;
        assert_eq!((error.kind, error.retry), (ErrorKind::RateLimited, retry), "{value}");
    }
}

#[tokio::test]
async fn whoever_is_not_google_is_known_by_his_status() {
    let page = "<html><h1>Bad gateway</h1></html>";
    for (status, kind, advice) in [
        (200, ErrorKind::UpstreamProtocol, None),
        (400, ErrorKind::UpstreamProtocol, Some("not one of Google's")),
        (403, ErrorKind::UpstreamProtocol, Some("not one of Google's")),
        (407, ErrorKind::Misconfigured, Some("proxy")),
        (502, ErrorKind::UpstreamUnavailable, None),
        (503, ErrorKind::UpstreamUnavailable, None),
    ] {
        let error = refused(ResponseTemplate::new(status).set_body_raw(page, "text/html")).await;
        assert_eq!(error.kind, kind, "{status}: {error}");
        match advice {
            Some(says) => assert!(error.advice.unwrap().contains(says), "{status}"),
            None => assert_eq!(error.advice, None, "{status}"),
        }
        assert!(!error.to_string().contains("html"), "{error}");
    }
    // An incomplete response.
    let error = refused(ResponseTemplate::new(200).set_body_raw("{\"plaintext\": ", "application/json")).await;
    assert_eq!(error.kind, ErrorKind::UpstreamProtocol);
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let elsewhere = always(ResponseTemplate::new(200)).await;
    for status in [301, 302, 307, 308] {
        let error = refused(ResponseTemplate::new(status).insert_header("location", elsewhere.uri())).await;
        assert_eq!(error.kind, ErrorKind::UpstreamProtocol, "{status}: {error}");
        assert!(error.advice.unwrap().contains("redirects"));
    }
    assert!(elsewhere.received_requests().await.unwrap().is_empty());
    // The same for a token service.
    let redirecting = always(ResponseTemplate::new(307).insert_header("location", elsewhere.uri())).await;
    let error = exchanged(&redirecting.uri()).await;
    assert_eq!(error.kind, ErrorKind::UpstreamProtocol, "{error}");
    assert!(elsewhere.received_requests().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_server_that_is_away_or_slow_is_unavailable() {
    // Nothing listens there, and nothing else gets the port meanwhile.
    let gone = tokio::net::TcpSocket::new_v4().unwrap();
    gone.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = format!("http://{}", gone.local_addr().unwrap());
    let provider = connect_with(&address, json!({"auth": {"token": "ya29.topsecret"}})).await;
    let error = provider
        .unwrap_key(&cx(), &wrapped(Algorithm::ProviderOpaque), &context())
        .await
        .unwrap_err();
    assert_eq!(
        (error.kind, error.retry),
        (ErrorKind::UpstreamUnavailable, Retry::Backoff),
        "{error}"
    );
}

pub const WORKLOAD: &str = "//iam.googleapis.com/projects/12/locations/global/workloadIdentityPools/pool/providers/own";

/// The error of a connection whose token service is this server.
async fn exchanged(address: &str) -> Error {
    let auth = json!({"workload_identity": {"audience": WORKLOAD, "subject_token": "e30.e30.topsecret"}});
    let provider = connect_with(address, json!({"auth": auth})).await;
    let result = provider.unwrap_key(&cx(), &wrapped(Algorithm::ProviderOpaque), &context()).await;
    let error = result.unwrap_err();
    assert!(!error.to_string().contains("topsecret"), "{error}");
    error
}

#[tokio::test]
async fn an_exchange_that_fails_says_why() {
    let oauth = |error: &str| ResponseTemplate::new(400).set_body_json(json!({"error": error, "error_description": "e30.e30.topsecret"}));
    for (response, kind) in [
        (oauth("invalid_grant"), ErrorKind::ProviderDenied),
        (refusal(403, "PERMISSION_DENIED", Value::Null), ErrorKind::ProviderDenied),
        (refusal(429, "RESOURCE_EXHAUSTED", Value::Null), ErrorKind::RateLimited),
        (ResponseTemplate::new(503), ErrorKind::UpstreamUnavailable),
        (
            ResponseTemplate::new(200).set_body_raw("<html>", "text/html"),
            ErrorKind::UpstreamProtocol,
        ),
        (
            ResponseTemplate::new(200).set_body_json(json!({"access_token": "a\nb", "expires_in": 1})),
            ErrorKind::UpstreamProtocol,
        ),
        (
            ResponseTemplate::new(200).set_body_json(json!({"access_token": "", "expires_in": 1})),
            ErrorKind::UpstreamProtocol,
        ),
        (
            ResponseTemplate::new(200).set_body_string("x".repeat(100_000)),
            ErrorKind::UpstreamProtocol,
        ),
    ] {
        let server = always(response).await;
        let error = exchanged(&server.uri()).await;
        assert_eq!(error.kind, kind, "{error}");
        assert_eq!(server.received_requests().await.unwrap().len(), 1, "nothing else was asked");
    }
}

#[tokio::test]
async fn a_token_that_goes_on_being_refused_is_not_replaced_for_ever() {
    let server = MockServer::builder().start().await;
    let token = json!({"access_token": "ya29.fresh", "expires_in": 3600});
    Mock::given(path("/v1/token"))
        .respond_with(ResponseTemplate::new(200).set_body_json(token))
        .mount(&server)
        .await;
    let key = path(format!("/v1/{}:decrypt", crate::fixture::KEY));
    Mock::given(key)
        .respond_with(refusal(401, "UNAUTHENTICATED", reason("ACCESS_TOKEN_EXPIRED")))
        .mount(&server)
        .await;
    let auth = json!({"workload_identity": {"audience": WORKLOAD, "subject_token": "e30.e30.sig"}});
    let provider = connect_with(&server.uri(), json!({"auth": auth})).await;
    let mut calls = Vec::new();
    for _ in 0..3 {
        let result = provider.unwrap_key(&cx(), &wrapped(Algorithm::ProviderOpaque), &context()).await;
        assert_eq!(result.unwrap_err().kind, ErrorKind::ProviderDenied);
        calls.push(server.received_requests().await.unwrap().len());
    }
    // Two tokens and two calls at first, then one call each time.
    assert_eq!(calls, [4, 5, 6]);
}

#[tokio::test]
async fn a_rejected_value_has_googles_reason_and_no_data_key() {
    let said = |what: &str| {
        let message = format!("{what} is too long: \"topsecret\", which is dG9wc2VjcmV0IGRhdGEga2V5 in base64");
        let body = json!({"error": {"code": 400, "status": "INVALID_ARGUMENT", "message": message}});
        ResponseTemplate::new(400).set_body_json(body)
    };
    let server = always(said("additional_authenticated_data")).await;
    let dek = Secret::copy_from(b"topsecret data key");
    let wrapped = connect(&server)
        .await
        .wrap_key(&cx(), &kek(KeySpec::Aes256), &dek, &context())
        .await;
    let error = wrapped.unwrap_err();
    assert_eq!((error.kind, error.retry), (ErrorKind::InvalidInput, Retry::Never), "{error}");
    let message = error.message.unwrap().to_string();
    assert_eq!(
        message,
        "additional_authenticated_data is too long: \"[...]\", which is [...] in base64"
    );

    // The log has it of a refused decryption, too, whose kind is the one for all causes.
    let error = refused(said("ciphertext")).await;
    assert_eq!((error.kind, error.advice), (ErrorKind::CiphertextRejected, None));
    assert!(
        error.to_string().contains("[code INVALID_ARGUMENT]: ciphertext is too long"),
        "{error}"
    );
}

#[tokio::test]
async fn the_token_is_shown_to_cloud_kms_alone() {
    let good = json!({"plaintext": b64("key"), "plaintextCrc32c": crc("key")});
    let server = always(ResponseTemplate::new(200).set_body_json(good)).await;
    let provider = connect(&server).await;
    provider
        .unwrap_key(&cx(), &wrapped(Algorithm::ProviderOpaque), &context())
        .await
        .unwrap();
    let [request] = server.received_requests().await.unwrap().try_into().unwrap();
    assert_eq!(request.headers["authorization"], "Bearer ya29.topsecret");
}
