//! The kinds of errors for codes and malformed responses.

use claviger_provider::{Error, ErrorKind, Provider, Retry, Secret};
use serde_json::json;
use wiremock::matchers::any;
use wiremock::{Mock, MockServer, ResponseTemplate};

use crate::fixture::{ARN, access_key, aes, always, answer, b64, calls, connect, connect_to, context, cx, refusal, refusal_with, wrapped};

async fn unwrapped(answer: ResponseTemplate) -> Result<Secret, Error> {
    let server = always(answer).await;
    connect(&server, access_key()).await.unwrap_key(&cx(), &wrapped(), &context()).await
}

#[tokio::test]
async fn each_code_has_its_kind() {
    use ErrorKind::{
        CiphertextRejected, Conflict, ExternalDenied, InvalidInput, KeyNotFound, KeyState, Misconfigured, ProviderDenied, RateLimited,
        Unsupported, UpstreamProtocol, UpstreamUnavailable,
    };
    for (code, kind, retry, advised) in [
        ("ThrottlingException", RateLimited, true, true),
        ("RequestLimitExceeded", RateLimited, true, true),
        ("TooManyRequestsException", RateLimited, true, true),
        ("AccessDeniedException", ProviderDenied, false, true),
        ("ExpiredTokenException", ProviderDenied, false, true),
        ("UnrecognizedClientException", ProviderDenied, false, true),
        ("InvalidSignatureException", ProviderDenied, false, true),
        ("RequestExpired", Misconfigured, false, true),
        ("NotFoundException", KeyNotFound, false, false),
        ("DisabledException", KeyState, false, true),
        ("KMSInvalidStateException", KeyState, false, true),
        ("InvalidCiphertextException", CiphertextRejected, false, false),
        ("IncorrectKeyException", CiphertextRejected, false, false),
        ("InvalidKeyUsageException", CiphertextRejected, false, false),
        ("AlreadyExistsException", Conflict, false, false),
        ("ConflictException", Conflict, false, true),
        ("LimitExceededException", Conflict, false, true),
        ("UnsupportedOperationException", Unsupported, false, true),
        ("KeyUnavailableException", UpstreamUnavailable, true, false),
        ("DependencyTimeoutException", UpstreamUnavailable, true, false),
        ("KMSInternalException", UpstreamUnavailable, true, false),
        ("CustomKeyStoreInvalidStateException", KeyState, false, true),
        ("CloudHsmClusterNotActiveException", KeyState, false, true),
        ("CustomKeyStoreNotFoundException", KeyState, false, true),
        ("XksKeyNotFoundException", KeyState, false, true),
        ("XksKeyInvalidConfigurationException", KeyState, false, true),
        ("XksProxyUriUnreachableException", UpstreamUnavailable, true, true),
        ("XksProxyIncorrectAuthenticationCredentialException", ExternalDenied, false, true),
        ("XksProxyInvalidResponseException", UpstreamProtocol, false, true),
        ("InvalidArnException", InvalidInput, false, true),
        ("TagException", Misconfigured, false, true),
        ("ValidationException", InvalidInput, false, false),
        ("SomethingThatNobodyHasReadYet", UpstreamProtocol, false, false),
    ] {
        let error = unwrapped(refusal(code)).await.unwrap_err();
        let retry = if retry { Retry::Backoff } else { Retry::Never };
        assert_eq!(
            (error.kind, error.retry, error.advice.is_some()),
            (kind, retry, advised),
            "{code}: {error}"
        );
        assert_eq!(error.upstream_code.as_deref(), Some(code));
    }
}

#[tokio::test]
async fn a_code_of_the_services_own_namespace_is_read_all_the_same() {
    let error = unwrapped(refusal("com.amazonaws.kms#DisabledException")).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::KeyState);
}

#[tokio::test]
async fn without_a_code_the_status_decides() {
    use ErrorKind::{RateLimited, Unsupported, UpstreamProtocol, UpstreamUnavailable};
    for (status, kind, retry) in [
        (301, UpstreamProtocol, Retry::Never),
        (404, UpstreamProtocol, Retry::Never),
        (429, RateLimited, Retry::Backoff),
        (500, UpstreamUnavailable, Retry::Backoff),
        (501, Unsupported, Retry::Never),
        (503, UpstreamUnavailable, Retry::Backoff),
    ] {
        for body in ["", "<html>no</html>", "{}"] {
            let error = unwrapped(ResponseTemplate::new(status).set_body_string(body)).await.unwrap_err();
            assert_eq!((error.kind, error.retry), (kind, retry), "{status} {body}: {error}");
        }
    }
}

#[tokio::test]
async fn a_key_of_the_wrong_usage_is_named_where_it_wraps() {
    let server = always(refusal("InvalidKeyUsageException")).await;
    let error = connect(&server, access_key())
        .await
        .wrap_key(&cx(), &aes(), &Secret::random(32), &context())
        .await
        .unwrap_err();
    assert!(
        error.kind == ErrorKind::KeyState && error.advice.unwrap().contains("ENCRYPT_DECRYPT"),
        "{error}"
    );
}

#[tokio::test]
async fn half_an_answer_is_none() {
    let plaintext = b64([1; 32]);
    for body in [
        "",
        "{",
        "null",
        "[]",
        "{}",
        &json!({"KeyId": ARN}).to_string(),
        &json!({"KeyId": ARN, "Plaintext": ""}).to_string(),
        &json!({"KeyId": ARN, "Plaintext": "no base64!"}).to_string(),
        &json!({"Plaintext": plaintext}).to_string(),
        &json!({"KeyId": ARN, "Plaintext": b64([1; 4097])}).to_string(),
        &json!({"KeyId": ARN, "Plaintext": plaintext, "Padding": "x".repeat(2 << 20)}).to_string(),
    ] {
        let error = unwrapped(ResponseTemplate::new(200).set_body_string(body)).await.unwrap_err();
        let shown = &body[..body.len().min(80)];
        assert_eq!(error.kind, ErrorKind::UpstreamProtocol, "{shown}: {error}");
    }
}

#[tokio::test]
async fn an_answer_about_another_key_is_none() {
    let other = crate::fixture::OTHER;
    let blob = b64("blob");
    let body = json!({"KeyId": other, "Plaintext": b64([1; 32]), "CiphertextBlob": blob, "SourceKeyId": ARN});
    let server = always(answer(body)).await;
    let provider = connect(&server, access_key()).await;
    let (cx, context, dek) = (cx(), context(), Secret::random(32));
    for error in [
        provider.wrap_key(&cx, &aes(), &dek, &context).await.unwrap_err(),
        provider.unwrap_key(&cx, &wrapped(), &context).await.unwrap_err(),
        provider.generate_data_key(&cx, &aes(), 32, &context).await.unwrap_err(),
        provider.rewrap_key(&cx, &wrapped(), &aes(), &context).await.unwrap_err(),
    ] {
        assert_eq!(error.kind, ErrorKind::UpstreamProtocol, "{error}");
    }
    let body = json!({"KeyId": ARN, "SourceKeyId": other, "CiphertextBlob": blob});
    let server = always(answer(body)).await;
    let error = connect(&server, access_key())
        .await
        .rewrap_key(&cx, &wrapped(), &aes(), &context)
        .await;
    assert_eq!(error.unwrap_err().kind, ErrorKind::UpstreamProtocol);
}

#[tokio::test]
async fn a_data_key_of_another_length_is_none() {
    for (asked, given, right) in [(32, 32, true), (32, 16, false), (32, 64, false), (16, 32, false), (64, 64, true)] {
        let body = json!({"KeyId": ARN, "Plaintext": b64(vec![1; given]), "CiphertextBlob": b64("blob")});
        let server = always(answer(body)).await;
        let result = connect(&server, access_key())
            .await
            .generate_data_key(&cx(), &aes(), asked, &context())
            .await;
        match result {
            Ok(generated) => assert!(right && generated.plaintext.len() == asked),
            Err(error) => assert!(!right && error.kind == ErrorKind::UpstreamProtocol, "{error}"),
        }
    }
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let elsewhere = always(answer(json!({"KeyId": ARN, "Plaintext": b64([1; 32])}))).await;
    for status in [301, 302, 303, 307, 308] {
        let error = unwrapped(ResponseTemplate::new(status).insert_header("location", elsewhere.uri()))
            .await
            .unwrap_err();
        assert!(
            error.kind == ErrorKind::UpstreamProtocol && error.advice.is_some(),
            "{status}: {error}"
        );
    }
    assert!(elsewhere.received_requests().await.unwrap().is_empty());
}

#[tokio::test]
async fn one_call_is_one_attempt() {
    for code in ["ThrottlingException", "KMSInternalException", "ExpiredTokenException"] {
        let server = always(refusal_with(if code.starts_with("KMS") { 500 } else { 400 }, code)).await;
        connect(&server, access_key())
            .await
            .unwrap_key(&cx(), &wrapped(), &context())
            .await
            .unwrap_err();
        assert_eq!(calls(&server, "Decrypt").await.len(), 1, "{code}");
    }
}

#[tokio::test]
async fn nothing_that_is_secret_or_the_callers_is_in_an_error() {
    let quoting = json!({"__type": "ValidationException", "message": "1 validation error detected: Value 'orders' at 'encryptionContext'"});
    let server = MockServer::builder().start().await;
    Mock::given(any())
        .respond_with(ResponseTemplate::new(400).set_body_json(quoting))
        .mount(&server)
        .await;
    let error = connect(&server, access_key())
        .await
        .wrap_key(&cx(), &aes(), &Secret::copy_from(b"topsecret data key"), &context())
        .await
        .unwrap_err();
    let said = format!("{error} {:?} {:?}", error.advice, error.source);
    for secret in ["topsecret", "orders", "AKIA"] {
        assert!(!said.contains(secret), "{said}");
    }
    assert!(said.contains("Value '[...]' at 'encryptionContext'"), "{said}");
}

#[tokio::test]
async fn a_server_that_is_away_can_be_tried_again() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let gone = connect_to(&format!("http://{free}"), access_key()).await;
    let error = gone.unwrap_key(&cx(), &wrapped(), &context()).await.unwrap_err();
    assert_eq!(
        (error.kind, error.retry),
        (ErrorKind::UpstreamUnavailable, Retry::Backoff),
        "{error}"
    );
}

#[tokio::test]
async fn a_right_is_missed_and_used_again_at_the_next_call() {
    let server = MockServer::builder().start().await;
    let provider = connect(&server, access_key()).await;
    let good = json!({
        "KeyId": ARN, "Plaintext": b64([7; 32]), "CiphertextBlob": b64("blob"), "EncryptionAlgorithm": "SYMMETRIC_DEFAULT",
    });
    let good = answer(good);
    for granted in [true, false, false, true] {
        server.reset().await;
        let response = if granted { good.clone() } else { refusal("AccessDeniedException") };
        Mock::given(any()).respond_with(response).mount(&server).await;
        match provider.unwrap_key(&cx(), &wrapped(), &context()).await {
            Ok(dek) => assert!(granted && dek.expose() == [7; 32]),
            Err(error) => assert!(
                !granted && error.kind == ErrorKind::ProviderDenied && error.advice.is_some(),
                "{error}"
            ),
        }
        match provider.wrap_key(&cx(), &aes(), &Secret::random(32), &context()).await {
            Ok(_) => assert!(granted),
            Err(error) => assert!(!granted && error.kind == ErrorKind::ProviderDenied, "{error}"),
        }
        for operation in ["Decrypt", "Encrypt"] {
            assert_eq!(calls(&server, operation).await.len(), 1, "{operation}");
        }
    }
}
