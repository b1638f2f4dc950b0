//! What is told when it does not work.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{Server, folder_with, server};
use crate::cli::{Exit, print};
use crate::client::{Failure, Problem};

#[tokio::test]
async fn a_problem_is_told_in_plain_words() {
    let server = server(|_| {
        let errors = json!([{"pointer": "/name", "expected": "a name"}]);
        let problem = json!({"type": "urn:x", "title": "Key disabled", "status": 409, "detail": "The key is dis\u{1b}abled.", "code": "key_disabled",
            "request_id": "r-1", "retryable": false, "errors": errors, "what_to_do": "Enable it."});
        (409, problem)
    })
    .await;
    let failure = server.run(&["keys", "rotate", "k"]).await.0.unwrap_err();
    assert_eq!(Exit::of(&failure), Exit::Conflict);
    assert_eq!(
        print::plain_lines(&failure.to_string()),
        "Key disabled (409, key_disabled): The key is dis\\u{1b}abled.\n  /name: expected a name\n  what to do: Enable it.\n  request: r-1"
    );
}

#[tokio::test]
async fn an_answer_of_something_else_is_told_by_its_status() {
    let server = server(|_| (502, json!("<html>"))).await;
    let failure = server.run(&["keys", "list"]).await.0.unwrap_err();
    assert_eq!(Exit::of(&failure), Exit::Other);
    assert!(
        failure
            .to_string()
            .starts_with("Bad Gateway (502): the response does not come from Claviger"),
        "{failure}"
    );
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let server = server(|_| (307, Value::Null)).await;
    assert!(matches!(server.run(&["keys", "list"]).await.0, Err(Failure::Problem(problem)) if problem.status == 307));
    assert_eq!(server.seen.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn nobody_there_is_unavailable() {
    let free = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = Server {
        address: format!("http://{}", free.local_addr().unwrap()),
        seen: Arc::default(),
    };
    drop(free);
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let failure = server.run(&["keys", "get", "secret-name"]).await.0.unwrap_err();
    assert_eq!(Exit::of(&failure), Exit::Unavailable);
    assert!(
        failure.to_string().starts_with("127.0.0.1:") && !failure.to_string().contains("secret-name"),
        "{failure}"
    );
}

#[tokio::test]
async fn addresses_that_would_betray_the_token_are_refused() {
    let (_folder, token) = folder_with("token", b"clv_abc");
    for address in [
        "http://gateway.example",
        "ftp://127.0.0.1",
        "https://user:x@gateway.example",
        "https://gateway.example?x=y",
    ] {
        let server = Server {
            address: address.to_owned(),
            seen: Arc::default(),
        };
        assert!(
            matches!(
                server.run(&["keys", "list", "--token-file", &token]).await.0,
                Err(Failure::Usage(_))
            ),
            "{address}"
        );
    }
    for name in ["..", ".", ""] {
        let server = Server {
            address: "http://127.0.0.1:1".to_owned(),
            seen: Arc::default(),
        };
        assert!(
            matches!(server.run(&["keys", "delete", name]).await.0, Err(Failure::Usage(_))),
            "{name:?}"
        );
    }
}

#[test]
fn every_code_of_the_api_has_its_exit() {
    let table = [
        (
            400,
            "invalid_request operator_only_setting connection_refused_at_check",
            Exit::Usage,
        ),
        (400, "invalid_envelope envelope_version_unsupported", Exit::Rejected),
        (401, "unauthenticated", Exit::Denied),
        (403, "permission_denied", Exit::Denied),
        (404, "not_found", Exit::NotFound),
        (405, "method_not_allowed", Exit::Usage),
        (413, "too_large", Exit::Usage),
        (415, "unsupported_media_type", Exit::Usage),
        (
            409,
            "already_exists already_created in_progress idempotency_mismatch provider_key_taken key_disabled",
            Exit::Conflict,
        ),
        (
            409,
            "key_state connection_severed in_use managed_by_config quota_exceeded",
            Exit::Conflict,
        ),
        (412, "precondition_failed", Exit::Conflict),
        (422, "ciphertext_rejected", Exit::Rejected),
        (424, "provider_denied external_denied", Exit::Denied),
        (429, "rate_limited", Exit::Unavailable),
        (424, "connection_misconfigured", Exit::Other),
        (500, "internal", Exit::Other),
        (501, "unsupported", Exit::Other),
        (502, "provider_protocol", Exit::Other),
        (
            503,
            "provider_unavailable circuit_open audit_unavailable effective_not_recorded effective_in_memory_only not_ready",
            Exit::Unavailable,
        ),
        (504, "deadline_exceeded", Exit::Unavailable),
        (599, "of_tomorrow", Exit::Other),
    ];
    for (status, codes, exit) in table {
        for code in codes.split(' ') {
            let problem = Problem {
                status,
                code: code.to_owned(),
                ..Default::default()
            };
            assert_eq!(Exit::of(&Failure::Problem(Box::new(problem))), exit, "{code}");
        }
    }
}

#[tokio::test]
async fn a_check_ends_with_a_code_that_says_whether_all_is_well() {
    let right = |operation: &str, finding: &str| json!({"operation": operation, "finding": finding, "how": "tried"});
    let well = [right("wrap_key", "granted"), right("rotate", "not_testable")];
    let cannot = |code: &str| {
        (
            json!({"reachable": false, "code": code, "detail": "It is away.", "rights": []}),
            "cannot be used: It is away.",
        )
    };
    let can = |more: &[Value]| {
        let rights = [&well[..], more].concat();
        json!({"reachable": true, "code": null, "rights": rights})
    };
    for ((report, says), exit) in [
        ((can(&[]), ""), Exit::Ok),
        (
            (
                can(&[right("unwrap_key", "failed"), right("describe", "denied")]),
                "missing: describe",
            ),
            Exit::Denied,
        ),
        (
            (can(&[right("unwrap_key", "failed")]), "could not be tried: unwrap_key"),
            Exit::Unavailable,
        ),
        (
            (can(&[right("root", "excessive")]), "more than the connection needs: root"),
            Exit::Other,
        ),
        (cannot("provider_unavailable"), Exit::Unavailable),
        (cannot("provider_denied"), Exit::Denied),
        (cannot("connection_misconfigured"), Exit::Other),
    ] {
        let answer = report.clone();
        let server = server(move |_| (200, answer.clone())).await;
        let (done, out) = server.run(&["connections", "check", "kms"]).await;
        assert!(out.contains("reachable"), "the report comes first: {out}");
        match done {
            Ok(()) => assert_eq!(exit, Exit::Ok, "{report}"),
            Err(failure) => assert!(
                Exit::of(&failure) == exit && failure.to_string().contains(says),
                "{report}: {failure}"
            ),
        }
        let (done, out) = server.run(&["connections", "check", "kms", "--output", "json"]).await;
        assert_eq!(serde_json::from_str::<Value>(&out).unwrap(), report);
        assert_eq!(done.is_ok(), exit == Exit::Ok, "{report}");
    }
}
