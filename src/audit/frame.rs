//! The file's bytes: header line, frames, and the walk over them.
//!
//! ```text
//! file  = "claviger-audit-log/1 " installation " " node "\n" *frame
//! frame = u32be length of the JSON | u32be CRC-32C of the JSON | JSON
//! ```
//!
//! The top bit of the length marks the first frame of a commit. A commit is written only
//! after everything before it was synced: so where a marked frame follows a damaged one,
//! what is damaged had been acknowledged, and the log is refused; where none follows, the
//! damage lies in the last commit, which nobody was answered for, and is cut off.

use std::io;

use super::fields::{Node, Origin, Position};
use super::file::LogFile;
use super::record::Stamped;

/// The greatest entry, in bytes of JSON.
pub const MAX_JSON: usize = 60_000;

/// Marks the first frame of a commit.
pub(super) const FIRST: u32 = 1 << 31;

/// Bytes before a frame's JSON.
pub(super) const PREFIX: usize = 8;

/// What begins the header line.
const MAGIC: &str = "claviger-audit-log/1 ";

/// No header line is longer.
const MAX_HEADER: usize = 160;

/// How much is read at once.
const CHUNK: usize = 1 << 20;

/// The header line of a log.
pub(super) fn header(origin: &Origin) -> String {
    format!("{MAGIC}{} {}\n", origin.installation, origin.node.as_str())
}

/// Reads the header line: whose log the file is and where its first frame stands, or
/// `None` where the file is no log of this version.
pub(super) fn read_header(file: &dyn LogFile) -> io::Result<Option<(Origin, u64)>> {
    let mut line = [0; MAX_HEADER];
    let read = file.read_at(0, &mut line)?;
    let line = &line[..read];
    let parse = || {
        let end = line.iter().position(|b| *b == b'\n')?;
        let (installation, node) = std::str::from_utf8(&line[..end]).ok()?.strip_prefix(MAGIC)?.split_once(' ')?;
        let node: Node = node.parse().ok()?;
        let installation = installation.parse().ok()?;
        Some((Origin { installation, node }, u64::try_from(end).ok()? + 1))
    };
    Ok(parse())
}

/// Appends the record's frame with its number.
pub(super) fn put(buffer: &mut Vec<u8>, first: bool, record: &Stamped, number: u64) {
    use std::io::Write;
    let start = buffer.len();
    buffer.extend_from_slice(&[0; PREFIX]);
    buffer.extend_from_slice(&record.json[..record.number_at]);
    // Writing to a Vec cannot fail.
    let _ = write!(buffer, "{number}");
    buffer.extend_from_slice(&record.json[record.number_at + 1..]);
    let json = &buffer[start + PREFIX..];
    // `Record::stamp` let nothing pass beyond MAX_JSON, so the length fits.
    let length = json.len() as u32 | if first { FIRST } else { 0 };
    let check = crc32c::crc32c(json);
    buffer[start..start + 4].copy_from_slice(&length.to_be_bytes());
    buffer[start + 4..start + PREFIX].copy_from_slice(&check.to_be_bytes());
}

/// The JSON of the frame at the begin of `bytes`, and whether it begins a commit; `None`
/// where no whole, undamaged frame stands there.
pub(super) fn parse(bytes: &[u8]) -> Option<(&[u8], bool)> {
    let (prefix, rest) = bytes.split_first_chunk::<PREFIX>()?;
    let [l0, l1, l2, l3, c0, c1, c2, c3] = *prefix;
    let length = u32::from_be_bytes([l0, l1, l2, l3]);
    let json = rest.get(..(length & !FIRST) as usize)?;
    if json.len() > MAX_JSON || json.first() != Some(&b'{') || crc32c::crc32c(json) != u32::from_be_bytes([c0, c1, c2, c3]) {
        return None;
    }
    Some((json, length & FIRST != 0))
}

/// One step of the walk.
pub(super) enum Step<'a> {
    /// A whole, undamaged frame.
    Frame { position: Position, json: &'a [u8] },
    /// The end of the file, right after the last frame.
    End,
    /// No frame stands at this place, which is not the end.
    Damaged { position: Position },
}

/// A walk over the frames of a file, holding about 1 MiB of it at a time.
pub(super) struct Frames<'a> {
    file: &'a dyn LogFile,
    buffer: Vec<u8>,
    /// The file's offset of `buffer[0]`.
    base: u64,
    /// Where in `buffer` the next frame begins.
    next: usize,
    /// Whether `buffer` reaches the end of the file.
    whole: bool,
}

impl<'a> Frames<'a> {
    /// Starts at the frame that stands at `offset`.
    pub(super) fn from(file: &'a dyn LogFile, offset: u64) -> Self {
        Self {
            file,
            buffer: Vec::new(),
            base: offset,
            next: 0,
            whole: false,
        }
    }

    /// Where the next step begins.
    pub(super) fn offset(&self) -> u64 {
        self.base + self.next as u64
    }

    /// Makes at least `PREFIX + MAX_JSON` bytes from the next step on available, or as
    /// many as the file has.
    fn fill(&mut self) -> io::Result<()> {
        const MOST: usize = PREFIX + MAX_JSON;
        if self.whole || self.buffer.len() - self.next >= MOST {
            return Ok(());
        }
        self.buffer.drain(..self.next);
        self.base += self.next as u64;
        self.next = 0;
        let mut filled = self.buffer.len();
        self.buffer.resize(filled + CHUNK, 0);
        while filled < MOST {
            let read = self.file.read_at(self.base + filled as u64, &mut self.buffer[filled..])?;
            if read == 0 {
                self.whole = true;
                break;
            }
            filled += read;
        }
        self.buffer.truncate(filled);
        Ok(())
    }

    /// The next frame.
    ///
    /// # Errors
    /// What reading the file failed with.
    pub(super) fn step(&mut self) -> io::Result<Step<'_>> {
        self.fill()?;
        let position = Position(self.offset());
        let rest = &self.buffer[self.next..];
        if rest.is_empty() {
            return Ok(Step::End);
        }
        match parse(rest) {
            Some((json, _)) => {
                self.next += PREFIX + json.len();
                Ok(Step::Frame { position, json })
            }
            None => Ok(Step::Damaged { position }),
        }
    }

    /// Whether, anywhere after this place, a frame begins a commit.
    ///
    /// # Errors
    /// What reading the file failed with.
    pub(super) fn commit_follows(mut self) -> io::Result<bool> {
        loop {
            self.next = self.buffer.len().min(self.next + 1);
            self.fill()?;
            let rest = &self.buffer[self.next..];
            if rest.len() <= PREFIX {
                return Ok(false);
            }
            // A length up to 60,000 with the mark: 0x80, 0x00. JSON has no byte 0x00, so no
            // text that a caller sent can look like it.
            if rest.starts_with(&[0x80, 0]) && parse(rest).is_some_and(|(_, first)| first) {
                return Ok(true);
            }
        }
    }
}
