//! Keys and wrapped keys: what goes in and where it comes out.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::{Value, json};

use super::{Seen, folder_with, server};
use crate::client::Failure;

fn data(seen: &Seen) -> (u16, Value) {
    let answer = if seen.line.ends_with("unwrap") {
        json!({"plaintext": "c2VjcmV0", "key": "k", "version": 1, "cached": false})
    } else {
        json!({"plaintext": "c2VjcmV0", "wrapped": "clv1.abc", "key": "k", "version": 1, "token": "clv_new"})
    };
    (200, answer)
}

#[tokio::test]
async fn wrap_sends_bytes_and_answers_the_bare_text() {
    let (_folder, plain) = folder_with("plain", &[0, 255, 10]);
    let server = server(data).await;
    let (done, out) = server
        .run(&["wrap", "k", "--in", &plain, "--context", "a=1", "--context", "b=2", "--scope", "s"])
        .await;
    done.unwrap();
    assert!(out.ends_with("clv1.abc\n") && out.lines().count() == 1, "{out}");
    let seen = server.last();
    assert_eq!(seen.line, "POST /v1/keys/k/wrap");
    assert_eq!(
        seen.body,
        json!({"plaintext": "AP8K", "context": {"a": "1", "b": "2"}, "scope": "s"})
    );
}

#[tokio::test]
async fn wrap_refuses_nothing_too_much_and_a_name_twice() {
    let server = server(data).await;
    for (content, context) in [(&b""[..], "a=1"), (&[7; 4097], "a=1"), (b"x", "b=2")] {
        let (_folder, plain) = folder_with("plain", content);
        let (done, _) = server
            .run(&["wrap", "k", "--in", &plain, "--context", "b=1", "--context", context])
            .await;
        assert!(matches!(done, Err(Failure::Usage(_))), "{done:?}");
    }
    assert!(server.seen.lock().unwrap().is_empty());
}

#[tokio::test]
async fn unwrap_writes_raw_bytes_and_only_them() {
    let (folder, blob) = folder_with("blob", b"  clv1.abc\n");
    let server = server(data).await;
    assert_eq!(server.run(&["unwrap", "--in", &blob]).await.1, "secret");
    let seen = server.last();
    assert_eq!(
        (seen.line.as_str(), &seen.body),
        ("POST /v1/unwrap", &json!({"wrapped": "clv1.abc"}))
    );
    assert_eq!(
        server.run(&["unwrap", "k", "--in", &blob, "--encoding", "base64"]).await.1,
        "c2VjcmV0\n"
    );
    assert_eq!(server.last().line, "POST /v1/keys/k/unwrap");

    let key = folder.path().join("key");
    let (done, out) = server.run(&["unwrap", "--in", &blob, "--out", key.to_str().unwrap()]).await;
    done.unwrap();
    assert_eq!(fs::read(&key).unwrap(), b"secret");
    assert_eq!(fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(
        out.contains("version  1") && !out.contains("secret") && !out.contains("c2VjcmV0"),
        "{out}"
    );
}

#[tokio::test]
async fn an_existing_file_is_replaced_only_by_force_and_the_call_is_not_made() {
    let (folder, blob) = folder_with("blob", b"clv1.abc");
    let key = folder.path().join("key");
    fs::write(&key, b"old").unwrap();
    let server = server(data).await;
    let line = ["unwrap", "--in", &blob, "--out", key.to_str().unwrap()];
    assert!(matches!(server.run(&line).await.0, Err(Failure::Usage(_))));
    assert!(server.seen.lock().unwrap().is_empty());
    assert_eq!(fs::read(&key).unwrap(), b"old");
    server.run(&[&line[..], &["--force"]].concat()).await.0.unwrap();
    assert_eq!(fs::read(&key).unwrap(), b"secret");
}

#[tokio::test]
async fn a_key_goes_to_a_terminal_only_by_force() {
    let (_folder, blob) = folder_with("blob", b"clv1.abc");
    let server = server(data).await;
    for line in [
        &["unwrap", "--in", &blob][..],
        &["unwrap", "--in", &blob, "--output", "json"],
        &["data-key", "k", "--output", "json"],
        &["tokens", "create", "p", "--expires-in", "1d", "--operation", "Unwrap"],
    ] {
        let (done, out) = server.run_at(line, true).await;
        assert!(matches!(done, Err(Failure::Usage(_))) && out.is_empty(), "{line:?}");
        assert!(server.seen.lock().unwrap().is_empty(), "{line:?}");
        let (done, out) = server.run_at(&[line, &["--force"]].concat(), true).await;
        assert!(done.is_ok() && !out.is_empty(), "{line:?}");
        server.last();
    }
    assert!(server.run_at(&["data-key", "k", "--without-plaintext"], true).await.0.is_ok());
}

#[tokio::test]
async fn a_data_key_has_two_outputs() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let server = server(data).await;
    let (done, _) = server.run(&["data-key", "k"]).await;
    assert!(done.unwrap_err().to_string().contains("--wrapped-out"));
    let (key, wrapped) = (path("key"), path("wrapped"));
    assert_eq!(server.run(&["data-key", "k", "--out", &key]).await.1, "clv1.abc\n");
    assert_eq!(server.last().body, json!({"bytes": 32, "plaintext": true}));
    assert_eq!(
        server.run(&["data-key", "k", "--bytes", "64", "--wrapped-out", &wrapped]).await.1,
        "secret"
    );
    assert_eq!(server.last().body, json!({"bytes": 64, "plaintext": true}));
    assert_eq!(fs::read_to_string(&wrapped).unwrap(), "clv1.abc\n");
    let (_, out) = server.run(&["data-key", "k", "--output", "json"]).await;
    assert_eq!(serde_json::from_str::<Value>(&out).unwrap()["plaintext"], "c2VjcmV0");
}

#[tokio::test]
async fn a_new_token_is_the_only_thing_written() {
    let server = server(data).await;
    let (_, out) = server
        .run(&[
            "tokens",
            "create",
            "p",
            "--expires-in",
            "90d",
            "--operation",
            "Unwrap",
            "--key",
            "k",
        ])
        .await;
    assert_eq!(out, "clv_new\n");
    assert_eq!(
        server.last().body,
        json!({"expires_in": "90d", "kind": "delegated", "operations": ["Unwrap"], "keys": ["k"]})
    );
}

#[tokio::test]
async fn rewrap_names_the_other_key() {
    let (_folder, blob) = folder_with("blob", b"clv1.abc");
    let server = server(data).await;
    server.run(&["rewrap", "k", "--to", "l", "--in", &blob]).await.0.unwrap();
    let seen = server.last();
    assert_eq!(
        (seen.line.as_str(), &seen.body),
        ("POST /v1/keys/k/rewrap", &json!({"wrapped": "clv1.abc", "to": "l"}))
    );
    server.run(&["inspect", "--in", &blob]).await.0.unwrap();
    assert_eq!(server.last().line, "POST /v1/inspect");
}

#[tokio::test]
async fn a_check_prints_its_policy_as_lines_to_paste() {
    let policy = "path \"transit/keys/+\" {\n  capabilities = [\"read\"]\n}\n# \u{1b}[2J\r\n";
    let server = server(move |_| {
        (
            200,
            json!({"reachable": true, "rights": [{"operation": "wrap_key", "finding": "granted"}], "policy": policy}),
        )
    })
    .await;
    let (done, out) = server.run(&["connections", "check", "c"]).await;
    done.unwrap();
    assert!(
        out.ends_with("\npolicy\npath \"transit/keys/+\" {\n  capabilities = [\"read\"]\n}\n# \\u{1b}[2J\n"),
        "{out:?}"
    );
    assert!(out.contains("wrap_key"), "{out}");
    // Where the provider has none, nothing is printed of it; JSON is the API's.
    let none = super::server(|_| (200, json!({"reachable": true, "rights": [], "policy": null}))).await;
    assert!(!none.run(&["connections", "check", "c"]).await.1.contains("path"));
    let (_, out) = server.run(&["connections", "check", "c", "--output", "json"]).await;
    assert_eq!(serde_json::from_str::<Value>(&out).unwrap()["policy"], policy);
}
