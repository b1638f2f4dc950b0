//! The service endpoints: no credential, no secret, no tenant's name.

use std::collections::BTreeSet;
use std::time::Instant;

use claviger_test_support::{Client, Tune};
use reqwest::Method;
use serde_json::json;

use crate::support::{Api, PATIENCE};

/// Both show it in a second after the log has grown.
#[tokio::test]
async fn a_growing_log_shows_how_long_the_disk_lasts() {
    const GAUGE: &str = "\nclaviger_audit_disk_lasts_seconds ";
    let api = Api::tuned(&Tune::default().set("CLAVIGER_SERVER__OPERATOR__LISTEN", "127.0.0.1:0")).await;
    api.key("orders").await;
    let operator = Client::new(api.started.operator_address(), api.started.token(), None);
    let begun = Instant::now();
    let text = loop {
        api.data_key("orders").await;
        let ready = operator.get("/readyz").await.expect_status(200);
        let log = ready["parts"]
            .as_array()
            .unwrap()
            .iter()
            .find(|part| part["name"] == "audit_log")
            .unwrap();
        if let Some(lasts) = log["disk_lasts"].as_str() {
            break lasts.to_owned();
        }
        assert!(begun.elapsed() < PATIENCE, "{log}");
    };
    // Some records in a minute take a disk of some gigabytes at least an hour.
    let unit = [("s", 1.0), ("m", 60.0), ("h", 3600.0), ("d", 86_400.0)];
    let (number, unit) = unit.iter().find_map(|(name, unit)| Some((text.strip_suffix(name)?, unit))).unwrap();
    assert!(number.parse::<f64>().unwrap() * unit > 3600.0, "{text}");
    let metrics = operator.get("/metrics").await.text;
    let (_, figure) = metrics.split_once(GAUGE).unwrap();
    let figure: f64 = figure.lines().next().unwrap().parse().unwrap();
    // The look of the next second may lie between the two.
    assert!(figure > 3600.0, "{figure}");
}

#[tokio::test]
async fn health_readiness_document_and_page_need_no_credential() {
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
    assert_eq!(parts, ["listener", "store", "audit_log", "revocations", "kill_file"]);
    assert_eq!(ready.as_object().unwrap().keys().collect::<Vec<_>>(), ["parts", "ready"]);
    // With an operator's token there is more.
    let ready = api.started.operator().get("/readyz").await.expect_status(200);
    let providers = ready["parts"].as_array().unwrap().last().unwrap();
    assert_eq!(
        (&providers["name"], &providers["state"]),
        (&json!("providers"), &json!("1 connections in use"))
    );
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
            "audit_watch",
            "background_calls",
            "cache_sweep",
            "idempotency_prune",
            "log_position",
            "kill_file",
            "revocations",
            "creations",
            "rotations",
            "keys_in_use",
            "metrics_upkeep"
        ]
    );
    let page = include_str!("../../docs/operating.md");
    for job in ready["jobs"].as_array().unwrap() {
        let row = format!("| `{}` | {} | ", job["name"].as_str().unwrap(), job["period"].as_str().unwrap());
        assert!(page.contains(&row), "docs/operating.md lacks {row}");
    }
    let metrics = api.started.operator().get("/metrics").await;
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
async fn metrics_beside_the_api_are_for_operators() {
    let api = Api::start().await;
    let (_, tenant) = api.token("admin", &["ReadKey", "ManageTokens", "ManagePrincipals"], None).await;
    let anyone = tenant.clone().without_header("authorization");
    anyone.get("/metrics").await.expect_problem(401, "unauthenticated");
    let unknown = tenant.with_token("clv_nothing");
    unknown.get("/metrics").await.expect_problem(401, "unauthenticated");
    let refused = tenant.get("/metrics").await;
    assert!(!refused.text.contains("claviger_"), "{}", refused.text);
    refused.expect_problem(403, "permission_denied");
    for method in [Method::HEAD, Method::GET] {
        assert_eq!(
            tenant.send(tenant.request(method.clone(), "/metrics")).await.status,
            403,
            "{method}"
        );
    }

    // The token of a scraper: an operator's that is allowed next to nothing.
    let operator = api.started.operator();
    operator
        .post("/v1/principals", &json!({"name": "prometheus"}))
        .await
        .expect_status(201);
    let body = json!({"operations": ["Inspect"], "kind": "standing"});
    let issued = operator.post("/v1/principals/prometheus/tokens", &body).await.expect_status(201);
    let scraper = operator.with_token(issued["token"].as_str().unwrap());
    let page = scraper.get("/metrics").await.text;
    assert!(page.contains("claviger_http_requests_total"));
    // What is alerted on at its first increase exists before it.
    for counter in [
        "claviger_audit_intents_dropped_total 0",
        "claviger_wrap_limit_versions_total{level=\"half\"} 0",
        "claviger_wrap_limit_versions_total{level=\"reached\"} 0",
    ] {
        assert!(page.contains(counter), "{counter}: {page}");
    }
    scraper.get("/v1/tenants").await.expect_problem(403, "permission_denied");
    let path = format!("/v1/principals/prometheus/tokens/{}", issued["id"].as_str().unwrap());
    operator.delete(&path).await.expect_status(204);
    scraper.get("/metrics").await.expect_problem(401, "unauthenticated");
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

#[tokio::test]
async fn the_page_is_bound_to_its_own_files_and_goes_into_no_frame() {
    let api = Api::start().await;
    for path in ["/docs", "/docs/swagger-ui-bundle.js", "/docs/absent"] {
        let answer = api.client.get(path).await;
        let policy = answer.header("content-security-policy");
        let directives: BTreeSet<&str> = policy.split(';').map(str::trim).collect();
        for directive in [
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self'",
            "connect-src 'self'",
            "frame-ancestors 'none'",
        ] {
            assert!(directives.contains(directive), "{path}: {policy}");
        }
        assert!(!policy.contains("unsafe"), "{path}: {policy}");
        assert_eq!(answer.header("referrer-policy"), "no-referrer", "{path}");
        assert_eq!(answer.header("x-content-type-options"), "nosniff", "{path}");
    }
    // What the policy forbids the page does not need.
    let page = api.client.get("/docs").await.text;
    assert_eq!(page.matches("<script").count(), page.matches("<script src=").count(), "{page}");
    for inline in ["<style", " style=", " onload=", " onclick=", "javascript:"] {
        assert!(!page.contains(inline), "{inline}: {page}");
    }
    for file in ["swagger-ui.css", "index.css"] {
        let css = api.client.get(&format!("/docs/{file}")).await.text;
        let foreign = css
            .split("url(")
            .skip(1)
            .find(|rest| !rest.trim_start_matches(['"', '\'']).starts_with("data:image/"));
        assert_eq!(foreign.map(|rest| &rest[..rest.len().min(80)]), None, "{file}");
        assert!(!css.contains("@import") && !css.contains("@font-face"), "{file}");
    }
    let start = api.client.get("/docs/swagger-initializer.js").await.text;
    assert!(
        start.contains("/openapi.json") && start.contains("\"validatorUrl\": \"none\""),
        "{start}"
    );
    for file in ["swagger-ui-bundle.js", "swagger-ui-standalone-preset.js"] {
        let script = api.client.get(&format!("/docs/{file}")).await.text;
        for refused in ["createElement(\"style\")", "insertRule(", "importScripts("] {
            assert!(!script.contains(refused), "{refused} in {file}");
        }
    }
}
