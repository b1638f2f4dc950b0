//! Losses of power while changes are made, and in `init`, `backup` and `restore`.

use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::sync::Arc;

use claviger_test_support::{Gateway, Tune};
use futures::FutureExt;

use super::check::{Known, holds, unpacked};
use super::chosen::{check_all, chosen};
use super::record::{End, Recorded, Recorder};
use super::script;
use super::states::{self, Form, State};
use crate::random::seed;

/// How many states the short form checks of each record.
const CHOSEN: usize = 120;
/// How often a file or folder is synced whose syncs are left out.
const OFTEN: usize = 3;
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
            let known = Known {
                steps: &recorded.steps,
                answers: &recorded.answers[..state.answered],
                given: &recorded.given,
            };
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
    for name in names {
        let history = recorded.history.clone().without_syncs_of(&name);
        let states = states::all(&history, &lines, Form::Short, 0);
        let mut strict: Vec<&State> = states.iter().filter(|state| state.strict).collect();
        strict.sort_by_key(|state| std::cmp::Reverse(state.answered));
        let mut found = false;
        for state in strict {
            let known = Known {
                steps: &recorded.steps,
                answers: &recorded.answers[..state.answered],
                given: &recorded.given,
            };
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

/// Nothing is promised before `init` has ended, but that it can be repeated. After it, the root key opens
/// the store.
pub async fn init() {
    let mut recorder = Recorder::new();
    let mut history = recorder.history();
    recorder.run(&mut history, Gateway::init);
    let states = chosen(&history, &[], Form::of_environment(), "replay of init", CHOSEN / 2);
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

/// What `backup` and `restore` wrote is durable when they end.
pub async fn backup() {
    let mut recorder = Recorder::initialised();
    let mut recorded = Recorded::of(&recorder);
    recorded.serve(&mut recorder, script::furnish(), End::InOrder).await;
    let Recorded {
        mut history,
        steps,
        answers,
        given,
    } = recorded;
    let to = |gateway: &Gateway| gateway.folder().join("backup");
    recorder.run(&mut history, |gateway, tune| {
        let mut command = gateway.command(tune);
        command.arg("backup").arg(to(gateway));
        command
    });
    let backed_up = history.lines;
    std::fs::remove_dir_all(recorder.gateway.data()).expect("removed");
    let mut restored = recorder.history();
    recorder.run(&mut restored, |gateway, tune| restore(gateway, tune, &to(gateway)));

    let known = Known {
        steps: &steps,
        answers: &answers,
        given: &given,
    };
    // Both end with what is like a response.
    let seed = seed("replay of backup");
    let [of_backup, of_restore] =
        [(&history, backed_up), (&restored, restored.lines)].map(|(history, end)| states::all(history, &[end - 1], Form::Long, seed));
    let mut checked = 0;
    for state in of_backup.iter().filter(|state| state.answered == 1) {
        let gateway = unpacked(&state.disk);
        std::fs::remove_dir_all(gateway.data()).expect("removed");
        let output = restore(&gateway, &Tune::default(), &to(&gateway)).output().expect("restore runs");
        assert!(
            output.status.success(),
            "{}: {}",
            state.story,
            String::from_utf8_lossy(&output.stderr)
        );
        holds(&gateway, known, true).await;
        checked += 1;
    }
    println!("replay of backup: {checked} states");
    assert!(checked > 0);
    let mut ready = 0;
    for state in &of_restore {
        let gateway = unpacked(&state.disk);
        // One that lost power may be refused, but not start with a part.
        let started = tokio::task::block_in_place(|| gateway.try_serve(&Tune::default()));
        if state.answered == 1 || started.is_ok() {
            println!("{}", state.story);
            drop(started);
            holds(&gateway, known, true).await;
            ready += 1;
        }
    }
    println!("replay of restore: {} states, of which {ready} start", of_restore.len());
    assert!(ready > 0);
}

fn restore(gateway: &Gateway, tune: &Tune, from: &Path) -> std::process::Command {
    let mut command = gateway.command(tune);
    command.arg("restore").arg(from).args(["--newest-known", "none"]);
    command
}
