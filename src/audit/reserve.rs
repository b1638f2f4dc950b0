//! The disk reserve `audit.reserve`: a file of zeros that becomes the next segment when the disk
//! is full. Only revocations, and the records of a start, may be written to it then.
//!
//! Each start makes it anew, because a copy of the folder may share the blocks of the old one (`cp` on
//! XFS and Btrfs): writing over those would take room. Until the new one is there, and where the disk has
//! no room for both, the old one stays. It may be shorter than wanted: a start on a full disk gives a part of
//! it to the store ([`super::start_space`]).

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::file::{Disk, private, read_full};
use super::frame::leading_zeros;
use super::maker::{Blank, Maker};

/// The reserve's name in the log's folder.
pub(super) const NAME: &str = "audit.reserve";

/// Its name while it is made.
pub(super) const NEW_NAME: &str = "audit.reserve.new";

/// The length of the shortest reserve of an earlier run that is used, in bytes.
pub(super) const SHORTEST: u64 = 64 << 10;

/// Number of bytes of one read or write.
const STEP: u64 = 1 << 20;

/// The reserve of a log.
pub(super) struct Reserve {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    /// The wanted length, in bytes.
    wanted: u64,
    held: Option<Blank>,
    /// Whether this process made the one that is held, so that its blocks are its own.
    own: bool,
    /// Whether a warning says that the disk has no room for a new one.
    warned: bool,
    maker: Maker,
    /// Whether it was used since it was last held.
    was_used: bool,
}

impl Reserve {
    /// Takes over a reserve in the folder until a new one is made.
    pub(super) fn open(disk: Arc<dyn Disk>, folder: &Path, wanted: u64) -> Self {
        let mut reserve = Self {
            maker: Maker::new(disk.clone(), folder.join(NEW_NAME)),
            disk,
            path: folder.join(NAME),
            wanted,
            held: None,
            own: false,
            warned: false,
            was_used: false,
        };
        match reserve.take_over() {
            Ok(held) => reserve.held = held,
            Err(error) => tracing::warn!(%error, "the audit log's disk reserve could not be opened; it is made again"),
        }
        reserve
    }

    /// Opens the file of an earlier run, if it is long enough to be of use.
    fn take_over(&self) -> io::Result<Option<Blank>> {
        let file = match private().read(true).write(true).open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        file.try_lock()?;
        let found = file.metadata()?.len();
        if found < self.wanted.min(SHORTEST) {
            self.disk.remove(&self.path)?;
            return Ok(None);
        }
        if found > self.wanted {
            self.disk.set_len(&file, self.wanted)?;
        }
        Ok(Some(self.blank(file, found.min(self.wanted))))
    }

    /// The reserve, in that file of that length.
    fn blank(&self, file: File, length: u64) -> Blank {
        let path = self.path.clone();
        Blank { path, file, length }
    }

    /// Number of bytes of free space that the reserve still takes.
    pub(super) fn missing(&mut self) -> u64 {
        self.poll();
        let has = self.held.as_ref().map_or_else(|| self.maker.made(), |held| held.length);
        self.wanted.saturating_sub(has)
    }

    /// Begins a new reserve if there is none, or if one of an earlier run is held and `spare` bytes are
    /// enough for another.
    pub(super) fn begin(&mut self, spare: u64) {
        if self.held.is_some() && (self.own || !self.maker.is_idle()) {
            return;
        }
        if self.held.is_some() && spare < self.wanted {
            let missing_bytes = self.missing();
            if !std::mem::replace(&mut self.warned, true) {
                tracing::warn!(
                    missing_bytes,
                    "the disk has no room to make the disk reserve anew; a copy of the data folder may share its blocks"
                );
            }
            return;
        }
        self.maker.begin(self.wanted);
    }

    /// Whether it was used, and is not whole again.
    pub(super) fn is_used(&mut self) -> bool {
        self.poll();
        self.was_used && self.held.is_none()
    }

    fn poll(&mut self) {
        if !self.maker.is_ready() {
            return;
        }
        let made = self.maker.take(self.wanted).and_then(|blank| {
            self.disk.rename(&blank.path, &self.path)?;
            Ok(self.blank(blank.file, blank.length))
        });
        match made {
            Ok(whole) => (self.held, self.own, self.was_used) = (Some(whole), true, false),
            Err(error) => tracing::warn!(%error, "the audit log's disk reserve could not be made"),
        }
    }

    /// Gives up the reserve, to be the next segment.
    ///
    /// # Errors
    /// Errors of the file system.
    pub(super) fn give_up(&mut self) -> io::Result<Option<Blank>> {
        self.poll();
        let Some(held) = self.held.take() else { return Ok(None) };
        self.was_used = true;
        self.clear(&held)?;
        Ok(Some(held))
    }

    /// Writes zeros where something else wrote to the file.
    fn clear(&self, held: &Blank) -> io::Result<()> {
        let mut block = vec![0; STEP.min(held.length) as usize];
        let mut at = 0;
        while at < held.length {
            let step = block.len().min((held.length - at) as usize);
            let read = read_full(&held.file, at, &mut block[..step])?;
            if leading_zeros(&block[..read]) < step {
                block.fill(0);
                self.disk.fill(&held.file, at, &block[..step])?;
            }
            at += step as u64;
        }
        Ok(())
    }
}
