//! The files of one log, and which of them has which position.
//!
//! The last file is written to; it has zeros behind its last frame, and every write overwrites
//! them. The others are closed. A closed file ends where the next one begins, and never changes.
//! An `audit.log` of an earlier release is the first file and closed.

mod aside;
mod damage;
mod keeping;
mod tampering;

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::file::{Disk, LogFile, named, private, read_full};
use super::frame::{self, leading_zeros};
use super::maker::{Blank, Maker};
use super::origin::Origin;

pub(super) use aside::{Unusable, first_non_file, set_aside};
pub(super) use tampering::Tampering;

/// The one file of earlier releases.
const OLD_NAME: &str = "audit.log";

/// The temporary name of the next segment.
pub(super) const NEXT_NAME: &str = "audit.next";

/// The number of digits of a position in a segment's name.
const DIGITS: usize = 20;

/// Zeros that stay at the end of the last file. They show that no later file is missing, and that
/// the file was not cut, even if the gap was written over.
const PADDING: u64 = 16;

/// How many of the newest closed files are kept open, so that they can be brought back.
const HELD: usize = 16;

/// The lengths of segments, in bytes. Each is twice as long as the one before.
#[derive(Debug, Clone, Copy)]
pub struct SegmentSizes {
    /// The length of the first.
    pub first: u64,
    /// The greatest length, but for a commit that is longer.
    pub most: u64,
}

/// One file.
#[derive(Debug)]
struct Segment {
    /// The position of its first byte.
    start: u64,
    /// Whether it is the file of an earlier release.
    old: bool,
    /// The open file: always of the last one, and of some closed ones.
    file: Option<File>,
}

impl Segment {
    /// A file of this release that begins at that position.
    const fn at(start: u64) -> Self {
        Self {
            start,
            old: false,
            file: None,
        }
    }

    fn name(&self) -> String {
        match self.old {
            true => OLD_NAME.to_owned(),
            false => format!("audit-{:0DIGITS$}.log", self.start),
        }
    }

    fn header(&self, origin: &Origin) -> String {
        match self.old {
            true => frame::old_header(origin),
            false => frame::header(origin, self.start),
        }
    }
}

/// The files of the log in a folder, the oldest first. There is at least one.
pub(super) struct Segments {
    folder: PathBuf,
    origin: Origin,
    disk: Arc<dyn Disk>,
    sizes: SegmentSizes,
    closed: Vec<Segment>,
    last: Segment,
    /// The length that the last file should have.
    size: u64,
    /// Whether the last file is to be closed: it takes no commit any more.
    closing: bool,
    /// The positions of files that lacked a part when they were brought back, until the lost parts
    /// are marked.
    cut: Option<Range<u64>>,
}

/// What has the name of a file of the log in the folder, the oldest first.
fn list_all(folder: &Path) -> io::Result<Vec<Segment>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name();
        let Some(name) = name.to_str() else { continue };
        let digits = name.strip_prefix("audit-").and_then(|name| name.strip_suffix(".log"));
        let start = digits
            .filter(|digits| digits.len() == DIGITS)
            .and_then(|digits| digits.parse().ok());
        let old = name == OLD_NAME;
        if let Some(start) = if old { Some(0) } else { start } {
            let file = None;
            found.push(Segment { start, old, file });
        }
    }
    found.sort_unstable_by_key(|segment| segment.start);
    Ok(found)
}

/// The files in the folder, the oldest first.
fn list(folder: &Path) -> io::Result<Vec<Segment>> {
    let found = list_all(folder)?;
    if found.windows(2).any(|pair| pair[0].start == pair[1].start) {
        return Err(io::Error::new(
            io::ErrorKind::AlreadyExists,
            "both audit.log and audit-00000000000000000000.log exist, and a log begins with only one of them: move the one away that is \
             none of it, or start once with --accept-lost-log, which sets aside what cannot be read",
        ));
    }
    Ok(found)
}

/// The name of each file of the log in the folder and the position of its first byte, the oldest first.
///
/// # Errors
/// Errors of the file system.
pub(super) fn names(folder: &Path) -> io::Result<Vec<(String, u64)>> {
    Ok(list(folder)?.iter().map(|segment| (segment.name(), segment.start)).collect())
}

/// The owner of the log in the folder, by the first line of its first file; `None` if that is no
/// header line.
///
/// # Errors
/// Errors of the file system; [`io::ErrorKind::NotFound`] if there is no log.
pub(super) fn owner(folder: &Path) -> io::Result<Option<Origin>> {
    let first = list(folder)?.into_iter().next().ok_or(io::ErrorKind::NotFound)?;
    let mut line = [0; frame::MAX_HEADER];
    let read = read_full(&File::open(folder.join(first.name()))?, 0, &mut line)?;
    Ok(frame::parse_header(&line[..read], first.start).map(|(origin, _)| origin))
}

/// Copies the contents of a file of the log that a later one follows, or those of the last one up to a
/// position, to another folder. The copy of a last one ends as a start expects it.
///
/// # Errors
/// Errors of the file system.
pub(super) fn copy_file(folder: &Path, to: &Path, name: &str, length: u64, is_last: bool) -> io::Result<()> {
    let mut copy = private().write(true).create_new(true).open(to.join(name))?;
    let copied = io::copy(&mut File::open(folder.join(name))?.take(length), &mut copy)?;
    if copied < length {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    if is_last && name != OLD_NAME {
        copy.write_all(&[0; PADDING as usize])?;
    }
    copy.sync_all()
}

/// Whether the folder has any file of a log.
///
/// # Errors
/// Errors of the file system.
pub(super) fn exist(folder: &Path) -> io::Result<bool> {
    Ok(!list(folder)?.is_empty())
}

impl Segments {
    /// Opens the log in the folder, or creates one.
    ///
    /// # Errors
    /// Errors of the file system; [`io::ErrorKind::WouldBlock`] if another process has the log
    /// open.
    pub(super) fn open(folder: &Path, origin: &Origin, disk: Arc<dyn Disk>, sizes: SegmentSizes) -> io::Result<Self> {
        if !exist(folder)? {
            let blank = Maker::new(disk.clone(), folder.join(NEXT_NAME)).take(sizes.first)?;
            name(&*disk, folder, origin, &blank, 0)?;
            // Its lock ends here; the way of every start follows.
        }
        let mut this = Self::of(list(folder)?, folder, origin, disk, sizes)?;
        let path = folder.join(this.last.name());
        let file = private().read(true).write(true).open(&path).map_err(|error| named(&path, &error))?;
        file.try_lock()?;
        this.size = file.metadata()?.len();
        this.last.file = Some(file);
        let held = this.closed.len().saturating_sub(HELD);
        for (number, segment) in this.closed.iter_mut().enumerate() {
            if segment.old || number >= held {
                // A missing one is found by `missing`.
                segment.file = private().read(true).write(true).open(folder.join(segment.name())).ok();
            }
            if let (true, Some(file)) = (segment.old, &segment.file) {
                // Keeps an earlier release out.
                file.try_lock()?;
            }
        }
        Ok(this)
    }

    /// Opens an existing log for reading, without the lock.
    ///
    /// # Errors
    /// Errors of the file system.
    pub(super) fn open_beside(folder: &Path, origin: &Origin, disk: Arc<dyn Disk>) -> io::Result<Self> {
        let mut this = Self::of(list(folder)?, folder, origin, disk, SegmentSizes { first: 0, most: 0 })?;
        let file = File::open(folder.join(this.last.name()))?;
        this.size = file.metadata()?.len();
        this.last.file = Some(file);
        Ok(this)
    }

    fn of(mut files: Vec<Segment>, folder: &Path, origin: &Origin, disk: Arc<dyn Disk>, sizes: SegmentSizes) -> io::Result<Self> {
        let last = files.pop().ok_or(io::ErrorKind::NotFound)?;
        Ok(Self {
            folder: folder.to_owned(),
            origin: origin.clone(),
            disk,
            sizes,
            closed: files,
            last,
            size: 0,
            closing: false,
            cut: None,
        })
    }

    /// The position of the first byte.
    pub(super) fn start(&self) -> u64 {
        self.closed.first().unwrap_or(&self.last).start
    }

    /// The position at which the last file begins.
    pub(super) fn last_start(&self) -> u64 {
        self.last.start
    }

    /// The header line of the last file.
    pub(super) fn header(&self) -> String {
        self.last.header(&self.origin)
    }

    /// The position after the last byte of the last file, zeros included.
    pub(super) fn size_end(&self) -> u64 {
        self.last.start + self.size
    }

    fn last_file(&self) -> io::Result<&File> {
        self.last.file.as_ref().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// Each closed file, and the position of its end.
    fn closed(&self) -> impl Iterator<Item = (&Segment, u64)> {
        let ends = self.closed.iter().skip(1).chain([&self.last]).map(|next| next.start);
        self.closed.iter().zip(ends)
    }

    fn path(&self, segment: &Segment) -> PathBuf {
        self.folder.join(segment.name())
    }

    /// Whether the last file ends at that position like a closed one, or without the zeros that no commit
    /// overwrites: the next file is missing, or the file was cut.
    ///
    /// # Errors
    /// Errors of the file system.
    pub(super) fn lacks_next(&self, end: u64) -> io::Result<bool> {
        if self.last.old || self.size_end() < end + PADDING {
            return Ok(!self.last.old);
        }
        let mut padding = [0; PADDING as usize];
        let read = read_full(self.last_file()?, self.size - PADDING, &mut padding)?;
        Ok(leading_zeros(&padding[..read]) < PADDING as usize)
    }

    /// Removes what follows `end` in the last file: a commit that a crash interrupted. Returns its
    /// length in bytes. Nothing is synced.
    ///
    /// # Errors
    /// Errors of the file system.
    pub(super) fn erase_after(&mut self, end: u64) -> io::Result<u64> {
        let file = self.last_file()?;
        let from = end.saturating_sub(self.last.start);
        if self.last.old {
            let torn = self.size.saturating_sub(from);
            if torn > 0 {
                self.disk.set_len(file, from)?;
                self.size = from;
            }
            return Ok(torn);
        }
        let mut block = vec![0; 1 << 20];
        let (mut at, mut torn) = (from, 0);
        while at < self.size {
            let read = read_full(file, at, &mut block)?;
            let found = &block[..read];
            // Most blocks are zeros, which is found out faster.
            if leading_zeros(found) < read {
                let last = found.iter().rposition(|byte| *byte != 0).unwrap_or(0);
                torn = at + last as u64 + 1 - from;
            }
            at += read.max(1) as u64;
        }
        let zeros = vec![0; torn.min(1 << 20) as usize];
        let mut erased = 0;
        while erased < torn {
            let step = (torn - erased).min(1 << 20);
            self.disk.write_at(file, from + erased, &zeros[..step as usize])?;
            erased += step;
        }
        Ok(torn)
    }

    /// How many bytes of a commit fit at that position of the last file.
    pub(super) fn room(&self, at: u64) -> u64 {
        match self.closing || self.last.old {
            true => 0,
            false => self.size_end().saturating_sub(at + PADDING),
        }
    }

    /// Whether the last file is that of an earlier release.
    pub(super) fn is_old(&self) -> bool {
        self.last.old
    }

    /// Whether half of the last file is written.
    pub(super) fn is_half_full(&self, at: u64) -> bool {
        self.room(at) <= self.size / 2
    }

    /// The length of a segment after the last one, for a first commit of that many bytes.
    pub(super) fn next_size(&self, bytes: u64) -> u64 {
        let least = bytes + frame::MAX_HEADER as u64 + PADDING;
        (2 * self.size).clamp(self.sizes.first, self.sizes.most).max(least)
    }

    /// Closes the last file at that position, where all before is synced, and goes on in another.
    /// Returns the position of the first frame in it.
    ///
    /// # Errors
    /// Errors of the file system. The last file takes no commit any more.
    pub(super) fn begin_next(&mut self, blank: Blank, at: u64) -> io::Result<u64> {
        self.closing = true;
        let start = name(&*self.disk, &self.folder, &self.origin, &blank, at)?;
        let next = Segment {
            file: Some(blank.file),
            ..Segment::at(at)
        };
        let last = std::mem::replace(&mut self.last, next);
        if let Some(file) = &last.file {
            let content = at - last.start;
            // A file that something else cut must not get its length back: the next look finds it by that.
            let trimmed = file.metadata().and_then(|file_now| match file_now.len() > content {
                true => self.disk.set_len(file, content),
                false => Ok(()),
            });
            if let Err(error) = trimmed {
                tracing::warn!(%error, "a closed segment of the audit log keeps the zeros at its end");
            }
        }
        self.closed.push(last);
        (self.size, self.closing) = (blank.length, false);
        if let Some(segment) = self.closed.len().checked_sub(HELD + 1).map(|number| &mut self.closed[number])
            && !segment.old
        {
            segment.file = None;
        }
        Ok(start)
    }

    /// Writes to the last file, and does not sync; or to a closed one, and syncs.
    ///
    /// # Errors
    /// Errors of the file system. Any part of the bytes may be in the file.
    pub(super) fn write_at(&self, position: u64, bytes: &[u8]) -> io::Result<()> {
        if position >= self.last.start {
            return self.disk.write_at(self.last_file()?, position - self.last.start, bytes);
        }
        let number = self.closed.partition_point(|segment| segment.start <= position);
        let segment = number.checked_sub(1).and_then(|number| self.closed.get(number));
        let segment = segment.ok_or(io::ErrorKind::NotFound)?;
        let file = private().read(true).write(true).open(self.path(segment))?;
        self.disk.write_at(&file, position - segment.start, bytes)?;
        self.disk.sync(&file)
    }

    /// Syncs the last file.
    ///
    /// # Errors
    /// The error of the sync.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.disk.sync(self.last_file()?)
    }

    fn file_of<'a>(&self, segment: &'a Segment) -> io::Result<Opened<'a>> {
        Ok(match &segment.file {
            Some(file) => Opened::Held(file),
            None => Opened::New(File::open(self.path(segment))?),
        })
    }

    /// Whether the last file is shorter than it should be.
    ///
    /// # Errors
    /// The error of the file system.
    pub(super) fn is_cut(&self) -> io::Result<bool> {
        Ok(self.last_file()?.metadata()?.len() < self.size)
    }

    /// The free space of the file system, in bytes.
    ///
    /// # Errors
    /// The error of the file system.
    pub(super) fn available_space(&self) -> io::Result<u64> {
        self.disk.available_space(&self.folder)
    }
}

/// A file of the log for reading.
enum Opened<'a> {
    Held(&'a File),
    New(File),
}

impl std::ops::Deref for Opened<'_> {
    type Target = File;

    fn deref(&self) -> &File {
        match self {
            Self::Held(file) => file,
            Self::New(file) => file,
        }
    }
}

impl LogFile for Segments {
    fn read_at(&self, position: u64, into: &mut [u8]) -> io::Result<usize> {
        if position < self.start() {
            return Ok(0);
        }
        let mut filled = 0;
        let first = self.closed.partition_point(|segment| segment.start <= position).saturating_sub(1);
        for (segment, end) in self.closed().skip(first) {
            let at = position + filled as u64;
            let most = usize::try_from(end.saturating_sub(at)).unwrap_or(usize::MAX);
            let most = most.min(into.len() - filled);
            if most == 0 {
                continue;
            }
            let part = &mut into[filled..filled + most];
            let read = match self.file_of(segment) {
                Ok(file) => read_full(&file, at - segment.start, part)?,
                Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
                Err(error) => return Err(error),
            };
            part[read..].fill(0);
            filled += most;
        }
        let rest = &mut into[filled..];
        match rest.is_empty() {
            true => Ok(filled),
            false => Ok(filled + read_full(self.last_file()?, position + filled as u64 - self.last.start, rest)?),
        }
    }
}

/// Makes a segment of a file of zeros: writes its header line, and gives it its name. Returns the
/// position of its first frame.
fn name(disk: &dyn Disk, folder: &Path, origin: &Origin, blank: &Blank, at: u64) -> io::Result<u64> {
    let header = frame::header(origin, at);
    disk.fill(&blank.file, 0, header.as_bytes())?;
    disk.sync_new(&blank.file)?;
    disk.rename(&blank.path, &folder.join(Segment::at(at).name()))?;
    Ok(at + header.len() as u64)
}
