//! What only real key services show, over HTTP and the command line against the real binary:
//! what a check finds, that a blob is opened without us, and that no credential gets into a
//! log. The blob battery of `tests/conformance` runs on the same servers.
//!
//! Each case needs servers of `tests/backends`, whose variables `tests/run` sets; it is
//! reported as ignored without them.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test stops where an expectation fails"
)]

mod adopting;
mod audited;
mod check;
mod claimed;
mod external;
mod failover;
mod front;
mod gone;
mod held;
mod key_managers;
mod leaving;
mod logins;
mod lost;
mod matrix;
mod moves;
mod namespaces;
mod openbao;
mod owners_versions;
mod pkcs11;
mod root_key;
mod same_ids;
mod secrets;
mod shared_logins;
mod short_deadlines;
mod slow_logins;
mod transit_key;
mod trust;
mod world;
mod wrap_limit;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Failed, Trial};

/// The binary under test.
const BINARY: &str = env!("CARGO_BIN_EXE_claviger");

/// A future that a case returns.
type Boxed = std::pin::Pin<Box<dyn Future<Output = ()>>>;

/// One case: its name, the variables that it needs, and what it does.
struct Case {
    name: String,
    needs: &'static [&'static str],
    run: Box<dyn FnOnce() -> Boxed + Send>,
}

impl Case {
    fn new(name: impl Into<String>, needs: &'static [&'static str], run: impl FnOnce() -> Boxed + Send + 'static) -> Self {
        Self {
            name: name.into(),
            needs,
            run: Box::new(run),
        }
    }

    fn trial(self) -> Trial {
        let absent = self.needs.iter().any(|name| std::env::var_os(name).is_none());
        let run = self.run;
        let test = move || {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
            runtime.block_on(run());
            Ok::<(), Failed>(())
        };
        Trial::test(self.name, test).with_ignored_flag(absent)
    }
}

fn main() -> ExitCode {
    let cases = [
        adopting::cases(),
        audited::cases(),
        check::cases(),
        claimed::cases(),
        external::cases(),
        failover::cases(),
        gone::cases(),
        held::cases(),
        key_managers::cases(),
        leaving::cases(),
        logins::cases(),
        lost::cases(),
        matrix::cases(),
        moves::cases(),
        namespaces::cases(),
        owners_versions::cases(),
        pkcs11::cases(),
        root_key::cases(),
        same_ids::cases(),
        secrets::cases(),
        shared_logins::cases(),
        short_deadlines::cases(),
        slow_logins::cases(),
        trust::cases(),
        wrap_limit::cases(),
    ];
    let trials = cases.into_iter().flatten().map(Case::trial).collect();
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}
