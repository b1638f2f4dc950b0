//! The lines of the log: the library's own formats, and in each line the request under way.

use std::fmt::{self, Write};

use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::FmtContext;
use tracing_subscriber::fmt::format::{Format, FormatEvent, FormatFields, Full, Json, Writer};
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::registry::LookupSpan;

use super::request::RequestLabel;

/// One JSON object for each event; its member `span` is the request.
pub(super) struct JsonLines(Format<Json>);

impl JsonLines {
    pub(super) fn new() -> Self {
        Self(Format::default().json().flatten_event(true).with_span_list(false))
    }
}

impl<S, N> FormatEvent<S, N> for JsonLines
where
    S: Subscriber + for<'s> LookupSpan<'s>,
    N: for<'w> FormatFields<'w> + 'static,
{
    fn format_event(&self, ctx: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut line = String::new();
        self.0.format_event(ctx, Writer::new(&mut line), event)?;
        let label = RequestLabel::current(|name, fields| {
            let mut span = format!(",\"span\":{{\"name\":\"{name}\"");
            for (name, value) in fields {
                // A text can always be written as JSON.
                let value = serde_json::to_string(value).unwrap_or_default();
                write!(span, ",\"{name}\":{value}")?;
            }
            span.push('}');
            Ok(span)
        });
        match (label, line.strip_suffix("}\n")) {
            (Some(span), Some(open)) => writeln!(writer, "{open}{}}}", span?),
            (None, _) | (_, None) => writer.write_str(&line),
        }
    }
}

/// One line of text for each event.
pub(super) struct HumanLines(Format<Full, ()>);

impl HumanLines {
    pub(super) fn new() -> Self {
        Self(Format::default().without_time().with_level(false))
    }
}

impl<S, N> FormatEvent<S, N> for HumanLines
where
    S: Subscriber + for<'s> LookupSpan<'s>,
    N: for<'w> FormatFields<'w> + 'static,
{
    fn format_event(&self, ctx: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        SystemTime.format_time(&mut writer)?;
        write!(writer, " {:>5} ", event.metadata().level())?;
        let label = RequestLabel::current(|name, fields| {
            let fields: Vec<String> = fields.iter().map(|(name, value)| format!("{name}={value}")).collect();
            format!("{name}{{{}}}: ", fields.join(" "))
        });
        writer.write_str(&label.unwrap_or_default())?;
        self.0.format_event(ctx, writer, event)
    }
}
