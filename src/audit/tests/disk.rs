//! A disk that can be made slow, full or broken, or ends with its process at any step.

use std::collections::BTreeMap;
use std::os::unix::fs::FileExt;

use parking_lot::{Condvar, Mutex, MutexGuard};

use super::super::file::{Disk, read_full};
use super::*;

/// What a kernel writes as a whole, in bytes.
const PAGE: u64 = 4096;

/// The disk under a log: how it behaves, and what it was asked to do.
#[derive(Debug)]
pub(super) struct TestDisk {
    folder: PathBuf,
    state: Mutex<DiskState>,
    changed: Condvar,
}

#[derive(Debug, Default)]
pub(super) struct DiskState {
    /// Writes to files of the log.
    pub(super) writes: usize,
    /// Syncs of them.
    pub(super) syncs: usize,
    /// How often the free space was asked for.
    pub(super) looks: usize,
    /// All that changed anything.
    pub(super) steps: usize,
    /// The step at which the process is killed: it and all later ones do nothing.
    pub(super) killed_at: Option<usize>,
    /// The step that fails, and how. A write does its half.
    pub(super) failing_step: Option<(usize, io::ErrorKind)>,
    /// Syncs wait while this is set.
    pub(super) gate_closed: bool,
    /// How many syncs pass the closed gate.
    passes: usize,
    /// A sync waits.
    at_gate: bool,
    /// How many syncs fail before they succeed again.
    pub(super) failing_syncs: usize,
    /// Whether what a failed sync did not write is read on from memory, as on ext4 and XFS.
    pub(super) reads_on: bool,
    /// How many writes fail halfway, for another reason than a full disk.
    pub(super) failing_writes: usize,
    /// How many copies of a file of the log cannot be made.
    pub(super) failing_copies: usize,
    /// Whether no file can be replaced.
    pub(super) failing_replaces: bool,
    /// The most bytes of all files of the log together.
    pub(super) capacity: Option<u64>,
    /// What `available_space` returns, if it is not the truth.
    pub(super) claimed: Option<u64>,
    /// What was written since the last sync, and what the disk has in its place.
    unsynced: Vec<(u64, Vec<u8>)>,
    /// The pages of the log's only file that a failed sync left clean, and what the disk has of them: no later
    /// sync writes them unless they are written to again.
    lacking: BTreeMap<u64, Vec<u8>>,
}

impl DiskState {
    /// How many pages are read that the disk lacks.
    pub(super) fn lacking(&self) -> usize {
        self.lacking.len()
    }

    /// A sync failed: the pages of what was written are clean now, and the disk does not have them.
    fn leave_clean(&mut self, file: &File) {
        let mut pages: BTreeMap<u64, Vec<u8>> = BTreeMap::new();
        for (offset, before) in self.unsynced.drain(..).rev() {
            for (at, byte) in (offset..).zip(before) {
                let page = pages.entry(at / PAGE).or_insert_with(|| {
                    let mut page = vec![0; PAGE as usize];
                    read_full(file, at / PAGE * PAGE, &mut page).unwrap();
                    page
                });
                page[(at % PAGE) as usize] = byte;
            }
        }
        for (page, bytes) in pages {
            self.lacking.entry(page).or_insert(bytes);
        }
    }

    /// A sync succeeded: the disk has each page that was written to.
    fn is_synced(&mut self) {
        for (offset, before) in self.unsynced.drain(..) {
            let end = offset + before.len() as u64;
            for page in offset / PAGE..end.div_ceil(PAGE) {
                self.lacking.remove(&page);
            }
        }
    }
}

impl TestDisk {
    pub(super) fn new(folder: &Path) -> Self {
        Self {
            folder: folder.to_owned(),
            state: Mutex::default(),
            changed: Condvar::new(),
        }
    }

    pub(super) fn set(&self, change: impl FnOnce(&mut DiskState)) {
        change(&mut self.state.lock());
        self.changed.notify_all();
    }

    pub(super) fn get<T>(&self, read: impl FnOnce(&DiskState) -> T) -> T {
        read(&self.state.lock())
    }

    /// No step is done while the value exists.
    pub(super) fn stop(&self) -> MutexGuard<'_, DiskState> {
        self.state.lock()
    }

    /// Leaves that many free bytes.
    pub(super) fn leave(&self, bytes: u64) {
        let mut state = self.state.lock();
        state.capacity = Some(self.used() + bytes);
    }

    /// Lets one sync pass the closed gate, and waits until the next one is there.
    pub(super) fn pass(&self) {
        let mut state = self.state.lock();
        let syncs = state.syncs + 1;
        state.passes = 1;
        self.changed.notify_all();
        self.wait(&mut state, |state| state.syncs < syncs || !state.at_gate);
    }

    /// What was written since the last sync, as offsets in a file of the log.
    pub(super) fn unsynced(&self) -> Vec<std::ops::Range<u64>> {
        let state = self.state.lock();
        let ranges = state.unsynced.iter().map(|(offset, before)| *offset..offset + before.len() as u64);
        ranges.collect()
    }

    /// Leaves the log's only file as the disk has it.
    pub(super) fn lose_power(&self, log: &Path) {
        let mut state = self.state.lock();
        let file = File::options().write(true).open(log).unwrap();
        for (offset, before) in state.unsynced.drain(..).rev() {
            file.write_all_at(&before, offset).unwrap();
        }
        for (page, bytes) in std::mem::take(&mut state.lacking) {
            file.write_all_at(&bytes, page * PAGE).unwrap();
        }
    }

    /// Waits until a sync waits at the closed gate.
    pub(super) fn wait_at_gate(&self) {
        let mut state = self.state.lock();
        self.wait(&mut state, |state| !state.at_gate);
    }

    /// Waits for another thread, which may have failed.
    fn wait(&self, state: &mut MutexGuard<'_, DiskState>, condition: impl FnMut(&mut DiskState) -> bool) {
        let waited = self.changed.wait_while_for(state, condition, Duration::from_secs(30));
        assert!(!waited.timed_out(), "no sync came to the gate");
    }

    /// The length of all files of the log together.
    fn used(&self) -> u64 {
        let files = std::fs::read_dir(&self.folder)
            .unwrap()
            .filter_map(|entry| entry.unwrap().metadata().ok());
        files.map(|found| found.len()).sum()
    }

    fn free(&self, state: &DiskState) -> u64 {
        state.capacity.map_or(1 << 40, |capacity| capacity.saturating_sub(self.used()))
    }

    /// Counts a step; an error if it is the one that fails, or the process was killed before it.
    fn step(&self) -> io::Result<MutexGuard<'_, DiskState>> {
        let mut state = self.state.lock();
        state.steps += 1;
        if state.killed_at.is_some_and(|at| state.steps > at) {
            return Err(io::Error::other("the process is dead"));
        }
        match state.failing_step {
            Some((at, kind)) if at == state.steps => Err(kind.into()),
            _ => Ok(state),
        }
    }

    /// Whether the step that just failed was to fail by itself, and so is done by half.
    fn halfway(&self) -> bool {
        let state = self.state.lock();
        state.failing_step.is_some_and(|(at, _)| at == state.steps)
    }

    fn write(&self, state: &DiskState, file: &File, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let grown = (offset + bytes.len() as u64).saturating_sub(file.metadata()?.len());
        let room = self.free(state);
        if grown > room {
            file.write_all_at(&bytes[..bytes.len() - (grown - room) as usize], offset)?;
            return Err(io::ErrorKind::StorageFull.into());
        }
        file.write_all_at(bytes, offset)
    }
}

impl Disk for TestDisk {
    fn create(&self, path: &Path) -> io::Result<File> {
        let _state = self.step()?;
        RealDisk.create(path)
    }

    fn write_at(&self, file: &File, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut state = match self.step() {
            Ok(state) => state,
            Err(error) => {
                if self.halfway() {
                    file.write_all_at(&bytes[..bytes.len() / 2], offset)?;
                }
                return Err(error);
            }
        };
        state.writes += 1;
        let mut before = vec![0; bytes.len()];
        read_full(file, offset, &mut before)?;
        state.unsynced.push((offset, before));
        if state.failing_writes > 0 {
            state.failing_writes -= 1;
            file.write_all_at(&bytes[..bytes.len() / 2], offset)?;
            return Err(io::Error::other("the disk is gone"));
        }
        self.write(&state, file, offset, bytes)
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        let mut state = self.step()?;
        state.at_gate = true;
        self.changed.notify_all();
        self.changed.wait_while(&mut state, |state| state.gate_closed && state.passes == 0);
        state.passes = state.passes.saturating_sub(1);
        state.at_gate = false;
        state.syncs += 1;
        if state.failing_syncs > 0 {
            state.failing_syncs -= 1;
            if state.reads_on {
                state.leave_clean(file);
                return Err(io::Error::other("the disk did not write"));
            }
            // As a kernel may do: it drops the unwritten data and marks its pages clean, so
            // that the next sync of the same data succeeds.
            for (offset, before) in state.unsynced.drain(..).rev() {
                file.write_all_at(&before, offset)?;
            }
            return Err(io::Error::other("the disk did not write"));
        }
        state.is_synced();
        Ok(())
    }

    fn fill(&self, file: &File, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let state = self.step()?;
        self.write(&state, file, offset, bytes)
    }

    fn sync_new(&self, _: &File) -> io::Result<()> {
        self.step().map(drop)
    }

    fn set_len(&self, file: &File, length: u64) -> io::Result<()> {
        let _state = self.step()?;
        RealDisk.set_len(file, length)
    }

    fn copy(&self, from: &File, to: &File, length: u64) -> io::Result<()> {
        let mut state = self.step()?;
        if state.failing_copies > 0 {
            state.failing_copies -= 1;
            return Err(io::Error::other("no copy can be made"));
        }
        RealDisk.copy(from, to, length)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let _state = self.step()?;
        std::fs::rename(from, to)
    }

    fn replace(&self, path: &Path, content: &[u8]) -> io::Result<()> {
        let state = self.step()?;
        if state.failing_replaces {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let beside = path.with_extension("new");
        std::fs::write(&beside, content)?;
        std::fs::rename(&beside, path)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let _state = self.step()?;
        RealDisk.remove(path)
    }

    fn sync_folder(&self, _: &Path) -> io::Result<()> {
        self.step().map(drop)
    }

    fn create_folder(&self, path: &Path) -> io::Result<()> {
        let _state = self.step()?;
        RealDisk.create_folder(path)
    }

    fn available_space(&self, _: &Path) -> io::Result<u64> {
        let mut state = self.state.lock();
        state.looks += 1;
        Ok(state.claimed.unwrap_or_else(|| self.free(&state)))
    }
}
