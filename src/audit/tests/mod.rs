//! Tests of the log as a whole, on a real file whose disk can be made slow, full or broken.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test stops where an expectation fails"
)]

mod background;
mod canonical;
mod commit;
mod counters;
mod crash;
mod document;
mod durability;
mod failure;
mod intents;
mod lost;
mod numbers;
mod observer;
mod waiters;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use claviger_provider::{InstallationId, TenantId};

use super::file::{DiskFile, LOG_NAME, LogFile, Look};
use super::frame::{self, Frames, Step};
use super::recovery::open_on;
use super::*;

/// The disk under a log: how it behaves, and what it was asked to do.
#[derive(Debug, Default)]
struct Disk {
    state: Mutex<DiskState>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct DiskState {
    writes: usize,
    /// What was written since the last sync.
    written: Vec<std::ops::Range<u64>>,
    syncs: usize,
    /// How often the free space was asked for.
    looks: usize,
    /// Syncs wait while this is set.
    gate_closed: bool,
    /// How many syncs pass the closed gate.
    passes: usize,
    /// A sync waits.
    at_gate: bool,
    /// How many syncs fail before they succeed again.
    failing_syncs: usize,
    /// How many writes fail halfway, for another reason than a full disk.
    failing_writes: usize,
    /// How many copies of the log's file cannot be made.
    failing_copies: usize,
    /// The most bytes of log and reserve together.
    capacity: Option<u64>,
    reserve: u64,
    length: u64,
    /// The length of the file that is certainly on the disk.
    synced: u64,
    /// What `available_space` returns, if it is not the truth.
    claimed: Option<u64>,
}

impl DiskState {
    fn available(&self) -> u64 {
        self.capacity
            .map_or(1 << 40, |capacity| capacity.saturating_sub(self.length + self.reserve))
    }
}

impl Disk {
    fn set(&self, change: impl FnOnce(&mut DiskState)) {
        change(&mut self.state.lock());
        self.changed.notify_all();
    }

    fn get<T>(&self, read: impl FnOnce(&DiskState) -> T) -> T {
        read(&self.state.lock())
    }

    /// Lets one sync pass the closed gate, and waits until the next one is there.
    fn pass(&self) {
        let mut state = self.state.lock();
        let syncs = state.syncs + 1;
        state.passes = 1;
        self.changed.notify_all();
        self.changed.wait_while(&mut state, |state| state.syncs < syncs || !state.at_gate);
    }

    /// Waits until a sync waits at the closed gate.
    fn wait_at_gate(&self) {
        let mut state = self.state.lock();
        self.changed.wait_while(&mut state, |state| !state.at_gate);
    }
}

struct TestFile {
    real: DiskFile,
    disk: Arc<Disk>,
}

impl LogFile for TestFile {
    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        self.real.read_at(offset, into)
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.disk.state.lock();
        state.writes += 1;
        if state.failing_writes > 0 {
            state.failing_writes -= 1;
            self.real.write_at(offset, &bytes[..bytes.len() / 2])?;
            return Err(io::Error::other("the disk is gone"));
        }
        let grown = (offset + bytes.len() as u64).saturating_sub(state.length);
        let room = usize::try_from(state.available()).unwrap();
        if grown as usize > room {
            self.real.write_at(offset, &bytes[..room])?;
            state.length = state.length.max(offset + room as u64);
            return Err(io::ErrorKind::StorageFull.into());
        }
        state.length += grown;
        state.written.push(offset..offset + bytes.len() as u64);
        self.real.write_at(offset, bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        let mut state = self.disk.state.lock();
        state.at_gate = true;
        self.disk.changed.notify_all();
        self.disk
            .changed
            .wait_while(&mut state, |state| state.gate_closed && state.passes == 0);
        state.passes = state.passes.saturating_sub(1);
        state.at_gate = false;
        state.syncs += 1;
        if state.failing_syncs > 0 {
            state.failing_syncs -= 1;
            // As a kernel may do: it drops the unwritten data and marks its pages clean, so
            // that the next sync of the same data succeeds.
            let lost = usize::try_from(state.length.saturating_sub(state.synced)).unwrap();
            self.real.write_at(state.synced, &vec![0; lost])?;
            return Err(io::Error::other("the disk did not write"));
        }
        state.synced = state.length;
        state.written.clear();
        self.real.sync()
    }

    fn len(&self) -> io::Result<u64> {
        self.real.len()
    }

    fn look(&self) -> io::Result<Look> {
        self.real.look()
    }

    fn put_back(&mut self, length: u64) -> io::Result<()> {
        let mut state = self.disk.state.lock();
        if state.failing_copies > 0 {
            state.failing_copies -= 1;
            return Err(io::Error::other("no copy can be made"));
        }
        self.real.put_back(length)
    }

    fn truncate(&mut self, length: u64) -> io::Result<()> {
        let mut state = self.disk.state.lock();
        state.length = length;
        state.synced = state.synced.min(length);
        self.real.truncate(length)
    }

    fn available_space(&self) -> io::Result<u64> {
        let mut state = self.disk.state.lock();
        state.looks += 1;
        Ok(state.claimed.unwrap_or_else(|| state.available()))
    }

    fn hold_reserve(&mut self, bytes: u64) -> io::Result<()> {
        let mut state = self.disk.state.lock();
        if bytes.saturating_sub(state.reserve) > state.available() {
            return Err(io::ErrorKind::StorageFull.into());
        }
        state.reserve = bytes;
        Ok(())
    }
}

/// A log's folder and its disk.
struct Bench {
    folder: tempfile::TempDir,
    origin: Origin,
    disk: Arc<Disk>,
}

impl Bench {
    fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            origin: Origin {
                installation: InstallationId::from_bytes([0x11; 16]),
                node: "n1".parse().unwrap(),
            },
            disk: Arc::default(),
        }
    }

    /// Options with which a test need not wait.
    fn options() -> Options {
        Options {
            reserve_bytes: 4 << 20,
            floor_bytes: 64 << 10,
            retry_after: Duration::ZERO,
            ..Options::default()
        }
    }

    fn open(&self) -> Recovered {
        self.try_open(Self::options()).unwrap()
    }

    fn try_open(&self, options: Options) -> Result<Recovered, OpenError> {
        self.open_with(options, Vec::new())
    }

    fn open_with(&self, options: Options, observers: Vec<Box<dyn CommitObserver>>) -> Result<Recovered, OpenError> {
        let real = DiskFile::open(self.folder.path(), &frame::header(&self.origin)).unwrap();
        self.disk
            .set(|disk| (disk.length, disk.synced) = (real.len().unwrap(), real.len().unwrap()));
        let file = TestFile {
            real,
            disk: self.disk.clone(),
        };
        open_on(Box::new(file), self.folder.path(), &self.origin, options, observers)
    }

    fn log_path(&self) -> PathBuf {
        self.folder.path().join(LOG_NAME)
    }

    fn index_path(&self) -> PathBuf {
        self.folder.path().join("audit.index")
    }

    /// A copy of the folder as a crash at this moment would leave it, on another disk.
    fn crashed(&self) -> Self {
        let copy = Self {
            origin: self.origin.clone(),
            ..Self::new()
        };
        for name in [LOG_NAME, "audit.index"] {
            std::fs::copy(self.folder.path().join(name), copy.folder.path().join(name)).unwrap();
        }
        copy
    }

    fn records(&self) -> Vec<(Position, Record)> {
        // Exclude concurrent writes.
        let _disk = self.disk.state.lock();
        read_all(self.folder.path())
    }
}

/// All records of a log that has whole frames only.
fn read_all(folder: &Path) -> Vec<(Position, Record)> {
    let file = DiskFile::open_beside(folder).unwrap();
    let (_, start) = frame::read_header(&file).unwrap().unwrap();
    let mut frames = Frames::from(&file, start);
    let mut records = Vec::new();
    loop {
        match frames.step().unwrap() {
            Step::Frame { position, json } => records.push((position, serde_json::from_slice(json).unwrap())),
            Step::Skip(_) => {}
            Step::End => return records,
            Step::Damaged { position } => panic!("damaged at {position:?}"),
        }
    }
}

/// A deadline that only a failing test reaches.
fn soon() -> Instant {
    Instant::now() + Duration::from_secs(30)
}

fn tenant(number: u8) -> TenantId {
    TenantId::from_bytes([number; 16])
}

/// Records one successful unwrap.
async fn unwrap_once(log: &Log, tenant: TenantId) -> Result<Receipt, Unavailable> {
    let recorded = log.record(log.entry(tenant, Action::Unwrap), Outcome::Success, (), soon()).await?;
    Ok(recorded.receipt().unwrap().clone())
}
