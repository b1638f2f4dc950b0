//! A provider's own message about a tenant's own key: in the log, and in the answer to its owner.

use claviger_test_support::proxy::{Act, Fault, FaultProxy, Which};
use claviger_test_support::{Gateway, Tune};
use serde_json::json;

use crate::support::Api;

/// The server accepts any token.
fn token_is_good() -> Fault {
    let answer = Act::respond(200, r#"{"data": {"ttl": 0, "renewable": false}}"#);
    Fault::on(Which::At("/auth/token/".to_owned()), answer)
}

#[tokio::test]
async fn the_owner_reads_why_the_provider_rejects_a_value() {
    // It answers by itself, so there is nothing behind it.
    let server = FaultProxy::before("http://127.0.0.1:1");
    let reason = r#"{"errors": ["exportable keys need auto_rotate_period value 7h at least: \"hunter2\""]}"#;
    server.set([token_is_good(), Fault::always(Act::respond(400, reason))]);
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
    // The event says whose call it was.
    let connection = api.client.get("/v1/connections/away").await.expect_status(200)["id"].clone();
    let mut events = log.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let event = events.find(|event| event["message"] == "provider call failed").expect("the event");
    assert_eq!(event["connection"], connection, "{event}");
}

#[tokio::test]
async fn a_provider_that_fails_or_throttles_leaves_a_caller_with_what_to_do_and_a_circuit_names_whose_it_is() {
    let server = FaultProxy::before("http://127.0.0.1:1");
    let tune = Tune::default()
        .set("CLAVIGER_EGRESS__ALLOW", "127.0.0.0/8")
        .set("CLAVIGER_EGRESS__ALLOW_PLAIN_HTTP", "true")
        .set("CLAVIGER_PROVIDERS__BREAKER__FAILURES", "1");
    let api = Api::tuned(&tune).await;
    let settings = json!({"address": server.url(), "auth": {"token": "the-token-of-acme"}});
    let body = json!({"name": "away", "provider": "vault", "settings": settings});
    let connection = api.client.post("/v1/connections", &body).await.expect_status(201);
    let key = json!({"name": "k", "connection": "away"});
    for (status, answered, code) in [(429, 429, "rate_limited"), (502, 503, "provider_unavailable")] {
        server.set([token_is_good(), Fault::always(Act::respond(status, r#"{"errors": []}"#))]);
        let problem = api.client.post("/v1/keys", &key).await.expect_problem(answered, code);
        assert!(problem["what_to_do"].as_str().unwrap().contains("Repeat"), "{problem}");
        let report = api.client.post_empty("/v1/connections/away/check").await.expect_status(200);
        let detail = report["detail"].as_str().unwrap();
        assert_eq!(detail.contains("throttles the gateway"), status == 429, "{report}");
        // A check does not send its reader to a check.
        let advice = report["what_to_do"].as_str().unwrap_or_default();
        assert!(!advice.contains("connections check"), "{report}");
    }
    server.go_down();
    api.client.post("/v1/keys", &key).await.expect_problem(503, "provider_unavailable");
    let log = api.started.output();
    let mut events = log.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let opened = |event: &serde_json::Value| event["message"].as_str().is_some_and(|text| text.starts_with("circuit opened"));
    let event = events.find(opened).expect("an opened circuit");
    assert_eq!(event["connection"], connection["id"], "{event}");
    assert_eq!(event["tenant"].as_str().unwrap().len(), 32, "{event}");
    let metrics = api
        .started
        .watcher()
        .with_header("authorization", &format!("Bearer {}", api.started.token()));
    let page = metrics.get("/metrics").await.text;
    let failed = r#"claviger_provider_calls_total{provider="vault",op="probe",outcome="upstream_unavailable"} 1"#;
    assert!(page.contains(failed), "{page}");
}

/// What the provider says of an identity that is the operator's.
const SECRETIVE: &str = r#"{"errors": ["role ops-7 of the operator's account may not do this"]}"#;

#[tokio::test]
async fn a_check_quotes_the_provider_to_those_whose_identity_it_is() {
    let server = FaultProxy::before("http://127.0.0.1:1");
    server.set([token_is_good(), Fault::always(Act::respond(500, SECRETIVE))]);
    let gateway = Gateway::new(crate::BINARY);
    let config = gateway.token_file().with_extension("toml");
    let declared = format!(
        "[[tenants]]\nname = \"acme\"\n[[connections]]\ntenants = [\"acme\"]\nname = \"lent\"\nprovider = \"vault\"\n\
         settings = {{ address = \"{}\", auth = {{ token = \"the-operators-token\" }} }}\n",
        server.url()
    );
    std::fs::write(&config, declared).unwrap();
    let mut tune = Tune::default()
        .set("CLAVIGER_EGRESS__ALLOW", "127.0.0.0/8")
        .set("CLAVIGER_EGRESS__ALLOW_PLAIN_HTTP", "true");
    tune.arguments = vec!["--config".to_owned(), config.to_str().unwrap().to_owned()];
    let started = gateway.serve(&tune);
    let client = started.tenant("acme");
    let api = Api { gateway, started, client };
    let settings = json!({"address": server.url(), "auth": {"token": "the-token-of-acme"}});
    let body = json!({"name": "own", "provider": "vault", "settings": settings});
    api.client.post("/v1/connections", &body).await.expect_status(201);
    let (_, tenant) = api.token("ann", &["CheckConnection"], None).await;

    for (client, connection, quoted) in [
        (&api.client, "lent", true),
        (&api.client, "own", true),
        (&tenant, "own", true),
        (&tenant, "lent", false),
    ] {
        let path = format!("/v1/connections/{connection}/check");
        let report = client.post_empty(&path).await.expect_status(200);
        let text = report.to_string();
        assert_eq!(text.contains("ops-7"), quoted, "{connection}: {report}");
        // What failed, and the provider's code, everybody learns who may check.
        let rights = report["rights"].as_array().unwrap();
        let failed = rights.iter().filter(|right| right["finding"] == "failed");
        assert!(failed.count() > 5 && text.contains("500"), "{connection}: {report}");
    }
}

/// Who meets an open circuit asks for the connection first.
#[tokio::test]
async fn a_connection_with_an_open_circuit_shows_why() {
    let tune = Tune::default()
        .set("CLAVIGER_EGRESS__ALLOW", "127.0.0.0/8")
        .set("CLAVIGER_EGRESS__ALLOW_PLAIN_HTTP", "true");
    let api = Api::tuned(&tune).await;
    let settings = json!({"address": "http://127.0.0.1:1", "auth": {"token": "the-token-of-acme"}});
    let connection = json!({"name": "kms", "provider": "vault", "settings": settings});
    api.client.post("/v1/connections", &connection).await.expect_status(201);
    let shown = async || api.client.get("/v1/connections/kms").await;
    assert!(shown().await.expect_status(200).get("circuit_failure").is_none());
    for code in [["provider_unavailable"; 5].as_slice(), &["circuit_open"]].concat() {
        let body = json!({"name": "orders", "connection": "kms"});
        api.client.post("/v1/keys", &body).await.expect_problem(503, code);
    }
    let answer = shown().await;
    let failure = answer.expect_status(200)["circuit_failure"].clone();
    assert_eq!(failure["code"], "provider_unavailable", "{failure}");
    let checked = api.client.post_empty("/v1/connections/kms/check").await.expect_status(200);
    for member in ["detail", "what_to_do"] {
        assert_eq!(failure[member], checked[member], "the words of a check");
    }
    assert!(failure["detail"].as_str().unwrap().contains("Connection refused"), "{failure}");
    assert!(failure["at"].as_str().unwrap().ends_with('Z'), "{failure}");
}
