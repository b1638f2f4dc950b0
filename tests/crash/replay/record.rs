//! Gateways whose processes are recorded.

use std::path::{Path, PathBuf};

use claviger_test_support::{Gateway, Started, Tune};

use super::check::Known;
use super::disk::Disk;
use super::history::History;
use super::step::{Answered, Given, Step, World};
use super::trace;

/// What the processes write, which is no part of the state.
const WITHOUT: [&str; 1] = ["serve.log"];

/// A gateway whose processes are recorded.
pub struct Recorder {
    pub gateway: Gateway,
    /// Its script and the records.
    folder: tempfile::TempDir,
    records: usize,
}

impl Recorder {
    /// Of a folder without a gateway yet.
    pub fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let script = trace::script(folder.path(), crate::BINARY);
        Self {
            gateway: Gateway::empty_in(script.to_str().expect("a path"), &std::env::temp_dir()),
            folder,
            records: 0,
        }
    }

    /// Of a new gateway.
    pub fn initialised() -> Self {
        let recorder = Self::new();
        let made = recorder.gateway.init(&Tune::default()).output().expect("init runs");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        recorder
    }

    /// The folder's history, which begins now.
    pub fn history(&self) -> History {
        History::of(self.gateway.folder(), &WITHOUT)
    }

    /// How the next process is recorded, and the file of its record.
    pub fn next(&mut self) -> (Tune, PathBuf) {
        let file = self.next_file();
        let (name, value) = trace::recording(&file);
        (Tune::default().set(name, value), file)
    }

    /// As [`Recorder::next`], and from its n-th sync on each thread's syncs fail.
    fn next_failing(&mut self, from: usize) -> (Tune, PathBuf) {
        let file = self.next_file();
        let (name, value) = trace::recording(&file);
        let value = value + &format!(" -e inject=fsync,fdatasync:error=EIO:when={from}+");
        (Tune::default().set(name, value), file)
    }

    fn next_file(&mut self) -> PathBuf {
        self.records += 1;
        self.folder.path().join(format!("record-{}", self.records))
    }

    /// Runs a command to its end, which must be a success, and records it.
    pub fn run(&mut self, history: &mut History, command: impl Fn(&Gateway, &Tune) -> std::process::Command) {
        let (tune, file) = self.next();
        let child = command(&self.gateway, &tune)
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .expect("it runs");
        let process = child.id();
        let output = child.wait_with_output().expect("its end");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        history.add(trace::read(&file, process));
        self.compare(history);
    }

    /// Panics unless the record gives the folder as it is: then no write was missed. Of a write in which the process
    /// ended, the folder may have a part.
    pub fn compare(&self, history: &mut History) {
        let folder = Disk::read(self.gateway.folder(), &WITHOUT).0;
        history.settle(&folder);
        history.now().assert_same(&folder);
    }
}

/// A record with the requests that were sent meanwhile.
pub struct Recorded {
    pub history: History,
    /// What could be read before the first request.
    pub before: World,
    pub steps: Vec<Step>,
    pub answers: Vec<Option<Answered>>,
    pub given: Given,
}

/// How a run of the gateway ends.
#[derive(Clone, Copy, PartialEq)]
pub enum End {
    Killed,
    InOrder,
}

impl Recorded {
    /// Of a gateway, from now on.
    pub fn of(recorder: &Recorder) -> Self {
        Self {
            history: recorder.history(),
            before: World::new(),
            steps: Vec::new(),
            answers: Vec::new(),
            given: Given::default(),
        }
    }

    /// Runs the gateway while these requests are sent.
    pub async fn serve(&mut self, recorder: &mut Recorder, steps: Vec<Step>, end: End) {
        let (tune, file) = recorder.next();
        let started = tokio::task::block_in_place(|| recorder.gateway.serve(&tune));
        for step in steps {
            let (name, expected) = (step.name(), step.status);
            let status = self.send(step, &started).await;
            assert_eq!(status, expected, "{name}: {:?}", self.answers.last());
        }
        self.end(recorder, started, &file, end);
    }

    /// Runs the gateway, whose syncs fail on each thread from its n-th one on, and sends this request until it
    /// is refused. Then the gateway is killed.
    pub async fn serve_failing(&mut self, recorder: &mut Recorder, step: &Step, from: usize) {
        let (tune, file) = recorder.next_failing(from);
        let started = tokio::task::block_in_place(|| recorder.gateway.serve(&tune));
        for _ in 0..2 * from {
            if self.send(step.clone(), &started).await != step.status {
                return self.end(recorder, started, &file, End::Killed);
            }
        }
        panic!("no sync failed");
    }

    /// Sends a request. Returns the status of its answer.
    async fn send(&mut self, step: Step, started: &Started) -> u16 {
        let answer = step.send(self.answers.len(), started, &mut self.given).await.expect("an answer");
        let status = answer.status;
        self.steps.push(step);
        self.answers.push(Some(answer));
        status
    }

    /// Ends a process, and reads its record.
    fn end(&mut self, recorder: &Recorder, started: Started, file: &Path, end: End) {
        let process = started.pid();
        match end {
            End::Killed => started.kill(),
            End::InOrder => assert!(tokio::task::block_in_place(|| started.terminate()), "an end in order"),
        }
        self.history.add(trace::read(file, process));
        recorder.compare(&mut self.history);
    }

    /// What a client knows after so many answers.
    pub fn known(&self, answered: usize) -> Known<'_> {
        Known {
            before: &self.before,
            steps: &self.steps,
            answers: &self.answers[..answered],
            given: &self.given,
        }
    }

    /// The line of each response.
    pub fn lines(&self) -> Vec<usize> {
        let line = |answer: &Answered| *self.history.responses.get(&answer.request).expect("each response is in the record");
        self.answers.iter().flatten().map(line).collect()
    }
}
