//! The provider battery on the embedded provider.

use std::process::ExitCode;
use std::sync::Arc;

use claviger_provider::{KeySpec, Provider};
use claviger_provider_local::{LocalProvider, Settings};
use claviger_testkit::MemoryStore;
use claviger_testkit::battery::{Factory, cases};
use libtest_mimic::{Arguments, Failed, Trial};

fn main() -> ExitCode {
    let factory: Factory = Arc::new(|| {
        let provider = LocalProvider::new(Arc::new(MemoryStore::default()), Settings {});
        Box::pin(async { Arc::new(provider) as Arc<dyn Provider> })
    });
    let mut trials = Vec::new();
    for spec in KeySpec::ALL {
        // RSA-4096 differs from RSA-3072 in its size only, and its keys take seconds to generate: run
        // only the cases that depend on the size.
        let sized = [
            "every_length_comes_back",
            "lengths_out_of_bounds_are_refused",
            "a_new_key_is_described",
        ];
        let fit = |name: &str| spec != KeySpec::Rsa4096 || sized.contains(&name);
        trials.extend(cases().into_iter().filter(|case| fit(case.name)).map(|case| {
            let factory = Arc::clone(&factory);
            Trial::test(format!("local::{}::{}", spec.as_str(), case.name), move || {
                let runtime = tokio::runtime::Runtime::new()?;
                runtime.block_on(case.run(&factory, spec)).map_err(Failed::from)
            })
        }));
    }
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}
