//! The service endpoints: no credential, no secret, no tenant's name.

use claviger_test_support::Client;
use serde_json::json;

use crate::support::Api;

#[tokio::test]
async fn health_readiness_metrics_document_and_page_need_no_credential() {
    let api = Api::with_key().await;
    let made = api.data_key("orders").await;
    let anyone: Client = api.started.operator().without_header("authorization");
    let healthy = anyone.get("/healthz").await;
    assert_eq!(healthy.clone().expect_status(200), json!({"alive": true}));
    let ready = anyone.get("/readyz").await.expect_status(200);
    assert_eq!(ready["ready"], true);
    let parts: Vec<&str> = ready["parts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|part| part["name"].as_str().unwrap())
        .collect();
    assert_eq!(parts, ["listener", "store", "audit_log", "providers"]);
    let jobs: Vec<&str> = ready["jobs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|job| job["name"].as_str().unwrap())
        .collect();
    assert_eq!(
        jobs,
        [
            "audit_counters",
            "background_calls",
            "cache_sweep",
            "idempotency_prune",
            "rotations",
            "metrics_upkeep"
        ]
    );
    let page = include_str!("../../docs/operating.md");
    for job in ready["jobs"].as_array().unwrap() {
        let row = format!("| `{}` | {} | ", job["name"].as_str().unwrap(), job["period"].as_str().unwrap());
        assert!(page.contains(&row), "docs/operating.md lacks {row}");
    }
    let metrics = anyone.get("/metrics").await;
    assert!(
        metrics.header("content-type").starts_with("text/plain"),
        "{}",
        metrics.header("content-type")
    );
    assert!(metrics.text.contains("/v1/keys/{key}/data-keys"), "{}", metrics.text);
    let document = anyone.get("/openapi.json").await.expect_status(200);
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
    let page = anyone.get("/docs").await;
    assert!(
        page.status == 200 && page.header("content-type").starts_with("text/html"),
        "{}",
        page.text
    );
    for answer in [healthy, metrics, page] {
        assert!(!answer.text.contains("acme") && !answer.text.contains(made["plaintext"].as_str().unwrap()));
        assert_eq!(answer.header("claviger-audit-index"), "");
    }
}

#[tokio::test]
async fn each_background_job_shows_its_period_its_last_run_and_no_error() {
    let api = Api::start().await;
    let jobs = loop {
        let ready = api.client.get("/readyz").await.expect_status(200);
        let jobs = ready["jobs"].as_array().unwrap().clone();
        if jobs.iter().all(|job| job["last_run"].is_string()) {
            break jobs;
        }
    };
    for job in &jobs {
        assert_eq!((&job["failing"], &job["last_error"]), (&json!(false), &json!(null)), "{job}");
    }
    let sweep = jobs.iter().find(|job| job["name"] == "cache_sweep").unwrap();
    assert_eq!(sweep["period"], "250ms");
    let metrics = api.client.get("/metrics").await.text;
    assert!(
        metrics.contains(r#"claviger_job_runs_total{job="cache_sweep",result="ok"}"#),
        "{metrics}"
    );
    assert!(metrics.contains(r#"claviger_job_last_run_seconds{job="cache_sweep"}"#), "{metrics}");
}

#[tokio::test]
async fn the_page_needs_nothing_from_the_internet() {
    let api = Api::start().await;
    let page = api.client.get("/docs").await.text;
    assert!(!page.contains("http://") && !page.contains("https://"), "{page}");
    // A browser resolves the relative names below against it.
    assert!(page.contains("<head><base href=\"/docs/\">"), "{page}");
    assert_eq!(api.client.get("/docs/%ff").await.status, 404);
    let mut files = 0;
    for attribute in ["src=\"", "href=\""] {
        for piece in page.split(attribute).skip(1) {
            let file = piece.split('"').next().unwrap().trim_start_matches("./");
            if file.starts_with('/') || file.starts_with("data:") {
                continue;
            }
            api.client.get(&format!("/docs/{file}")).await.expect_status(200);
            files += 1;
        }
    }
    assert!(files >= 3, "{page}");
}
