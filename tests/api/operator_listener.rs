//! The operator's own listener.

use claviger_test_support::{Client, Tune};
use rustix::process::Signal;
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::support::{Api, PATIENCE};

fn tune() -> Tune {
    Tune::default().set("CLAVIGER_SERVER__OPERATOR__LISTEN", "127.0.0.1:0")
}

#[tokio::test]
async fn it_serves_the_api_and_the_service_endpoints_with_the_same_credentials() {
    // Even where these have a listener of their own.
    let api = Api::tuned(&tune().set("CLAVIGER_SERVER__SERVICE__LISTEN", "127.0.0.1:0")).await;
    let address = api.started.operator_address();
    let operator = Client::new(address, api.started.token(), Some("acme"));
    operator.get("/v1/keys").await.expect_status(200);
    for path in ["/healthz", "/readyz", "/metrics", "/openapi.json", "/docs"] {
        operator.get(path).await.expect_status(200);
    }
    let nobody = Client::new(address, "", None).without_header("authorization");
    nobody.get("/v1/keys").await.expect_problem(401, "unauthenticated");
    api.client.get("/readyz").await.expect_problem(404, "not_found");
    assert!(api.started.terminate());
}

#[tokio::test]
async fn it_serves_until_the_api_has_drained() {
    let api = Api::tuned(&tune().set("CLAVIGER_SERVER__REQUEST_DEADLINE", "60s")).await;
    let operator = Client::new(api.started.operator_address(), api.started.token(), Some("acme"));
    operator
        .post("/v1/keys", &json!({"name": "doomed", "connection": "embedded"}))
        .await
        .expect_status(201);
    // A request that is never sent to its end keeps the API's listener draining.
    let mut half_sent = TcpStream::connect(api.started.address()).await.unwrap();
    let head = format!(
        "POST /v1/keys HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\nclaviger-tenant: acme\r\ncontent-type: application/json\r\ncontent-length: 9\r\n\r\n{{",
        api.started.token()
    );
    half_sent.write_all(head.as_bytes()).await.unwrap();
    operator.get("/readyz").await.expect_status(200);
    api.started.signal(Signal::TERM);
    let closed = async { while TcpStream::connect(api.started.address()).await.is_ok() {} };
    tokio::time::timeout(PATIENCE, closed).await.expect("the API's listener is closed");
    let ready = operator.get("/readyz").await.expect_status(503);
    assert_eq!(ready["parts"][0]["state"], "draining");
    operator.post_empty("/v1/keys/doomed/disable").await.expect_status(200);
    drop(half_sent);
    assert!(api.started.wait());
}
