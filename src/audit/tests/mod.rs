//! Tests of the log as a whole, on a real file whose disk can be made slow, full or broken.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test stops where an expectation fails"
)]

mod accept;
mod background;
mod canonical;
mod commit;
mod copy;
mod counters;
mod crash;
mod disk;
mod document;
mod durability;
mod failure;
mod files;
mod intents;
mod keep;
mod keep_lost;
mod lost;
mod numbers;
mod observer;
mod resync;
mod segments;
mod waiters;

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use claviger_provider::{InstallationId, TenantId};

use self::disk::TestDisk;
use super::file::{LogFile, RealDisk};
use super::frame::{self, Frames, Step};
use super::recovery::open_on;
use super::segments::Segments;
use super::*;

/// A log's folder and its disk.
struct Bench {
    folder: tempfile::TempDir,
    origin: Origin,
    disk: Arc<TestDisk>,
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self {
            disk: Arc::new(TestDisk::new(folder.path())),
            folder,
            origin: Origin {
                installation: InstallationId::from_bytes([0x11; 16]),
                node: "n1".parse().unwrap(),
            },
        }
    }

    /// Options with which a test need not wait.
    fn options() -> Options {
        Options {
            reserve_bytes: 64 << 10,
            floor_bytes: 64 << 10,
            segments: SegmentSizes {
                first: 128 << 10,
                most: 1 << 20,
            },
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
        open_on(self.disk.clone(), self.folder.path(), &self.origin, options, observers)
    }

    /// The files of the log, the oldest first.
    fn log_paths(&self) -> Vec<PathBuf> {
        let names = std::fs::read_dir(self.folder.path()).unwrap().map(|entry| entry.unwrap().path());
        let mut paths: Vec<_> = names
            .filter(|path| path.extension().is_some_and(|extension| extension == "log"))
            .collect();
        paths.sort_unstable();
        paths
    }

    /// The first file of the log: what it has is at the offset of its position.
    fn log_path(&self) -> PathBuf {
        self.folder.path().join("audit-00000000000000000000.log")
    }

    /// The length of the reserve on the disk, in bytes.
    fn reserve(&self) -> u64 {
        std::fs::metadata(self.folder.path().join("audit.reserve")).map_or(0, |found| found.len())
    }

    /// Waits until the reserve is whole.
    async fn until_reserved(&self, log: &Log) {
        self.until_reserve_has(Self::options().reserve_bytes, log).await;
    }

    async fn until_reserve_has(&self, bytes: u64, log: &Log) {
        let whole = async {
            while self.reserve() < bytes {
                log.check();
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), whole)
            .await
            .expect("the reserve is not made");
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
        // No file is written meanwhile.
        let _steps = self.disk.stop();
        for entry in std::fs::read_dir(self.folder.path()).unwrap() {
            let name = entry.unwrap().file_name();
            std::fs::copy(self.folder.path().join(&name), copy.folder.path().join(&name)).unwrap();
        }
        copy
    }

    /// The position at which the next record is written.
    fn end(&self) -> u64 {
        let _steps = self.disk.stop();
        read_all(self.folder.path(), &self.origin).1
    }

    fn records(&self) -> Vec<(Position, Record)> {
        // Exclude concurrent writes.
        let _steps = self.disk.stop();
        read_all(self.folder.path(), &self.origin).0
    }
}

/// All records of a log that has whole frames only, and the position of its end.
fn read_all(folder: &Path, origin: &Origin) -> (Vec<(Position, Record)>, u64) {
    let file = Segments::open_beside(folder, origin, Arc::new(RealDisk)).unwrap();
    let mut frames = Frames::from(&file, file.start());
    let mut records = Vec::new();
    loop {
        match frames.step().unwrap() {
            Step::Frame { position, json } => records.push((position, serde_json::from_slice(json).unwrap())),
            Step::Skip(_) | Step::Header => {}
            Step::End => return (records, frames.offset()),
            Step::Damaged { position } => {
                assert!(is_zero_from(&file, position), "damaged at {position:?}");
                return (records, position.0);
            }
        }
    }
}

/// Whether the log has only zeros from there on.
fn is_zero_from(file: &dyn LogFile, position: Position) -> bool {
    let mut rest = vec![0; 16 << 20];
    let read = file.read_at(position.0, &mut rest).unwrap();
    frame::leading_zeros(&rest[..read]) == read
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
