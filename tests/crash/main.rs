//! Durability of the real binary: SIGKILL under load, store and log that disagree, a full disk,
//! shutdown, and the conditions of a start.
//!
//! `CLAVIGER_TEST_SEED` repeats a run. `CLAVIGER_TEST_ROUNDS` is how often the gateway is killed
//! under a mixed load in each mode of durability (25 and 8 by default); a quarter as often while keys are rotated.
//! `CLAVIGER_TEST_REPLAY=long` replays all losses of power.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test stops where an expectation fails, and tells its seed and its sums"
)]

mod answers;
mod aside;
mod backup;
mod bench;
mod clock;
mod creations;
mod disagree;
mod durability;
mod export;
mod footprint;
mod full;
mod held;
mod hung;
mod keep;
mod kill;
mod late;
mod lifted;
mod load;
mod lost;
mod media;
mod moved;
mod node;
mod put_back;
mod random;
mod ready;
mod removed;
mod replay;
mod revoked;
mod rotate;
mod service;
mod severed;
mod shutdown;
mod start;
mod unstored;
mod unsynced;
mod verify;
mod watch;
mod world;

use std::future::Future;
use std::process::ExitCode;

use claviger_test_support::Tune;
use libtest_mimic::{Arguments, Failed, Trial};

/// Another build of the gateway to measure, or to kill by the thousand; by default the one under test.
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
    let mut trials = vec![
        Trial::test("kill::under_a_mixed_load_nothing_that_was_answered_is_lost", || {
            run(kill::under_load(Tune::default(), 25))
        }),
        Trial::test("rotate::a_kill_leaves_the_old_or_the_new_version", || run(rotate::storms())),
        Trial::test("shutdown::a_signal_right_after_the_start_ends_cleanly", || {
            run(async { shutdown::at_once() })
        }),
        Trial::test("shutdown::accepted_requests_are_finished_and_the_log_is_closed_cleanly", || {
            run(shutdown::graceful())
        }),
    ];
    trials.extend(answers::trials());
    trials.extend(creations::trials());
    trials.extend(revoked::trials());
    trials.extend(export::trials());
    trials.extend(late::trials());
    trials.extend(hung::trials());
    trials.extend(unstored::trials());
    trials.extend(clock::trials());
    trials.extend(unsynced::trials());
    trials.extend(disagree::trials());
    trials.extend(backup::trials());
    trials.extend(put_back::trials());
    trials.extend(lost::trials());
    trials.extend(keep::trials());
    trials.extend(media::trials());
    trials.extend(moved::trials());
    trials.extend(severed::trials());
    trials.extend(node::trials());
    trials.extend(lifted::trials());
    trials.extend(start::trials());
    trials.extend(full::trials());
    trials.extend(footprint::trials());
    trials.extend(watch::trials());
    trials.extend(removed::trials());
    trials.extend(aside::trials());
    trials.extend(durability::trials());
    trials.extend(replay::trials());
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}
