//! The command `serve`: runs the gateway until a signal stops it.

use std::error::Error;

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::serving::ServeArgs;
use crate::boot::{Accepted, BootError, ConfigSource, StartOptions, Starting};
use crate::client::Failure;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::start_log;

/// Serves until SIGTERM or SIGINT, then drains. SIGHUP reads the certificates again.
pub(super) async fn run(args: &ServeArgs) -> Result<(), Failure> {
    let config = args.config.load().map_err(|errors| Failure::Usage(errors.to_string()))?;
    start_log(&config.telemetry).map_err(|_| Failure::Local("the log was started twice".to_owned()))?;
    args.proxies.report();
    let metrics = config.telemetry.metrics.then(Metrics::install).transpose();
    let metrics = metrics.map_err(|_| Failure::Local("the metrics were started twice".to_owned()))?;
    let options = StartOptions {
        accepted: Accepted {
            rollback: args.accept_rollback,
            lost_log: args.accept_lost_log,
            clock: args.accept_clock,
        },
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

/// Why the gateway did not start.
pub(super) fn not_started(error: &BootError) -> Failure {
    with_causes(error)
}

/// The error and its causes, on one line.
pub(super) fn with_causes(error: &dyn Error) -> Failure {
    let mut text = error.to_string();
    let mut cause = error.source();
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

/// SIGTERM and SIGINT. A signal while the gateway waits for the root key ends the startup. A later one
/// stops the gateway in order, as soon as it has started.
pub(super) struct EndSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl EndSignals {
    /// Replaces the system's default handling, which ends the process immediately.
    pub(super) fn take() -> Result<Self, Failure> {
        Ok(Self {
            terminate: take(SignalKind::terminate())?,
            interrupt: take(SignalKind::interrupt())?,
        })
    }

    /// Waits for one of the signals.
    pub(super) async fn wait(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Replaces the default handling of one signal.
fn take(kind: SignalKind) -> Result<Signal, Failure> {
    signal(kind).map_err(|error| Failure::Local(format!("signals cannot be handled ({})", error.kind())))
}
