//! The provider battery on real tokens: SoftHSM and Kryoptic, in the helper process that the gateway uses.
//!
//! `tests/backends/softhsm/start` and `tests/backends/kryoptic/start` print the variables with the modules. Cases
//! without them are reported as ignored. This program is its own helper, as the gateway is.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops where an expectation fails")]

#[path = "battery/adoption.rs"]
mod adoption;
#[path = "battery/calls.rs"]
mod calls;
#[path = "battery/circuits.rs"]
mod circuits;
#[path = "battery/faults.rs"]
mod faults;
#[path = "battery/faulty.rs"]
mod faulty;
#[path = "battery/logins.rs"]
mod logins;
#[path = "battery/objects.rs"]
mod objects;
#[path = "battery/token.rs"]
mod token;

use std::process::ExitCode;
use std::sync::Arc;

use claviger_provider::{KeySpec, Provider};
use claviger_testkit::battery::{Case, Factory, cases};
use libtest_mimic::{Arguments, Failed, Trial};

use token::{HELPER, Module, Token};

/// The cases for RSA keys of 4096 bits, which take seconds to make: the others would repeat those of 3072 bits.
const FEW: [&str; 4] = [
    "every_length_comes_back",
    "lengths_out_of_bounds_are_refused",
    "a_new_key_is_described",
    "another_algorithm_is_rejected",
];

/// A case whose nine keys a token makes one after the other. With RSA keys that takes longer on a busy machine than the
/// battery waits, and AES keys show it as well.
const MANY: &str = "rotations_at_once_lose_nothing";

/// Whether a case is run with keys of this specification.
fn takes(case: &Case, spec: KeySpec) -> bool {
    match spec {
        KeySpec::Aes256 => true,
        KeySpec::Rsa3072 => case.name != MANY,
        KeySpec::Rsa4096 => FEW.contains(&case.name),
    }
}

fn main() -> ExitCode {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    if std::env::args().nth(1).as_deref() == Some(HELPER) {
        let _context = runtime.enter();
        return match claviger_pkcs11_host::run() {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        };
    }
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let Some((objects::MAKER, rest)) = arguments.split_first().map(|(first, rest)| (first.as_str(), rest)) {
        objects::make_here(rest);
        return ExitCode::SUCCESS;
    }
    let mut trials = Vec::new();
    for (name, module) in [("softhsm", Module::softhsm()), ("kryoptic", Module::kryoptic())] {
        let absent = module.is_none();
        let module = Arc::new(module.unwrap_or_default());
        for spec in KeySpec::ALL {
            let of_spec = cases().into_iter().filter(|case| takes(case, spec));
            trials.extend(of_spec.map(|case| trial(name, case, spec, &module).with_ignored_flag(absent)));
        }
        trials.extend(own(name, &module).into_iter().map(|trial| trial.with_ignored_flag(absent)));
    }
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

/// The tests of this provider alone, each on tokens of its own.
fn own(name: &str, module: &Arc<Module>) -> Vec<Trial> {
    macro_rules! own {
        ($($suite:ident::$case:ident),* $(,)?) => {
            vec![$({
                let module = Arc::clone(module);
                Trial::test(format!("{name}::{}::{}", stringify!($suite), stringify!($case)), move || {
                    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
                    runtime.block_on($suite::$case(module));
                    Ok(())
                })
            }),*]
        };
    }
    own![
        adoption::a_key_is_adopted_by_its_id,
        adoption::a_key_that_cannot_be_used_is_told,
        adoption::a_key_that_can_leave_the_token_is_named,
        adoption::a_key_that_may_not_encrypt_opens_what_it_wrapped,
        adoption::a_key_that_has_another_id_opens_nothing_under_the_old_one,
        adoption::a_key_that_is_destroyed_or_replaced_is_told,
        adoption::a_right_is_missed_and_used_again_at_the_next_call,
        adoption::a_replaced_token_keeps_the_names_of_its_keys,
        adoption::another_tenants_key_is_not_adopted,
        circuits::a_check_calls_the_token_while_the_circuit_is_open,
        circuits::a_key_that_the_token_fails_for_stops_no_other,
        circuits::a_token_that_is_removed_opens_the_circuit_and_one_call_closes_it,
        faults::a_call_ends_with_its_budget,
        faults::a_callers_short_time_ends_no_helper,
        faults::a_generation_that_may_have_been_done_is_not_repeated,
        faults::a_handle_that_leads_to_another_key_is_found_anew,
        faults::a_helper_ends_with_its_gateway_while_its_module_hangs,
        faults::a_made_key_is_tried_before_it_is_found,
        faults::a_module_that_computes_wrong_makes_no_key,
        faults::a_module_that_crashes_takes_down_its_connection_only,
        faults::a_module_that_hangs_is_ended,
        faults::a_token_that_forgets_the_login_is_logged_in_to_again,
        faults::a_token_that_is_removed_is_used_once_it_is_back,
        faults::each_fault_has_its_kind,
        faults::the_vector_is_the_one_that_the_token_used,
        faults::what_a_module_started_ends_with_its_helper,
        logins::a_changed_pin_is_sent_once,
        logins::a_connection_names_one_token,
        logins::a_login_that_is_cut_off_counts_for_the_next_gateway,
        logins::a_pin_that_was_accepted_outlives_unclear_answers,
        logins::a_pin_file_is_told_while_it_is_missing_and_read_when_it_changes,
        logins::a_refused_pin_is_never_tried_again,
        logins::a_severed_connection_calls_nothing,
        logins::a_tenant_cannot_lock_a_token_that_is_declared,
        logins::a_token_that_comes_later_is_found,
        logins::a_token_that_is_logged_in_to_before_is_told,
        logins::logins_without_an_answer_are_two_at_most,
        logins::unclear_answers_to_logins_are_two_at_most,
        logins::what_is_no_module_is_told,
    ]
}

/// A case of the battery, on a token of its own.
fn trial(name: &str, case: Case, spec: KeySpec, module: &Arc<Module>) -> Trial {
    let module = Arc::clone(module);
    Trial::test(format!("{name}::{}::{}", spec.as_str(), case.name), move || {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let token = Arc::new(Token::make(&module));
        let connected = Arc::clone(&token);
        let factory: Factory = Arc::new(move || {
            let provider: Arc<dyn Provider> = Arc::new(connected.connect());
            Box::pin(async { provider })
        });
        runtime
            .block_on(case.run(&factory, spec))
            .map_err(|failure| Failed::from(failure.to_string()))
    })
}
