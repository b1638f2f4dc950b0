//! Responses that a real server does not give, or not on request: throttling, standby, redirects,
//! malformed bodies, a token that is revoked during a call. And the requests that are sent.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops where an expectation fails")]

#[path = "answers/lockout.rs"]
mod lockout;
#[path = "answers/logins.rs"]
mod logins;
#[path = "answers/severed.rs"]
mod severed;

use std::sync::{Arc, Once};
use std::time::Duration;

use claviger_provider::egress::{Egress, EgressPolicy};
use claviger_provider::{
    Algorithm, BackgroundCalls, BoundContext, CallResult, ConnectionId, ConnectionParts, Error, ErrorKind, Factory, Kek, KeyId, KeyRequest,
    KeySpec, OpContext, Provider, ProviderCall, ProviderKeyRef, Retry, Secret, SettingsOrigin, TenantId, Wrapped,
};
use claviger_provider_vault::{VaultFactory, VaultProvider};
use claviger_testkit::connection::parts;
use serde_json::{Value, json};
use wiremock::matchers::{any, body_partial_json, header, method, path};
use wiremock::{Mock, MockServer, Request, ResponseTemplate};

const TOKEN: &str = "hvs.topsecret";
const ENCRYPT: &str = "/v1/transit/encrypt/k";
const DECRYPT: &str = "/v1/transit/decrypt/k";

fn factory() -> VaultFactory {
    static STACK: Once = Once::new();
    STACK.call_once(|| drop(rustls::crypto::aws_lc_rs::default_provider().install_default()));
    VaultFactory::new(Egress::new(EgressPolicy {
        allow: vec!["127.0.0.0/8".parse().unwrap()],
        allow_plain_http: true,
    }))
}

fn connect(server: &MockServer, auth: Value) -> VaultProvider {
    let settings = json!({"address": server.uri(), "auth": auth});
    let parsed = factory().parse(&settings.to_string(), SettingsOrigin::Tenant).unwrap();
    factory().provider(parts(&parsed.public, parsed.secrets)).unwrap()
}

fn cx() -> OpContext {
    OpContext::for_system("test", TenantId::random(), Duration::from_secs(30))
}

fn context() -> BoundContext {
    BoundContext::new([("a".to_owned(), "b".to_owned())].into(), b"\xa1aaab".to_vec())
}

fn key(version: &str) -> ProviderKeyRef {
    ProviderKeyRef {
        id: "transit/k".to_owned(),
        version: version.to_owned(),
    }
}

fn kek(version: &str) -> Kek {
    Kek {
        key: key(version),
        spec: KeySpec::Aes256,
        id: KeyId::from_bytes([7; 16]),
    }
}

fn wrapped() -> Wrapped {
    Wrapped {
        key: key("1"),
        algorithm: Algorithm::ProviderOpaque,
        ciphertext: b"vault:v1:AAAA".to_vec(),
        key_material: None,
        upstream_request_id: None,
    }
}

fn refusal(status: u16, sentence: &str) -> ResponseTemplate {
    ResponseTemplate::new(status).set_body_json(json!({"errors": [sentence]}))
}

fn data(data: Value) -> ResponseTemplate {
    ResponseTemplate::new(200).set_body_json(json!({"request_id": "0a-1", "data": data}))
}

/// A server that knows the token, with this response to every other call.
async fn server(answer: ResponseTemplate) -> MockServer {
    let server = MockServer::builder().start().await;
    let itself = data(json!({"ttl": 0, "renewable": false}));
    Mock::given(path("/v1/auth/token/lookup-self"))
        .respond_with(itself)
        .with_priority(1)
        .mount(&server)
        .await;
    Mock::given(any()).respond_with(answer).with_priority(9).mount(&server).await;
    server
}

async fn unwrapped(answer: ResponseTemplate) -> Result<Secret, Error> {
    let server = server(answer).await;
    connect(&server, json!({"token": TOKEN}))
        .unwrap_key(&cx(), &wrapped(), &context())
        .await
}

async fn calls(server: &MockServer, to: &str) -> Vec<Request> {
    let requests = server.received_requests().await.unwrap();
    requests.into_iter().filter(|request| request.url.path() == to).collect()
}

#[tokio::test]
async fn each_refusal_has_its_kind() {
    use ErrorKind::{
        CiphertextRejected, InvalidInput, KeyNotFound, KeyState, Misconfigured, ProviderDenied, RateLimited, UpstreamProtocol,
        UpstreamUnavailable,
    };
    for (status, sentence, kind) in [
        (400, "encryption key not found", KeyNotFound),
        (
            500,
            "1 error occurred:\n\t* failed to RSA decrypt the ciphertext: crypto/rsa: decryption error\n\n",
            CiphertextRejected,
        ),
        (400, "cipher: message authentication failed", CiphertextRejected),
        (400, "invalid ciphertext: could not decode base64", CiphertextRejected),
        (400, "ciphertext or signature version is disallowed by policy (too old)", KeyState),
        (400, "refusing to use soft-deleted key", KeyState),
        (400, "something that nobody has read yet", InvalidInput),
        (403, "permission denied", ProviderDenied),
        (
            404,
            "no handler for route \"transit/decrypt/k\". route entry not found.",
            Misconfigured,
        ),
        (405, "unsupported operation", Misconfigured),
        (412, "required index state not present", UpstreamUnavailable),
        (429, "request path \"transit/decrypt/k\": rate limit quota exceeded", RateLimited),
        (473, "", UpstreamUnavailable),
        (500, "internal error", UpstreamUnavailable),
        (502, "", UpstreamUnavailable),
        (503, "Vault is sealed", UpstreamUnavailable),
        (418, "", UpstreamProtocol),
    ] {
        let error = unwrapped(refusal(status, sentence)).await.unwrap_err();
        assert_eq!(error.kind, kind, "{status} {sentence}: {error}");
        assert_eq!(error.upstream_code.as_deref(), Some(&*status.to_string()));
    }
}

#[tokio::test]
async fn a_rejected_value_has_the_servers_reason() {
    let sentence = "invalid key_type value dG9wc2VjcmV0 for this endpoint: \"topsecret\"";
    let error = unwrapped(refusal(400, sentence)).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::InvalidInput);
    let message = error.message.unwrap().to_string();
    assert_eq!(message, "invalid key_type value [...] for this endpoint: \"[...]\"");
}

#[tokio::test]
async fn only_what_can_pass_is_worth_another_try() {
    let limited = refusal(429, "").insert_header("retry-after", "7");
    assert_eq!(unwrapped(limited).await.unwrap_err().retry, Retry::After(Duration::from_secs(7)));
    let greedy = refusal(429, "").insert_header("retry-after", "86400");
    assert_eq!(unwrapped(greedy).await.unwrap_err().retry, Retry::After(Duration::from_secs(60)));
    let dated = refusal(429, "").insert_header("retry-after", "Fri, 01 Jan 2100 00:00:00 GMT");
    assert_eq!(unwrapped(dated).await.unwrap_err().retry, Retry::After(Duration::from_secs(60)));
    for (status, retry) in [
        (429, Retry::Backoff),
        (503, Retry::Backoff),
        (500, Retry::Backoff),
        (403, Retry::Never),
        (400, Retry::Never),
    ] {
        assert_eq!(unwrapped(refusal(status, "")).await.unwrap_err().retry, retry, "{status}");
    }
}

#[tokio::test]
async fn a_page_of_something_in_between_is_no_answer_of_the_server() {
    let page = |status| ResponseTemplate::new(status).set_body_raw("<html>no</html>", "text/html");
    for status in [200, 201, 400, 401, 403, 404] {
        assert_eq!(
            unwrapped(page(status)).await.unwrap_err().kind,
            ErrorKind::UpstreamProtocol,
            "{status}"
        );
    }
    assert_eq!(unwrapped(page(503)).await.unwrap_err().kind, ErrorKind::UpstreamUnavailable);
}

#[tokio::test]
async fn answers_that_make_no_sense_are_not_taken() {
    let long = "A".repeat(4097 / 3 * 4 + 4);
    for answer in [
        data(json!({})),
        data(json!(null)),
        data(json!({"plaintext": 7})),
        data(json!({"plaintext": ""})),
        data(json!({"plaintext": "AAA"})),
        data(json!({"plaintext": "AA=="  , "batch_results": []})).set_body_string("{\"data\": {\"plaintext\": \"AA"),
        data(json!({"plaintext": long})),
        ResponseTemplate::new(204),
        ResponseTemplate::new(200).set_body_bytes(vec![b' '; (1 << 20) + 1]),
    ] {
        assert_eq!(unwrapped(answer).await.unwrap_err().kind, ErrorKind::UpstreamProtocol);
    }
    for ciphertext in [
        "",
        "vault:v2:AAAA",
        "vault:v1:",
        "AAAA",
        "vault:v1:not base64",
        &format!("vault:v1:{}", "A".repeat(6144)),
    ] {
        let server = server(data(json!({"ciphertext": ciphertext}))).await;
        let provider = connect(&server, json!({"token": TOKEN}));
        let error = provider
            .wrap_key(&cx(), &kek("1"), &Secret::random(32), &context())
            .await
            .unwrap_err();
        assert_eq!(error.kind, ErrorKind::UpstreamProtocol, "{ciphertext}");
    }
}

#[tokio::test]
async fn a_redirect_brings_the_token_nowhere() {
    let elsewhere = server(data(json!({"plaintext": "AAAA"}))).await;
    for status in [301, 302, 307, 308] {
        let leading = ResponseTemplate::new(status).insert_header("location", format!("{}{DECRYPT}", elsewhere.uri()));
        let error = unwrapped(leading).await.unwrap_err();
        assert!(error.kind == ErrorKind::UpstreamProtocol && error.advice.is_some(), "{error}");
    }
    assert!(elsewhere.received_requests().await.unwrap().is_empty());
}

#[tokio::test]
async fn the_context_goes_along_and_no_call_can_make_a_key() {
    let server = MockServer::builder().start().await;
    let token = || header("x-vault-token", TOKEN);
    Mock::given(method("GET"))
        .and(path("/v1/auth/token/lookup-self"))
        .respond_with(refusal(403, "permission denied"))
        .mount(&server)
        .await;
    Mock::given(method("POST"))
        .and(path(ENCRYPT))
        .and(token())
        .and(header("x-vault-request", "true"))
        .and(body_partial_json(
            json!({"associated_data": "oWFhYWI=", "key_version": 3, "type": "never-create", "plaintext": "AQID"}),
        ))
        .respond_with(data(json!({"ciphertext": "vault:v3:AAAA"})))
        .expect(1)
        .mount(&server)
        .await;
    Mock::given(method("POST"))
        .and(path(DECRYPT))
        .and(token())
        .and(body_partial_json(
            json!({"associated_data": "oWFhYWI=", "ciphertext": "vault:v3:AAAA"}),
        ))
        .respond_with(data(json!({"plaintext": "AQID"})))
        .expect(1)
        .mount(&server)
        .await;
    let provider = connect(&server, json!({"token": TOKEN}));
    let dek = Secret::copy_from(&[1, 2, 3]);
    let wrapped = provider.wrap_key(&cx(), &kek("3"), &dek, &context()).await.unwrap();
    assert_eq!(
        (wrapped.key.clone(), wrapped.upstream_request_id.as_deref()),
        (key("3"), Some("0a-1"))
    );
    assert_eq!(provider.unwrap_key(&cx(), &wrapped, &context()).await.unwrap(), dek);
}

#[tokio::test]
async fn a_login_answers_a_token_that_died_in_mid_flight_once() {
    let server = MockServer::builder().start().await;
    let login = |token: &str| {
        ResponseTemplate::new(200).set_body_json(json!({"auth": {"client_token": token, "lease_duration": 3600, "renewable": true}}))
    };
    let at = || path("/v1/auth/ci/login");
    let body = || body_partial_json(json!({"role": "r", "jwt": "e.y.j"}));
    Mock::given(at())
        .and(body())
        .respond_with(login("first"))
        .up_to_n_times(1)
        .mount(&server)
        .await;
    Mock::given(at()).and(body()).respond_with(login("second")).mount(&server).await;
    Mock::given(header("x-vault-token", "first"))
        .respond_with(refusal(403, "permission denied"))
        .mount(&server)
        .await;
    let lookup = path("/v1/auth/token/lookup-self");
    Mock::given(lookup).respond_with(data(json!({"ttl": 60}))).mount(&server).await;
    Mock::given(path(DECRYPT))
        .respond_with(data(json!({"plaintext": "AQID"})))
        .mount(&server)
        .await;
    Mock::given(path(ENCRYPT))
        .respond_with(refusal(403, "permission denied"))
        .mount(&server)
        .await;
    Mock::given(path("/v1/transit/keys/k"))
        .respond_with(refusal(403, "permission denied"))
        .mount(&server)
        .await;

    let provider = connect(&server, json!({"jwt": {"role": "r", "jwt": "e.y.j", "mount": "ci"}}));
    let (cx, wrapped, context) = (cx(), wrapped(), context());
    // Four calls at once: one login for all of them, and one more when its token is refused.
    let unwrap = || provider.unwrap_key(&cx, &wrapped, &context);
    let (a, b, c, d) = tokio::join!(unwrap(), unwrap(), unwrap(), unwrap());
    for opened in [a, b, c, d] {
        assert_eq!(opened.unwrap(), Secret::copy_from(&[1, 2, 3]));
    }
    assert_eq!(calls(&server, "/v1/auth/ci/login").await.len(), 2);

    // A call that the policy denies is no reason to log in again.
    let error = provider.wrap_key(&cx, &kek("1"), &Secret::random(32), &context).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::ProviderDenied);
    assert_eq!(calls(&server, "/v1/auth/ci/login").await.len(), 2);
}

#[tokio::test]
async fn a_login_that_is_refused_is_denied() {
    let server = server(refusal(400, "invalid role or secret ID")).await;
    let provider = connect(&server, json!({"approle": {"role_id": "r", "secret_id": "s"}}));
    let error = provider.unwrap_key(&cx(), &wrapped(), &context()).await.unwrap_err();
    assert!(error.kind == ErrorKind::ProviderDenied && error.advice.is_some(), "{error}");
}

#[tokio::test]
async fn a_server_that_is_away_is_unavailable() {
    // Nothing listens there, and nothing else gets the port meanwhile.
    let gone = tokio::net::TcpSocket::new_v4().unwrap();
    gone.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = format!("http://{}", gone.local_addr().unwrap());
    let settings = json!({"address": address, "auth": {"token": TOKEN}}).to_string();
    let parsed = factory().parse(&settings, SettingsOrigin::Tenant).unwrap();
    let provider = factory().provider(parts(&parsed.public, parsed.secrets)).unwrap();
    let error = provider.unwrap_key(&cx(), &wrapped(), &context()).await.unwrap_err();
    assert_eq!(
        (error.kind, error.retry),
        (ErrorKind::UpstreamUnavailable, Retry::Backoff),
        "{error}"
    );
}

#[tokio::test]
async fn a_key_that_another_made_meanwhile_is_a_conflict() {
    let server = MockServer::builder().start().await;
    let request = KeyRequest {
        key_id: KeyId::random(),
        made_as: KeyId::random(),
        repeated: false,
        spec: KeySpec::Aes256,
        adopt: None,
        taken: false,
    };
    Mock::given(path("/v1/auth/token/lookup-self"))
        .respond_with(data(json!({})))
        .mount(&server)
        .await;
    Mock::given(method("GET"))
        .respond_with(ResponseTemplate::new(404).set_body_json(json!({"errors": []})))
        .mount(&server)
        .await;
    let existed = ResponseTemplate::new(200).set_body_json(json!({"data": {}, "warnings": ["key x already existed"]}));
    Mock::given(method("POST")).respond_with(existed).mount(&server).await;
    let error = connect(&server, json!({"token": TOKEN}))
        .create_key(&cx(), &request)
        .await
        .unwrap_err();
    assert_eq!(error.kind, ErrorKind::Conflict);
}

#[tokio::test]
async fn a_wrapping_token_is_used_for_nothing_but_the_question_whether_it_is_one() {
    let server = MockServer::builder().start().await;
    Mock::given(path("/v1/sys/wrapping/lookup"))
        .and(body_partial_json(json!({"token": TOKEN})))
        .respond_with(data(json!({"creation_time": "2025-01-01T00:00:00Z", "creation_ttl": 60})))
        .mount(&server)
        .await;
    let provider = connect(&server, json!({"token": TOKEN}));
    let error = provider.unwrap_key(&cx(), &wrapped(), &context()).await.unwrap_err();
    assert!(
        error.kind == ErrorKind::ProviderDenied && error.advice.unwrap().contains("wrapping token"),
        "{error}"
    );
    for request in server.received_requests().await.unwrap() {
        assert!(!request.headers.contains_key("x-vault-token"), "{}", request.url);
    }
}

#[tokio::test]
async fn a_sealed_server_is_named_by_the_probe() {
    let server = MockServer::builder().start().await;
    let sealed = ResponseTemplate::new(503).set_body_json(json!({"initialized": true, "sealed": true, "version": "2.4.0"}));
    Mock::given(path("/v1/sys/health")).respond_with(sealed).mount(&server).await;
    let probe = connect(&server, json!({"token": TOKEN})).probe(&cx(), &[]).await.unwrap();
    // The policy helps while the server is sealed, too.
    assert!(probe.policy.is_some() && !probe.rights.is_empty());
    let error = probe.problem.unwrap();
    assert!(error.kind == ErrorKind::UpstreamUnavailable && error.advice.is_some(), "{error}");
}

#[tokio::test]
async fn no_error_shows_a_secret() {
    for status in [200, 307, 400, 403, 404, 500] {
        let echo = ResponseTemplate::new(status).set_body_json(json!({"errors": ["no"]}));
        let error = unwrapped(echo).await.unwrap_err();
        let shown = format!("{error} {error:?} {:?}", error.source);
        assert!(!shown.contains("topsecret"), "{shown}");
    }
}

/// Collects background calls.
#[derive(Default)]
struct Seen(parking_lot::Mutex<Vec<ProviderCall>>);

impl BackgroundCalls for Seen {
    fn called(&self, _: TenantId, _: ConnectionId, call: ProviderCall) {
        self.0.lock().push(call);
    }
}

#[tokio::test]
async fn every_attempt_and_login_is_traced_with_the_servers_id() {
    let server = MockServer::builder().start().await;
    let login = |token: &str| {
        ResponseTemplate::new(200)
            .set_body_json(json!({"request_id": "0a-login", "auth": {"client_token": token, "lease_duration": 3600, "renewable": true}}))
    };
    let at = path("/v1/auth/jwt/login");
    Mock::given(at).respond_with(login("first")).up_to_n_times(1).mount(&server).await;
    Mock::given(path("/v1/auth/jwt/login"))
        .respond_with(login("second"))
        .mount(&server)
        .await;
    Mock::given(header("x-vault-token", "first"))
        .respond_with(refusal(403, "permission denied"))
        .mount(&server)
        .await;
    Mock::given(path(DECRYPT))
        .respond_with(data(json!({"plaintext": "AQID"})))
        .mount(&server)
        .await;
    let seen = Arc::new(Seen::default());
    let settings = json!({"address": server.uri(), "auth": {"jwt": {"role": "r", "jwt": "e.y.j"}}}).to_string();
    let parsed = factory().parse(&settings, SettingsOrigin::Tenant).unwrap();
    let parts = ConnectionParts {
        background: Some(Arc::clone(&seen) as Arc<dyn BackgroundCalls>),
        ..parts(&parsed.public, parsed.secrets)
    };
    let provider = factory().provider(parts).unwrap();
    let cx = cx();
    provider.unwrap_key(&cx, &wrapped(), &context()).await.unwrap();
    let denied = CallResult::Error(ErrorKind::ProviderDenied);
    let decrypt = |request_id, result| ProviderCall::new("transit/decrypt", request_id, result);
    assert_eq!(
        cx.take_calls().calls,
        [decrypt(None, denied), decrypt(Some("0a-1"), CallResult::Ok)]
    );
    let background = |operation, request_id, result| ProviderCall::new(operation, request_id, result);
    assert_eq!(
        *seen.0.lock(),
        [
            background("auth/login", Some("0a-login"), CallResult::Ok),
            background("auth/token/lookup-self", None, denied),
            background("auth/login", Some("0a-login"), CallResult::Ok),
        ]
    );
}
