//! Losses of power while changes are made, and in `init`, `backup` and `restore`.

use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use claviger_test_support::{Gateway, Tune, log_files};
use futures::FutureExt;

use super::check::{holds, unpacked};
use super::chosen::{check_all, chosen};
use super::history::History;
use super::record::{End, Recorded, Recorder};
use super::script;
use super::states::{self, Form, State};
use crate::random::seed;

/// How many states the short form checks of each record.
const CHOSEN: usize = 100;
/// How often a file or folder is synced whose syncs are left out.
const OFTEN: usize = 3;
/// From which sync on those of the log fail. No other thread has as many.
const FAILING: usize = 40;
/// Every so many states are started twice.
const TWICE: usize = 8;

pub async fn changes() {
    let mut recorder = Recorder::initialised();
    let mut recorded = Recorded::of(&recorder);
    let steps = [script::furnish(), script::change()].concat();
    recorded.serve(&mut recorder, steps, End::Killed).await;
    recorded.serve(&mut recorder, script::go_on(), End::InOrder).await;
    recorded.serve(&mut recorder, script::end(), End::Killed).await;

    let form = Form::of_environment();
    let states = chosen(&recorded.history, &recorded.lines(), form, "replay", CHOSEN);
    let recorded = Arc::new(recorded);
    check_all(states, |number, state| {
        let recorded = Arc::clone(&recorded);
        async move {
            let known = recorded.known(state.answered);
            holds(&unpacked(&state.disk), known, number % TWICE == 0).await;
        }
    })
    .await;
}

/// The suite can fail: had the gateway not synced its log, its store, or a folder, states would be found that
/// do not hold.
pub async fn without_syncs() {
    let mut recorder = Recorder::initialised();
    let mut recorded = Recorded::of(&recorder);
    let steps = [script::furnish(), script::change()].concat();
    recorded.serve(&mut recorder, steps, End::Killed).await;
    let lines = recorded.lines();
    let names = recorded.history.synced(OFTEN);
    assert!(
        names.len() >= 3,
        "the log, the store's log and the folder are synced often: {names:?}"
    );
    // The disk reserve is zeros without a promise: a start makes it anew.
    for name in names.into_iter().filter(|name| !name.contains("audit.reserve")) {
        let history = recorded.history.clone().without_syncs_of(&name);
        let states = states::all(&history, &lines, Form::Short, 0);
        let mut strict: Vec<&State> = states.iter().filter(|state| state.strict).collect();
        strict.sort_by_key(|state| std::cmp::Reverse(state.answered));
        let mut found = false;
        for state in strict {
            let known = recorded.known(state.answered);
            // It says what does not hold.
            let check = AssertUnwindSafe(holds(&unpacked(&state.disk), known, false)).catch_unwind().await;
            if check.is_err() {
                found = true;
                break;
            }
        }
        assert!(found, "the syncs of {name} make no difference");
        println!("without syncs of {name} a state is found that does not hold");
    }
}

/// The log goes on in its next file.
pub async fn next_file() {
    let mut recorder = Recorder::initialised();
    let mut recorded = Recorded::of(&recorder);
    recorded.serve(&mut recorder, script::furnish(), End::InOrder).await;
    let steps = [vec![script::data_keys("steady"); 3], script::go_on()].concat();
    recorded.serve(&mut recorder, steps, End::Killed).await;
    assert!(log_files(&recorder.gateway.data()).len() > 1, "the records fit in one file");

    let form = Form::of_environment();
    let states = chosen(&recorded.history, &recorded.lines(), form, "replay of the next file", CHOSEN / 2);
    let recorded = Arc::new(recorded);
    check_all(states, |_, state| {
        let recorded = Arc::clone(&recorded);
        async move { holds(&unpacked(&state.disk), recorded.known(state.answered), false).await }
    })
    .await;
}

/// A sync of the log fails, and the process ends before it can write anew what it answered. The next one reads
/// what no disk has.
pub async fn after_a_failed_sync() {
    let mut recorder = Recorder::initialised();
    let mut recorded = Recorded::of(&recorder);
    recorded.serve(&mut recorder, script::furnish(), End::InOrder).await;
    recorded.serve_failing(&mut recorder, &script::data_key("steady"), FAILING).await;
    recorded.serve(&mut recorder, script::go_on(), End::Killed).await;

    let form = Form::of_environment();
    let states = chosen(&recorded.history, &recorded.lines(), form, "replay of a failed sync", CHOSEN / 2);
    let recorded = Arc::new(recorded);
    check_all(states, |_, state| {
        let recorded = Arc::clone(&recorded);
        async move { holds(&unpacked(&state.disk), recorded.known(state.answered), false).await }
    })
    .await;
}

/// Nothing is promised before `init` has ended, but that it can be repeated. After it, the root key opens
/// the store.
pub async fn init() {
    let mut recorder = Recorder::new();
    let mut history = recorder.history();
    recorder.run(&mut history, Gateway::init);
    let states = chosen(&history, &[], Form::of_environment(), "replay of init", CHOSEN / 3);
    check_all(states, |_, state| async move {
        let gateway = unpacked(&state.disk);
        tokio::task::block_in_place(|| {
            // It never replaces a file.
            let _ = std::fs::remove_file(gateway.token_file());
            let mut output = gateway.init(&Tune::default()).output().expect("init runs");
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            if said.contains("--new-token") {
                output = gateway.init(&Tune::default()).arg("--new-token").output().expect("init runs");
            }
            assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
            assert!(gateway.serve(&Tune::default()).terminate(), "an end in order");
        });
    })
    .await;
}

/// A stopped gateway with a backup, and what it had.
async fn backed_up(recorder: &mut Recorder) -> Recorded {
    let mut recorded = Recorded::of(recorder);
    recorded.serve(recorder, script::furnish(), End::InOrder).await;
    recorder.run(&mut recorded.history, |gateway, tune| {
        let mut command = gateway.command(tune);
        command.arg("backup").arg(backup_of(gateway));
        command
    });
    recorded
}

fn backup_of(gateway: &Gateway) -> PathBuf {
    gateway.folder().join("backup")
}

/// All states of a command's record. Its end is like a response.
fn states_of_command(history: &History) -> Vec<State> {
    states::all(history, &[history.lines - 1], Form::Long, seed("replay of a command"))
}

/// What `backup` wrote is durable when it ends.
pub async fn backup() {
    let mut recorder = Recorder::initialised();
    let recorded = backed_up(&mut recorder).await;
    let mut states = states_of_command(&recorded.history);
    states.retain(|state| state.answered == 1);
    println!("replay of backup: {} states", states.len());
    assert!(!states.is_empty());
    let recorded = Arc::new(recorded);
    check_all(states, |_, state| {
        let recorded = Arc::clone(&recorded);
        async move {
            let gateway = unpacked(&state.disk);
            std::fs::remove_dir_all(gateway.data()).expect("removed");
            let output = restore(&gateway, &Tune::default()).output().expect("restore runs");
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            holds(&gateway, recorded.known(recorded.answers.len()), false).await;
        }
    })
    .await;
}

/// What `restore` wrote is durable when it ends, and a part of it does not start.
pub async fn restored() {
    let mut recorder = Recorder::initialised();
    let recorded = backed_up(&mut recorder).await;
    std::fs::remove_dir_all(recorder.gateway.data()).expect("removed");
    let mut history = recorder.history();
    recorder.run(&mut history, restore);
    let states = states_of_command(&history);
    println!("replay of restore: {} states", states.len());
    let recorded = Arc::new(recorded);
    check_all(states, |_, state| {
        let recorded = Arc::clone(&recorded);
        async move {
            let gateway = unpacked(&state.disk);
            let started = tokio::task::block_in_place(|| gateway.try_serve(&Tune::default()));
            if state.answered == 1 || started.is_ok() {
                drop(started);
                holds(&gateway, recorded.known(recorded.answers.len()), false).await;
            }
        }
    })
    .await;
}

fn restore(gateway: &Gateway, tune: &Tune) -> Command {
    let mut command = gateway.command(tune);
    command.arg("restore").arg(backup_of(gateway)).args(["--newest-known", "none"]);
    command
}
