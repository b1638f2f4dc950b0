//! Reads one table of the configuration setting by setting. Reports wrong settings and, at the
//! end, unknown ones.

use super::document::{Entry, Node, Table, Value};
use super::errors::{Journal, Place};
use super::values::{Kind, Wrong};

/// A table that is being read.
pub(super) struct Section<'j> {
    /// Dotted name; empty for the document itself.
    path: String,
    place: Place,
    table: Table,
    names: Vec<&'static str>,
    journal: &'j Journal,
    mistakes_before: usize,
}

/// Reads the whole document with `read`.
pub(super) fn document<T>(table: Table, place: Place, journal: &Journal, read: impl FnOnce(&mut Section<'_>) -> T) -> T {
    finish(
        Section {
            path: String::new(),
            place,
            table,
            names: Vec::new(),
            journal,
            mistakes_before: journal.count(),
        },
        read,
    )
}

fn finish<T>(mut section: Section<'_>, read: impl FnOnce(&mut Section<'_>) -> T) -> T {
    let value = read(&mut section);
    let expected = || {
        let mut names = section.names.clone();
        names.sort_unstable();
        format!("one of {}", names.join(", "))
    };
    for (name, entry) in &section.table {
        let shown: String = name.chars().take(64).flat_map(char::escape_debug).collect();
        let wrong = if section.path.is_empty() {
            format!("there is no section or setting `{shown}`")
        } else {
            format!("there is no setting `{shown}` in `{}`", section.path)
        };
        section.journal.report(entry.name.clone(), wrong, expected());
    }
    value
}

impl<'j> Section<'j> {
    fn full(&self, name: &str) -> String {
        if self.path.is_empty() {
            name.to_owned()
        } else {
            format!("{}.{name}", self.path)
        }
    }

    fn take(&mut self, name: &'static str) -> Option<Entry> {
        self.names.push(name);
        self.table.remove(name)
    }

    /// Reads a setting without a default. `None` if it is absent or wrong.
    pub(super) fn setting<K: Kind>(&mut self, name: &'static str, kind: &K) -> Option<K::Value> {
        let full = self.full(name);
        self.journal.note_setting(full.clone());
        let Entry { node, .. } = self.take(name)?;
        match kind.read(&node) {
            Ok(value) => Some(value),
            Err(wrong) => {
                self.journal
                    .report(node.place.clone(), sentence(&full, &node, &wrong), kind.expected());
                None
            }
        }
    }

    /// Reads a setting with a default. The default also replaces a wrong value, so that reading
    /// continues until all mistakes are reported.
    pub(super) fn setting_or<K: Kind>(&mut self, name: &'static str, kind: &K, default: K::Value) -> K::Value {
        self.setting(name, kind).unwrap_or(default)
    }

    /// Reads a table within this one. An absent table is read as an empty one, so that every
    /// setting gets its default and its name is noted.
    pub(super) fn table<T>(&mut self, name: &'static str, read: impl FnOnce(&mut Section<'_>) -> T) -> T {
        let path = self.full(name);
        let (place, table) = match self.take(name) {
            None => (self.place.clone(), Table::new()),
            Some(Entry {
                name,
                node: Node {
                    value: Value::Table(table),
                    ..
                },
            }) => match name {
                Place::File { .. } | Place::Whole => (name, table),
                // A variable created the table, so it has no place in the file.
                Place::Variable(_) => (self.place.clone(), table),
            },
            Some(Entry {
                node: Node { place, value },
                ..
            }) => {
                self.journal
                    .report(place.clone(), format!("`{path}` is {}", value.kind()), format!("a table: [{path}]"));
                (place, Table::new())
            }
        };
        finish(
            Section {
                path,
                place,
                table,
                names: Vec::new(),
                journal: self.journal,
                mistakes_before: self.journal.count(),
            },
            read,
        )
    }

    /// Reads a required setting. Reports it if it is absent.
    pub(super) fn needed<K: Kind>(&mut self, name: &'static str, kind: &K) -> Option<K::Value> {
        if !self.table.contains_key(name) {
            self.names.push(name);
            let wrong = format!("`{}` is missing", self.full(name));
            self.journal.report(self.place.clone(), wrong, kind.expected());
            return None;
        }
        self.setting(name, kind)
    }

    /// Takes a setting as a node, unchecked.
    pub(super) fn raw(&mut self, name: &'static str) -> Option<Node> {
        self.take(name).map(|entry| entry.node)
    }

    /// Reads a list of at most `most` tables (`[[name]]`). Reports wrong tables and leaves them out.
    pub(super) fn tables<T>(&mut self, name: &'static str, most: usize, mut read: impl FnMut(&mut Section<'_>) -> Option<T>) -> Vec<T> {
        let path = self.full(name);
        let expected = || format!("a list of at most {most} tables: [[{path}]]");
        let Some(Entry { node, .. }) = self.take(name) else {
            return Vec::new();
        };
        let kind = node.value.kind();
        let Value::List(items) = node.value else {
            self.journal.report(node.place, format!("`{path}` is {kind}"), expected());
            return Vec::new();
        };
        if items.len() > most {
            self.journal.report(node.place, format!("`{path}` has too many tables"), expected());
            return Vec::new();
        }
        let mut values = Vec::with_capacity(items.len());
        for item in items {
            let kind = item.value.kind();
            let Value::Table(table) = item.value else {
                self.journal.report(item.place, format!("`{path}` contains {kind}"), expected());
                continue;
            };
            let section = Section {
                path: path.clone(),
                place: item.place,
                table,
                names: Vec::new(),
                journal: self.journal,
                mistakes_before: self.journal.count(),
            };
            values.extend(finish(section, &mut read));
        }
        values
    }

    /// Whether this table has settings that were not read yet.
    pub(super) fn is_set(&self) -> bool {
        !self.table.is_empty()
    }

    /// Reports a mistake of the table as a whole if `holds` is false. Reports nothing if one of the
    /// table's settings is wrong, because a rule about two settings needs both to be valid.
    pub(super) fn require(&self, holds: bool, wrong: &str, expected: &str) {
        if !holds && self.journal.is_toml() && self.journal.count() == self.mistakes_before {
            self.journal.report(self.place.clone(), wrong, expected);
        }
    }
}

fn sentence(path: &str, node: &Node, wrong: &Wrong) -> String {
    match wrong {
        Wrong::Type => format!("`{path}` cannot be {}", node.value.kind()),
        Wrong::Form => format!("`{path}` has the wrong format"),
        Wrong::Range => format!("`{path}` is out of range"),
    }
}
