//! Losses of power, replayed: the system calls of a gateway are recorded while changes of every kind are
//! made, every state that a loss of power could have left is built from the record, and a gateway is started
//! on it.
//!
//! Without `strace` and root, who alone can trace the gateway, the cases are ignored; so are those on a
//! file system of its own without loop devices or its tools: `mkfs.ext4` of e2fsprogs, `mkfs.xfs` of xfsprogs.
//! `CLAVIGER_TEST_REPLAY=long` checks all states and injects all errors. These are more than 12,000 states, each
//! about a second on two cores: several hours, and a run that was ended begins anew. Otherwise a part is chosen.
//! `CLAVIGER_TEST_SEED` repeats a choice.

mod check;
mod chosen;
mod cut;
mod disk;
mod history;
mod inject;
mod kill_file;
mod loop_device;
mod old;
mod power;
mod record;
mod script;
mod states;
mod step;
mod trace;

use libtest_mimic::Trial;

use loop_device::LoopDevice;
pub use trace::can_trace;

use crate::run;

pub fn trials() -> Vec<Trial> {
    let able = can_trace();
    let mut trials = vec![
        Trial::test("replay::what_was_answered_survives_each_loss_of_power", || run(power::changes())),
        Trial::test("replay::a_sync_that_is_left_out_is_found", || run(power::without_syncs())),
        Trial::test(
            "replay::the_log_s_next_file_survives_each_loss_of_power",
            || run(power::next_file()),
        ),
        Trial::test("replay::what_was_answered_survives_a_failed_sync_and_a_loss_of_power", || {
            run(power::after_a_failed_sync())
        }),
        Trial::test("replay::a_revocation_in_the_kill_file_is_durable_when_it_is_answered", || {
            run(kill_file::pushed())
        }),
        Trial::test("replay::a_start_that_applies_the_kill_file_survives_each_loss_of_power", || {
            run(kill_file::applied())
        }),
        Trial::test("replay::an_init_that_lost_power_can_be_repeated", || run(power::init())),
        Trial::test("replay::a_backup_that_was_finished_survives_a_loss_of_power", || {
            run(power::backup())
        }),
        Trial::test("replay::a_restore_that_was_finished_survives_a_loss_of_power", || {
            run(power::restored())
        }),
        Trial::test("replay::a_first_start_on_an_older_folder_survives_each_loss_of_power", || {
            run(old::first_start())
        }),
        Trial::test("replay::what_was_answered_on_an_older_folder_survives_each_loss_of_power", || {
            run(old::changes())
        }),
        Trial::test("replay::what_was_answered_survives_calls_that_fail", || run(inject::errors())),
        Trial::test("replay::what_was_answered_on_an_older_folder_survives_calls_that_fail", || {
            run(inject::errors_on_older())
        }),
    ];
    for kind in ["ext4", "xfs"] {
        let name = format!("replay::what_was_answered_survives_calls_that_fail_on_{kind}");
        let able = able && LoopDevice::mount(kind).is_some();
        trials.push(Trial::test(name, move || run(inject::errors_on(kind))).with_ignored_flag(!able));
    }
    let mut trials: Vec<Trial> = trials
        .into_iter()
        .map(|trial| if able { trial } else { trial.with_ignored_flag(true) })
        .collect();
    let cut: [(&str, fn()); 3] = [
        ("replay::a_response_in_which_the_process_ended_is_read", cut::response),
        ("replay::a_write_in_which_the_process_ended_may_be_a_part", cut::write),
        (
            "replay::a_name_or_a_length_that_the_process_was_changing_is_as_the_folder_shows",
            cut::names,
        ),
    ];
    trials.extend(cut.map(|(name, test)| {
        Trial::test(name, move || {
            test();
            Ok(())
        })
    }));
    trials
}
