//! Data keys: bytes in from files and pipes, bytes out to files and pipes.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::support::{Cli, mode, text};

#[test]
fn a_data_key_comes_back_through_files() {
    let cli = Cli::with_key();
    let (key, wrapped, again) = (cli.path("key"), cli.path("wrapped"), cli.path("again"));
    let make = [
        "data-key",
        "orders",
        "--bytes",
        "64",
        "--context",
        "table=orders",
        "--out",
        text(&key),
        "--wrapped-out",
        text(&wrapped),
    ];
    cli.good(&make);
    let bytes = std::fs::read(&key).unwrap();
    assert_eq!((bytes.len(), mode(&key)), (64, 0o600));
    assert!(std::fs::read_to_string(&wrapped).unwrap().starts_with("clv1."));
    cli.good(&["unwrap", "--in", text(&wrapped), "--context", "table=orders", "--out", text(&again)]);
    assert_eq!((std::fs::read(&again).unwrap(), mode(&again)), (bytes, 0o600));
    // Nothing is written over unasked, and nothing was called for it.
    cli.bad(&make, 2);
    cli.good(&[&make[..], &["--force"]].concat());
}

#[test]
fn wrap_unwrap_rewrap_and_inspect_through_pipes() {
    let cli = Cli::with_key();
    cli.good(&["keys", "create", "sales", "--connection", "embedded"]);
    let secret = b"\x00\xffbytes of the caller's";
    let wrapped = cli.piped(&["wrap", "orders"], secret);
    assert_eq!((wrapped.code, wrapped.err.as_str()), (0, ""));
    let opened = cli.piped(&["unwrap"], &wrapped.out);
    assert_eq!((opened.code, opened.out.as_slice()), (0, &secret[..]));
    let line = cli.piped(&["unwrap", "orders", "--encoding", "base64"], &wrapped.out);
    assert_eq!(line.text(), STANDARD.encode(secret) + "\n");
    let moved = cli.piped(&["rewrap", "orders", "--to", "sales"], &wrapped.out);
    assert_eq!(cli.piped(&["unwrap", "sales"], &moved.out).out, secret);
    let shown = cli.piped(&["inspect", "--output", "json"], &wrapped.out);
    let shown: serde_json::Value = serde_json::from_slice(&shown.out).unwrap();
    assert_eq!(
        (&shown["key"], &shown["plaintext_length"]),
        (&"orders".into(), &secret.len().into())
    );
    assert!(cli.piped(&["inspect"], &wrapped.out).text().contains("recipients"));
    let json = cli.piped(&["unwrap", "--output", "json"], &wrapped.out);
    let json: serde_json::Value = serde_json::from_slice(&json.out).unwrap();
    assert_eq!(
        (&json["plaintext"], &json["cached"]),
        (&STANDARD.encode(secret).into(), &true.into())
    );
}

#[test]
fn a_context_comes_from_arguments_or_a_file() {
    let cli = Cli::with_key();
    let context = cli.file("context.json", r#"{"table":"orders","row":"17"}"#);
    let wrapped = cli.piped(&["wrap", "orders", "--context-file", text(&context)], b"secret");
    let arguments = ["unwrap", "--context", "row=17", "--context", "table=orders"];
    assert_eq!(cli.piped(&arguments, &wrapped.out).out, b"secret");
    assert_eq!(cli.piped(&["unwrap"], &wrapped.out).code, 6);
    for bad in [
        &["unwrap", "--context", "row=17", "--context", "row=18"][..],
        &["unwrap", "--context", "row"],
        &["unwrap", "--context", "=x"],
    ] {
        assert_eq!(cli.piped(bad, &wrapped.out).code, 2, "{bad:?}");
    }
}

#[test]
fn inputs_that_cannot_be_are_refused_before_any_call() {
    let cli = Cli::with_key();
    let long = cli.file("long", vec![7; 4097]);
    let records = claviger_test_support::records(&cli.gateway.data()).len();
    for arguments in [
        &["wrap", "orders", "--in", text(&long)][..],
        &["wrap", "orders", "--in", text(&cli.path("absent"))],
        &["wrap", "orders"],
        &["unwrap"],
        &["unwrap", "--in", text(&cli.path(""))],
        &["data-key", "orders", "--bytes", "33"],
        &["data-key", "orders"],
        &["inspect"],
    ] {
        let said = cli.bad(arguments, 2);
        assert!(!said.contains("panicked"), "{said}");
    }
    assert_eq!(claviger_test_support::records(&cli.gateway.data()).len(), records);
}
