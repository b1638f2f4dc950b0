//! `[telemetry]`: logs and metrics.

use super::reader::Section;
use super::values::{Switch, Word};

/// Settings of `[telemetry]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Telemetry {
    /// Format of log lines.
    pub log_format: LogFormat,
    /// Least severe level that is written.
    pub log_level: LogLevel,
    /// Whether metrics are collected and `/metrics` is served.
    pub metrics: bool,
}

/// Format of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object per line.
    Json,
    /// Text for a person at a terminal.
    Human,
}

/// Severity of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogLevel {
    /// Needs action.
    Error,
    /// May need action soon.
    Warn,
    /// Startup, shutdown, and changes of state.
    Info,
    /// Each request.
    Debug,
    /// Each step of a request.
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
