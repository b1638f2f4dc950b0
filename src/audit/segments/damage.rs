//! Files of the log that something else removed, replaced or cut: finding them, and bringing back
//! what still exists.

use std::cmp::Ordering;
use std::fs::{self, File};
use std::io;
use std::ops::Range;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::super::fields::Lost;
use super::super::file::{private, read_full};
use super::super::frame::leading_zeros;
use super::super::held_folder::is_same;
use super::super::scan::end_of_frames_until;
use super::aside::free_name;
use super::{PADDING, Segment, Segments, Tampering};

/// The temporary name of a file that is brought back.
const COPY_NAME: &str = "audit.copy";

impl Segments {
    /// The parts that closed files lack, as the beginning of the next file shows, each with the name
    /// of the file that had them or that ends before them. Reads no more of each than its length, unless
    /// it was not trimmed and seems to end in zeros. What is missing before the first file is not looked for.
    ///
    /// # Errors
    /// Errors of the file system.
    pub(in crate::audit) fn missing(&self) -> io::Result<Vec<(Lost, String)>> {
        let mut missing = Vec::new();
        for (segment, end) in self.closed() {
            let length = length_of(&self.path(segment))?.unwrap_or(0);
            let content = end - segment.start;
            let from = match length.cmp(&content) {
                Ordering::Less => length,
                Ordering::Equal => continue,
                // Closed, and not yet trimmed when the process ended.
                Ordering::Greater if self.is_filled(segment, end)? => continue,
                Ordering::Greater => 0,
            };
            missing.push((Lost::new(segment.start + from, end), segment.name()));
        }
        Ok(missing)
    }

    /// Whether what the file has reaches the position where the next one begins: with its last record, or
    /// with a lost part that is marked, whose bytes may be zeros.
    fn is_filled(&self, segment: &Segment, end: u64) -> io::Result<bool> {
        let mut byte = [0];
        read_full(&*self.file_of(segment)?, end - segment.start - 1, &mut byte)?;
        Ok(byte != [0] || end_of_frames_until(self, segment.start, end)? >= end)
    }

    /// Where the closed file of an earlier release should end, if it is longer: that release was
    /// started again, and wrote to it.
    ///
    /// # Errors
    /// Errors of the file system.
    pub(in crate::audit) fn forked(&self) -> io::Result<Option<u64>> {
        for (segment, end) in self.closed().filter(|(segment, _)| segment.old) {
            if length_of(&self.path(segment))?.is_some_and(|length| length > end) {
                return Ok(Some(end));
            }
        }
        Ok(None)
    }

    /// Gives closed files the length that the next one shows them to have had, from `head` on, where the
    /// log should begin. What is missing reads as zeros.
    ///
    /// # Errors
    /// Errors of the file system.
    pub(in crate::audit) fn fill_gaps(&mut self, head: u64) -> io::Result<()> {
        if self.start() > head {
            self.closed.insert(0, Segment::at(head));
        }
        for (segment, end) in self.closed() {
            let path = self.path(segment);
            if length_of(&path)?.unwrap_or(0) < end - segment.start {
                let file = private().write(true).create(true).truncate(false).open(&path)?;
                self.disk.set_len(&file, end - segment.start)?;
            }
        }
        let segments = self.closed.iter().chain([&self.last]);
        segments.into_iter().try_for_each(|segment| self.complete_header(segment))
    }

    /// Writes the header line of a file that was cut within it.
    fn complete_header(&self, segment: &Segment) -> io::Result<()> {
        let header = segment.header(&self.origin).into_bytes();
        let file = private().read(true).write(true).open(self.path(segment))?;
        let mut found = vec![0; header.len()];
        read_full(&file, 0, &mut found)?;
        let left = found.iter().zip(&header).take_while(|(found, own)| found == own).count();
        if left < header.len() && leading_zeros(&found[left..]) == header.len() - left {
            self.disk.write_at(&file, 0, &header)?;
            self.disk.sync(&file)?;
        }
        Ok(())
    }

    /// Gives the last file the length of a lost part at its end: one that is shorter than its positions would count as
    /// cut by something else. Syncs it.
    ///
    /// # Errors
    /// Errors of the file system.
    pub(in crate::audit) fn extend_to(&mut self, end: u64) -> io::Result<()> {
        let padding = if self.last.old { 0 } else { PADDING };
        let length = end.saturating_sub(self.last.start) + padding;
        if self.size < length {
            self.disk.set_len(self.last_file()?, length)?;
            self.sync()?;
            self.size = length;
        }
        Ok(())
    }

    /// Compares the files with what was written to them: paths, links, lengths. Returns the first
    /// thing that is wrong.
    ///
    /// # Errors
    /// Errors of the file system.
    pub(in crate::audit) fn look(&self) -> io::Result<Option<Tampering>> {
        if !self.disk.is_in_place()? {
            return Ok(Some(Tampering::FolderMoved));
        }
        let open = self.last_file()?.metadata()?;
        if open.nlink() == 0 {
            return Ok(Some(Tampering::Removed));
        }
        if !is_at(&self.path(&self.last), Some(&open))? {
            return Ok(Some(Tampering::Moved));
        }
        if open.len() < self.size {
            return Ok(Some(Tampering::Cut));
        }
        for (segment, end) in self.closed() {
            let path = self.path(segment);
            if let Some(file) = &segment.file
                && !is_at(&path, Some(&file.metadata()?))?
            {
                return Ok(Some(Tampering::Moved));
            }
            match length_of(&path)? {
                None => return Ok(Some(Tampering::Removed)),
                Some(length) if length < end - segment.start => return Ok(Some(Tampering::Cut)),
                Some(_) => {}
            }
        }
        Ok(None)
    }

    /// Puts all that open files still have of the log in its place. What is missing reads as zeros.
    /// Returns the positions among which it is, until [`Segments::losses_are_marked`].
    ///
    /// # Errors
    /// Errors of the file system; it must be tried again.
    pub(in crate::audit) fn bring_back(&mut self, end: u64) -> io::Result<Option<Range<u64>>> {
        if !self.disk.is_in_place()? {
            // Another log may be at the path.
            return Err(io::Error::other("the data folder was moved away or replaced: move it back"));
        }
        let ends: Vec<u64> = self.closed().map(|(_, end)| end).collect();
        for (number, end) in ends.into_iter().enumerate() {
            let length = end - self.closed[number].start;
            if let Some(file) = self.bring_back_file(&self.closed[number], length)? {
                self.closed[number].file = Some(file);
            }
            if length_of(&self.path(&self.closed[number]))?.unwrap_or(0) < length {
                self.extend(number, length, end)?;
            }
        }
        if let Some(file) = self.bring_back_file(&self.last, self.size)? {
            self.last.file = Some(file);
        }
        if self.is_cut()? {
            self.extend(self.closed.len(), self.size, end)?;
        }
        Ok(self.cut.clone())
    }

    /// The lost parts that [`Segments::bring_back`] found are marked.
    pub(in crate::audit) fn losses_are_marked(&mut self) {
        self.cut = None;
    }

    /// Makes a copy of an open file in its place, unless it is there. Returns the copy.
    fn bring_back_file(&self, segment: &Segment, length: u64) -> io::Result<Option<File>> {
        let path = self.path(segment);
        let open = segment.file.as_ref().map(File::metadata).transpose()?;
        if is_at(&path, open.as_ref())? {
            return Ok(None);
        }
        let beside = self.folder.join(COPY_NAME);
        // Locked before it has its name, so that no other process can open it in between.
        let copy = self.disk.create(&beside)?;
        match &segment.file {
            Some(file) => self.disk.copy(file, &copy, length)?,
            None => self.disk.write_at(&copy, 0, segment.header(&self.origin).as_bytes())?,
        }
        self.disk.sync_new(&copy)?;
        self.keep_replaced(segment);
        self.disk.rename(&beside, &path)?;
        Ok(Some(copy))
    }

    /// Gives a file that was cut its length and its header line again.
    fn extend(&mut self, number: usize, length: u64, end: u64) -> io::Result<()> {
        let segment = self.closed.get(number).unwrap_or(&self.last);
        let file = private().write(true).open(self.path(segment))?;
        let start = segment.start;
        // Known from here on, although the file gets its length back.
        let cut = self.cut.get_or_insert(start..end);
        *cut = cut.start.min(start)..cut.end.max(end);
        self.disk.set_len(&file, length)?;
        let segment = self.closed.get(number).unwrap_or(&self.last);
        self.complete_header(segment)
    }

    /// Gives a file that was put in the place of one of the log's another name: it may be
    /// somebody's only copy of an older log.
    fn keep_replaced(&self, segment: &Segment) {
        let path = self.path(segment);
        if path.exists() {
            let replaced = self.folder.join(free_name(&self.folder, &segment.name(), "replaced"));
            match fs::hard_link(path, &replaced) {
                Ok(()) => tracing::warn!(file = %replaced.display(), "the file in the audit log's place is kept under another name"),
                Err(error) => tracing::warn!(%error, "the file in the audit log's place could not be kept"),
            }
        }
    }
}

/// The length of the file at the path, if it exists.
fn length_of(path: &Path) -> io::Result<Option<u64>> {
    Ok(metadata(path)?.map(|found| found.len()))
}

/// Whether the path leads to that file; or, if none is known, to any.
fn is_at(path: &Path, open: Option<&fs::Metadata>) -> io::Result<bool> {
    let same = |found: fs::Metadata| open.is_none_or(|open| is_same(&found, open));
    Ok(metadata(path)?.is_some_and(same))
}

fn metadata(path: &Path) -> io::Result<Option<fs::Metadata>> {
    match fs::metadata(path) {
        Ok(found) => Ok(Some(found)),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
        Err(error) => Err(error),
    }
}
