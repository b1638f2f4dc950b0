//! The provider battery on moto and on LocalStack with keys of every specification, and more cases on
//! these servers.
//!
//! `tests/backends/aws/start` starts a server and prints its address, which the cases expect in
//! `CLAVIGER_TEST_MOTO_ADDRESS` and `CLAVIGER_TEST_LOCALSTACK_ADDRESS`. Without these variables they
//! are reported as ignored.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test stops where an expectation fails"
)]

#[path = "battery/differences.rs"]
mod differences;
#[path = "battery/faults.rs"]
mod faults;
#[path = "battery/owner.rs"]
mod owner;
#[path = "battery/server.rs"]
mod server;

use std::panic::AssertUnwindSafe;
use std::process::ExitCode;
use std::sync::Arc;

use claviger_provider::{KeySpec, Provider};
use claviger_testkit::battery::known::{Known, expect};
use claviger_testkit::battery::{Factory, cases};
use libtest_mimic::{Arguments, Failed, Trial};

use differences::{DIFFERENCES, Difference, runs};
use server::Server;

fn main() -> ExitCode {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let mut trials = Vec::new();
    let mut named = Vec::new();
    for server in Server::ALL {
        for spec in KeySpec::ALL {
            for case in cases().into_iter().filter(|case| runs(server, spec.as_str(), case.name)) {
                let run = move || async move {
                    let factory: Factory = Arc::new(move || Box::pin(async move { Arc::new(server.connect().await) as Arc<dyn Provider> }));
                    if let Err(failure) = case.run(&factory, spec).await {
                        panic!("{failure}");
                    }
                };
                named.push((server, spec.as_str(), case.name));
                trials.push(trial(server, spec.as_str(), case.name, run));
            }
        }
    }
    macro_rules! own {
        ($($servers:expr => $module:ident::$name:ident),* $(,)?) => {$(
            for server in $servers {
                let (module, name) = (stringify!($module), stringify!($name));
                named.push((server, module, name));
                trials.push(trial(server, module, name, move || $module::$name(server)));
            }
        )*};
    }
    own![
        Server::ALL => owner::keys_are_adopted_by_each_of_their_names,
        Server::ALL => owner::keys_of_another_kind_are_refused,
        [Server::LocalStack] => owner::keys_that_cannot_be_used_now_are_refused,
        Server::ALL => owner::a_replica_opens_what_the_primary_wrapped,
        Server::ALL => owner::awss_own_tool_opens_what_was_wrapped,
        [Server::Moto] => owner::a_role_is_assumed_and_found_to_be_open,
        [Server::Moto] => owner::a_lent_identity_adopts_no_key_without_a_policy,
        [Server::Moto] => owner::rotations_made_at_aws_are_seen,
    ];
    for case in claviger_test_support::fault_battery::cases() {
        for server in Server::ALL {
            named.push((server, "faults", case.name));
            trials.push(trial(server, "faults", case.name, move || faults::run(server, case)));
        }
    }
    for Difference { servers, groups, case, .. } in DIFFERENCES {
        for (server, group) in servers.iter().flat_map(|server| groups.iter().map(move |group| (server, group))) {
            // A difference that no case meets would stay in the list for ever.
            let met = named.contains(&(*server, *group, *case));
            assert!(met, "{}::{group}::{case} is not run", server.name());
        }
    }
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

fn trial<F: Future<Output = ()>>(server: Server, group: &'static str, case: &'static str, run: impl Fn() -> F + Send + 'static) -> Trial {
    let known = DIFFERENCES
        .iter()
        .find(|known| known.servers.contains(&server) && known.groups.contains(&group) && known.case == case);
    let known = known.map(|known| Known {
        says: known.says,
        reason: known.reason,
    });
    let run = move || tokio::runtime::Runtime::new().unwrap().block_on(run());
    let test = move || expect(known, AssertUnwindSafe(run)).map_err(Failed::from);
    Trial::test(format!("{}::{group}::{case}", server.name()), test).with_ignored_flag(server.address().is_none())
}
