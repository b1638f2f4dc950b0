//! A hostile key service: a Vault that reports as many versions of each key as a description may have.

use std::net::SocketAddr;

use axum::Router;
use axum::http::{StatusCode, Uri, header};
use bytes::Bytes;
use serde_json::{Map, Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// Versions of each key: the most that the gateway takes in one description.
const VERSIONS: u64 = 10_000;

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
        let (key, itself) = (
            Bytes::from(key.to_string()),
            json!({"data": {"ttl": 0, "renewable": false}}).to_string(),
        );
        let answer = move |uri: Uri| async move {
            let (status, body) = if uri.path().contains("/transit/keys/") {
                (StatusCode::OK, key)
            } else if uri.path().ends_with("/auth/token/lookup-self") {
                (StatusCode::OK, itself.into())
            } else {
                (StatusCode::NOT_FOUND, Bytes::from_static(b"{\"errors\": []}"))
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
