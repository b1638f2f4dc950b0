//! Each command that manages something, as a table and as JSON.

use serde_json::{Value, json};

use crate::support::{Cli, ended};

fn names(list: &Value) -> Vec<&str> {
    list["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| item["name"].as_str().unwrap())
        .collect()
}

#[test]
fn tenants_principals_and_tokens() {
    let cli = Cli::with_key();
    assert_eq!(cli.json(&["tenants", "create", "globex"])["state"], "active");
    assert_eq!(names(&cli.json(&["tenants", "list"])), ["acme", "globex"]);
    let id = "0198c0de000070008000000000000001";
    assert_eq!(cli.json(&["tenants", "create", "back", "--id", id])["id"], id);
    let made = cli.json(&["principals", "create", "ci", "--kind", "workload"]);
    assert_eq!(made["kind"], "workload");
    assert_eq!(cli.json(&["principals", "get", "ci"]), made);
    assert_eq!(names(&cli.json(&["principals", "list"])), ["ci"]);
    let create = [
        "tokens",
        "create",
        "ci",
        "--expires-in",
        "1h",
        "--operation",
        "Wrap",
        "--operation",
        "Unwrap",
        "--key",
        "orders",
    ];
    let token = cli.json(&create);
    assert!(token["token"].as_str().unwrap().starts_with("clv_"));
    assert_eq!(token["operations"], json!(["Wrap", "Unwrap"]));
    let listed = cli.json(&["tokens", "list", "ci"]);
    assert_eq!((&listed["items"][0]["id"], listed["items"][0].get("token")), (&token["id"], None));
    cli.good(&["tokens", "revoke", "ci", token["id"].as_str().unwrap()]);
    assert!(cli.json(&["tokens", "list", "ci"])["items"][0]["revoked"].is_string());
    cli.json(&["principals", "create", "gone"]);
    let token = cli.path("gone.token");
    cli.good(&[
        "tokens",
        "create",
        "gone",
        "--expires-in",
        "1h",
        "--operation",
        "ReadKey",
        "--out",
        token.to_str().unwrap(),
    ]);
    let keys = || ended(cli.command().env("CLAVIGER_TOKEN_FILE", &token).args(["keys", "list"]), b"").code;
    assert_eq!(keys(), 0);
    cli.good(&["principals", "delete", "gone"]);
    assert_eq!(keys(), 3, "the token ends with its principal");
    cli.good(&["principals", "delete", "gone"]);
    cli.bad(&["principals", "delete", "never"], 4);
    let create = [
        "tokens",
        "create",
        "ci",
        "--expires-in",
        "1h",
        "--kind",
        "standing",
        "--operation",
        "ReadKey",
    ];
    assert_eq!(cli.json(&create)["kind"], "standing");
    assert_eq!(cli.json(&["whoami"])["principal"], "administrator");
    assert_eq!(cli.json(&["tenants", "suspend", "globex"])["state"], "suspended");
    assert_eq!(cli.json(&["tenants", "get", "globex"])["state"], "suspended");
    assert_eq!(cli.json(&["tenants", "resume", "globex"])["state"], "active");
    let table = cli.good(&["principals", "list"]);
    let heads: Vec<&str> = table.lines().next().unwrap().split_whitespace().collect();
    assert_eq!(heads, ["NAME", "KIND", "CREATED", "ID"]);
    assert!(table.lines().nth(1).unwrap().contains("workload"), "{table}");
}

#[test]
fn connections() {
    let cli = Cli::with_key();
    let settings = cli.file("settings.json", "{}");
    let made = cli.json(&[
        "connections",
        "create",
        "second",
        "--provider",
        "local",
        "--settings",
        settings.to_str().unwrap(),
    ]);
    assert_eq!(cli.json(&["connections", "get", "second"]), made);
    let piped = cli.piped(&["connections", "create", "third", "--provider", "local", "--settings", "-"], b"{}");
    assert_eq!((piped.code, piped.err.as_str()), (0, ""));
    assert_eq!(names(&cli.json(&["connections", "list"])), ["embedded", "second", "third"]);
    assert_eq!(cli.json(&["connections", "check", "second"])["reachable"], true);
    assert_eq!(cli.json(&["connections", "capabilities", "second"])["keys"][0]["spec"], "aes-256");
    assert_eq!(cli.json(&["connections", "sever", "second"])["state"], "severed");
    cli.bad(&["connections", "check", "second"], 5);
    assert_eq!(cli.json(&["connections", "restore", "second"])["state"], "active");
    let labelled = cli.json(&["connections", "update", "second", "--label", "env=prod", "--label", "team=x"]);
    assert_eq!(labelled["labels"], json!({"env": "prod", "team": "x"}));
    assert_eq!(cli.json(&["connections", "get", "second"]), labelled);
    let etag = made["etag"].as_str().unwrap();
    cli.bad(&["connections", "update", "second", "--no-labels", "--etag", etag], 5);
    assert_eq!(cli.json(&["connections", "update", "second", "--no-labels"])["labels"], json!({}));
    assert!(cli.bad(&["connections", "update", "second"], 2).contains("--label"));
    cli.bad(&["connections", "update", "second", "--label", "a=b", "--no-labels"], 2);
    cli.good(&["connections", "delete", "third"]);
    cli.bad(&["connections", "delete", "embedded"], 5);
    assert!(cli.good(&["connections", "list"]).contains("embedded"));
}

#[test]
fn keys() {
    let cli = Cli::with_key();
    let create = [
        "keys",
        "create",
        "sales",
        "--connection",
        "embedded",
        "--spec",
        "aes-256",
        "--label",
        "env=prod",
        "--label",
        "team=x",
    ];
    let made = cli.json(&[&create[..], &["--cache", r#"{"max_age":"30s"}"#]].concat());
    assert_eq!(
        (&made["labels"], &made["cache"]),
        (&json!({"env": "prod", "team": "x"}), &json!({"max_age": "30s"}))
    );
    assert_eq!(cli.json(&["keys", "get", "sales"]), made);
    assert_eq!(names(&cli.json(&["keys", "list"])), ["orders", "sales"]);
    assert_eq!(
        names(&cli.json(&[
            "keys",
            "list",
            "--label",
            "env=prod",
            "--state",
            "enabled",
            "--connection",
            "embedded"
        ])),
        ["sales"]
    );
    let page = cli.json(&["keys", "list", "--limit", "1"]);
    let token = page["next_page_token"].as_str().unwrap();
    assert_eq!(names(&cli.json(&["keys", "list", "--page-token", token])), ["sales"]);
    // Each page token is sealed anew, so another text continues at the same place.
    let printed = cli.good(&["keys", "list", "--limit", "1"]);
    let (_, printed) = printed.split_once("more with --page-token ").expect("how to continue");
    assert_eq!(names(&cli.json(&["keys", "list", "--page-token", printed.trim()])), ["sales"]);

    let old = made["etag"].as_str().unwrap();
    let renamed = cli.json(&["keys", "update", "sales", "--name", "revenue", "--no-labels", "--etag", old]);
    assert_eq!((&renamed["id"], &renamed["labels"]), (&made["id"], &json!({})));
    cli.bad(&["keys", "update", "revenue", "--name", "sales", "--etag", old], 5);
    assert_eq!(cli.json(&["keys", "rotate", "revenue"])["primary_version"], 2);
    let versions = cli.json(&["keys", "versions", "revenue"]);
    assert_eq!(
        (&versions["items"][0]["number"], &versions["items"][1]["number"]),
        (&json!(1), &json!(2))
    );
    assert_eq!(
        cli.json(&["keys", "versions", "revenue", "--limit", "1"])["items"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
    let once = ["keys", "rotate", "revenue", "--idempotency-key", "once"];
    assert_eq!(cli.json(&once), cli.json(&once));
    assert_eq!(cli.json(&["keys", "get", "revenue"])["primary_version"], 3);
    assert_eq!(cli.json(&["keys", "disable", "revenue"])["state"], "disabled");
    assert_eq!(cli.json(&["keys", "enable", "revenue"])["state"], "enabled");
    assert_eq!(cli.json(&["keys", "disable", "revenue", "--at-provider"])["state"], "disabled");
    assert_eq!(cli.json(&["keys", "enable", "revenue", "--at-provider"])["state"], "enabled");
    assert_eq!(cli.good(&["keys", "delete", "revenue"]), "");
    let provider_key = made["provider_key"].as_str().unwrap();
    let adopted = cli.json(&["keys", "create", "back", "--connection", "embedded", "--provider-key", provider_key]);
    assert_eq!((&adopted["id"], &adopted["primary_version"]), (&made["id"], &json!(3)));
    cli.bad(&["keys", "get", "revenue"], 4);
}

#[test]
fn openapi_works_without_a_gateway() {
    let printed = ended(std::process::Command::new(crate::BINARY).env_clear().arg("openapi"), b"");
    assert_eq!(printed.code, 0);
    let document: Value = serde_json::from_slice(&printed.out).unwrap();
    assert!(document["paths"]["/v1/keys"].is_object());
}
