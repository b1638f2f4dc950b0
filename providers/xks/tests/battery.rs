//! The provider battery on the fake XKS proxy: plain, and over mutual TLS with a path prefix; and the fault battery.
//!
//! The battery also runs on any other proxy that the variables of [`given`] name, such as AWS's own sample; without
//! them its cases are reported as ignored.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops where an expectation fails")]

#[path = "battery/bench.rs"]
mod bench;
#[path = "battery/faults.rs"]
mod faults;
#[path = "battery/given.rs"]
mod given;

use std::process::ExitCode;
use std::sync::Arc;

use bench::{Bench, connect};
use claviger_fake_xks::Transport;
use claviger_provider::{KeySpec, Provider};
use claviger_testkit::battery::{Case, Factory, OwnersKey, cases};
use given::Given;
use libtest_mimic::{Arguments, Failed, Trial};
use serde_json::Value;

fn main() -> ExitCode {
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    let mut trials = Vec::new();
    for case in cases() {
        for (name, transport, prefix) in [
            ("plain", Transport::Plain, ""),
            ("mutual-tls", Transport::MutualTls, "/tenants/a_1"),
        ] {
            trials.push(Trial::test(format!("{name}::{}", case.name), move || {
                runtime()?.block_on(async {
                    let bench = Arc::new(Bench::start(transport, prefix).await);
                    let keys = Arc::clone(bench.fake.keys());
                    run(case, move || bench.settings(), move || keys.make_another()).await
                })
            }));
        }
        let given = Given::from_environment();
        let absent = given.is_none();
        let given = Arc::new(given.unwrap_or_default());
        let trial = Trial::test(format!("given::{}", case.name), move || {
            let (settings, keys) = (Arc::clone(&given), Arc::clone(&given));
            runtime()?.block_on(run(case, move || settings.settings(), move || keys.another()))
        });
        trials.push(trial.with_ignored_flag(absent));
    }
    trials.extend(faults::trials());
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

/// Runs a case on connections with these settings, and keys of these names.
async fn run(
    case: Case,
    settings: impl Fn() -> Value + Send + Sync + 'static,
    owners: impl Fn() -> String + Send + Sync + 'static,
) -> Result<(), Failed> {
    let factory: Factory = Arc::new(move || {
        let provider: Arc<dyn Provider> = Arc::new(connect(&settings()));
        Box::pin(async { provider })
    });
    let owners: OwnersKey = Arc::new(move || {
        let name = owners();
        Box::pin(async { name })
    });
    let run = case.run_adopting(&factory, KeySpec::Aes256, &owners).await;
    run.map_err(|failure| Failed::from(failure.to_string()))
}

fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()
}
