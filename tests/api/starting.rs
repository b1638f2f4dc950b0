//! Before there is a gateway to serve: the process says that it lives and what it waits for.
//! Here it waits for the store, which another process has locked.

use std::path::Path;

use claviger_test_support::{Client, Gateway, Tune};
use serde_json::json;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteLockingMode};
use sqlx::{ConnectOptions, Connection};

/// Keeps everybody else out of the store until it is closed.
async fn lock(data: &Path) -> SqliteConnection {
    // A log that another program makes after a clean stop would be refused as a foreign one.
    std::fs::remove_file(data.join("store.run")).unwrap();
    let options = SqliteConnectOptions::new()
        .filename(data.join("claviger.db"))
        .locking_mode(SqliteLockingMode::Exclusive);
    let mut connection = options.connect().await.unwrap();
    // The mode alone takes no lock: a write does.
    sqlx::raw_sql("BEGIN IMMEDIATE; CREATE TABLE lock (x); DROP TABLE lock; COMMIT")
        .execute(&mut connection)
        .await
        .unwrap();
    connection
}

async fn alive_and_not_ready(watcher: &Client) {
    assert_eq!(watcher.get("/healthz").await.expect_status(200), json!({"alive": true}));
    let at = |state| json!({"ready": false, "parts": [{"name": "start", "ready": false, "state": state}]});
    loop {
        let ready = watcher.get("/readyz").await;
        assert_eq!(ready.header("cache-control"), "no-store");
        let ready = ready.expect_status(503);
        if ready == at("opening the store and the audit log") {
            return;
        }
        assert_eq!(ready, at("waiting for the root key"), "it comes before");
    }
}

async fn refused(client: &Client, path: &str) {
    let answer = client.get(path).await;
    assert_eq!(answer.header("retry-after"), "1");
    assert_eq!(answer.header("claviger-audit-index"), "");
    assert_eq!(answer.expect_problem(503, "not_ready")["retryable"], true);
}

#[tokio::test]
async fn until_the_store_is_open_the_process_is_alive_not_ready_and_refuses_the_rest() {
    let gateway = Gateway::new(crate::BINARY);
    let lock = lock(&gateway.data()).await;
    let started = gateway.listen(&Tune::default());
    let operator = started.operator();
    alive_and_not_ready(&started.watcher()).await;
    for path in ["/v1/tenants", "/no/such/path", "/metrics", "/openapi.json", "/docs"] {
        refused(&operator, path).await;
    }
    let made = operator.post("/v1/tenants", &json!({"name": "acme"})).await;
    made.expect_problem(503, "not_ready");
    operator.post_empty("/readyz").await.expect_problem(503, "not_ready");
    lock.close().await.unwrap();

    // The same connections are served once there is a gateway; what was refused was not done.
    started.until_ready().await;
    assert_eq!(operator.get("/v1/tenants").await.expect_status(200)["items"], json!([]));
    assert!(started.terminate());
}

#[tokio::test]
async fn with_a_listener_of_their_own_the_service_endpoints_are_there_from_the_start() {
    let gateway = Gateway::new(crate::BINARY);
    let lock = lock(&gateway.data()).await;
    let started = gateway.listen(&Tune::default().set("CLAVIGER_SERVER__SERVICE__LISTEN", "127.0.0.1:0"));
    alive_and_not_ready(&started.watcher()).await;
    refused(&started.watcher(), "/metrics").await;
    for path in ["/healthz", "/readyz", "/v1/keys"] {
        refused(&started.operator(), path).await;
    }
    lock.close().await.unwrap();
    started.until_ready().await;
    started.operator().get("/readyz").await.expect_problem(404, "not_found");
    started.operator().get("/v1/tenants").await.expect_status(200);
    assert!(started.terminate());
}
