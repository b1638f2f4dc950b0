//! `[telemetry]`: what the operator sees.

use super::reader::Section;
use super::values::{Switch, Word};

/// The section's settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Telemetry {
    /// How a line of the log is written.
    pub log_format: LogFormat,
    /// The least severe line that is written.
    pub log_level: LogLevel,
    /// Whether metrics are kept and `/metrics` is served.
    pub metrics: bool,
}

/// How a line of the log is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object on a line.
    Json,
    /// For a reader at a terminal.
    Human,
}

/// The least severe line that is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogLevel {
    /// What needs somebody's hand.
    Error,
    /// What may soon.
    Warn,
    /// What an operator reads after the fact.
    Info,
    /// Each request.
    Debug,
    /// Each step of it.
    Trace,
}

impl Telemetry {
    pub(super) fn read(section: &mut Section<'_>) -> Self {
        const FORMATS: Word<LogFormat> = Word(&[("json", LogFormat::Json), ("human", LogFormat::Human)]);
        const LEVELS: Word<LogLevel> = Word(&[
            ("error", LogLevel::Error),
            ("warn", LogLevel::Warn),
            ("info", LogLevel::Info),
            ("debug", LogLevel::Debug),
            ("trace", LogLevel::Trace),
        ]);
        Self {
            log_format: section.setting_or("log_format", &FORMATS, LogFormat::Json),
            log_level: section.setting_or("log_level", &LEVELS, LogLevel::Info),
            metrics: section.setting_or("metrics", &Switch, true),
        }
    }
}
