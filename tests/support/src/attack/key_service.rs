//! A hostile key service: a Vault that reports as many versions of each key as a description may have.

use std::net::SocketAddr;

use axum::Router;
use axum::http::{StatusCode, Uri, header};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::{Map, Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// Versions of each key: the most that the gateway takes in one description.
const VERSIONS: u64 = 10_000;
/// What a ciphertext has around its plaintext's bytes: the nonce and the tag of AES-GCM.
const NONCE: usize = 12;
const TAG: usize = 16;

/// The service, which ends with its value. The gateway needs `egress.allow_plain_http`, and loopback in
/// `egress.allow`.
pub(super) struct KeyService {
    address: SocketAddr,
    serving: JoinHandle<()>,
}

impl KeyService {
    pub(super) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("its address");
        let keys: Map<String, Value> = (1..=VERSIONS)
            .map(|version| (version.to_string(), json!(1_700_000_000 + version)))
            .collect();
        let key = json!({"data": {
            "type": "aes256-gcm96", "derived": false, "convergent_encryption": false, "supports_encryption": true,
            "supports_decryption": true, "latest_version": VERSIONS, "min_available_version": 0, "min_decryption_version": 1,
            "soft_deleted": false, "imported_key": false, "keys": keys,
        }});
        let key = Bytes::from(key.to_string());
        let answer = move |uri: Uri, body: Bytes| async move {
            let body = serde_json::from_slice(&body).unwrap_or_default();
            let (status, body) = match uri.path().trim_start_matches("/v1/").split('/').collect::<Vec<_>>()[..] {
                ["transit", "keys", _] => (StatusCode::OK, key),
                ["transit", "encrypt", _] => data(&json!({"ciphertext": sealed(&body)})),
                ["transit", "decrypt", _] => data(&json!({"plaintext": opened(&body)})),
                ["auth", "token", "lookup-self"] => data(&json!({"ttl": 0, "renewable": false})),
                _ => (StatusCode::NOT_FOUND, Bytes::from_static(b"{\"errors\": []}")),
            };
            (status, [(header::CONTENT_TYPE, "application/json")], body)
        };
        let app = Router::new().fallback(answer);
        let serving = tokio::spawn(async move {
            let _ = axum::serve(listener, app).await;
        });
        Self { address, serving }
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for KeyService {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

fn data(data: &Value) -> (StatusCode, Bytes) {
    (StatusCode::OK, json!({"data": data}).to_string().into())
}

/// A ciphertext in the form of Transit's, with the plaintext in it.
fn sealed(request: &Value) -> String {
    let plaintext = STANDARD
        .decode(request["plaintext"].as_str().unwrap_or_default())
        .unwrap_or_default();
    let sealed = [&[0; NONCE][..], &plaintext, &[0; TAG]].concat();
    format!("vault:v{VERSIONS}:{}", STANDARD.encode(sealed))
}

/// The plaintext of such a ciphertext.
fn opened(request: &Value) -> String {
    let text = request["ciphertext"].as_str().unwrap_or_default().rsplit(':').next();
    let sealed = text.and_then(|text| STANDARD.decode(text).ok()).unwrap_or_default();
    STANDARD.encode(sealed.get(NONCE..sealed.len().saturating_sub(TAG)).unwrap_or_default())
}
