//! The service endpoints on a listener of their own.

use claviger_test_support::Tune;
use rustix::process::Signal;
use serde_json::json;

use crate::support::{Api, PATIENCE};

const ENDPOINTS: [&str; 5] = ["/healthz", "/readyz", "/metrics", "/openapi.json", "/docs"];

fn apart() -> Tune {
    Tune::default().set("CLAVIGER_SERVER__SERVICE__LISTEN", "127.0.0.1:0")
}

#[tokio::test]
async fn each_listener_has_its_own_paths_and_not_the_others() {
    let api = Api::tuned(&apart()).await;
    let watcher = api.started.watcher();
    for path in ENDPOINTS {
        watcher.get(path).await.expect_status(200);
        let elsewhere = api.client.get(path).await.expect_problem(404, "not_found");
        let advice = elsewhere["what_to_do"].as_str().unwrap();
        assert!(advice.contains("server.service.listen"), "{path}: {elsewhere}");
    }
    let unknown = api.client.get("/no/such/path").await.expect_problem(404, "not_found");
    assert_eq!(unknown["what_to_do"], serde_json::Value::Null);
    watcher.get("/docs/index.html").await.expect_status(200);
    api.client.get("/docs/index.html").await.expect_problem(404, "not_found");
    let wrong = watcher.post_empty("/readyz").await;
    assert_eq!(wrong.header("allow"), "GET, HEAD");
    wrong.expect_problem(405, "method_not_allowed");

    api.serves().await;
    let token = format!("Bearer {}", api.started.token());
    let operator = watcher.with_header("authorization", &token).with_header("claviger-tenant", "acme");
    for path in ["/v1/keys", "/v1/tenants"] {
        operator.get(path).await.expect_problem(404, "not_found");
    }
    assert!(api.started.terminate());
}

#[tokio::test]
async fn a_drain_is_told_there_before_the_api_ends_and_while_it_does() {
    let api = Api::tuned(&apart().set("CLAVIGER_SERVER__DRAIN_DELAY", "3s")).await;
    let watcher = api.started.watcher();
    watcher.get("/readyz").await.expect_status(200);
    api.started.signal(Signal::TERM);
    let told = async {
        loop {
            let ready = watcher.get("/readyz").await;
            if ready.status == 503 {
                return ready.body;
            }
        }
    };
    let told = tokio::time::timeout(PATIENCE, told).await.expect("the drain is told");
    assert_eq!(told["parts"][0], json!({"name": "listener", "ready": false, "state": "draining"}));
    // Nobody who balances by it has been refused anything yet.
    api.serves().await;
    watcher.get("/healthz").await.expect_status(200);
    assert!(api.started.wait());
}
