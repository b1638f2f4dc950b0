//! The blob battery: what a wrapped key promises, over HTTP against the real binary, written
//! once and run on every provider of [`entries::ENTRIES`].
//!
//! `cargo test --test conformance` runs it; a name narrows it, as with the usual harness
//! (`local::rewrap`). The fake needs `--features testkit`: without it its cases are reported
//! as ignored.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test stops where an expectation fails"
)]
#![allow(clippy::print_stderr, reason = "a test under load says what it counted")]

mod bench;
mod blob;
mod cases;
mod cutoff;
mod entries;
mod external;
mod kmip;
mod needs;
mod owner;
mod pkcs11;
mod tables;
mod wire;
mod xks;

use std::panic::AssertUnwindSafe;
use std::process::ExitCode;
use std::sync::Arc;

use bench::{Bench, Host};
use claviger_testkit::battery::known::{Known, expect};
use entries::{ENTRIES, Entry};
use libtest_mimic::{Arguments, Failed, Trial};
use needs::{Act, Needs};

/// The binary under test.
const BINARY: &str = env!("CARGO_BIN_EXE_claviger");

/// A future that a case returns.
type Boxed = std::pin::Pin<Box<dyn Future<Output = ()>>>;

/// One case of the battery: its name, what it needs, and what it does with a fresh tenant.
type Case = (&'static str, Needs, fn(Bench) -> Boxed);

fn main() -> ExitCode {
    let mut trials = vec![tables::trial()];
    for entry in ENTRIES {
        // Its cases hold it: the gateway ends with the last of them.
        let host = Arc::new(Host::new(entry));
        for (module, cases) in cases::MODULES {
            for case in cases.iter().filter(|(_, needs, _)| needs.met_by(entry)) {
                trials.push(trial(entry, &host, module, case));
            }
        }
        for difference in entry.differences {
            // A difference that names no case would be kept for ever.
            let known = cases::MODULES
                .iter()
                .any(|(module, cases)| cases.iter().any(|(name, _, _)| difference.case == format!("{module}::{name}")));
            assert!(known, "{}: there is no case {}", entry.name, difference.case);
        }
    }
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

fn trial(entry: &'static Entry, host: &Arc<Host>, module: &str, case: &Case) -> Trial {
    let (name, needs, run) = *case;
    let path = format!("{module}::{name}");
    let difference = entry.differences.iter().find(|difference| difference.case == path);
    let known = difference.map(|difference| Known {
        says: difference.says,
        reason: difference.reason,
    });
    let name = format!("{}::{path}", entry.name);
    let host = match needs {
        Needs::FaultsAlone => Arc::new(Host::new(entry)),
        Needs::Keys | Needs::Faults | Needs::FaultsInside | Needs::OwnersVersions | Needs::Owner(_) => Arc::clone(host),
    };
    let test = move || expect(known, AssertUnwindSafe(|| run_case(entry, host, &path, run))).map_err(Failed::from);
    Trial::test(name, test).with_ignored_flag((entry.absent)().is_some())
}

fn run_case(entry: &Entry, host: Arc<Host>, path: &str, run: fn(Bench) -> Boxed) {
    // Who asks for an ignored case by `--ignored` gets a failure, not a pass.
    if let Some(why) = (entry.absent)() {
        panic!("{} is absent: {why}", entry.name);
    }
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime")
        .block_on(async {
            let bench = Bench::start(host, path).await;
            run(bench).await;
        });
}
