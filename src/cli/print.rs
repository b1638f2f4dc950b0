//! Formats responses as tables for people.

use std::fmt::Write as _;

use comfy_table::Table;
use comfy_table::presets::NOTHING;
use serde_json::{Map, Value};

/// A column of a list: its heading, and the JSON pointer of its value in an item.
pub(super) type Column = (&'static str, &'static str);

/// Formats a list, with these columns of each item.
pub(super) fn rows(items: &[Value], columns: &[Column]) -> String {
    let mut table = empty();
    table.set_header(columns.iter().map(|(heading, _)| *heading));
    for item in items {
        table.add_row(
            columns
                .iter()
                .map(|(_, pointer)| item.pointer(pointer).map_or_else(String::new, cell)),
        );
    }
    table.trim_fmt() + "\n"
}

/// Formats an object: its members, then each list of objects as a separate table.
pub(super) fn object(response: &Value) -> String {
    let Value::Object(members) = response else {
        return cell(response) + "\n";
    };
    let (lists, plain_members): (Vec<_>, Vec<_>) = members.iter().partition(|(_, value)| is_table(value));
    let mut text = String::new();
    if !plain_members.is_empty() {
        let mut table = empty();
        for (name, value) in plain_members {
            table.add_row([plain(name), cell(value)]);
        }
        text = table.trim_fmt() + "\n";
    }
    for (name, value) in lists {
        let items = value.as_array().map_or(&[][..], Vec::as_slice);
        let _ = write!(text, "\n{}\n{}", plain(name), members_of(items));
    }
    text
}

fn is_table(value: &Value) -> bool {
    value
        .as_array()
        .is_some_and(|items| !items.is_empty() && items.iter().all(Value::is_object))
}

/// A table of objects. Its columns are all members that any of the objects has.
fn members_of(items: &[Value]) -> String {
    let objects = || items.iter().filter_map(Value::as_object);
    let mut names: Vec<&String> = Vec::new();
    for name in objects().flat_map(Map::keys) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    let mut table = empty();
    table.set_header(names.iter().map(|name| plain(name).to_uppercase()));
    for object in objects() {
        table.add_row(names.iter().map(|name| object.get(*name).map_or_else(String::new, cell)));
    }
    table.trim_fmt() + "\n"
}

fn empty() -> Table {
    let mut table = Table::new();
    table.load_style(NOTHING);
    table
}

fn cell(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::Bool(true) => "yes".to_owned(),
        Value::Bool(false) => "no".to_owned(),
        Value::Number(number) => number.to_string(),
        Value::String(text) => plain(text),
        Value::Object(members) if members.is_empty() => "-".to_owned(),
        Value::Array(items) if items.is_empty() => "-".to_owned(),
        Value::Object(members) if members.values().all(|value| !value.is_object() && !value.is_array()) => members
            .iter()
            .map(|(name, value)| format!("{}={}", plain(name), cell(value)))
            .collect::<Vec<_>>()
            .join(" "),
        Value::Array(items) if items.iter().all(|item| !item.is_object() && !item.is_array()) => {
            items.iter().map(cell).collect::<Vec<_>>().join(", ")
        }
        Value::Object(_) | Value::Array(_) => plain(&value.to_string()),
    }
}

/// Escapes characters that control the terminal, because names may come from other users.
pub(super) fn plain(text: &str) -> String {
    escape(text, |_| false)
}

/// Like [`plain`], but keeps line breaks.
pub(super) fn plain_lines(text: &str) -> String {
    escape(text, |c| c == '\n')
}

fn escape(text: &str, keep: impl Fn(char) -> bool) -> String {
    // Control characters, and those that change the direction of text.
    let acts = |c: char| c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if acts(c) && !keep(c) {
            shown.extend(c.escape_unicode());
        } else {
            shown.push(c);
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn lists_have_their_columns_and_no_stray_blanks() {
        let items = [
            json!({"name": "a", "state": "enabled", "labels": {"x": "1"}}),
            json!({"name": "long-name", "state": "disabled"}),
        ];
        let text = rows(&items, &[("NAME", "/name"), ("STATE", "/state"), ("LABEL", "/labels/x")]);
        assert_eq!(text, " NAME       STATE     LABEL\n a          enabled   1\n long-name  disabled\n");
    }

    #[test]
    fn objects_show_lists_of_objects_below() {
        let text = object(&json!({"key": "k", "none": [], "recipients": [{"role": 0}, {"role": 1, "provider": "aws"}], "created": null}));
        assert_eq!(
            text,
            " created  -\n key      k\n none     -\n\nrecipients\n ROLE  PROVIDER\n 0\n 1     aws\n"
        );
    }

    #[test]
    fn names_do_not_command_the_terminal() {
        assert_eq!(plain("a\u{1b}[2Jb\nc\u{202e}d é"), "a\\u{1b}[2Jb\\u{a}c\\u{202e}d é");
        assert_eq!(plain_lines("a\nb\r"), "a\nb\\u{d}");
    }
}
