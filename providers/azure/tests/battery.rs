//! The provider battery on the fake of Azure: Key Vault, its HSM keys, and Managed HSM with both
//! AES algorithms.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test stops where an expectation fails"
)]

#[path = "battery/bench.rs"]
mod bench;
#[path = "battery/faults.rs"]
mod faults;

use std::process::ExitCode;
use std::sync::Arc;

use bench::{Bench, Place};
use claviger_provider::{KeySpec, Provider};
use claviger_testkit::battery::{Factory, cases};
use libtest_mimic::{Arguments, Failed, Trial};

/// A kind of key at a kind of vault.
struct Group {
    name: &'static str,
    place: Place,
    spec: KeySpec,
    /// AES key wrap takes multiples of 8 bytes.
    unit: usize,
    /// Whether to run only the cases in [`FEW`]: the others would repeat another group, slowly.
    few: bool,
}

const GROUPS: [Group; 6] = [
    Group {
        name: "vault::rsa-3072",
        place: Place::Vault,
        spec: KeySpec::Rsa3072,
        unit: 1,
        few: false,
    },
    Group {
        name: "vault::rsa-4096",
        place: Place::Vault,
        spec: KeySpec::Rsa4096,
        unit: 1,
        few: true,
    },
    Group {
        name: "vault-hsm::rsa-3072",
        place: Place::VaultHsm,
        spec: KeySpec::Rsa3072,
        unit: 1,
        few: true,
    },
    Group {
        name: "managed-hsm::aes-256",
        place: Place::Hsm,
        spec: KeySpec::Aes256,
        unit: 8,
        few: false,
    },
    Group {
        name: "managed-hsm-gcm::aes-256",
        place: Place::HsmGcm,
        spec: KeySpec::Aes256,
        unit: 1,
        few: false,
    },
    Group {
        name: "managed-hsm::rsa-3072",
        place: Place::Hsm,
        spec: KeySpec::Rsa3072,
        unit: 1,
        few: true,
    },
];

const FEW: [&str; 4] = [
    "every_length_comes_back",
    "lengths_out_of_bounds_are_refused",
    "a_new_key_is_described",
    "another_algorithm_is_rejected",
];

fn main() -> ExitCode {
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    let mut trials = Vec::new();
    for group in &GROUPS {
        for case in cases() {
            if group.few && !FEW.contains(&case.name) {
                continue;
            }
            let name = format!("{}::{}", group.name, case.name);
            trials.push(Trial::test(name, move || {
                let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
                runtime.block_on(async {
                    let bench = Bench::start().await;
                    let factory: Factory = Arc::new(move || {
                        let provider: Arc<dyn Provider> = Arc::new(bench.connect(group.place));
                        Box::pin(async move { provider })
                    });
                    let run = case.run_in_units(&factory, group.spec, group.unit).await;
                    run.map_err(|failure| Failed::from(failure.to_string()))
                })
            }));
        }
    }
    trials.extend(faults::trials());
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}
