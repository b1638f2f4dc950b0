//! A provider that panics with an opened key in its hand, through the fake.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;

use claviger_test_support::{Client, Gateway};
use serde_json::{Value, json};

use crate::BINARY;
use crate::forms::Canaries;
use crate::kept::{silent, tune};
use crate::operations::Caller;

/// Tells the fake one thing.
fn tell(port: &str, request: &Value) {
    let mut stream = TcpStream::connect(port.trim()).expect("the fake's control");
    writeln!(stream, "{request}").expect("sent");
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer).expect("an answer");
    assert!(answer.contains("\"ok\":true"), "{answer}");
}

pub async fn search() {
    let gateway = Gateway::empty(BINARY);
    let control = tempfile::tempdir().expect("a folder");
    let control = control.path().join("control");
    let started = gateway.dev(&tune(), &control);
    let port = std::fs::read_to_string(&control).expect("the control's address");
    let client: Client = started.tenant("dev");
    // The fake plays a service of another family than the embedded provider.
    let connection = json!({"name": "fake", "provider": "vault", "settings": {}});
    client.post("/v1/connections", &connection).await.expect_status(201);
    client
        .post("/v1/keys", &json!({"name": "frail", "connection": "fake"}))
        .await
        .expect_status(201);

    let mut canaries = Canaries::default();
    let mut caller = Caller::new(&started, client.clone(), &mut canaries);
    let mut blobs = vec![caller.wrap("frail").await];
    for op in ["unwrap_key", "wrap_key", "generate_data_key", "rewrap_key"] {
        tell(&port, &json!({"do": "plan", "op": op, "fault": {"kind": "panic"}}));
        let opened = client.post("/v1/unwrap", &blobs[0].body()).await;
        if op == "unwrap_key" {
            opened.expect_problem(500, "internal");
        }
        client.post("/v1/keys/frail/rewrap", &blobs[0].body()).await;
        client.post("/v1/keys/frail/data-keys", &json!({})).await;
        tell(&port, &json!({"do": "clear"}));
        blobs.push(caller.wrap("frail").await);
    }
    let said = started.output();
    assert!(said.contains("the fake panics"), "nothing panicked:\n{said}");
    for blob in &blobs {
        caller.opens(blob).await;
    }
    let folder = gateway.data();
    silent(folder.parent().expect("the gateway's folder"), &canaries.search());
}
