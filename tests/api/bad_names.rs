//! Paths that name nothing: traversal, encoded slashes, NUL, 10 KiB; unknown routes and methods.

use claviger::protocols::rest::endpoints::routes;
use reqwest::Method;
use serde_json::json;

use crate::support::{Api, parts};

#[tokio::test]
async fn names_in_a_path_are_never_taken_apart() {
    let api = Api::with_key().await;
    let before = api.state().await;
    let huge = "a".repeat(10 << 10);
    // Sent as they stand: a client's own library would tidy them up.
    for (name, status, code) in [
        ("..", 400, "invalid_request"),
        ("%2e%2e", 400, "invalid_request"),
        ("..%2forders", 400, "invalid_request"),
        ("..%2Forders", 400, "invalid_request"),
        ("orders%2f", 400, "invalid_request"),
        ("orders%00", 400, "invalid_request"),
        ("%00", 400, "invalid_request"),
        ("orders%", 400, "invalid_request"),
        ("orders%zz", 400, "invalid_request"),
        ("orders%ff", 400, "invalid_request"),
        ("%ed%a0%80", 400, "invalid_request"),
        ("ORDERS", 400, "invalid_request"),
        ("orders%20", 400, "invalid_request"),
        ("orders;a=b", 400, "invalid_request"),
        ("orders%3f", 400, "invalid_request"),
        ("%25252e", 400, "invalid_request"),
        ("../keys/orders", 404, "not_found"),
        ("orders/", 404, "not_found"),
        ("/orders", 404, "not_found"),
        ("orders/versions/1", 404, "not_found"),
        (huge.as_str(), 400, "invalid_request"),
    ] {
        let answer = api.exchange(api.head(&format!("GET /v1/keys/{name}"), "").as_bytes()).await;
        let (got, problem) = parts(&answer);
        assert_eq!((got, problem["code"].as_str()), (status, Some(code)), "{name:.40}: {answer:.400}");
        assert!(
            !answer.contains(&name.to_ascii_lowercase()) || name.len() < 3 || name == "/orders" || name == "orders/",
            "{name:.40}"
        );
    }
    // What is encoded without need is the same name.
    let answer = api.exchange(api.head("GET /v1/keys/%6frders", "").as_bytes()).await;
    assert_eq!(parts(&answer).0, 200, "{answer}");
    assert_eq!(api.state().await, before);
}

#[tokio::test]
async fn every_kind_of_name_is_checked() {
    let api = Api::with_key().await;
    api.token("ci", &["ReadKey"], None).await;
    for row in routes() {
        for (open, _) in row.path.match_indices('{') {
            let close = open + row.path[open..].find('}').unwrap();
            let path = format!("{}..%2f..%00{}", &row.path[..open], &row.path[close + 1..]);
            let path = path.replace("{principal}", "ci").replace("{token}", &"0".repeat(32));
            let request = api.client.request(row.method.clone(), &path).header("if-match", "*");
            let body = match row.path.rsplit('/').next().unwrap() {
                "wrap" => json!({"plaintext": "AAAA"}),
                "unwrap" | "rewrap" => json!({"wrapped": "clv1.AAAA"}),
                "tokens" => json!({"operations": ["ReadKey"]}),
                _ => json!({}),
            };
            let request = if row.method == Method::GET || row.method == Method::DELETE {
                request
            } else {
                request.json(&body)
            };
            let problem = api.client.send(request).await.expect_problem(400, "invalid_request");
            let pointer = problem["errors"][0]["pointer"].as_str().unwrap();
            assert!(pointer.starts_with("path:"), "{} {path}: {problem}", row.method);
        }
    }
}

#[tokio::test]
async fn unknown_routes_are_not_found_for_everybody_alike() {
    let api = Api::with_key().await;
    let anyone = api.client.with_token("clv_nothing");
    for path in [
        "/",
        "/v1",
        "/v1/",
        "/v2/keys",
        "/v1/KEYS",
        "/v1/keys/orders/export",
        "/v1/batch",
        "/admin",
        "/docs/absent/x",
    ] {
        for client in [&api.client, &anyone] {
            client.get(path).await.expect_problem(404, "not_found");
            client.post(path, &json!({})).await.expect_problem(404, "not_found");
        }
    }
}

#[tokio::test]
async fn a_method_that_a_path_does_not_take_is_told_with_those_it_takes() {
    let api = Api::with_key().await;
    let all = [
        Method::GET,
        Method::POST,
        Method::PUT,
        Method::PATCH,
        Method::DELETE,
        Method::OPTIONS,
        Method::TRACE,
    ];
    let mut paths: Vec<&str> = routes().iter().map(|row| row.path).collect();
    paths.extend(["/healthz", "/readyz", "/metrics", "/openapi.json", "/docs"]);
    paths.dedup();
    for path in paths {
        let mut takes: Vec<String> = routes()
            .iter()
            .filter(|row| row.path == path)
            .map(|row| row.method.to_string())
            .collect();
        if takes.is_empty() {
            takes.push("GET".to_owned());
        }
        if takes.iter().any(|method| method == "GET") {
            takes.push("HEAD".to_owned());
        }
        takes.sort();
        for method in &all {
            if takes.iter().any(|taken| taken == method.as_str()) {
                continue;
            }
            let path = path.replace(['{', '}'], "x");
            let answer = api.client.send(api.client.request(method.clone(), &path)).await;
            assert_eq!(answer.headers.get_all("allow").iter().count(), 1, "{method} {path}");
            let mut allowed: Vec<String> = answer.header("allow").split(", ").map(str::to_owned).collect();
            allowed.sort();
            assert_eq!(allowed, takes, "{method} {path}");
            answer.expect_problem(405, "method_not_allowed");
        }
    }
}

#[tokio::test]
async fn a_head_is_a_get_without_its_body() {
    let api = Api::with_key().await;
    for path in ["/healthz", "/v1/keys/orders"] {
        let answer = api.client.send(api.client.request(Method::HEAD, path)).await;
        assert_eq!((answer.status, answer.text.as_str()), (200, ""), "{path}");
    }
}
