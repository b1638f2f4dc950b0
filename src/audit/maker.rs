//! Makes files of zeros ahead of need: the log's next segment, and the disk reserve.
//!
//! The zeros are written and synced, not only allocated. A sync of a record then overwrites
//! blocks that the file system knows, and does not have to commit its journal, too. The file is
//! made under a temporary name, which means nothing after a crash.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::file::Disk;

/// Number of bytes of one write and sync.
const STEP: u64 = 1 << 20;

/// After each step the maker pauses this many times as long as the step took. Records have most of
/// the disk's time.
const PAUSE_PER_STEP: u32 = 3;

/// The longest pause after a step.
const LONGEST_PAUSE: Duration = Duration::from_millis(100);

/// The pause after a step that took so long.
fn pause_after(step: Duration) -> Duration {
    step.saturating_mul(PAUSE_PER_STEP).min(LONGEST_PAUSE)
}

/// The pause before a file is made again ahead of need after an error.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// A file of zeros, on the disk and locked.
#[derive(Debug)]
pub(super) struct Blank {
    pub(super) path: PathBuf,
    pub(super) file: File,
    /// Its length in bytes.
    pub(super) length: u64,
}

/// How fast a file is to be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Speed {
    /// With pauses.
    Paced,
    /// Somebody waits for it.
    Fast,
    /// Not at all any more.
    Stop,
}

/// What the maker's thread and its owner share.
#[derive(Debug)]
struct Shared {
    speed: Mutex<Speed>,
    changed: Condvar,
    /// How many bytes are on the disk.
    made: AtomicU64,
}

impl Shared {
    fn new(speed: Speed) -> Self {
        Self {
            speed: Mutex::new(speed),
            changed: Condvar::new(),
            made: AtomicU64::new(0),
        }
    }

    fn set(&self, speed: Speed) {
        *self.speed.lock() = speed;
        self.changed.notify_all();
    }

    /// Pauses for that long, unless somebody waits. Returns whether to go on.
    fn pause(&self, pause: Duration) -> bool {
        let mut speed = self.speed.lock();
        let end = Instant::now() + pause;
        while *speed == Speed::Paced && !self.changed.wait_until(&mut speed, end).timed_out() {}
        *speed != Speed::Stop
    }
}

enum State {
    Idle,
    Making(JoinHandle<io::Result<Blank>>, Arc<Shared>),
    Ready(Blank),
}

/// Makes one file at a time, on a thread of its own.
pub(super) struct Maker {
    disk: Arc<dyn Disk>,
    /// The temporary name.
    path: PathBuf,
    state: State,
    failed: Option<Instant>,
}

impl Maker {
    /// Makes files under this temporary name. Removes one that an earlier run left.
    pub(super) fn new(disk: Arc<dyn Disk>, path: PathBuf) -> Self {
        let maker = Self {
            disk,
            path,
            state: State::Idle,
            failed: None,
        };
        maker.remove();
        maker
    }

    /// Begins a file of that length, unless one is being made or is ready, or the last one failed
    /// less than a second ago.
    pub(super) fn begin(&mut self, length: u64) {
        let may = self.failed.is_none_or(|failed| failed.elapsed() >= RETRY_AFTER);
        if !may || !matches!(self.state, State::Idle) {
            return;
        }
        let shared = Arc::new(Shared::new(Speed::Paced));
        let (disk, path, maker) = (self.disk.clone(), self.path.clone(), shared.clone());
        let thread = std::thread::Builder::new().name("audit-maker".into());
        match thread.spawn(move || make(&*disk, &path, length, &maker)) {
            Ok(thread) => self.state = State::Making(thread, shared),
            Err(error) => drop(self.fail(error)),
        }
    }

    /// Whether a file is ready.
    pub(super) fn is_ready(&mut self) -> bool {
        if matches!(&self.state, State::Making(thread, _) if thread.is_finished()) {
            // An error has been logged, and `begin` tries again.
            let _ = self.finish();
        }
        matches!(self.state, State::Ready(_))
    }

    /// Whether no file is being made or ready.
    pub(super) fn is_idle(&self) -> bool {
        matches!(self.state, State::Idle)
    }

    /// Number of bytes of the file under way that are on the disk.
    pub(super) fn made(&self) -> u64 {
        match &self.state {
            State::Idle => 0,
            State::Making(_, shared) => shared.made.load(Ordering::Relaxed),
            State::Ready(blank) => blank.length,
        }
    }

    /// The file under way, if it is at least that long; otherwise one that is made now.
    ///
    /// # Errors
    /// Errors of the file system. Nothing is left of the file then.
    pub(super) fn take(&mut self, least: u64) -> io::Result<Blank> {
        if let State::Making(_, shared) = &self.state {
            shared.set(Speed::Fast);
            self.finish()?;
        }
        match std::mem::replace(&mut self.state, State::Idle) {
            State::Ready(blank) if blank.length >= least => return Ok(blank),
            // One that is too short ends here, with its lock: the new one gets its name.
            State::Ready(_) | State::Idle | State::Making(..) => {}
        }
        make(&*self.disk, &self.path, least, &Shared::new(Speed::Fast)).map_err(|error| self.fail(error))
    }

    /// Waits for the thread.
    fn finish(&mut self) -> io::Result<()> {
        if let State::Making(thread, _) = std::mem::replace(&mut self.state, State::Idle) {
            let made = thread.join().unwrap_or_else(|_| Err(io::Error::other("the thread ended")));
            self.state = State::Ready(made.map_err(|error| self.fail(error))?);
            self.failed = None;
        }
        Ok(())
    }

    fn fail(&mut self, error: io::Error) -> io::Error {
        tracing::warn!(%error, file = %self.path.display(), "a file of zeros for the audit log could not be made");
        self.failed = Some(Instant::now());
        self.remove();
        error
    }

    fn remove(&self) {
        if let Err(error) = self.disk.remove(&self.path) {
            tracing::warn!(%error, file = %self.path.display(), "a file that is no part of the audit log could not be removed");
        }
    }
}

impl Drop for Maker {
    fn drop(&mut self) {
        match std::mem::replace(&mut self.state, State::Idle) {
            State::Idle => return,
            State::Making(thread, shared) => {
                shared.set(Speed::Stop);
                let _ = thread.join();
            }
            State::Ready(_) => {}
        }
        self.remove();
    }
}

/// Writes zeros to a new file and syncs them.
fn make(disk: &dyn Disk, path: &Path, length: u64, shared: &Shared) -> io::Result<Blank> {
    let zeros = vec![0; STEP.min(length) as usize];
    let file = disk.create(path)?;
    let mut spent = Duration::ZERO;
    let mut at = 0;
    while at < length {
        let begun = Instant::now();
        let step = STEP.min(length - at);
        disk.fill(&file, at, &zeros[..step as usize])?;
        disk.sync_new(&file)?;
        at += step;
        shared.made.store(at, Ordering::Relaxed);
        let took = begun.elapsed();
        spent += took;
        if at < length && !shared.pause(pause_after(took)) {
            return Err(io::ErrorKind::Interrupted.into());
        }
    }
    metrics::histogram!("claviger_audit_zeroing_seconds").record(spent);
    metrics::counter!("claviger_audit_zeroed_bytes_total").increment(length);
    let path = path.to_owned();
    Ok(Blank { path, file, length })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test stops where an expectation fails")]
mod tests {
    use std::sync::Arc;
    use std::sync::mpsc::channel;
    use std::time::{Duration, Instant};

    use super::{Shared, Speed, pause_after};

    /// Longer than any of this takes on a busy machine.
    const PATIENCE: Duration = Duration::from_secs(60);

    #[test]
    fn a_pause_is_three_times_its_step_and_at_most_a_tenth_of_a_second() {
        assert_eq!(pause_after(Duration::from_millis(5)), Duration::from_millis(15));
        assert_eq!(pause_after(Duration::from_millis(34)), Duration::from_millis(100));
        assert_eq!(pause_after(Duration::MAX), Duration::from_millis(100));
    }

    #[test]
    fn a_pause_lasts_unless_somebody_waits_or_nobody_wants_the_file() {
        let begun = Instant::now();
        assert!(Shared::new(Speed::Paced).pause(Duration::from_millis(50)));
        assert!(begun.elapsed() >= Duration::from_millis(50));
        for (speed, goes_on) in [(Speed::Fast, true), (Speed::Stop, false)] {
            let shared = Arc::new(Shared::new(Speed::Paced));
            let (told, heard) = channel();
            let pausing = Arc::clone(&shared);
            std::thread::spawn(move || told.send(pausing.pause(PATIENCE * 60)));
            shared.set(speed);
            assert_eq!(heard.recv_timeout(PATIENCE), Ok(goes_on), "{speed:?}");
        }
    }
}
