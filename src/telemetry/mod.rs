//! Log and metrics of a running gateway.
//!
//! The command line starts both. Other modules log with `tracing`, and count with the functions of
//! [`metrics`] or the macros of the crate `metrics`. Labels have a closed list of values: never a
//! tenant, a key, a principal or anything else that a caller chose.

mod fields;
pub mod jobs;
pub mod metrics;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};
use tracing_subscriber::{Layer, Registry, fmt};

use crate::config::telemetry::{LogFormat, LogLevel, Telemetry};

/// Starts writing the log to standard error. Call once per process.
///
/// # Errors
/// If the log was started before.
pub fn start_log(settings: &Telemetry) -> Result<(), TryInitError> {
    subscriber(settings, std::io::stderr).try_init()
}

fn subscriber<W>(settings: &Telemetry, writer: W) -> impl SubscriberExt + SubscriberInitExt
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let layer: Box<dyn Layer<Registry> + Send + Sync> = match settings.log_format {
        LogFormat::Json => fmt::layer()
            .json()
            .flatten_event(true)
            .with_span_list(false)
            .fmt_fields(fields::ObjectFields)
            .with_writer(writer)
            .boxed(),
        LogFormat::Human => fmt::layer().with_writer(writer).boxed(),
    };
    Registry::default().with(layer.with_filter(filter(settings.log_level)))
}

/// Our own crates log at the configured level; libraries never below `warn`, because HTTP and
/// database libraries log headers, frames and statements at lower levels.
fn filter(level: LogLevel) -> Targets {
    let ours = match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    };
    Targets::new()
        .with_default(ours.min(LevelFilter::WARN))
        .with_target("claviger", ours)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test stops where an expectation fails")]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use super::subscriber;
    use crate::config::telemetry::{LogFormat, LogLevel, Telemetry};

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn written(log_format: LogFormat, log_level: LogLevel) -> String {
        let lines = Lines::default();
        let writer = lines.clone();
        let settings = Telemetry {
            log_format,
            log_level,
            metrics: true,
        };
        let subscriber = tracing_subscriber::util::SubscriberInitExt::set_default;
        let guard = subscriber(self::subscriber(&settings, move || writer.clone()));
        let method = tracing::field::display("\"GET\"");
        let span = tracing::info_span!(target: "claviger::protocols::rest", "request", request_id = "r1", method, size = 7, late = tracing::field::Empty);
        span.record("late", true);
        let bare = tracing::info_span!(target: "claviger::protocols::rest", "bare", late = tracing::field::Empty);
        bare.record("late", "x");
        bare.in_scope(|| tracing::info!(target: "claviger::protocols::rest", "in a span that knew nothing at first"));
        span.in_scope(|| tracing::info!(target: "claviger_provider::layers", attempts = 2, "retried"));
        tracing::trace!(target: "claviger", "a step");
        tracing::debug!(target: "hyper::proto", "GET /v1/keys authorization: Bearer clv_x");
        tracing::info!(target: "sqlx::query", "select");
        tracing::warn!(target: "rustls", "odd peer");
        tracing::error!(target: "h2", "broken");
        drop(guard);
        let bytes = lines.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn json_lines_carry_the_spans_fields() {
        let log = written(LogFormat::Json, LogLevel::Info);
        let first: serde_json::Value = serde_json::from_str(log.lines().next().unwrap()).unwrap();
        assert_eq!(first["message"], "in a span that knew nothing at first");
        assert_eq!(first["span"], serde_json::json!({"name": "bare", "late": "x"}));
        let second: serde_json::Value = serde_json::from_str(log.lines().nth(1).unwrap()).unwrap();
        assert_eq!(second["message"], "retried");
        assert_eq!(second["attempts"], 2);
        assert_eq!(
            second["span"],
            serde_json::json!({"name": "request", "request_id": "r1", "method": "\"GET\"", "size": 7, "late": true})
        );
        assert_eq!(second["level"], "INFO");
    }

    #[test]
    fn libraries_stay_quiet_at_the_finest_level() {
        let log = written(LogFormat::Human, LogLevel::Trace);
        assert!(
            log.contains("a step") && log.contains("odd peer") && log.contains("broken"),
            "{log}"
        );
        assert!(!log.contains("Bearer") && !log.contains("select"), "{log}");
    }

    #[test]
    fn the_level_bounds_libraries_too() {
        let log = written(LogFormat::Human, LogLevel::Error);
        assert!(log.contains("broken"), "{log}");
        assert!(!log.contains("odd peer") && !log.contains("retried"), "{log}");
    }
}
