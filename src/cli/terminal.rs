//! Where a command writes its output, and in which form.

use std::fmt::Write as _;
use std::io::{self, Write};

use serde_json::Value;

use super::print::{Column, object, plain, rows};
use crate::client::Failure;
use crate::io_reason::IoReason;

/// Form of the output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Output {
    /// A table, for people
    Table,
    /// The API's JSON, for programs
    Json,
}

/// Where a command writes its output, and in which form.
pub(super) struct Terminal<'t> {
    pub(super) out: &'t mut dyn Write,
    /// Whether `out` is a terminal: no key is written to one.
    pub(super) is_terminal: bool,
    pub(super) output: Output,
}

impl Terminal<'_> {
    /// Writes a response. Writes nothing for an empty one.
    pub(super) fn show(&mut self, response: &Value) -> Result<(), Failure> {
        match (self.output, response) {
            (_, Value::Null) => Ok(()),
            (Output::Json, response) => self.json(response),
            (Output::Table, response) => self.text(&object(response)),
        }
    }

    /// Writes a list, with these columns of each item.
    pub(super) fn list(&mut self, response: &Value, columns: &[Column]) -> Result<(), Failure> {
        match self.output {
            Output::Json => self.json(response),
            Output::Table => {
                let items = response.get("items").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
                let mut text = if items.is_empty() {
                    "none\n".to_owned()
                } else {
                    rows(items, columns)
                };
                if let Some(token) = response.get("next_page_token").and_then(Value::as_str) {
                    let _ = writeln!(text, "more with --page-token {}", plain(token));
                }
                self.text(&text)
            }
        }
    }

    fn json(&mut self, response: &Value) -> Result<(), Failure> {
        self.text(&format!("{response:#}\n"))
    }

    /// Writes text unchanged.
    pub(super) fn text(&mut self, text: &str) -> Result<(), Failure> {
        self.bytes(text.as_bytes())
    }

    /// Writes bytes unchanged.
    pub(super) fn bytes(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.out.write_all(bytes).map_err(|error| cannot_write(&error))
    }
}

/// The failure to write output.
pub(super) fn cannot_write(error: &io::Error) -> Failure {
    Failure::Local(format!("the output cannot be written ({})", IoReason(error.kind())))
}
