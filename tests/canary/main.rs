//! Canaries: random keys go through every operation and error at the log's finest level, and
//! are then searched for, raw, in hex and in base64, wherever the gateway keeps anything:
//! its log output, database, write-ahead files, audit files and whole folder; its locked
//! arena, and all of its memory after the cache's age.
//!
//! The memory can be read by root alone; elsewhere those cases are reported as ignored, as is
//! the one with the fake without the feature `testkit`. The table of the last case:
//! `CLAVIGER_TEST_BINARY=target/release/claviger cargo test --test canary -- --nocapture memory`.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test stops where an expectation fails, and prints its table"
)]

mod external;
mod forms;
mod helper;
mod kept;
mod memory;
mod operations;
mod panics;

use std::future::Future;
use std::process::ExitCode;

use libtest_mimic::{Arguments, Failed, Trial};

/// A binary to be measured in place of the one of the tests' own profile.
fn measured() -> String {
    std::env::var("CLAVIGER_TEST_BINARY").unwrap_or_else(|_| BINARY.to_owned())
}

/// The binary under test.
const BINARY: &str = env!("CARGO_BIN_EXE_claviger");

fn run(test: impl Future<Output = ()>) -> Result<(), Failed> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?
        .block_on(test);
    Ok(())
}

fn main() -> ExitCode {
    // Tried, not guessed from the user: it takes root or CAP_SYS_PTRACE.
    let cannot_read = !memory::readable();
    let trials = vec![
        Trial::test("forms::every_form_is_found_at_every_place", || {
            forms::every_form_is_found();
            Ok(())
        }),
        Trial::test("kept::nothing_that_is_kept_holds_a_secret", || run(kept::search())),
        Trial::test("panics::a_panic_with_a_key_in_hand_tells_nothing", || run(panics::search()))
            .with_ignored_flag(!cfg!(feature = "testkit")),
        Trial::test("memory::no_region_holds_a_secret_after_the_age", || run(memory::search())).with_ignored_flag(cannot_read),
        Trial::test("memory::nor_after_calls_to_openbao_once_its_connections_are_closed", || {
            run(memory::search_after_calls_to_openbao())
        })
        .with_ignored_flag(cannot_read || memory::openbao("ADDRESS").is_none()),
        Trial::test("memory::nor_after_calls_to_an_xks_proxy_once_its_connections_are_closed", || {
            run(external::search_after_calls_to_xks())
        })
        .with_ignored_flag(cannot_read),
        Trial::test("memory::nor_after_unwraps_at_pykmip_with_all_connections_open", || {
            run(external::search_after_unwraps_at_kmip("PYKMIP"))
        })
        .with_ignored_flag(cannot_read || external::kmip("PYKMIP", "ADDRESS").is_none()),
        Trial::test("memory::nor_after_unwraps_at_kmip_go_with_all_connections_open", || {
            run(external::search_after_unwraps_at_kmip("KMIP_GO"))
        })
        .with_ignored_flag(cannot_read || external::kmip("KMIP_GO", "ADDRESS").is_none()),
        Trial::test("memory::nor_a_pkcs11_helper_between_calls", || run(helper::search(None)))
            .with_ignored_flag(cannot_read || helper::is_absent()),
        Trial::test("memory::nor_a_pkcs11_helper_whose_module_refuses_what_it_opened", || {
            run(helper::search(Some("late-general-error")))
        })
        .with_ignored_flag(cannot_read || helper::is_absent()),
    ];
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}
