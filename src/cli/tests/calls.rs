//! Which call each command makes.

use serde_json::{Value, json};

use super::{folder_with, server};
use crate::client::Failure;

#[tokio::test]
async fn every_command_makes_its_call() {
    let (_folder, settings) = folder_with("settings.json", br#"{"region": "eu-west-1"}"#);
    let server = server(|_| (200, json!({"items": [], "reachable": true}))).await;
    let lines: &[(&[&str], &str, Value)] = &[
        (
            &["connections", "create", "c", "--provider", "local"],
            "POST /v1/connections",
            json!({"name": "c", "provider": "local", "settings": {}}),
        ),
        (
            &["connections", "create", "c", "--provider", "aws", "--settings", &settings],
            "POST /v1/connections",
            json!({"name": "c", "provider": "aws", "settings": {"region": "eu-west-1"}}),
        ),
        (&["connections", "list"], "GET /v1/connections?page_size=1000", Value::Null),
        (&["connections", "get", "c"], "GET /v1/connections/c", Value::Null),
        (
            &["connections", "create", "c", "--provider", "local", "--label", "a=b"],
            "POST /v1/connections",
            json!({"name": "c", "provider": "local", "settings": {}, "labels": {"a": "b"}}),
        ),
        (
            &["connections", "update", "c", "--etag", "\"3\"", "--label", "a=b"],
            "PATCH /v1/connections/c",
            json!({"labels": {"a": "b"}}),
        ),
        (
            &[
                "connections",
                "update",
                "c",
                "--etag",
                "\"3\"",
                "--attempt-timeout",
                "1500ms",
                "--secrets",
                &settings,
            ],
            "PATCH /v1/connections/c",
            json!({"timeouts": {"attempt": "1500ms"}, "secrets": {"region": "eu-west-1"}}),
        ),
        (
            &["connections", "update", "c", "--etag", "\"3\"", "--no-timeouts"],
            "PATCH /v1/connections/c",
            json!({"timeouts": {}}),
        ),
        (&["principals", "delete", "p"], "DELETE /v1/principals/p", Value::Null),
        (&["connections", "delete", "c"], "DELETE /v1/connections/c", Value::Null),
        (&["connections", "check", "c"], "POST /v1/connections/c/check", Value::Null),
        (
            &["connections", "capabilities", "c"],
            "GET /v1/connections/c/capabilities",
            Value::Null,
        ),
        (&["connections", "sever", "c"], "POST /v1/connections/c/sever", Value::Null),
        (&["connections", "restore", "c"], "POST /v1/connections/c/restore", Value::Null),
        (
            &[
                "keys",
                "create",
                "k",
                "--connection",
                "c",
                "--spec",
                "rsa-3072",
                "--label",
                "a=b=c",
                "--cache",
                r#"{"max_age":"5s"}"#,
            ],
            "POST /v1/keys",
            json!({"name": "k", "connection": "c", "spec": "rsa-3072", "labels": {"a": "b=c"}, "cache": {"max_age": "5s"}}),
        ),
        (
            &["keys", "list", "--connection", "c", "--label", "a=b", "--limit", "7"],
            "GET /v1/keys?page_size=7&connection=c&label=a%3Db",
            Value::Null,
        ),
        (&["keys", "get", "k/../x"], "GET /v1/keys/k%2F..%2Fx", Value::Null),
        (
            &["keys", "update", "k", "--etag", "\"3\"", "--name", "n", "--no-labels"],
            "PATCH /v1/keys/k",
            json!({"name": "n", "labels": {}}),
        ),
        (&["keys", "delete", "k"], "DELETE /v1/keys/k", Value::Null),
        (&["keys", "versions", "k"], "GET /v1/keys/k/versions?page_size=1000", Value::Null),
        (&["keys", "rotate", "k"], "POST /v1/keys/k/rotate", Value::Null),
        (
            &[
                "keys",
                "rotate",
                "k",
                "--connection",
                "c",
                "--spec",
                "rsa-3072",
                "--provider-key",
                "p",
            ],
            "POST /v1/keys/k/rotate",
            json!({"connection": "c", "provider_key": "p", "spec": "rsa-3072"}),
        ),
        (&["keys", "enable", "k"], "POST /v1/keys/k/enable", Value::Null),
        (
            &[
                "keys",
                "update",
                "k",
                "--etag",
                "*",
                "--allow-export",
                "true",
                "--justification",
                "moving out",
            ],
            "PATCH /v1/keys/k",
            json!({"allow_export": true}),
        ),
        (
            &["keys", "update", "k", "--etag", "*", "--allow-export", "false"],
            "PATCH /v1/keys/k",
            json!({"allow_export": false}),
        ),
        (
            &["keys", "disable", "k", "--at-provider"],
            "POST /v1/keys/k/disable",
            json!({"at_provider": true}),
        ),
        (&["tokens", "list", "p"], "GET /v1/principals/p/tokens?page_size=1000", Value::Null),
        (&["whoami"], "GET /v1/whoami", Value::Null),
        (&["tokens", "revoke", "p", "t"], "DELETE /v1/principals/p/tokens/t", Value::Null),
        (
            &["principals", "create", "p"],
            "POST /v1/principals",
            json!({"name": "p", "kind": "service_account"}),
        ),
        (&["principals", "list"], "GET /v1/principals?page_size=1000", Value::Null),
        (&["principals", "get", "p"], "GET /v1/principals/p", Value::Null),
        (
            &["tenants", "create", "t", "--id", "00"],
            "POST /v1/tenants",
            json!({"name": "t", "id": "00"}),
        ),
        (&["tenants", "get", "t"], "GET /v1/tenants/t", Value::Null),
        (&["tenants", "suspend", "t"], "POST /v1/tenants/t/suspend", Value::Null),
        (&["tenants", "resume", "t"], "POST /v1/tenants/t/resume", Value::Null),
        (&["tenants", "list"], "GET /v1/tenants?page_size=1000", Value::Null),
    ];
    for (line, expected, body) in lines {
        server.run(line).await.0.unwrap();
        let seen = server.last();
        assert_eq!((seen.line.as_str(), &seen.body), (*expected, body), "{line:?}");
    }
}

#[tokio::test]
async fn global_options_become_headers() {
    let (_folder, token) = folder_with("token", b"clv_abc\n");
    let server = server(|_| (200, json!({}))).await;
    let options = [
        "--token-file",
        &token,
        "--tenant",
        "acme",
        "--timeout",
        "800ms",
        "--idempotency-key",
        "once",
    ];
    server.run(&[&["keys", "rotate", "k"][..], &options].concat()).await.0.unwrap();
    let seen = server.last();
    assert_eq!(seen.header("authorization"), Some("Bearer clv_abc"));
    assert_eq!(seen.header("claviger-tenant"), Some("acme"));
    assert_eq!(seen.header("claviger-timeout"), Some("800ms"));
    assert_eq!(seen.header("idempotency-key"), Some("once"));
}

#[tokio::test]
async fn an_update_is_made_under_the_etag_that_was_seen() {
    let server = server(|_| (200, json!({"etag": "\"7\""}))).await;
    server.run(&["keys", "update", "k", "--label", "a=b"]).await.0.unwrap();
    let seen = server.last();
    assert_eq!((seen.line.as_str(), seen.header("if-match")), ("PATCH /v1/keys/k", Some("\"7\"")));
    assert_eq!(server.last().line, "GET /v1/keys/k");
    assert!(matches!(server.run(&["keys", "update", "k"]).await.0, Err(Failure::Usage(_))));
}

#[tokio::test]
async fn a_list_follows_its_pages_to_the_limit() {
    let server = server(|seen| {
        let second = seen.line.contains("page_token=two");
        let name = if second { "b" } else { "a" };
        (
            200,
            json!({"items": [{"name": name}], "next_page_token": if second { "three" } else { "two" }}),
        )
    })
    .await;
    let (done, out) = server.run(&["keys", "list", "--limit", "2", "--output", "json"]).await;
    done.unwrap();
    let list: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(list, json!({"items": [{"name": "a"}, {"name": "b"}], "next_page_token": "three"}));
    assert_eq!(server.last().line, "GET /v1/keys?page_size=1&page_token=two");
    let (_, out) = server.run(&["keys", "list", "--limit", "1"]).await;
    assert!(
        out.starts_with(" NAME  PROVIDER  CONNECTION") && out.ends_with("more with --page-token two\n"),
        "{out}"
    );
}

#[tokio::test]
async fn a_list_that_never_ends_is_an_error() {
    let server = server(|_| (200, json!({"items": [], "next_page_token": "again"}))).await;
    assert!(matches!(server.run(&["keys", "list"]).await.0, Err(Failure::Protocol(_))));
}

#[tokio::test]
async fn how_long_a_token_lives_is_left_to_the_gateway_unless_it_is_said() {
    let server = server(|_| (201, json!({"token": "clv_text"}))).await;
    let line = [
        "tokens",
        "create",
        "p",
        "--operation",
        "Unwrap,Wrap",
        "--operation",
        "Rewrap",
        "--key",
        "a,b",
    ];
    server.run(&line).await.0.unwrap();
    let body = json!({"kind": "delegated", "operations": ["Unwrap", "Wrap", "Rewrap"], "keys": ["a", "b"]});
    assert_eq!(server.last().body, body);
    server.run(&[&line[..], &["--expires-in", "1h"]].concat()).await.0.unwrap();
    assert_eq!(server.last().body["expires_in"], json!("1h"));
}

#[tokio::test]
async fn a_justification_goes_with_every_call_of_a_command() {
    let server = server(|_| (200, json!({"etag": "\"7\""}))).await;
    let line = ["keys", "update", "k", "--name", "n", "--justification", "ticket 4711"];
    server.run(&line).await.0.unwrap();
    for method in ["PATCH", "GET"] {
        let seen = server.last();
        assert!(seen.line.starts_with(method), "{}", seen.line);
        assert_eq!(seen.header("claviger-justification"), Some("ticket 4711"));
    }
    server.run(&["keys", "get", "k"]).await.0.unwrap();
    assert_eq!(server.last().header("claviger-justification"), None);
    let (refused, _) = server.run(&["keys", "get", "k", "--justification", "a\nb"]).await;
    assert!(matches!(refused, Err(Failure::Usage(_))));
    assert!(server.seen.lock().unwrap().is_empty());
}

/// Each variable that a command reads is one that the configuration knows not to be a setting.
#[test]
fn the_configuration_knows_the_variables_of_the_commands() {
    fn read(command: &clap::Command, into: &mut std::collections::BTreeSet<String>) {
        let names = command.get_arguments().filter_map(|argument| argument.get_env());
        into.extend(names.map(|name| name.to_str().unwrap().to_owned()));
        command.get_subcommands().for_each(|command| read(command, into));
    }
    let mut names = std::collections::BTreeSet::new();
    read(&<crate::cli::Cli as clap::CommandFactory>::command(), &mut names);
    assert!(names.contains("CLAVIGER_ADDRESS"), "{names:?}");
    for name in names {
        assert!(crate::config::COMMAND_LINE.contains(&name.as_str()), "{name}");
    }
}

#[tokio::test]
async fn the_tenant_that_a_command_names_is_not_the_one_to_act_for() {
    let server = server(|_| (200, json!({}))).await;
    for command in ["get", "suspend", "resume"] {
        server.run(&["tenants", command, "t"]).await.0.unwrap();
        assert_eq!(server.last().header("claviger-tenant"), None, "{command}");
        server.run(&["--tenant", "other", "tenants", command, "t"]).await.0.unwrap();
        assert_eq!(server.last().header("claviger-tenant"), Some("other"), "{command}");
    }
}

/// clap gives a global option the value of a command's own argument of the same id.
#[test]
fn no_argument_of_a_command_has_the_id_of_a_global_option() {
    fn check(command: &clap::Command, global: &[&str]) {
        for own in command.get_arguments() {
            let id = own.get_id().as_str();
            assert!(!global.contains(&id), "{}: {id}", command.get_name());
        }
        command.get_subcommands().for_each(|command| check(command, global));
    }
    let root = <crate::cli::Cli as clap::CommandFactory>::command();
    let global: Vec<&str> = root
        .get_arguments()
        .filter(|own| own.is_global_set())
        .map(|own| own.get_id().as_str())
        .collect();
    assert!(global.contains(&"tenant"), "{global:?}");
    root.get_subcommands().for_each(|command| check(command, &global));
}
