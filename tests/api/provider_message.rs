//! A provider's own message about a tenant's own key: in the log, and in the answer to its owner.

use claviger_test_support::Tune;
use claviger_test_support::proxy::{Act, Fault, FaultProxy, Which};
use serde_json::json;

use crate::support::Api;

#[tokio::test]
async fn the_owner_reads_why_the_provider_rejects_a_value() {
    // It answers by itself, so there is nothing behind it.
    let server = FaultProxy::before("http://127.0.0.1:1");
    let reason = r#"{"errors": ["exportable keys need auto_rotate_period value 7h at least: \"hunter2\""]}"#;
    server.set([
        Fault::on(
            Which::At("/auth/token/".to_owned()),
            Act::respond(200, r#"{"data": {"ttl": 0, "renewable": false}}"#),
        ),
        Fault::always(Act::respond(400, reason)),
    ]);
    let tune = Tune::default()
        .set("CLAVIGER_EGRESS__ALLOW", "127.0.0.0/8")
        .set("CLAVIGER_EGRESS__ALLOW_PLAIN_HTTP", "true");
    let api = Api::tuned(&tune).await;
    let settings = json!({"address": server.url(), "auth": {"token": "the-token-of-acme"}});
    let body = json!({"name": "away", "provider": "vault", "settings": settings});
    api.client.post("/v1/connections", &body).await.expect_status(201);

    let refused = api.client.post("/v1/keys", &json!({"name": "k", "connection": "away"})).await;
    let told = "exportable keys need auto_rotate_period value [...] at least: \"[...]\"";
    let problem = refused.expect_problem(400, "invalid_request");
    assert_eq!(
        (&problem["provider"], &problem["provider_message"]),
        (&json!("vault"), &json!(told))
    );
    let log = api.started.output();
    assert!(log.contains("exportable keys need auto_rotate_period value [...]"), "{log}");
    assert!(!log.contains("hunter2"), "{log}");
}
