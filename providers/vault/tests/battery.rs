//! The provider battery on a real OpenBao, and under the printed least-privilege policy.
//!
//! `tests/backends/openbao/start` starts a server and prints the variables with its address and root
//! token; `start --tls` starts one with TLS, storage and an audit device. Cases without their
//! variables are reported as ignored.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops where an expectation fails")]

#[path = "battery/faults.rs"]
mod faults;
#[path = "battery/keys.rs"]
mod keys;
#[path = "battery/policy.rs"]
mod policy;
#[path = "battery/server.rs"]
mod server;
#[path = "battery/tls.rs"]
mod tls;

use std::process::ExitCode;
use std::sync::Arc;

use claviger_provider::{KeySpec, Provider};
use claviger_testkit::battery::{Case, Factory, cases};
use libtest_mimic::{Arguments, Failed, Trial};
use serde_json::json;

use server::Server;

fn main() -> ExitCode {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let mut trials = Vec::new();
    for (name, server) in [("openbao", Server::dev()), ("openbao-tls", Server::tls())] {
        let absent = server.is_none();
        let server = Arc::new(server.unwrap_or_default());
        for (word, spec, settings) in battery_of(name) {
            let battery = cases()
                .into_iter()
                .map(|case| trial(&format!("{name}::{word}"), case, *spec, settings, &server));
            trials.extend(battery.map(|trial| trial.with_ignored_flag(absent)));
        }
        trials.extend(
            faults::trials(name, &server)
                .into_iter()
                .map(|trial| trial.with_ignored_flag(absent)),
        );
        let own = if name == "openbao" { own(&server) } else { own_tls(&server) };
        trials.extend(own.into_iter().map(|trial| trial.with_ignored_flag(absent)));
    }
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

/// A variant of the battery on a server: its name, the specification, and a setting.
type Battery = &'static [(&'static str, KeySpec, Option<(&'static str, &'static str)>)];

fn battery_of(server: &str) -> Battery {
    match server {
        "openbao" => &[
            ("aes-256", KeySpec::Aes256, None),
            ("chacha20", KeySpec::Aes256, Some(("symmetric_key_type", "chacha20-poly1305"))),
            ("rsa-3072", KeySpec::Rsa3072, None),
            ("rsa-4096", KeySpec::Rsa4096, None),
        ],
        // The same program: one specification shows the effects of TLS and storage.
        _ => &[("aes-256", KeySpec::Aes256, None)],
    }
}

/// A case of the battery.
fn trial(name: &str, case: Case, spec: KeySpec, setting: &'static Option<(&'static str, &'static str)>, server: &Arc<Server>) -> Trial {
    let server = Arc::clone(server);
    Trial::test(format!("{name}::{}", case.name), move || {
        let factory: Factory = Arc::new(move || {
            let mut settings = json!({"auth": {"token": server.token}});
            if let Some((name, value)) = setting {
                settings[name] = json!(value);
            }
            let provider: Arc<dyn Provider> = Arc::new(server.connect_with(settings));
            Box::pin(async { provider })
        });
        run(async move { case.run(&factory, spec).await.map_err(Failed::from) })
    })
}

macro_rules! own {
    ($server:ident, $name:literal, $($module:ident::$case:ident),* $(,)?) => {
        vec![$({
            let server = Arc::clone($server);
            Trial::test(concat!($name, "::", stringify!($module), "::", stringify!($case)), move || {
                run(async move { $module::$case(&server).await; Ok(()) })
            })
        }),*]
    };
}

fn own(server: &Arc<Server>) -> Vec<Trial> {
    own![
        server,
        "openbao",
        keys::existing_keys_are_adopted_and_unfit_ones_are_not,
        keys::rsa_keys_stand_behind_their_own_specification,
        keys::chacha20_poly1305_stands_behind_aes_256_where_the_connection_says_so,
        keys::versions_that_are_switched_off_are_told_and_do_nothing,
        keys::keys_whose_material_can_leave_are_told,
        keys::a_key_of_another_type_under_the_same_name_wraps_nothing,
        keys::a_wrap_never_makes_a_key,
        keys::namespaces_part_keys,
        keys::the_servers_own_client_opens_what_was_wrapped,
        policy::everything_works_under_the_printed_policy_and_fails_without_any_line,
        policy::a_check_names_what_is_missing_and_what_is_too_much,
        policy::a_mount_that_is_no_transit_is_named,
        policy::a_login_is_repeated_when_the_server_drops_the_token,
        policy::a_token_is_renewed_while_nobody_calls,
        policy::a_check_tries_the_keys_that_the_connection_has,
        policy::a_dead_token_is_denied,
        policy::a_wrapping_token_is_named,
        policy::a_token_that_ends_is_named,
    ]
}

fn own_tls(server: &Arc<Server>) -> Vec<Trial> {
    own![
        server,
        "openbao-tls",
        tls::its_own_authority_is_trusted_and_no_other,
        tls::a_client_certificate_logs_in_and_again_when_the_token_is_dropped,
        tls::a_client_certificate_that_is_replaced_logs_in,
        tls::a_certificate_that_the_role_does_not_take_is_denied,
        tls::the_servers_record_shows_only_calls_that_the_policy_names,
    ]
}

fn run(case: impl Future<Output = Result<(), Failed>>) -> Result<(), Failed> {
    tokio::runtime::Runtime::new()?.block_on(case)
}
