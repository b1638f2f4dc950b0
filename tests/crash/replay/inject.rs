//! Calls of the gateway on its files that fail: the n-th of each kind, or all from the n-th on. The gateway
//! may refuse, or stop. After a restart, what was answered holds.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use claviger_test_support::{Gateway, Tune};

use super::check::{Known, holds, memory};
use super::chosen::check_all;
use super::disk::Disk;
use super::loop_device::LoopDevice;
use super::old;
use super::record::{End, Recorded, Recorder};
use super::script;
use super::states::{Form, State};
use super::step::{Answered, Given, Step, World};
use super::trace::{self, Call};
use crate::random::{Random, seed};

/// How many errors the short form injects.
const CHOSEN: usize = 14;
/// How many it injects on a file system of its own, and on an older folder.
const CHOSEN_ELSEWHERE: usize = 6;
/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(60);
/// Kinds of calls on open files, and the errors that they get.
const ON_FILES: [(&str, &[&str]); 5] = [
    ("write", &["EIO", "ENOSPC"]),
    ("pwrite64", &["EIO", "ENOSPC"]),
    ("fsync,fdatasync", &["EIO"]),
    ("ftruncate", &["EIO"]),
    ("fallocate", &["ENOSPC"]),
];
/// Kinds of calls on names. Nothing but the data folder's files has them.
const ON_NAMES: [(&str, &[&str]); 2] = [
    ("?rename,?renameat,renameat2,?link,linkat", &["EIO", "ENOSPC"]),
    ("?unlink,unlinkat", &["EIO"]),
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

/// The names of the calls of a kind.
fn names(kind: &str) -> Vec<&str> {
    kind.split(',').map(|name| name.trim_start_matches('?')).collect()
}

/// How often each thread does something.
type Threads = BTreeMap<u32, usize>;

/// Every error that one run of the script can get: for each call on each file, and for each call on names.
///
/// `strace` counts the calls of each thread by itself. So the n-th call fails on each thread that makes so many:
/// with the numbers up to the most of a thread, each call fails in some run. A file is mostly written by one
/// thread, so that one call fails alone; with all files at once, the failure of one file hid that of another.
fn faults(calls: &[Call], folder: &Path) -> Vec<Fault> {
    let mut faults = Vec::new();
    let mut add = |kind: &str, errors: &[&'static str], file: Option<&Path>, threads: Threads| {
        for error in errors {
            for number in 1..=threads.values().copied().max().unwrap_or(0) {
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
    for (kind, errors) in ON_NAMES {
        let mut threads = Threads::new();
        for call in calls.iter().filter(|call| names(kind).contains(&call.name.as_str())) {
            *threads.entry(call.thread).or_default() += 1;
        }
        add(kind, errors, None, threads);
    }
    for (kind, errors) in ON_FILES {
        for (file, threads) in on_files(calls, folder, &names(kind)) {
            add(kind, errors, Some(&file), threads);
        }
    }
    faults
}

/// How often these calls are made on each file or folder in the gateway's folder. Sockets and logs are none, and a name
/// that is drawn is another one in each run.
fn on_files(calls: &[Call], folder: &Path, names: &[&str]) -> BTreeMap<PathBuf, Threads> {
    let mut open: BTreeMap<i64, PathBuf> = BTreeMap::new();
    let mut found: BTreeMap<PathBuf, Threads> = BTreeMap::new();
    for call in calls.iter().filter(|call| call.result >= 0) {
        // A path that begins in an open folder has that folder's descriptor before it.
        let path = |open: &BTreeMap<i64, PathBuf>, at: usize| {
            let base = at.checked_sub(1).and_then(|base| open.get(&call.arguments[base].parse().ok()?));
            base.map_or_else(|| call.path(at), |base| base.join(call.path(at)))
        };
        match call.name.as_str() {
            "openat" => {
                let path = path(&open, 1);
                open.insert(call.result, path);
            }
            "fcntl" if call.arguments[1].starts_with("F_DUPFD") => {
                if let Some(path) = open.get(&call.number(0)).cloned() {
                    open.insert(call.result, path);
                }
            }
            "close" => drop(open.remove(&call.number(0))),
            // From then on the file has another name.
            "rename" | "renameat" | "renameat2" => {
                let mut texts = (0..call.arguments.len()).filter(|at| call.arguments[*at].starts_with('"'));
                let mut next = || path(&open, texts.next().expect("a path"));
                let (from, to) = (next(), next());
                open.values_mut()
                    .filter(|path| **path == from)
                    .for_each(|path| path.clone_from(&to));
            }
            name if names.contains(&name) => {
                if let Some(file) = open.get(&call.number(0)).and_then(|path| path.strip_prefix(folder).ok())
                    && !file.components().any(|part| part.as_os_str().to_string_lossy().starts_with('.'))
                {
                    *found.entry(file.to_owned()).or_default().entry(call.thread).or_default() += 1;
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
    /// What could be read before the first step.
    before: World,
    steps: Vec<Step>,
    answers: Vec<Option<Answered>>,
    given: Given,
    /// The steps that are made while a call fails: each of their values is known although others failed.
    injected: Vec<Step>,
    /// The calls of a run without an error.
    calls: Vec<Call>,
    folder: PathBuf,
}

/// A new gateway with all objects.
async fn begin() -> Begin {
    let mut recorder = Recorder::initialised();
    let mut recorded = Recorded::of(&recorder);
    recorded.serve(&mut recorder, script::furnish(), End::InOrder).await;
    let mut injected = script::change();
    // The version that it makes is another one where the first rotate failed.
    injected.pop();
    run_without_error(recorder, recorded, injected).await
}

/// A folder of an earlier release, which this one was not started on.
async fn begin_older() -> Begin {
    let (recorder, before) = old::older().await;
    let recorded = Recorded {
        before,
        ..Recorded::of(&recorder)
    };
    run_without_error(recorder, recorded, script::change_older()).await
}

async fn run_without_error(mut recorder: Recorder, recorded: Recorded, injected: Vec<Step>) -> Begin {
    let disk = recorded.history.now().clone();
    let Recorded {
        before,
        steps,
        answers,
        given,
        ..
    } = recorded;
    let (tune, file) = recorder.next();
    let started = tokio::task::block_in_place(|| recorder.gateway.serve(&tune));
    let process = started.pid();
    let mut again = given.clone();
    for (number, step) in injected.iter().enumerate() {
        let answer = step.send(answers.len() + number, &started, &mut again).await.expect("an answer");
        assert_eq!(answer.status, step.status, "{}: {answer:?}", step.name());
    }
    assert!(tokio::task::block_in_place(|| started.terminate()), "an end in order");
    Begin {
        disk,
        before,
        steps,
        answers,
        given,
        injected,
        calls: trace::read(&file, process),
        folder: recorder.gateway.folder().canonicalize().expect("a folder"),
    }
}

/// Injects errors in memory.
pub async fn errors() {
    inject(begin().await, &memory(), CHOSEN).await;
}

/// Injects errors into the first start on an older folder, and into the changes after it.
pub async fn errors_on_older() {
    inject(begin_older().await, &memory(), CHOSEN_ELSEWHERE).await;
}

/// Injects errors on a file system of this kind.
pub async fn errors_on(kind: &str) {
    let device = LoopDevice::mount(kind).expect("it was mounted before");
    inject(begin().await, device.path(), CHOSEN_ELSEWHERE).await;
}

/// Injects errors under this folder: so many in the short form.
async fn inject(begin: Begin, parent: &Path, many: usize) {
    let all = faults(&begin.calls, &begin.folder);
    let kinds: BTreeSet<_> = all.iter().map(|fault| (fault.calls.clone(), fault.file.clone())).collect();
    let found: BTreeSet<&str> = kinds.iter().map(|(calls, _)| calls.as_str()).collect();
    // The gateway need not use every call that could write a file.
    let mut least = ["pwrite64", "fsync,fdatasync", "ftruncate"]
        .into_iter()
        .chain(ON_NAMES.map(|(kind, _)| kind));
    assert!(least.all(|kind| found.contains(kind)), "the calls were not found: {kinds:?}");
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
        // There may be more kinds than errors.
        let first = random.below(by_kind.len() as u64) as usize;
        for round in first.. {
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
    println!("errors: {} of {} are injected, of {} kinds", chosen.len(), all.len(), kinds.len());
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
        for step in begin.injected.iter().cloned() {
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
        before: &begin.before,
        steps: &steps,
        answers: &answers,
        given: &given,
    };
    holds(&gateway, known, true).await;
}
