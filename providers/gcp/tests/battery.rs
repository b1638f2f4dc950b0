//! The provider battery on the fake of Google with keys of every specification, and cases of
//! Google's own.
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
#[path = "battery/keys.rs"]
mod keys;
#[path = "battery/rights.rs"]
mod rights;
#[path = "battery/server.rs"]
mod server;
#[path = "battery/tokens.rs"]
mod tokens;

use std::panic::AssertUnwindSafe;
use std::process::ExitCode;
use std::sync::Arc;

use claviger_provider::{KeySpec, Provider};
use claviger_testkit::battery::known::{Known, expect};
use claviger_testkit::battery::{Case, Factory, cases};
use libtest_mimic::{Arguments, Failed, Trial};

use differences::{DIFFERENCES, runs};
use server::Server;

fn main() -> ExitCode {
    let _installed = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let mut trials = Vec::new();
    for spec in KeySpec::ALL {
        trials.extend(
            cases()
                .into_iter()
                .filter(|case| runs(spec, case.name))
                .map(|case| of_battery(spec, case)),
        );
    }
    for known in DIFFERENCES {
        // A difference of no case would never be removed.
        assert!(cases().iter().any(|case| case.name == known.case), "{} is not run", known.case);
    }
    macro_rules! own {
        ($($module:ident::$name:ident),* $(,)?) => {$(
            let name = concat!(stringify!($module), "::", stringify!($name));
            trials.push(Trial::test(name, || {
                runtime().block_on($module::$name());
                Ok(())
            }));
        )*};
    }
    own![
        keys::a_key_is_adopted_by_its_label_alone,
        keys::keys_that_do_not_fit_are_refused_with_what_does,
        keys::keys_of_every_protection_level_are_taken,
        keys::a_new_key_is_waited_for_until_it_is_found,
        keys::a_repeated_creation_waits_until_the_first_one_s_key_shows,
        keys::a_rotation_at_google_is_seen,
        keys::a_key_without_a_primary_version_wraps_with_the_newest,
        keys::a_version_that_google_still_makes_is_no_version,
        keys::a_disable_that_takes_its_time_is_a_disable,
        keys::data_keys_come_from_the_hsm_where_asked,
        keys::a_destroyed_version_is_told,
        tokens::a_clock_ten_minutes_fast_is_named,
        tokens::a_token_file_is_read_at_each_login,
        tokens::each_credential_is_used_as_it_is,
        tokens::a_dropped_token_is_replaced_in_mid_flight,
        tokens::credentials_that_are_refused_say_so,
        rights::a_check_names_what_is_missing_and_what_is_too_much,
        rights::a_key_that_the_identity_may_not_use_is_not_adopted,
        rights::the_printed_role_suffices,
        rights::a_right_is_missed_and_used_again_at_the_next_call,
        rights::a_check_says_which_key_fails_and_that_a_ring_does_not_exist,
    ];
    trials.extend(faults::trials());
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Runtime::new().unwrap()
}

fn of_battery(spec: KeySpec, case: Case) -> Trial {
    let known = DIFFERENCES
        .iter()
        .find(|known| known.specs.contains(&spec) && known.case == case.name);
    let run = move || {
        runtime().block_on(async {
            let server = Arc::new(Server::start().await);
            let factory: Factory = Arc::new(move || {
                let server = Arc::clone(&server);
                Box::pin(async move { Arc::new(server.connect().await) as Arc<dyn Provider> })
            });
            if let Err(failure) = case.run(&factory, spec).await {
                panic!("{failure}");
            }
        });
    };
    let known = known.map(|known| Known {
        says: known.says,
        reason: known.reason,
    });
    let test = move || expect(known, AssertUnwindSafe(run)).map_err(Failed::from);
    Trial::test(format!("{}::{}", spec.as_str(), case.name), test)
}
