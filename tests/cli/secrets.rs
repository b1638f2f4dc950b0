//! Secrets come from files and standard input and go to files and pipes.

use crate::support::{Cli, ended, mode, text};

#[test]
fn no_argument_takes_a_token() {
    let cli = Cli::with_key();
    let token = cli.started.token().to_owned();
    for arguments in [
        &["keys", "list", "--token", token.as_str()][..],
        &["--token", token.as_str(), "keys", "list"],
        &["wrap", "orders", "--plaintext", "secret"],
        &["connections", "create", "x", "--provider", "local", "--secret", "secret"],
        // Typed where it does not belong.
        &[token.as_str()],
        &["keys", token.as_str()],
        &["keys", "list", token.as_str()],
        &["keys", "get", "orders", token.as_str()],
        &["keys", "list", "--output", token.as_str()],
        &["keys", "list", &format!("--{token}")],
        &["keys", "list", "--timeout", token.as_str()],
        &["help", token.as_str()],
    ] {
        let said = cli.bad(arguments, 2);
        assert!(!said.contains(&token[17..]), "a token is not repeated: {said}");
    }
}

#[test]
fn a_token_comes_from_a_file_or_a_variable() {
    let cli = Cli::with_key();
    let mut variable = cli.command();
    variable
        .env_remove("CLAVIGER_TOKEN_FILE")
        .env("CLAVIGER_TENANT", "acme")
        .env("CLAVIGER_TOKEN", cli.started.token());
    assert_eq!(ended(variable.args(["keys", "list"]), b"").code, 0);
    let mut none = cli.command();
    none.env_remove("CLAVIGER_TOKEN_FILE");
    assert_eq!(ended(none.args(["keys", "list"]), b"").code, 3);
    for content in ["", "two words", "line\nline", "\u{e9}"] {
        let file = cli.file("bad-token", content);
        let refused = ended(cli.command().env("CLAVIGER_TOKEN_FILE", &file).args(["keys", "list"]), b"");
        assert_eq!(refused.code, 2, "{content:?}: {}", refused.err);
        assert!(content.is_empty() || !refused.err.contains(content), "{}", refused.err);
    }
    let absent = ended(
        cli.command().env("CLAVIGER_TOKEN_FILE", cli.path("absent")).args(["keys", "list"]),
        b"",
    );
    assert_eq!(absent.code, 2, "{}", absent.err);
}

#[test]
fn a_new_token_goes_to_a_file_of_its_own() {
    let cli = Cli::with_key();
    cli.good(&["principals", "create", "ci"]);
    let file = cli.path("ci.token");
    let create = [
        "tokens",
        "create",
        "ci",
        "--expires-in",
        "1h",
        "--operation",
        "ReadKey",
        "--out",
        text(&file),
    ];
    let said = cli.good(&create);
    let token = std::fs::read_to_string(&file).unwrap();
    assert_eq!(mode(&file), 0o600);
    assert!(!said.contains(token.trim()), "{said}");
    let mut ci = cli.command();
    ci.env("CLAVIGER_TOKEN_FILE", &file);
    assert_eq!(ended(ci.args(["keys", "list"]), b"").code, 0);
    // A file that is there is no place for it, and no token was made for nothing.
    cli.bad(&create, 2);
    assert_eq!(cli.json(&["tokens", "list", "ci"])["items"].as_array().unwrap().len(), 1);
}

#[test]
fn settings_that_are_no_json_are_not_repeated() {
    let cli = Cli::with_key();
    for content in [
        r#"{"secret_key": "hunter2hunter2""#,
        r#"["hunter2hunter2"]"#,
        r#"{"hunter2hunter2": 1}"#,
    ] {
        let file = cli.file("settings.json", content);
        let said = cli.bad(&["connections", "create", "x", "--provider", "local", "--settings", text(&file)], 2);
        assert!(!said.contains("hunter2"), "{said}");
    }
    assert!(!cli.started.output().contains("hunter2"));
}

#[test]
fn a_token_is_not_sent_in_clear_to_another_host() {
    let cli = Cli::with_key();
    let said = ended(
        cli.command()
            .env("CLAVIGER_ADDRESS", "http://192.0.2.1:8420")
            .args(["keys", "list"]),
        b"",
    );
    assert!(said.code == 2 && said.err.contains("--allow-plain-http"), "{}", said.err);
}
