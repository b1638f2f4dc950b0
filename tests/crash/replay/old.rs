//! A data folder of an earlier release: the first start, with its migration, and changes of every kind.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use claviger_test_support::{Gateway, Started, Tune};
use serde_json::{Value, json};

use super::check::{holds, unpacked};
use super::chosen::{check_all, chosen};
use super::record::{End, Recorded, Recorder};
use super::script;
use super::states::Form;
use super::step::{self, Given, World};
use super::trace;

/// How many states the short form checks.
const CHOSEN: usize = 40;
/// The key that is disabled once the folder is of this release.
const DISABLED: &str = "k2";

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/upgrade/folder-1")
}

/// The tokens of the folder have expired: the root key's holder issues another one.
fn new_token(gateway: &Gateway, tune: &Tune) -> std::process::Command {
    let mut command = gateway.init(tune);
    command.arg("--new-token");
    command
}

/// A gateway on such a folder, which was not started yet, and what can be read there.
pub async fn older() -> (Recorder, World) {
    let [recorder, copy] = [(); 2].map(|()| {
        let recorder = Recorder::new();
        recorder.gateway.copy_older(&fixture());
        let output = new_token(&recorder.gateway, &Tune::default()).output().expect("init runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        recorder
    });
    let started = tokio::task::block_in_place(|| copy.gateway.serve(&Tune::default()));
    let before = step::read(&started, &Given::default()).await;
    assert!(tokio::task::block_in_place(|| started.terminate()), "an end in order");
    (recorder, before)
}

/// The first start, and changes after it.
pub async fn changes() {
    let (mut recorder, before) = older().await;
    let mut recorded = Recorded {
        before,
        ..Recorded::of(&recorder)
    };
    recorded.serve(&mut recorder, script::change_older(), End::Killed).await;
    let form = Form::of_environment();
    let states = chosen(&recorded.history, &recorded.lines(), form, "replay of an older folder", CHOSEN);
    let recorded = Arc::new(recorded);
    check_all(states, |_, state| {
        let recorded = Arc::clone(&recorded);
        async move { holds(&unpacked(&state.disk), recorded.known(state.answered), false).await }
    })
    .await;
}

pub async fn first_start() {
    let mut recorder = Recorder::new();
    recorder.gateway.copy_older(&fixture());
    let mut history = recorder.history();
    recorder.run(&mut history, new_token);
    let (tune, file) = recorder.next();
    let started = tokio::task::block_in_place(|| recorder.gateway.serve(&tune));
    let process = started.pid();
    let disabled = script::disable(DISABLED)
        .send(0, &started, &mut Given::default())
        .await
        .expect("an answer");
    assert_eq!(disabled.status, 200, "{disabled:?}");
    started.kill();
    history.add(trace::read(&file, process));
    recorder.compare(&mut history);

    let expected = std::fs::read_to_string(fixture().join("expected.json")).expect("what is in it");
    let expected: Arc<Value> = Arc::new(serde_json::from_str(&expected).expect("JSON"));
    let states = chosen(
        &history,
        &[history.responses[&disabled.request]],
        Form::of_environment(),
        "replay of a first start",
        CHOSEN,
    );
    check_all(states, |_, state| {
        let expected = Arc::clone(&expected);
        async move {
            let gateway = unpacked(&state.disk);
            let _ = std::fs::remove_file(gateway.token_file());
            let output = tokio::task::block_in_place(|| new_token(&gateway, &Tune::default()).output().expect("init runs"));
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            let started = tokio::task::block_in_place(|| gateway.serve(&Tune::default()));
            is_whole(&started, &expected, state.answered).await;
        }
    })
    .await;
}

/// Every wrapped key of the folder opens or is refused as in the earlier release, and the key is disabled if
/// that was answered.
async fn is_whole(started: &Started, expected: &Value, answered: usize) {
    let client = started.tenant("acme");
    for wrapped in expected["wrapped"].as_array().expect("wrapped keys") {
        let body = json!({"wrapped": wrapped["wrapped"], "context": wrapped["context"]});
        let answer = client.post("/v1/unwrap", &body).await;
        match wrapped["key"].as_str().expect("a key") {
            "k1" => drop(answer.expect_problem(409, "key_disabled")),
            "k3" => drop(answer.expect_problem(422, "ciphertext_rejected")),
            DISABLED if answered > 0 => drop(answer.expect_problem(409, "key_disabled")),
            DISABLED if answer.status != 200 => drop(answer.expect_problem(409, "key_disabled")),
            _ => assert_eq!(answer.expect_status(200)["plaintext"], wrapped["plaintext"]),
        }
    }
    let connection = client.get("/v1/connections/cut").await.expect_status(200);
    assert_eq!(connection["state"], "severed");
    let revoked = client.with_token(expected["revoked"].as_str().expect("a token"));
    assert_eq!(revoked.get("/v1/keys").await.status, 401);
}
