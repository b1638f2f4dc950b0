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

/// Whoever reaches the API reads `/readyz` there: a sum over all tenants would tell each of them of the others.
#[tokio::test]
async fn what_is_summed_over_all_tenants_is_shown_to_the_operator_alone() {
    let api = Api::tuned(&tune()).await;
    let nobody = |address| Client::new(address, "", None).without_header("authorization");
    let parts = async |address| nobody(address).get("/readyz").await.expect_status(200)["parts"].clone();
    let before = parts(api.started.address()).await;
    let there = api.started.operator_address();
    let summed = async |connections: usize| {
        let parts = parts(there).await;
        let providers = parts.as_array().unwrap().iter().find(|part| part["name"] == "providers").unwrap();
        assert_eq!(providers["state"], format!("{connections} connections in use"), "{parts}");
        let operator = Client::new(there, api.started.token(), None);
        let metrics = operator.get("/metrics").await.text;
        assert!(
            metrics.contains(&format!("\nclaviger_connections_in_memory {connections}\n")),
            "{metrics}"
        );
        assert!(metrics.contains("\nclaviger_open_circuits{of=\"connection\"} 0\n"), "{metrics}");
        parts
    };
    api.key("orders").await;
    let other = api.started.with_tenant("other").await;
    let body = json!({"name": "orders", "connection": "embedded"});
    other.post("/v1/keys", &body).await.expect_status(201);
    assert_eq!(parts(api.started.address()).await, before, "tenants see no difference");
    // Growth shows within seconds how long the disk lasts, which tells how much all tenants do.
    let grown = async {
        loop {
            api.data_key("orders").await;
            let parts = summed(2).await;
            if parts.as_array().unwrap().iter().any(|part| part["disk_lasts"].is_string()) {
                return;
            }
        }
    };
    tokio::time::timeout(PATIENCE, grown).await.expect("the operator sees it");
    assert_eq!(parts(api.started.address()).await, before, "tenants see no difference still");
}
