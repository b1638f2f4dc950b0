//! Roles, sessions that end or are revoked, and the identities whose credentials are used.

use std::process::Command;
use std::time::{Duration, Instant};

use claviger_provider::{ErrorKind, Provider, Retry};
use serde_json::{Value, json};
use wiremock::matchers::{any, header_regex};
use wiremock::{Mock, MockServer, ResponseTemplate};

use crate::fixture::{
    ARN, EXTERNAL_ID, access_key, always, answer, b64, calls, connect, context, cx, refusal, role, session, sts, sts_calls, sts_refusal,
    wrapped,
};

fn opened() -> ResponseTemplate {
    answer(json!({"KeyId": ARN, "Plaintext": b64([1; 32])}))
}

/// A mock of calls with this session's token.
fn with_token(name: &str) -> wiremock::MockBuilder {
    Mock::given(header_regex("x-amz-security-token", &format!("^token-{name}$")))
}

#[tokio::test]
async fn a_role_is_assumed_once_with_the_external_id() {
    let server = MockServer::builder().start().await;
    sts("AssumeRole").respond_with(session("ONE")).expect(1).mount(&server).await;
    with_token("ONE").respond_with(opened()).expect(3).mount(&server).await;
    let provider = connect(&server, role()).await;
    let (cx, wrapped, context) = (cx(), wrapped(), context());
    let (a, b, c) = tokio::join!(
        provider.unwrap_key(&cx, &wrapped, &context),
        provider.unwrap_key(&cx, &wrapped, &context),
        provider.unwrap_key(&cx, &wrapped, &context)
    );
    assert!(a.is_ok() && b.is_ok() && c.is_ok());
    let assumed = sts_calls(&server, "AssumeRole").await;
    assert!(assumed[0].contains(&format!("ExternalId={EXTERNAL_ID}")), "{assumed:?}");
    assert!(
        assumed[0].contains(&format!("RoleSessionName=claviger-{}", "09".repeat(16))),
        "{assumed:?}"
    );
}

#[tokio::test]
async fn a_session_that_is_dropped_in_mid_flight_is_replaced() {
    let server = MockServer::builder().start().await;
    sts("AssumeRole").respond_with(session("ONE")).up_to_n_times(1).mount(&server).await;
    sts("AssumeRole").respond_with(session("TWO")).mount(&server).await;
    with_token("ONE").respond_with(opened()).up_to_n_times(1).mount(&server).await;
    with_token("ONE")
        .respond_with(refusal("ExpiredTokenException"))
        .mount(&server)
        .await;
    with_token("TWO").respond_with(opened()).mount(&server).await;
    let provider = connect(&server, role()).await;
    for _ in 0..3 {
        provider.unwrap_key(&cx(), &wrapped(), &context()).await.unwrap();
    }
    assert_eq!(sts_calls(&server, "AssumeRole").await.len(), 2);
    // The second call was sent twice.
    assert_eq!(calls(&server, "Decrypt").await.len(), 4);
}

#[tokio::test]
async fn a_session_that_is_refused_when_new_is_not_replaced_for_ever() {
    let server = MockServer::builder().start().await;
    sts("AssumeRole").respond_with(session("ONE")).mount(&server).await;
    with_token("ONE")
        .respond_with(refusal("UnrecognizedClientException"))
        .mount(&server)
        .await;
    let provider = connect(&server, role()).await;
    for _ in 0..5 {
        let error = provider.unwrap_key(&cx(), &wrapped(), &context()).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::ProviderDenied);
    }
    assert!(sts_calls(&server, "AssumeRole").await.len() <= 2);
}

#[tokio::test]
async fn a_refused_right_is_no_dropped_session() {
    let server = MockServer::builder().start().await;
    sts("AssumeRole").respond_with(session("ONE")).expect(1).mount(&server).await;
    with_token("ONE")
        .respond_with(refusal("AccessDeniedException"))
        .expect(2)
        .mount(&server)
        .await;
    let provider = connect(&server, role()).await;
    for _ in 0..2 {
        provider.unwrap_key(&cx(), &wrapped(), &context()).await.unwrap_err();
    }
}

#[tokio::test]
async fn a_role_that_is_refused_says_what_to_do() {
    for (code, kind, says) in [
        ("AccessDenied", ErrorKind::ProviderDenied, "external id"),
        ("InvalidClientTokenId", ErrorKind::ProviderDenied, "access key"),
        ("RegionDisabledException", ErrorKind::Misconfigured, "STS"),
    ] {
        let server = always(sts_refusal(code)).await;
        let error = connect(&server, role())
            .await
            .unwrap_key(&cx(), &wrapped(), &context())
            .await
            .unwrap_err();
        assert_eq!(error.kind, kind, "{code}: {error}");
        assert!(error.advice.unwrap().contains(says), "{code}: {:?}", error.advice);
        assert_eq!(error.upstream_code.as_deref(), Some(code));
        assert!(calls(&server, "Decrypt").await.is_empty());
    }
}

#[tokio::test]
async fn throttling_by_sts_is_throttling() {
    let server = always(sts_refusal("Throttling")).await;
    let error = connect(&server, role())
        .await
        .unwrap_key(&cx(), &wrapped(), &context())
        .await
        .unwrap_err();
    assert_eq!((error.kind, error.retry), (ErrorKind::RateLimited, Retry::Backoff), "{error}");
}

#[tokio::test]
async fn a_web_identity_is_read_from_its_file_each_time() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, "first.token.here\n").unwrap();
    let server = MockServer::builder().start().await;
    let answer = |name: &str| {
        let body = format!(
            "<AssumeRoleWithWebIdentityResponse><AssumeRoleWithWebIdentityResult><Credentials><AccessKeyId>ASIA{name}</AccessKeyId>\
             <SecretAccessKey>s</SecretAccessKey><SessionToken>token-{name}</SessionToken><Expiration>2099-01-01T00:00:00Z</Expiration>\
             </Credentials></AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>"
        );
        ResponseTemplate::new(200).set_body_raw(body, "text/xml")
    };
    sts("AssumeRoleWithWebIdentity")
        .respond_with(answer("ONE"))
        .up_to_n_times(1)
        .mount(&server)
        .await;
    sts("AssumeRoleWithWebIdentity").respond_with(answer("TWO")).mount(&server).await;
    with_token("ONE").respond_with(opened()).up_to_n_times(1).mount(&server).await;
    with_token("ONE")
        .respond_with(refusal("ExpiredTokenException"))
        .mount(&server)
        .await;
    with_token("TWO").respond_with(opened()).mount(&server).await;
    let auth = json!({"web_identity": {"role_arn": crate::fixture::ROLE, "token_file": file}});
    let provider = connect(&server, auth).await;
    provider.unwrap_key(&cx(), &wrapped(), &context()).await.unwrap();
    std::fs::write(&file, "second.token.here\n").unwrap();
    provider.unwrap_key(&cx(), &wrapped(), &context()).await.unwrap();
    let assumed = sts_calls(&server, "AssumeRoleWithWebIdentity").await;
    let (first, others) = assumed.split_first().unwrap();
    assert!(first.contains("WebIdentityToken=first.token.here"), "{assumed:?}");
    // One for the session that ended, and perhaps one for the file.
    assert!(
        !others.is_empty() && others.iter().all(|body| body.contains("WebIdentityToken=second.token.here")),
        "{assumed:?}"
    );

    std::fs::remove_file(&file).unwrap();
    let auth = json!({"web_identity": {"role_arn": crate::fixture::ROLE, "token_file": file}});
    let error = connect(&server, auth)
        .await
        .unwrap_key(&cx(), &wrapped(), &context())
        .await
        .unwrap_err();
    assert!(error.kind == ErrorKind::Misconfigured && error.advice.is_some(), "{error}");
}

/// Runs in its own process, whose environment has credentials that must not be used.
#[tokio::test]
#[ignore = "run by nothing_of_the_environment_is_used"]
async fn among_strange_variables() {
    let server = always(opened()).await;
    connect(&server, access_key())
        .await
        .unwrap_key(&cx(), &wrapped(), &context())
        .await
        .unwrap();
    let requests = server.received_requests().await.unwrap();
    let [request] = requests.as_slice() else {
        panic!("{} calls", requests.len())
    };
    let signed = request.headers["authorization"].to_str().unwrap();
    assert!(
        signed.contains("Credential=AKIAIOSFODNN7EXAMPLE/") && signed.contains("/eu-central-1/kms/"),
        "{signed}"
    );
    assert!(!request.headers.contains_key("x-amz-security-token"));
}

#[tokio::test]
async fn nothing_of_the_environment_is_used() {
    let trap = MockServer::builder().start().await;
    Mock::given(any()).respond_with(ResponseTemplate::new(500)).mount(&trap).await;
    let folder = tempfile::tempdir().unwrap();
    let profile = format!(
        "[default]\naws_access_key_id = FROMPROFILE00000\naws_secret_access_key = s\nendpoint_url = {}\nregion = us-east-1\n",
        trap.uri()
    );
    std::fs::write(folder.path().join("credentials"), profile).unwrap();
    let status = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "sessions::among_strange_variables"])
        .env("AWS_ACCESS_KEY_ID", "FROMENVIRONMENT0")
        .env("AWS_SECRET_ACCESS_KEY", "s")
        .env("AWS_SESSION_TOKEN", "t")
        .env("AWS_REGION", "us-east-1")
        .env("AWS_ENDPOINT_URL", trap.uri())
        .env("AWS_ENDPOINT_URL_KMS", trap.uri())
        .env("AWS_SHARED_CREDENTIALS_FILE", folder.path().join("credentials"))
        .env("AWS_CONFIG_FILE", folder.path().join("credentials"))
        .env("HTTP_PROXY", trap.uri())
        .env("http_proxy", trap.uri())
        .env("HTTPS_PROXY", trap.uri())
        .env("ALL_PROXY", trap.uri())
        .env_remove("NO_PROXY")
        .env_remove("no_proxy")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&status.stdout);
    assert!(status.status.success() && said.contains("1 passed"), "{said}");
    assert!(trap.received_requests().await.unwrap().is_empty());
}

/// The variable with the operator's settings, for the child process.
const AUTH: &str = "CLAVIGER_TEST_AWS_AUTH";
/// The variable with the id of the access key that must sign the calls; empty for none.
const SIGNED_WITH: &str = "CLAVIGER_TEST_AWS_SIGNED_WITH";

/// Runs in its own process, whose environment provides the operator's identity.
#[tokio::test]
#[ignore = "run by the next ones, in an environment of their own"]
async fn with_what_the_operator_lends() {
    let auth = serde_json::from_str(&std::env::var(AUTH).unwrap()).unwrap();
    let id = std::env::var(SIGNED_WITH).unwrap();
    let server = always(opened()).await;
    let provider = connect(&server, auth).await;
    let result = provider.unwrap_key(&cx(), &wrapped(), &context()).await;
    let requests = server.received_requests().await.unwrap();
    if id.is_empty() {
        let error = result.unwrap_err();
        assert!(error.kind == ErrorKind::Misconfigured && error.advice.is_some(), "{error}");
        assert!(requests.is_empty());
        return;
    }
    result.unwrap();
    let signed = requests[0].headers["authorization"].to_str().unwrap();
    assert!(signed.contains(&format!("Credential={id}/")), "{signed}");
    assert_eq!(requests[0].headers["x-amz-security-token"], "token");
}

async fn operator_owned(auth: Value, signed_with: &str, variables: &[(&str, &str)]) {
    let auth = auth.to_string();
    let variables = [&[(AUTH, auth.as_str()), (SIGNED_WITH, signed_with)], variables].concat();
    alone("sessions::with_what_the_operator_lends", &variables).await;
}

/// Runs a test in a process of its own, with these variables.
async fn alone(test: &str, variables: &[(&str, &str)]) {
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--ignored", "--exact", test]).env("HOME", "/nowhere");
    for name in ["AWS_ACCESS_KEY_ID", "AWS_PROFILE", "AWS_CONFIG_FILE", "AWS_WEB_IDENTITY_TOKEN_FILE"] {
        child.env_remove(name);
    }
    child.envs(variables.iter().copied());
    let ended = tokio::task::spawn_blocking(move || child.output()).await.unwrap().unwrap();
    let said = String::from_utf8_lossy(&ended.stdout);
    assert!(ended.status.success() && said.contains("1 passed"), "{said}");
}

#[tokio::test]
async fn the_machines_identity_is_used_where_the_operator_asks_for_it() {
    let agent = always(ResponseTemplate::new(200).set_body_json(json!({
        "AccessKeyId": "ASIAOFTHEMACHINE", "SecretAccessKey": "s", "Token": "token", "Expiration": "2099-01-01T00:00:00Z",
    })))
    .await;
    let address = format!("{}/credentials", agent.uri());
    operator_owned(
        json!({"ambient": {}}),
        "ASIAOFTHEMACHINE",
        &[("AWS_CONTAINER_CREDENTIALS_FULL_URI", &address)],
    )
    .await;
}

/// A profile with an access key.
fn profile(name: &str, id: &str) -> String {
    format!("[{name}]\naws_access_key_id = {id}\naws_secret_access_key = s\naws_session_token = token\n")
}

#[tokio::test]
async fn a_profile_is_the_one_that_the_operator_names() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("credentials");
    std::fs::write(&file, profile("default", "ASIADEFAULT") + &profile("acme", "ASIAACME")).unwrap();
    let files = [("AWS_SHARED_CREDENTIALS_FILE", file.to_str().unwrap())];
    operator_owned(json!({"profile": {"name": "acme"}}), "ASIAACME", &files).await;
    operator_owned(json!({"profile": {"name": "other"}}), "", &files).await;
}

/// Runs in its own process, whose environment names the operator's file, which it replaces.
#[tokio::test]
#[ignore = "run by the next one, in an environment of its own"]
async fn with_a_profile_that_changes() {
    let file = std::env::var("AWS_SHARED_CREDENTIALS_FILE").unwrap();
    let server = always(opened()).await;
    let provider = connect(&server, json!({"profile": {"name": "acme"}})).await;
    for id in ["ASIAFIRST", "ASIASECOND"] {
        std::fs::write(&file, profile("acme", id)).unwrap();
        let begun = Instant::now();
        loop {
            provider.unwrap_key(&cx(), &wrapped(), &context()).await.unwrap();
            let latest = server.received_requests().await.unwrap().pop().unwrap();
            let signed = latest.headers["authorization"].to_str().unwrap().to_owned();
            if signed.contains(&format!("Credential={id}/")) {
                break;
            }
            assert!(begun.elapsed() < Duration::from_secs(30), "{signed}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

#[tokio::test]
async fn a_profile_that_changes_is_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("credentials");
    let files = [("AWS_SHARED_CREDENTIALS_FILE", file.to_str().unwrap())];
    alone("sessions::with_a_profile_that_changes", &files).await;
}

#[tokio::test]
async fn a_machine_without_an_identity_hangs_nothing() {
    // A server that accepts the call and never responds, and one that does not exist.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for address in [silent.local_addr().unwrap(), gone] {
        let begun = Instant::now();
        let address = format!("http://{address}");
        operator_owned(json!({"ambient": {}}), "", &[("AWS_EC2_METADATA_SERVICE_ENDPOINT", &address)]).await;
        assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    }
}
