//! The machine's own identity is used only if the operator asks for it, and then a missing
//! metadata server does not block.
//!
//! Each case runs in a process of its own, because it depends on the environment.

use std::net::TcpListener;
use std::process::{Command, Output};
use std::sync::Arc;

use claviger_provider::layers::PipelineConfig;
use claviger_provider::{Algorithm, ErrorKind, Pipeline, Provider, SeverSwitch};
use claviger_test_support::tunnels_to;
use serde_json::{Value, json};
use wiremock::matchers::{header, path_regex};
use wiremock::{Mock, MockServer, ResponseTemplate};

use crate::fixture::{AUDIENCE, always, b64, connect_severable, connect_with, context, crc, cx, wrapped};

/// The variable with the `auth` setting for the child process.
const AUTH: &str = "CLAVIGER_TEST_GCP_AUTH";
/// The variable with the token that its calls must carry; empty if there is none.
const TOKEN: &str = "CLAVIGER_TEST_GCP_TOKEN";
/// Set for a child process that first makes a connection that is severed from the beginning.
const SEVERED: &str = "CLAVIGER_TEST_GCP_SEVERED";

#[tokio::test]
#[ignore = "run by the others, in an environment of their own"]
async fn opens_one() {
    let auth: Value = serde_json::from_str(&std::env::var(AUTH).unwrap()).unwrap();
    let token = std::env::var(TOKEN).unwrap();
    let plaintext = [1; 32];
    let body = json!({"plaintext": b64(plaintext), "plaintextCrc32c": crc(plaintext)});
    let server = always(ResponseTemplate::new(200).set_body_json(body)).await;
    if std::env::var_os(SEVERED).is_some() {
        // As a start loads a connection that is severed.
        let switch = SeverSwitch::default();
        switch.sever();
        let provider = connect_severable(&server.uri(), json!({"auth": auth}), None, switch.clone()).await;
        let pipeline = Pipeline::new(Arc::new(provider), &PipelineConfig::default(), switch);
        let refused = pipeline.unwrap_key(&cx(), &wrapped(Algorithm::ProviderOpaque), &context()).await;
        assert_eq!(refused.unwrap_err().kind, ErrorKind::Severed);
    }
    let provider = connect_with(&server.uri(), json!({"auth": auth})).await;
    let opened = provider.unwrap_key(&cx(), &wrapped(Algorithm::ProviderOpaque), &context()).await;
    let requests = server.received_requests().await.unwrap();
    if token.is_empty() {
        let error = opened.unwrap_err();
        assert!(error.kind == ErrorKind::Misconfigured && error.advice.is_some(), "{error}");
        assert!(requests.is_empty());
        return;
    }
    assert_eq!(opened.unwrap().expose(), plaintext);
    let [request] = requests.as_slice() else {
        panic!("{} calls", requests.len())
    };
    assert_eq!(request.headers["authorization"], format!("Bearer {token}").as_str());
}

/// Runs in a process of its own, with a proxy in its environment: one exchange of a token, and one call of Cloud KMS.
#[tokio::test]
#[ignore = "run by googles_client_takes_the_environments_proxy_and_ours_does_not"]
async fn calls_a_host_that_does_not_exist() {
    let issued = json!({"access_token": "ya29.issued", "expires_in": 3600, "token_type": "Bearer"});
    let sts = always(ResponseTemplate::new(200).set_body_json(issued)).await;
    let auth = json!({"workload_identity": {"audience": AUDIENCE, "subject_token": "e30.e30.sig"}});
    let provider = connect_with("https://kms.invalid", json!({"auth": auth, "sts_endpoint": sts.uri()})).await;
    let called = provider.unwrap_key(&cx(), &wrapped(Algorithm::ProviderOpaque), &context()).await;
    called.unwrap_err();
    assert_eq!(sts.received_requests().await.unwrap().len(), 1);
}

fn run(auth: Value, token: &str, metadata: &str, file: Option<&std::path::Path>, severed: bool) -> Output {
    let mut child = Command::new(std::env::current_exe().unwrap());
    child
        .args(["--ignored", "--exact", "machine::opens_one"])
        .env(AUTH, auth.to_string())
        .env(TOKEN, token)
        .env("GCE_METADATA_HOST", metadata)
        .env("GOOGLE_CLOUD_PROJECT", "another")
        // No gcloud file of the user who runs the tests.
        .env("HOME", "/nowhere")
        .env("CLOUDSDK_CONFIG", "/nowhere")
        .env_remove("GOOGLE_APPLICATION_CREDENTIALS");
    if severed {
        child.env(SEVERED, "1");
    }
    if let Some(file) = file {
        child.env("GOOGLE_APPLICATION_CREDENTIALS", file);
    }
    child.output().unwrap()
}

async fn passes(auth: Value, token: &'static str, metadata: String, file: Option<std::path::PathBuf>) {
    let ended = tokio::task::spawn_blocking(move || run(auth, token, &metadata, file.as_deref(), false))
        .await
        .unwrap();
    passed(&ended);
}

fn passed(ended: &Output) {
    let said = String::from_utf8_lossy(&ended.stdout);
    assert!(ended.status.success() && said.contains("1 passed"), "{said}");
}

/// A metadata server that issues a token.
async fn metadata() -> MockServer {
    let server = MockServer::builder().start().await;
    Mock::given(path_regex("/computeMetadata/v1/instance/service-accounts/default/token$"))
        .and(header("metadata-flavor", "Google"))
        .respond_with(ResponseTemplate::new(200).set_body_json(json!({
            "access_token": "ya29.of-the-machine", "expires_in": 3600, "token_type": "Bearer",
        })))
        .mount(&server)
        .await;
    server
}

#[tokio::test]
async fn nothing_of_it_is_used_unasked() {
    let trap = metadata().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("credentials.json");
    let user = json!({
        "type": "authorized_user", "client_id": "c", "client_secret": "s", "refresh_token": "r", "quota_project_id": "theirs",
        "token_uri": trap.uri(),
    });
    std::fs::write(&file, user.to_string()).unwrap();
    let host = trap.address().to_string();
    passes(json!({"token": "ya29.given"}), "ya29.given", host, Some(file)).await;
    assert!(trap.received_requests().await.unwrap().is_empty());
}

#[tokio::test]
async fn its_identity_is_used_where_the_operator_asks_for_it() {
    let server = metadata().await;
    passes(json!({"ambient": {}}), "ya29.of-the-machine", server.address().to_string(), None).await;
}

#[tokio::test]
async fn a_machine_without_a_metadata_server_hangs_nothing() {
    // One that accepts connections and never responds, and one that does not exist.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for address in [silent.local_addr().unwrap(), gone] {
        let begun = std::time::Instant::now();
        passes(json!({"ambient": {}}), "", address.to_string(), None).await;
        // The limit is 5 s; the library would wait for minutes.
        assert!(begun.elapsed() < std::time::Duration::from_secs(20), "{:?}", begun.elapsed());
    }
}

/// Google's client has no setting against it. So the gateway removes the variables
/// (`network::the_environment_s_proxy_is_taken_by_no_client_of_the_gateway` in `tests/api`).
#[tokio::test]
async fn googles_client_takes_the_environments_proxy_and_ours_does_not() {
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (proxy, asked) = tunnels_to(gone).await;
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--ignored", "--exact", "machine::calls_a_host_that_does_not_exist"]);
    for variable in ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY", "https_proxy", "HTTPS_PROXY"] {
        child.env(variable, format!("http://{proxy}"));
    }
    for variable in ["no_proxy", "NO_PROXY"] {
        child.env_remove(variable);
    }
    passed(&tokio::task::spawn_blocking(move || child.output().unwrap()).await.unwrap());
    let asked = asked.lock().unwrap();
    assert!(
        !asked.is_empty() && asked.iter().all(|request| request == "CONNECT kms.invalid:443 HTTP/1.1"),
        "{asked:?}"
    );
}

#[tokio::test]
async fn a_severed_connection_asks_for_no_identity() {
    let server = metadata().await;
    let host = server.address().to_string();
    let ended = tokio::task::spawn_blocking(move || run(json!({"ambient": {}}), "ya29.of-the-machine", &host, None, true))
        .await
        .unwrap();
    passed(&ended);
    // The one of the connection that is not severed, which was made later.
    assert_eq!(server.received_requests().await.unwrap().len(), 1);
}
