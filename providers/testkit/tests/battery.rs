//! The provider battery on the fake in all its configurations.

use std::process::ExitCode;
use std::sync::Arc;

use claviger_provider::{Capabilities, ContextBinding, KeyCapabilities, KeySpec, Provider, ProviderKind, Rotation};
use claviger_testkit::battery::{Factory, cases};
use claviger_testkit::{FakeConfig, FakeProvider, FakeServer};
use libtest_mimic::{Arguments, Failed, Trial};

fn main() -> ExitCode {
    let plain = FakeConfig::default();
    let bare = FakeConfig {
        kind: ProviderKind::Azure,
        capabilities: Capabilities {
            keys: vec![KeyCapabilities {
                context: ContextBinding::CommitmentOnly,
                rotation: None,
                max_plaintext: 64,
                ..plain.capabilities.keys[0]
            }],
            set_state: false,
            ..plain.capabilities.clone()
        },
    };
    let set_ups = [
        ("plain", plain),
        ("bare", bare),
        ("capable", FakeConfig::capable(ProviderKind::Aws, Rotation::InPlace)),
        ("unnamed", FakeConfig::capable(ProviderKind::Aws, Rotation::InPlaceUnnamed)),
        ("new_key", FakeConfig::capable(ProviderKind::Gcp, Rotation::NewKey)),
    ];
    let mut trials = Vec::new();
    for (name, config) in set_ups {
        // One server for all cases of a configuration: the cases must not interfere.
        let server = FakeServer::new();
        let factory: Factory = Arc::new(move || {
            let provider = FakeProvider::new(Arc::clone(&server), config.clone());
            Box::pin(async { Arc::new(provider) as Arc<dyn Provider> })
        });
        trials.extend(cases().into_iter().map(|case| {
            let factory = Arc::clone(&factory);
            Trial::test(format!("fake::{name}::{}", case.name), move || {
                let runtime = tokio::runtime::Runtime::new()?;
                runtime.block_on(case.run(&factory, KeySpec::Aes256)).map_err(Failed::from)
            })
        }));
    }
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}
