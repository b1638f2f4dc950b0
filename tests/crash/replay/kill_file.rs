//! The kill file and losses of power: a revocation that is answered is in it, and one that it has outlives the
//! start that applies it.

use std::path::Path;

use claviger_test_support::{Tune, records};
use sqlx::Connection;

use super::check::unpacked;
use super::chosen::{check_all, chosen};
use super::record::{End, Recorded, Recorder};
use super::script;
use super::states::{self, Form};
use super::step::Given;
use super::trace;
use crate::lifted::{DISABLE, write_slot};
use crate::media::lock_store;
use crate::random::seed;

/// How many states of a start the short form checks.
const CHOSEN: usize = 30;
/// The length of a slot, and of the header before the first one.
const SLOT: u64 = 64;

/// A revocation that the store could not take is durable in the kill file when it is answered.
pub async fn pushed() {
    let mut recorder = Recorder::initialised();
    let mut recorded = Recorded::of(&recorder);
    recorded.serve(&mut recorder, script::furnish(), End::InOrder).await;
    let mut history = recorder.history();
    let (tune, file) = recorder.next();
    let started = tokio::task::block_in_place(|| recorder.gateway.serve(&tune));
    let process = started.pid();
    let store = lock_store(&recorder.gateway.data()).await;
    let step = script::disable("steady");
    let answer = step.send(0, &started, &mut Given::default()).await.expect("an answer");
    assert_eq!(answer.status, 200, "{answer:?}");
    started.kill();
    store.close().await.expect("the store is free");
    history.add(trace::read(&file, process));

    let answered = history.responses[&answer.request];
    let mut states = states::all(&history, &[answered], Form::Short, seed("replay of a push"));
    states.retain(|state| state.answered == 1);
    assert!(!states.is_empty());
    for state in states {
        let kill_file = state.disk.find(Path::new("data/cuts.kill")).expect("the kill file");
        let slot = state.disk.part(kill_file, SLOT, SLOT);
        assert_eq!(slot[0], DISABLE, "{}: {slot:?}", state.story);
    }
}

/// A start applies what only the kill file has, and loses power.
pub async fn applied() {
    let mut recorder = Recorder::initialised();
    let mut recorded = Recorded::of(&recorder);
    recorded.serve(&mut recorder, script::furnish(), End::InOrder).await;
    let key = "steady";
    let all = records(&recorder.gateway.data());
    let created = all
        .iter()
        .find(|record| record["operation"] == "CreateKey" && record["kind"] == "outcome");
    write_slot(&recorder.gateway, 0, DISABLE, created.expect("the first key"), 0);

    let mut history = recorder.history();
    let (tune, file) = recorder.next();
    let started = tokio::task::block_in_place(|| recorder.gateway.serve(&tune));
    let process = started.pid();
    started.kill();
    history.add(trace::read(&file, process));
    recorder.compare(&mut history);
    let states = chosen(&history, &[], Form::of_environment(), "replay of a kill file", CHOSEN);
    check_all(states, move |_, state| async move {
        let gateway = unpacked(&state.disk);
        let started = tokio::task::block_in_place(|| gateway.serve(&Tune::default()));
        let found = started.tenant("acme").get(&format!("/v1/keys/{key}")).await.expect_status(200);
        assert_eq!(found["state"], "disabled");
    })
    .await;
}
