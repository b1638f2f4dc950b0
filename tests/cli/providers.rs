//! What the providers can do, and the table of it in the README.

use std::process::Command;

use serde_json::Value;

const README: &str = include_str!("../../README.md");

/// The table's rows as the README has them.
fn table() -> String {
    let mut command = Command::new(crate::BINARY);
    command.env_clear().args(["providers", "--output", "json"]);
    let ended = crate::support::ended(&mut command, b"");
    assert_eq!((ended.code, ended.err.as_str()), (0, ""));
    let answer: Value = serde_json::from_str(&ended.text()).unwrap();
    let mut text = String::new();
    for row in answer["items"].as_array().unwrap() {
        let word = |name: &str| row[name].as_str().unwrap_or("no").replace('_', " ");
        let yes = |name: &str| if row[name] == true { "yes" } else { "no" };
        let cells = [
            format!("`{}`", row["provider"].as_str().unwrap()),
            format!("`{}`", row["spec"].as_str().unwrap()),
            word("wrap"),
            word("generate_data_key"),
            word("rewrap"),
            word("context"),
            word("rotation"),
            yes("set_state").to_owned(),
        ];
        text.push_str(&format!("| {} |\n", cells.join(" | ")));
    }
    text
}

#[test]
fn the_table_in_the_readme_is_what_the_code_says() {
    let table = table();
    assert!(
        README.contains(&format!("|---|---|---|---|---|---|---|---|\n{table}\n")),
        "the README's table of capabilities is to read\n{table}"
    );
}
