//! The provider battery on a real OpenBao, and under the printed least-privilege policy.
//!
//! `tests/backends/openbao/start` starts one and tells its address and root token, which
//! this takes from `CLAVIGER_TEST_OPENBAO_ADDRESS` and `CLAVIGER_TEST_OPENBAO_TOKEN`.
//! Without them every case is reported as ignored.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops where an expectation fails")]

#[path = "battery/keys.rs"]
mod keys;
#[path = "battery/policy.rs"]
mod policy;
#[path = "battery/server.rs"]
mod server;

use std::process::ExitCode;
use std::sync::Arc;

use claviger_provider::{KeySpec, Provider};
use claviger_testkit::battery::{Factory, cases};
use libtest_mimic::{Arguments, Failed, Trial};

use server::Server;

fn main() -> ExitCode {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let server = Server::from_environment();
    let absent = server.is_none();
    let server = Arc::new(server.unwrap_or_default());
    let mut trials = Vec::new();
    for case in cases() {
        let server = Arc::clone(&server);
        trials.push(Trial::test(format!("openbao::{}", case.name), move || {
            let provider = server.clone();
            let factory: Factory = Arc::new(move || {
                let provider: Arc<dyn Provider> = Arc::new(provider.connect(&provider.token));
                Box::pin(async { provider })
            });
            run(async move { case.run(&factory, KeySpec::Aes256).await.map_err(Failed::from) })
        }));
    }
    macro_rules! own {
        ($($module:ident::$name:ident),* $(,)?) => {$({
            let server = Arc::clone(&server);
            trials.push(Trial::test(concat!("openbao::", stringify!($module), "::", stringify!($name)), move || {
                run(async move { $module::$name(&server).await; Ok(()) })
            }));
        })*};
    }
    own![
        keys::existing_keys_are_adopted_and_unfit_ones_are_not,
        keys::versions_that_are_switched_off_are_told_and_do_nothing,
        keys::a_wrap_never_makes_a_key,
        keys::namespaces_part_keys,
        keys::the_servers_own_client_opens_what_was_wrapped,
        policy::everything_works_under_the_printed_policy_and_fails_without_any_line,
        policy::a_check_names_what_is_missing_and_what_is_too_much,
        policy::a_mount_that_is_no_transit_is_named,
        policy::a_login_is_repeated_when_the_server_drops_the_token,
        policy::a_token_is_renewed_while_nobody_calls,
        policy::a_dead_token_is_denied,
    ];
    let trials = trials.into_iter().map(|trial| trial.with_ignored_flag(absent)).collect();
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

fn run(case: impl Future<Output = Result<(), Failed>>) -> Result<(), Failed> {
    tokio::runtime::Runtime::new()?.block_on(case)
}
