//! New times and secrets of a connection: what its next call goes by, and what is told of it.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::Request;
use axum::http::StatusCode;
use claviger_test_support::{Answer, Tune};
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::support::Api;

const PATH: &str = "/v1/connections/away";

/// A key server that says how it is and lets nobody in, and remembers with which token each
/// tried. One that is `slow` never answers.
async fn server(slow: bool) -> (SocketAddr, Arc<Mutex<Vec<String>>>) {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&seen);
    let answer = move |request: Request| {
        let noted = Arc::clone(&noted);
        async move {
            if slow {
                std::future::pending::<()>().await;
            }
            if request.uri().path() == "/v1/sys/health" {
                return (StatusCode::OK, r#"{"initialized": true, "sealed": false, "version": "2.4.0"}"#);
            }
            // Some questions are asked without a token.
            if let Some(token) = request.headers().get("x-vault-token") {
                noted.lock().push(String::from_utf8_lossy(token.as_bytes()).into_owned());
            }
            (StatusCode::FORBIDDEN, r#"{"errors": ["permission denied"]}"#)
        }
    };
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, Router::new().fallback(answer)).await });
    (address, seen)
}

/// The longest attempt where a connection has no time of its own.
const USUAL: Duration = Duration::from_secs(9);

/// A gateway with a connection `away` to the server, with this token.
async fn api(server: SocketAddr, token: &str) -> (Api, Value) {
    let tune = Tune::default()
        .set("CLAVIGER_EGRESS__ALLOW", "127.0.0.0/8")
        .set("CLAVIGER_EGRESS__ALLOW_PLAIN_HTTP", "true")
        .set("CLAVIGER_PROVIDERS__ATTEMPT_TIMEOUT", format!("{}s", USUAL.as_secs()))
        .set("CLAVIGER_TELEMETRY__LOG_LEVEL", "trace");
    let api = Api::tuned(&tune).await;
    let settings = json!({"address": format!("http://{server}"), "auth": {"token": token}});
    let body = json!({"name": "away", "provider": "vault", "settings": settings});
    let made = api.client.post("/v1/connections", &body).await.expect_status(201);
    (api, made)
}

async fn check(api: &Api) -> Value {
    api.client.post_empty(&format!("{PATH}/check")).await.expect_status(200)
}

async fn patch(api: &Api, body: Value) -> Answer {
    api.client.patch(PATH, "*", &body).await
}

/// The connection as it is shown, but for its login, which only this response has.
async fn without_login(api: &Api) -> Value {
    let mut shown = api.client.get(PATH).await.expect_status(200);
    shown.as_object_mut().unwrap().remove("login").expect("a login");
    shown
}

#[tokio::test]
async fn the_next_call_uses_the_new_secret_and_nothing_tells_it() {
    let (address, seen) = server(false).await;
    let (api, made) = api(address, "the-old-token-of-the-connection").await;
    check(&api).await;
    let used = std::mem::take(&mut *seen.lock());
    assert!(
        !used.is_empty() && used.iter().all(|token| token == "the-old-token-of-the-connection"),
        "{used:?}"
    );

    let new = "the-new-token-of-the-connection";
    let changed = patch(&api, json!({"secrets": {"token": new}})).await;
    api.recorded(&changed, "UpdateConnection", "success");
    let changed = changed.expect_status(200);
    assert_ne!(changed["etag"], made["etag"]);
    assert_eq!(changed["settings"], made["settings"], "it leads where it led");
    check(&api).await;
    let used = std::mem::take(&mut *seen.lock());
    assert!(!used.is_empty() && used.iter().all(|token| token == new), "{used:?}");

    // It is kept, sealed, and stands in no answer, record or log.
    assert!(!changed.to_string().contains(new));
    assert_eq!(without_login(&api).await, changed);
    let log = api.log();
    assert!(!log.is_empty() && !Value::from(log).to_string().contains(new));
    let Api { gateway, started, .. } = api;
    assert!(!started.output().contains(new));
    assert!(started.terminate());
    let again = gateway.serve(
        &Tune::default()
            .set("CLAVIGER_EGRESS__ALLOW", "127.0.0.0/8")
            .set("CLAVIGER_EGRESS__ALLOW_PLAIN_HTTP", "true"),
    );
    again.tenant("acme").post_empty(&format!("{PATH}/check")).await.expect_status(200);
    let used = std::mem::take(&mut *seen.lock());
    assert!(!used.is_empty() && used.iter().all(|token| token == new), "{used:?}");
    for file in ["claviger.db", "claviger.db-wal", "audit-00000000000000000000.log"] {
        let bytes = std::fs::read(gateway.data().join(file)).unwrap();
        assert!(!bytes.windows(new.len()).any(|window| window == new.as_bytes()), "{file}");
    }
    assert!(again.terminate());
}

#[tokio::test]
async fn secrets_that_cannot_be_used_change_nothing_and_are_not_repeated() {
    let (address, seen) = server(false).await;
    let (api, made) = api(address, "the-old-token-of-the-connection").await;
    for secrets in [
        json!({}),
        json!({"token": "hunter2 hunter2"}),
        json!({"token": 7}),
        json!({"secret_id": "hunter2hunter2"}),
        json!({"token": "hunter2hunter2", "address": "https://elsewhere.example"}),
        json!({"token": "hunter2hunter2", "hunter2hunter2": 1}),
        json!(["hunter2hunter2"]),
        json!("hunter2hunter2"),
    ] {
        let refused = patch(&api, json!({"secrets": secrets, "labels": {"a": "b"}})).await;
        assert!(!refused.text.contains("hunter2"), "{}", refused.text);
        let problem = refused.expect_problem(400, "invalid_request");
        let pointer = problem["errors"][0]["pointer"].as_str().unwrap();
        assert!(pointer.starts_with("/secrets"), "{secrets}: {pointer}");
    }
    let stale = api
        .client
        .patch(PATH, "\"7\"", &json!({"secrets": {"token": "another-token"}}))
        .await;
    stale.expect_problem(412, "precondition_failed");
    assert_eq!(without_login(&api).await, made);
    check(&api).await;
    assert!(seen.lock().iter().all(|token| token == "the-old-token-of-the-connection"));
    // The embedded provider has none that could be replaced.
    let none = api
        .client
        .patch("/v1/connections/embedded", "*", &json!({"secrets": {"token": "hunter2hunter2"}}))
        .await;
    none.expect_problem(400, "invalid_request");
    assert!(!api.started.output().contains("hunter2"));
}

#[tokio::test]
async fn a_connections_own_time_bounds_an_attempt_from_the_next_call_on() {
    let (address, _) = server(true).await;
    let (api, made) = api(address, "any-token").await;
    assert_eq!(made["timeouts"], json!({}));
    let changed = patch(&api, json!({"timeouts": {"attempt": "100ms"}})).await.expect_status(200);
    assert_eq!(changed["timeouts"], json!({"attempt": "100ms"}));
    let begun = Instant::now();
    let report = check(&api).await;
    assert_eq!(report["reachable"], false, "{report}");
    assert!(begun.elapsed() < USUAL, "one attempt of the usual length alone takes longer");

    // What is left out stays, and an empty object takes all of it away.
    let labelled = patch(&api, json!({"labels": {"a": "b"}})).await.expect_status(200);
    assert_eq!(labelled["timeouts"], json!({"attempt": "100ms"}));
    let cleared = patch(&api, json!({"timeouts": {}})).await.expect_status(200);
    assert_eq!((&cleared["timeouts"], &cleared["labels"]), (&json!({}), &json!({"a": "b"})));
    for (wrong, pointer) in [
        (json!({"attempt": "99ms"}), "/timeouts/attempt"),
        (json!({"attempt": "10001ms"}), "/timeouts/attempt"),
        (json!({"attempt": 3}), "/timeouts/attempt"),
        (json!({"attempts": "1s"}), "/timeouts"),
        (json!(["1s"]), "/timeouts"),
    ] {
        let problem = patch(&api, json!({"timeouts": wrong})).await.expect_problem(400, "invalid_request");
        assert_eq!(problem["errors"][0]["pointer"], pointer, "{wrong}");
    }
    let body = json!({"name": "quick", "provider": "local", "settings": {}, "timeouts": {"attempt": "10s"}});
    let quick = api.client.post("/v1/connections", &body).await.expect_status(201);
    assert_eq!(quick["timeouts"], json!({"attempt": "10s"}));
    assert_eq!(api.client.get("/v1/connections/quick").await.expect_status(200), quick);
}
