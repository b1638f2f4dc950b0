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
    let trials = cases().into_iter().map(|case| {
        let factory = Arc::clone(&factory);
        Trial::test(format!("local::{}", case.name), move || {
            let runtime = tokio::runtime::Runtime::new()?;
            runtime.block_on(case.run(&factory, KeySpec::Aes256)).map_err(Failed::from)
        })
    });
    libtest_mimic::run(&Arguments::from_args(), trials.collect()).exit_code()
}
