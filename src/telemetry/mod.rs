//! Log and metrics of a running gateway.
//!
//! The command line starts both. Other modules log with `tracing`, and count with the functions of
//! [`metrics`] or the macros of the crate `metrics`. Labels have a closed list of values: never a
//! tenant, a key, a principal or anything else that a caller chose.

pub mod circuits;
mod format;
pub mod jobs;
pub mod logins;
pub mod metrics;
pub mod request;

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
            .event_format(format::JsonLines::new())
            .with_writer(writer)
            .boxed(),
        LogFormat::Human => fmt::layer().event_format(format::HumanLines::new()).with_writer(writer).boxed(),
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

    use bytes::Bytes;
    use http::{HeaderMap, HeaderValue};

    use super::request::RequestLabel;
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
        let mut headers = HeaderMap::new();
        let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        headers.insert("traceparent", HeaderValue::from_static(trace));
        let mut label = RequestLabel::new(Bytes::from_static(b"r1"), "/v1/keys/{key}", "GET", &headers);
        tracing::info!(target: "claviger::boot", "outside of a request");
        label.scope(|| tracing::info!(target: "claviger_provider::layers", attempts = 2, "retried"));
        tracing::info!(target: "claviger::boot", "after it");
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
    fn lines_in_a_request_carry_its_label() {
        let log = written(LogFormat::Json, LogLevel::Info);
        let lines: Vec<serde_json::Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines[0]["message"], "outside of a request");
        assert_eq!(lines[1]["message"], "retried");
        assert_eq!(lines[1]["attempts"], 2);
        assert_eq!(
            lines[1]["span"],
            serde_json::json!({
                "name": "request", "id": "r1", "route": "/v1/keys/{key}", "method": "GET", "trace": "4bf92f3577b34da6a3ce929d0e0e4736"
            })
        );
        assert_eq!(lines[1]["level"], "INFO");
        assert_eq!(lines[2]["message"], "after it");
        assert!(lines[0].get("span").is_none() && lines[2].get("span").is_none(), "{log}");
        let log = written(LogFormat::Human, LogLevel::Info);
        let labelled = " INFO request{id=r1 route=/v1/keys/{key} method=GET trace=4bf92f3577b34da6a3ce929d0e0e4736}: claviger_provider::layers: retried attempts=2\n";
        assert!(log.contains(labelled), "{log}");
        assert!(log.contains(" INFO claviger::boot: after it\n"), "{log}");
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
