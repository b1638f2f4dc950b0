//! `claviger serve`: the gateway, until a signal ends it.

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::ServeArgs;
use crate::boot::{BootError, ConfigSource, StartOptions, Starting};
use crate::client::Failure;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::start_log;

/// Serves until SIGTERM or SIGINT, then drains. SIGHUP has the certificates read again.
pub(super) async fn run(args: &ServeArgs) -> Result<(), Failure> {
    let config = args.config.load().map_err(|errors| Failure::Usage(errors.to_string()))?;
    start_log(&config.telemetry).map_err(|_| Failure::Local("the log was begun twice".to_owned()))?;
    let metrics = config.telemetry.metrics.then(Metrics::install).transpose();
    let metrics = metrics.map_err(|_| Failure::Local("the metrics were begun twice".to_owned()))?;
    let options = StartOptions {
        accept_rollback: args.accept_rollback,
        metrics,
        source: Some(ConfigSource {
            file: args.config.config.clone(),
        }),
        ..StartOptions::default()
    };
    let mut end = EndSignals::take()?;
    let mut hang_up = take(SignalKind::hangup())?;
    let mut starting = Starting::begin(&config, options).await.map_err(|error| not_started(&error))?;
    let root = tokio::select! {
        root = starting.root_key(&config) => root.map_err(|error| not_started(&error))?,
        () = end.wait() => return Ok(()),
    };
    let serving = starting.serve(&config, root).await.map_err(|error| not_started(&error))?;
    loop {
        tokio::select! {
            () = end.wait() => break,
            _ = hang_up.recv() => serving.read_certificates_again().await,
        }
    }
    serving.stop().await;
    Ok(())
}

/// The whole chain of what went wrong, on one line.
pub(super) fn not_started(error: &BootError) -> Failure {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(next) = cause {
        let more = next.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = next.source();
    }
    Failure::Local(text)
}

/// SIGTERM and SIGINT, from the moment that this was made: one that comes while the root key
/// is waited for ends the start, a later one the gateway, in order, right after its start.
pub(super) struct EndSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl EndSignals {
    /// Takes the signals over from the system's own way, which ends the process at once.
    pub(super) fn take() -> Result<Self, Failure> {
        Ok(Self {
            terminate: take(SignalKind::terminate())?,
            interrupt: take(SignalKind::interrupt())?,
        })
    }

    /// Waits for one of them.
    pub(super) async fn wait(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Takes one kind of signal over.
fn take(kind: SignalKind) -> Result<Signal, Failure> {
    signal(kind).map_err(|error| Failure::Local(format!("signals cannot be waited for ({})", error.kind())))
}
