//! The fake as a program: its start and its control endpoints. `tests/vendors/azure` tests its API
//! with Microsoft's client.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test stops where an expectation fails"
)]

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

const PROGRAM: &str = env!("CARGO_BIN_EXE_claviger-fake-azure");

struct Started {
    program: Child,
    address: String,
    client: reqwest::Client,
}

impl Drop for Started {
    fn drop(&mut self) {
        self.program.kill().unwrap();
        self.program.wait().unwrap();
    }
}

impl Started {
    fn new() -> Self {
        drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ca.pem");
        let mut program = Command::new(PROGRAM)
            .arg("--ca-file")
            .arg(&file)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut address = String::new();
        for line in BufReader::new(program.stdout.take().unwrap()).lines() {
            let line = line.unwrap();
            if let Some(value) = line.strip_prefix("CLAVIGER_TEST_FAKE_AZURE_ADDRESS=") {
                value.clone_into(&mut address);
            }
            if line == "# ready" {
                break;
            }
        }
        let ca = reqwest::Certificate::from_pem(&std::fs::read(&file).unwrap()).unwrap();
        let client = reqwest::Client::builder().no_proxy().tls_certs_only([ca]).build().unwrap();
        Self { program, address, client }
    }

    async fn request(&self, method: &str, path: &str, token: Option<&str>, body: &Value) -> (u16, reqwest::header::HeaderMap, Value) {
        let request = self.client.request(method.parse().unwrap(), format!("{}{path}", self.address));
        let request = match token {
            Some(token) => request.bearer_auth(token),
            None => request,
        };
        let response = request
            .header("content-type", "application/json")
            .body(body.to_string())
            .send()
            .await
            .unwrap();
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        (
            status,
            headers,
            serde_json::from_str(&response.text().await.unwrap()).unwrap_or(Value::Null),
        )
    }
}

#[test]
fn it_does_not_start_without_https() {
    let ended = Command::new(PROGRAM).stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap();
    assert!(!ended.success());
}

#[tokio::test]
async fn a_request_without_a_token_is_challenged() {
    let fake = Started::new();
    let (status, headers, body) = fake.request("GET", "/keys/k?api-version=7.4", None, &Value::Null).await;
    assert_eq!((status, &body["error"]["code"]), (401, &json!("Unauthorized")));
    let challenge = headers["www-authenticate"].to_str().unwrap();
    assert!(
        challenge.contains("resource=\"https://vault.azure.net\"") && challenge.contains(&fake.address),
        "{challenge}"
    );
    // Authentication comes before any other validation.
    let (status, ..) = fake.request("POST", "/keys/k/create", None, &json!("no request")).await;
    assert_eq!(status, 401);
}

#[tokio::test]
async fn the_control_sets_up_access_and_faults() {
    let fake = Started::new();
    let setup = json!({"permissions": {"reader": ["get"]}, "strict": true});
    assert_eq!(fake.request("PUT", "/_fake/azure", None, &setup).await.0, 204);
    let body = json!({"kty": "RSA", "key_size": 2048});
    let (status, _, refused) = fake.request("POST", "/keys/k/create?api-version=7.4", Some("reader"), &body).await;
    assert_eq!((status, &refused["error"]["innererror"]["code"]), (403, &json!("ForbiddenByRbac")));
    assert_eq!(
        fake.request("GET", "/keys/k?api-version=7.4", Some("anybody"), &Value::Null)
            .await
            .0,
        401
    );
    assert_eq!(
        fake.request("GET", "/keys/k?api-version=7.4", Some("reader"), &Value::Null).await.0,
        404
    );
    let fault = json!([{"path": "/keys/k", "times": 1, "act": {"kind": "throttle", "retry_after": 3}}]);
    assert_eq!(fake.request("PUT", "/_fake/faults", None, &fault).await.0, 204);
    let (status, headers, body) = fake.request("GET", "/keys/k?api-version=7.4", Some("reader"), &Value::Null).await;
    assert_eq!(
        (status, headers["retry-after"].to_str().unwrap(), &body["error"]["code"]),
        (429, "3", &json!("Throttled"))
    );
    let (_, _, journal) = fake.request("GET", "/_fake/journal", None, &Value::Null).await;
    let last = journal.as_array().unwrap().last().unwrap();
    assert_eq!((&last["path"], &last["status"]), (&json!("/keys/k"), &json!(429)));
    assert!(!journal.to_string().contains("Bearer"), "{journal}");
}

#[tokio::test]
async fn malformed_requests_are_refused() {
    let fake = Started::new();
    let made = json!({"kty": "RSA", "key_size": 2048});
    for (path, body) in [
        ("/keys/k/create", &made),
        ("/keys/k/create?api-version=1.0", &made),
        ("/keys/no_name/create?api-version=7.4", &made),
        ("/keys/k/create?api-version=7.4", &json!({"kty": "RSA", "key_size": 1024})),
        ("/keys/k/create?api-version=7.4", &json!({"kty": "oct-HSM"})),
        ("/keys/k/create?api-version=7.4", &json!({})),
        ("/keys/k/create?api-version=7.4", &json!({"kty": "RSA", "key_ops": ["fly"]})),
    ] {
        let (status, _, refused) = fake.request("POST", path, Some("t"), body).await;
        assert_eq!((status, &refused["error"]["code"]), (400, &json!("BadParameter")), "{path} {body}");
    }
    assert_eq!(
        fake.request("POST", "/keys/k/create?api-version=7.4", Some("t"), &made).await.0,
        200
    );
    // Base64 with the standard alphabet, and with padding.
    for value in ["AA==", "+/+/"] {
        let (status, ..) = fake
            .request(
                "POST",
                "/keys/k/wrapkey?api-version=7.4",
                Some("t"),
                &json!({"alg": "RSA-OAEP", "value": value}),
            )
            .await;
        assert_eq!(status, 400, "{value}");
    }
}
