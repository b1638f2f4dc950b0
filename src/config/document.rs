//! The configuration as a tree in which every node has its place: the TOML file, overlaid with
//! environment variables.

use std::collections::BTreeMap;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::errors::{Journal, Place};

/// Prefix of environment variables.
pub(super) const PREFIX: &str = "CLAVIGER_";
/// Separates the parts of a setting's name in a variable's name.
const SEPARATOR: &str = "__";

/// A value with its place.
pub(super) struct Node {
    pub(super) place: Place,
    pub(super) value: Value,
}

/// The value of a node.
pub(super) enum Value {
    Text(String),
    /// `None` if it does not fit into `i64`.
    Integer(Option<i64>),
    Boolean(bool),
    List(Vec<Node>),
    Table(Table),
    /// A float or a time, which no setting accepts.
    Other(&'static str),
}

impl Value {
    /// The kind of value, with its article, for messages.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Text(_) => "a string",
            Self::Integer(_) => "an integer",
            Self::Boolean(_) => "a boolean",
            Self::List(_) => "a list",
            Self::Table(_) => "a table",
            Self::Other(kind) => kind,
        }
    }
}

/// Named values.
pub(super) type Table = BTreeMap<String, Entry>;

/// A named value. The name and the value each have a place.
pub(super) struct Entry {
    pub(super) name: Place,
    pub(super) node: Node,
}

/// Parses TOML. Reports all syntax errors; the tree then contains what could be parsed, so that
/// later steps can report mistakes of other kinds.
pub(super) fn parse(text: &str, journal: &Journal) -> Table {
    let lines = Lines::of(text);
    let (document, errors) = DeTable::parse_recoverable(text);
    for error in &errors {
        let (line, column) = lines.position(&error.span().unwrap_or(0..0));
        // The parser's messages are fixed sentences: they quote names, never values.
        journal.report_syntax(line, column, &error.message().replace('\n', ", "));
    }
    table(document.get_ref(), &lines)
}

fn table(from: &DeTable<'_>, lines: &Lines<'_>) -> Table {
    from.iter()
        .map(|(name, value)| {
            let entry = Entry {
                name: lines.place(&name.span()),
                node: node(value, lines),
            };
            (name.get_ref().to_string(), entry)
        })
        .collect()
}

fn node(from: &Spanned<DeValue<'_>>, lines: &Lines<'_>) -> Node {
    let value = match from.get_ref() {
        DeValue::String(text) => Value::Text(text.to_string()),
        DeValue::Integer(integer) => Value::Integer(i64::from_str_radix(integer.as_str(), integer.radix()).ok()),
        DeValue::Float(_) => Value::Other("a float"),
        DeValue::Boolean(boolean) => Value::Boolean(*boolean),
        DeValue::Datetime(_) => Value::Other("a time"),
        DeValue::Array(items) => Value::List(items.iter().map(|item| node(item, lines)).collect()),
        DeValue::Table(entries) => Value::Table(table(entries, lines)),
    };
    Node {
        place: lines.place(&from.span()),
        value,
    }
}

/// Overlays variables that contain two underscores: `CLAVIGER_SERVER__LISTEN` is
/// `server.listen`. Returns the other variables with our prefix.
pub(super) fn overlay(root: &mut Table, variables: impl Iterator<Item = (String, String)>, journal: &Journal) -> Vec<(String, String)> {
    let mut others = Vec::new();
    for (variable, text) in variables {
        let Some(path) = variable.strip_prefix(PREFIX) else { continue };
        if !path.contains(SEPARATOR) {
            others.push((variable, text));
            continue;
        }
        if path.bytes().any(|byte| byte.is_ascii_lowercase()) {
            journal.report(Place::Variable(variable), "the name has lower-case letters", "upper case only");
            continue;
        }
        let path = path.to_ascii_lowercase();
        let parts: Vec<&str> = path.split(SEPARATOR).collect();
        if !insert(root, &parts, &variable, text) {
            journal.report(Place::Variable(variable), "there is no such setting", "the name of a setting");
        }
    }
    others
}

/// Returns false if a part of the path is not a table.
fn insert(table: &mut Table, path: &[&str], variable: &str, text: String) -> bool {
    let place = || Place::Variable(variable.to_owned());
    match path {
        [] => false,
        [last] => {
            let node = Node {
                place: place(),
                value: Value::Text(text),
            };
            table.insert((*last).to_owned(), Entry { name: place(), node });
            true
        }
        [first, rest @ ..] => {
            let entry = table.entry((*first).to_owned()).or_insert_with(|| Entry {
                name: place(),
                node: Node {
                    place: place(),
                    value: Value::Table(Table::new()),
                },
            });
            match &mut entry.node.value {
                Value::Table(inner) => insert(inner, rest, variable, text),
                Value::Text(_) | Value::Integer(_) | Value::Boolean(_) | Value::List(_) | Value::Other(_) => false,
            }
        }
    }
}

/// Converts byte offsets to lines and columns.
struct Lines<'t> {
    text: &'t str,
    /// Offset of the first byte of each line.
    starts: Vec<usize>,
}

impl<'t> Lines<'t> {
    fn of(text: &'t str) -> Self {
        let breaks = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at + 1);
        Self {
            text,
            starts: std::iter::once(0).chain(breaks).collect(),
        }
    }

    fn place(&self, span: &Range<usize>) -> Place {
        let (line, column) = self.position(span);
        Place::File { line, column }
    }

    fn position(&self, span: &Range<usize>) -> (usize, usize) {
        let line = self.starts.partition_point(|start| *start <= span.start);
        let start = self.starts.get(line.saturating_sub(1)).copied().unwrap_or(0);
        let before = self.text.get(start..span.start).unwrap_or("");
        (line, before.chars().count() + 1)
    }
}
