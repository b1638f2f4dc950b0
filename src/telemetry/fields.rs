//! Formats the fields of a span as JSON.

use std::fmt;

use tracing::field::{Field, Visit};
use tracing::span::Record;
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::fmt::FormattedFields;
use tracing_subscriber::fmt::format::{FormatFields, Writer};

/// Writes a span's fields as one JSON object, in their order. The library's own formatter builds a
/// sorted map first, which is too slow for every request.
pub(super) struct ObjectFields;

impl<'w> FormatFields<'w> for ObjectFields {
    fn format_fields<R: RecordFields>(&self, writer: Writer<'w>, fields: R) -> fmt::Result {
        let mut object = Object {
            writer,
            separator: "{",
            written: Ok(()),
        };
        fields.record(&mut object);
        object.end()
    }

    fn add_fields(&self, current: &'w mut FormattedFields<Self>, fields: &Record<'_>) -> fmt::Result {
        let separator = match current.fields.pop() {
            Some('}') if current.fields.len() > 1 => ",",
            _ => {
                current.fields.clear();
                "{"
            }
        };
        let mut object = Object {
            writer: current.as_writer(),
            separator,
            written: Ok(()),
        };
        fields.record(&mut object);
        object.end()
    }
}

/// A JSON object that is being written.
struct Object<'w> {
    writer: Writer<'w>,
    /// Written before the next name.
    separator: &'static str,
    written: fmt::Result,
}

impl Object<'_> {
    fn end(mut self) -> fmt::Result {
        self.written?;
        if self.separator == "{" {
            self.writer.write_str("{")?;
        }
        self.writer.write_str("}")
    }

    fn add(&mut self, field: &Field, value: &str) {
        if self.written.is_ok() {
            // Names are identifiers or our literals: nothing needs escaping.
            self.written = write!(self.writer, "{}\"{}\":{value}", self.separator, field.name());
            self.separator = ",";
        }
    }

    fn add_text(&mut self, field: &Field, text: &str) {
        // Text can always be serialized.
        self.add(field, &serde_json::to_string(text).unwrap_or_default());
    }
}

impl Visit for Object<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.add_text(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field, &value.to_string());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field, &value.to_string());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field, if value { "true" } else { "false" });
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.add_text(field, &format!("{value:?}"));
    }
}
