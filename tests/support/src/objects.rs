//! The objects that attacks and their victims begin with.

use futures::StreamExt;
use serde_json::{Value, json};

use crate::Client;

/// Requests at once while many objects are made.
const AT_ONCE: usize = 32;

/// Makes a key of the embedded provider.
pub async fn make_key(client: &Client, name: &str) -> Value {
    let body = json!({"name": name, "connection": "embedded"});
    client.post("/v1/keys", &body).await.expect_status(201)
}

/// Makes this many keys `PREFIX0000`, `PREFIX0001`, ..., each with `labels` labels of `length` bytes.
pub async fn make_labelled_keys(client: &Client, prefix: &str, count: usize, labels: usize, length: usize) {
    let labels: serde_json::Map<_, _> = (0..labels).map(|n| (format!("label{n}"), json!("x".repeat(length)))).collect();
    let labels = &labels;
    let made = futures::stream::iter(0..count).map(|n| async move {
        let body = json!({"name": format!("{prefix}{n:04}"), "connection": "embedded", "labels": labels});
        client.post("/v1/keys", &body).await.expect_status(201);
    });
    made.buffer_unordered(AT_ONCE).collect::<Vec<()>>().await;
}

/// Issues a token to a principal that is made if it is missing.
pub async fn token(client: &Client, principal: &str, operations: &[&str], keys: Option<&[&str]>) -> Value {
    let made = client.post("/v1/principals", &json!({"name": principal})).await;
    assert!(made.status == 201 || made.body["code"] == "already_exists", "{}", made.text);
    let mut body = json!({"operations": operations, "expires_in": "1h"});
    if let Some(keys) = keys {
        body["keys"] = json!(keys);
    }
    let path = format!("/v1/principals/{principal}/tokens");
    client.post(&path, &body).await.expect_status(201)
}

/// Issues this many tokens to a principal that exists; returns the paths that revoke them.
pub async fn issue_tokens(client: &Client, principal: &str, count: usize) -> Vec<String> {
    let path = format!("/v1/principals/{principal}/tokens");
    let body = json!({"operations": ["Unwrap"], "expires_in": "1h"});
    let issued = futures::stream::iter(0..count).map(async |_| {
        let issued = client.post(&path, &body).await.expect_status(201);
        format!("{path}/{}", issued["id"].as_str().expect("an id"))
    });
    issued.buffer_unordered(AT_ONCE).collect().await
}

/// The text of an issued token.
pub fn text_of(token: &Value) -> &str {
    token["token"].as_str().expect("a token")
}
