//! Calls of the gateway on its files that fail: the n-th of each kind, or all from the n-th on. The gateway
//! may refuse, or stop. After a restart, what was answered holds.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use claviger_test_support::{Gateway, Tune};

use super::check::{Known, holds};
use super::chosen::check_all;
use super::disk::Disk;
use super::loop_device::LoopDevice;
use super::record::{End, Recorded, Recorder};
use super::script::{self, Answered, Given, Step};
use super::states::{Form, State};
use super::trace::{self, Call};
use crate::random::{Random, seed};

/// How many errors the short form injects.
pub const CHOSEN: usize = 14;
/// How many it injects on a file system of its own.
pub const CHOSEN_ON_DEVICE: usize = 6;
/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(60);
/// Kinds of calls, and the errors that they get. Nothing but the data folder's files has them.
const KINDS: [(&str, &[&str]); 6] = [
    ("pwrite64", &["EIO", "ENOSPC"]),
    ("fsync,fdatasync", &["EIO"]),
    ("?rename,?renameat,renameat2,?link,linkat", &["EIO", "ENOSPC"]),
    ("?unlink,unlinkat", &["EIO"]),
    ("ftruncate", &["EIO"]),
    ("fallocate", &["ENOSPC"]),
];

/// An error to inject.
#[derive(Debug, Clone)]
struct Fault {
    calls: String,
    error: &'static str,
    /// As in strace(1): the number of the call of each thread, with `+` for it and all later ones.
    when: String,
    /// The one file whose calls fail, relative to the gateway's folder.
    file: Option<PathBuf>,
}

impl Fault {
    fn words(&self, folder: &Path) -> String {
        let Self { calls, error, when, file } = self;
        let only = file
            .as_ref()
            .map_or(String::new(), |file| format!("-P {} ", folder.join(file).display()));
        format!("strace -D -f --seccomp-bpf -e trace={calls} {only}-e inject={calls}:error={error}:when={when} -o /dev/null")
    }

    fn story(&self) -> String {
        let Self { calls, error, when, file } = self;
        let of = file.as_ref().map_or(String::new(), |file| format!(" of {}", file.display()));
        format!("{error} for call {when} of {calls}{of}")
    }
}

/// Every error that one run of the script can get.
fn faults(calls: &[Call], folder: &Path) -> Vec<Fault> {
    let mut faults = Vec::new();
    let mut add = |kind: &str, errors: &[&'static str], file: Option<&Path>, many: usize| {
        for error in errors {
            for number in 1..=many {
                let fault = |when: String| Fault {
                    calls: kind.to_owned(),
                    error,
                    when,
                    file: file.map(Path::to_owned),
                };
                faults.push(fault(number.to_string()));
                // A disk that fails goes on failing.
                if number % 5 == 1 {
                    faults.push(fault(format!("{number}+")));
                }
            }
        }
    };
    for (kind, errors) in KINDS {
        let names: Vec<&str> = kind.split(',').map(|name| name.trim_start_matches('?')).collect();
        let mut threads: BTreeMap<u32, usize> = BTreeMap::new();
        for call in calls.iter().filter(|call| names.contains(&call.name.as_str())) {
            *threads.entry(call.thread).or_default() += 1;
        }
        add(kind, errors, None, threads.into_values().max().unwrap_or(0));
    }
    // Sockets and logs have `write`, too, so those of each file are told by its name. A name that is drawn
    // is another one in each run.
    for (file, many) in written(calls, folder) {
        add("write", &["EIO", "ENOSPC"], Some(&file), many);
    }
    faults
}

/// The files that the gateway creates under names of their own and writes with `write`, and how often.
fn written(calls: &[Call], folder: &Path) -> BTreeMap<PathBuf, usize> {
    let mut open: BTreeMap<i64, PathBuf> = BTreeMap::new();
    let mut found: BTreeMap<PathBuf, usize> = BTreeMap::new();
    for call in calls.iter().filter(|call| call.result >= 0) {
        match call.name.as_str() {
            "openat" => {
                open.remove(&call.result);
                if let Ok(file) = call.path(1).strip_prefix(folder)
                    && !file.components().any(|part| part.as_os_str().to_string_lossy().starts_with('.'))
                {
                    open.insert(call.result, file.to_owned());
                }
            }
            "close" => drop(open.remove(&call.number(0))),
            "write" => {
                if let Some(file) = open.get(&call.number(0)) {
                    *found.entry(file.clone()).or_default() += 1;
                }
            }
            _ => {}
        }
    }
    found
}

/// What every run begins with.
struct Begin {
    disk: Disk,
    steps: Vec<Step>,
    answers: Vec<Option<Answered>>,
    given: Given,
    /// The calls of a run without an error.
    calls: Vec<Call>,
    folder: PathBuf,
}

async fn begin() -> Begin {
    let mut recorder = Recorder::initialised();
    let mut recorded = Recorded::of(&recorder);
    recorded.serve(&mut recorder, script::furnish(), End::InOrder).await;
    let disk = recorded.history.now().clone();
    let Recorded { steps, answers, given, .. } = recorded;
    let (tune, file) = recorder.next();
    let started = tokio::task::block_in_place(|| recorder.gateway.serve(&tune));
    let process = started.pid();
    let mut again = given.clone();
    for (number, step) in injected().iter().enumerate() {
        let answer = step.send(answers.len() + number, &started, &mut again).await.expect("an answer");
        assert_eq!(answer.status, step.status, "{}: {answer:?}", step.name());
    }
    assert!(tokio::task::block_in_place(|| started.terminate()), "an end in order");
    Begin {
        disk,
        steps,
        answers,
        given,
        calls: trace::read(&file, process),
        folder: recorder.gateway.folder().canonicalize().expect("a folder"),
    }
}

/// The changes that are made while a call fails: each of their values is known although others failed.
fn injected() -> Vec<Step> {
    let mut steps = script::change();
    steps.pop();
    steps
}

/// Injects errors on a file system of this kind.
pub async fn errors_on(kind: &str) {
    let device = LoopDevice::mount(kind).expect("it was mounted before");
    errors(device.path(), CHOSEN_ON_DEVICE).await;
}

/// Injects errors under this folder: so many in the short form.
pub async fn errors(parent: &Path, many: usize) {
    let begin = begin().await;
    let all = faults(&begin.calls, &begin.folder);
    let kinds: BTreeSet<_> = all.iter().map(|fault| (fault.calls.clone(), fault.file.clone())).collect();
    assert!(kinds.len() > KINDS.len() - 2, "the calls were not found: {kinds:?}");
    let (seed, form) = (seed("errors"), Form::of_environment());
    let mut random = Random::new(seed, 0);
    let mut chosen = all.clone();
    if form == Form::Short {
        chosen.clear();
        // Of each kind as many as of the others: most calls are writes.
        let mut by_kind: Vec<Vec<Fault>> = kinds
            .iter()
            .map(|(calls, file)| {
                all.iter()
                    .filter(|fault| (&fault.calls, &fault.file) == (calls, file))
                    .cloned()
                    .collect()
            })
            .collect();
        for round in 0.. {
            let kind = round % by_kind.len();
            let left = by_kind[kind].len() as u64;
            if left > 0 {
                chosen.push(by_kind[kind].swap_remove(random.below(left) as usize));
            }
            if chosen.len() == many || by_kind.iter().all(Vec::is_empty) {
                break;
            }
        }
    }
    println!("errors: {} of {} are injected", chosen.len(), all.len());
    let begin = Arc::new(begin);
    let faults = Arc::new(chosen);
    let states = faults.iter().map(|fault| State {
        disk: begin.disk.clone(),
        answered: 0,
        strict: false,
        story: fault.story(),
    });
    check_all(states.collect(), |number, state| {
        let (begin, faults, parent) = (Arc::clone(&begin), Arc::clone(&faults), parent.to_owned());
        async move { survives(&begin, &state.disk, &faults[number], &parent).await }
    })
    .await;
}

async fn survives(begin: &Begin, disk: &Disk, fault: &Fault, parent: &Path) {
    let folder = tempfile::tempdir().expect("a folder");
    let script = trace::script(folder.path(), crate::BINARY);
    let gateway = Gateway::empty_in(script.to_str().expect("a path"), parent);
    disk.write(gateway.folder());
    let real = gateway.folder().canonicalize().expect("a folder");
    let (name, words) = trace::started_by(&fault.words(&real));
    let (mut steps, mut answers, mut given) = (begin.steps.clone(), begin.answers.clone(), begin.given.clone());
    // A start may be refused.
    let started = tokio::task::block_in_place(|| gateway.try_serve(&Tune::default().set(name, words)));
    if let Ok(started) = started {
        for step in injected() {
            let sent = tokio::time::timeout(ANSWER, step.send(steps.len(), &started, &mut given)).await;
            let answer = sent.unwrap_or_else(|_| panic!("no answer to {}\n{}", step.name(), started.output()));
            let ended = answer.is_none();
            steps.push(step);
            answers.push(answer);
            if ended {
                break;
            }
        }
        started.kill();
    }
    let known = Known {
        steps: &steps,
        answers: &answers,
        given: &given,
    };
    holds(&gateway, known, true).await;
}
