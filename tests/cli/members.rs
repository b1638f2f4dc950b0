//! Each member of a request's body can be given on the command line.

use std::collections::BTreeMap;

use serde_json::Value;

use super::support::ended;

/// The commands that send a body, by operationId; none for what the command line leaves to programs.
const COMMANDS: [(&str, &str); 21] = [
    ("batchGenerateDataKeys", ""),
    ("batchRewrap", ""),
    ("batchUnwrap", ""),
    ("batchWrap", ""),
    ("createConnection", "connections create"),
    ("createKey", "keys create"),
    ("createPrincipal", "principals create"),
    ("createTenant", "tenants create"),
    ("createToken", "tokens create"),
    ("disableKey", "keys disable"),
    ("enableKey", "keys enable"),
    ("generateDataKey", "data-key"),
    ("inspect", "inspect"),
    ("releaseDeclared", "release"),
    ("rewrap", "rewrap"),
    ("rotateKey", "keys rotate"),
    ("unwrap", "unwrap"),
    ("unwrapWithKey", "unwrap"),
    ("updateConnection", "connections update"),
    ("updateKey", "keys update"),
    ("wrap", "wrap"),
];

/// What gives a member whose option has another name.
fn option(command: &str, member: &str) -> String {
    let other = match (command, member) {
        ("keys update", "name") => "--name",
        (_, "name") => "<NAME>",
        ("release", "kind") => "<KIND>",
        ("release", "tenant") => "<TENANT>",
        (_, "labels") => "--label",
        (_, "operations") => "--operation",
        (_, "keys") => "--key",
        (_, "timeouts") => "--attempt-timeout",
        ("data-key", "plaintext") => "--without-plaintext",
        (_, "plaintext" | "wrapped") => "--in",
        (_, member) => return format!("--{}", member.replace('_', "-")),
    };
    other.to_owned()
}

#[test]
fn each_member_of_a_body_has_its_option() {
    let run = |arguments: &[&str]| ended(std::process::Command::new(crate::BINARY).env_clear().args(arguments), b"").text();
    let document: Value = serde_json::from_str(&run(&["openapi"])).unwrap();
    let commands: BTreeMap<&str, &str> = COMMANDS.into_iter().collect();
    let mut seen = 0;
    for operation in document["paths"]
        .as_object()
        .unwrap()
        .values()
        .flat_map(|path| path.as_object().unwrap().values())
    {
        let Some(schema) = operation.pointer("/requestBody/content/application~1json/schema/$ref") else {
            continue;
        };
        let id = operation["operationId"].as_str().unwrap();
        let command = commands.get(id).unwrap_or_else(|| panic!("{id} has a body and no row here"));
        if command.is_empty() {
            continue;
        }
        seen += 1;
        let mut schema = document.pointer(schema.as_str().unwrap().trim_start_matches('#')).unwrap();
        // One for each provider, with the same members.
        if let Some(one) = schema["oneOf"][0]["$ref"].as_str() {
            schema = document.pointer(one.trim_start_matches('#')).unwrap();
        }
        let words: Vec<&str> = command.split(' ').chain(["--help"]).collect();
        let help = run(&words);
        for member in schema["properties"].as_object().unwrap().keys() {
            let option = option(command, member);
            let has = help.split_whitespace().any(|word| word == option);
            assert!(has, "claviger {command} lacks {option} for the member {member} of {id}:\n{help}");
        }
    }
    assert!(seen > 12, "{seen}");
}

#[test]
fn each_header_of_a_request_has_its_option() {
    let help = ended(
        std::process::Command::new(crate::BINARY)
            .env_clear()
            .args(["keys", "create", "--help"]),
        b"",
    )
    .text();
    for option in ["--tenant", "--timeout", "--justification", "--idempotency-key"] {
        assert!(help.split_whitespace().any(|word| word == option), "{option}");
    }
}
