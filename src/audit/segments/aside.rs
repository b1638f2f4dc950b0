//! What has the name of a file of the log and cannot be read as one: a folder, a foreign file, a damaged first
//! line. It is named, and set aside if the operator accepts that.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use super::{Segment, Segments, list_all};
use crate::audit::fields::Lost;
use crate::audit::file::{Disk, LogFile, read_full};
use crate::audit::frame::{self, Frames, Step, leading_zeros};
use crate::audit::origin::Origin;
use crate::audit::role::RecordSummary;

/// The temporary name of a file that gets its first line again.
const COPY_NAME: &str = "audit.copy";

/// Why a file cannot be read as one of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::audit) enum Unusable {
    NotAFile,
    FirstLine,
    Foreign,
}

impl Unusable {
    pub(in crate::audit) const fn as_str(self) -> &'static str {
        match self {
            Self::NotAFile => "it is no file",
            Self::FirstLine => "its first line is damaged or missing, or of a newer release",
            Self::Foreign => "its first line is of another installation, node or place",
        }
    }
}

/// The first thing in the folder that has the name of a file of the log and is no file.
///
/// # Errors
/// Errors of the file system.
pub(in crate::audit) fn first_non_file(folder: &Path) -> io::Result<Option<(String, u64)>> {
    for segment in list_all(folder)? {
        if !is_file(&folder.join(segment.name()))? {
            return Ok(Some((segment.name(), segment.start)));
        }
    }
    Ok(None)
}

impl Segments {
    /// The position of the first file whose first line is not this log's, and what is wrong with it. Reads no more of
    /// each file than that line.
    ///
    /// # Errors
    /// Errors of the file system.
    pub(in crate::audit) fn first_unusable(&self) -> io::Result<Option<(u64, Unusable)>> {
        for segment in self.closed.iter().chain([&self.last]) {
            let mut line = [0; frame::MAX_HEADER];
            let read = read_full(&*self.file_of(segment)?, 0, &mut line)?;
            match frame::parse_header(&line[..read], segment.start) {
                Some((owner, _)) if owner == self.origin => {}
                Some(_) => return Ok(Some((segment.start, Unusable::Foreign))),
                None => return Ok(Some((segment.start, Unusable::FirstLine))),
            }
        }
        Ok(None)
    }
}

/// Gives files of the folder that cannot be read as the log's another name. One that has records of the log and
/// lacks its first line alone is copied to its place with the line. Returns the places of these lines. What else is
/// missing then, is missing like a file that was removed.
///
/// # Errors
/// Errors of the file system.
pub(in crate::audit) fn set_aside(disk: &dyn Disk, folder: &Path, origin: &Origin) -> io::Result<Vec<Lost>> {
    let segments = list_all(folder)?;
    let mut unusable = Vec::new();
    for (number, segment) in segments.iter().enumerate() {
        let before = number.checked_sub(1).map(|before| &segments[before]);
        let is_last = number + 1 == segments.len();
        if let Some(why) = examine(folder, origin, segment, before, is_last)? {
            unusable.push((segment, why));
        }
    }
    if unusable.iter().filter(|(_, why)| *why == Unusable::Foreign).count() == segments.len() {
        // The log of another gateway, which the start refuses.
        return Ok(Vec::new());
    }
    let mut lines = Vec::new();
    for (segment, why) in unusable {
        let path = folder.join(segment.name());
        let header = segment.header(origin);
        let has_records = why == Unusable::FirstLine && begins_with_record(&path, header.len() as u64, origin)?;
        let aside = free_name(folder, &segment.name(), "damaged");
        tracing::warn!(file = %path.display(), why = why.as_str(), kept_as = aside, "a file of the audit log is set aside");
        let aside = folder.join(aside);
        if !has_records {
            disk.rename(&path, &aside)?;
            continue;
        }
        let damaged = File::open(&path)?;
        let beside = folder.join(COPY_NAME);
        let copy = disk.create(&beside)?;
        disk.copy(&damaged, &copy, damaged.metadata()?.len())?;
        disk.fill(&copy, 0, header.as_bytes())?;
        disk.sync_new(&copy)?;
        // It keeps its name until the copy has that: a crash in between takes nothing from the log.
        fs::hard_link(&path, &aside)?;
        disk.rename(&beside, &path)?;
        lines.push(Lost::new(segment.start, segment.start + header.len() as u64));
    }
    Ok(lines)
}

fn is_file(path: &Path) -> io::Result<bool> {
    match fs::metadata(path) {
        Ok(found) => Ok(found.is_file()),
        // A link to nothing.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Why the file cannot be read as one of the log. A file of the log that was cut within its first line can: the
/// line is completed.
fn examine(folder: &Path, origin: &Origin, segment: &Segment, before: Option<&Segment>, is_last: bool) -> io::Result<Option<Unusable>> {
    let path = folder.join(segment.name());
    if !is_file(&path)? {
        return Ok(Some(Unusable::NotAFile));
    }
    let mut line = [0; frame::MAX_HEADER];
    let read = read_full(&File::open(&path)?, 0, &mut line)?;
    if frame::parse_header(&line[..read], segment.start).is_some_and(|(owner, _)| owner == *origin) {
        return Ok(None);
    }
    let header = segment.header(origin).into_bytes();
    let found = &line[..read.min(header.len())];
    // A whole line of another log or place is no damage, unless a single byte differs.
    let differing = found.iter().zip(&header).filter(|(found, own)| found != own).count();
    if differing > 1 && has_place(&line[..read]) {
        return Ok(Some(Unusable::Foreign));
    }
    let left = found.iter().zip(&header).take_while(|(found, own)| found == own).count();
    let is_cut = left < header.len() && leading_zeros(&found[left..]) == found.len() - left;
    // A last file that the one before it does not lead to is none of the log.
    let follows = match before {
        Some(before) => {
            let length = fs::metadata(folder.join(before.name())).map_or(0, |found| found.len());
            length >= segment.start - before.start
        }
        None => segment.start == 0,
    };
    Ok((!is_cut || (is_last && !follows)).then_some(Unusable::FirstLine))
}

/// One file, whose first byte has the position 0.
struct Alone(File);

impl LogFile for Alone {
    fn read_at(&self, position: u64, into: &mut [u8]) -> io::Result<usize> {
        read_full(&self.0, position, into)
    }
}

/// Whether the bytes begin with a header line, of whatever place.
fn has_place(bytes: &[u8]) -> bool {
    let place = || {
        let line = bytes.split(|byte| *byte == b'\n').next()?;
        std::str::from_utf8(line).ok()?.rsplit(' ').next()?.parse().ok()
    };
    place().is_some_and(|place| frame::parse_header(bytes, place).is_some())
}

/// Whether a record of the log begins at that offset of the file: behind a first line of that length.
fn begins_with_record(path: &Path, offset: u64, origin: &Origin) -> io::Result<bool> {
    let file = Alone(File::open(path)?);
    Ok(match Frames::from(&file, offset).step()? {
        Step::Frame { json, .. } => serde_json::from_slice(json)
            .is_ok_and(|record: RecordSummary| record.installation == origin.installation && record.node == origin.node),
        Step::Skip(_) | Step::Header | Step::End | Step::Damaged { .. } => false,
    })
}

/// A name under which the file is kept, with that end, and which nothing has.
pub(super) fn free_name(folder: &Path, name: &str, end: &str) -> String {
    let mut free = format!("{name}.{end}");
    let mut number = 1;
    while fs::symlink_metadata(folder.join(&free)).is_ok() {
        number += 1;
        free = format!("{name}.{end}-{number}");
    }
    free
}
