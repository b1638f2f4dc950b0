//! The bytes of the log: the header lines, the frames, and reading them in order.
//!
//! ```text
//! log     = audit.log *segment | 1*segment
//! segment = "claviger-audit-log/2 " installation " " node " " position "\n" *frame *0x00
//! frame   = u32be length of the JSON | u32be CRC-32C of the JSON | JSON
//! skip    = 0x40000008 | u32be CRC-32C of the position | u64be position
//! ```
//!
//! Readers see the contents of all segments in a row, without the zeros behind them. A byte's place
//! in that row is its position. A skip stands where a part was lost: the next frame is at its position.
//!
//! The top bit of the length marks the first frame of a commit. A commit is written only after
//! everything before it was synced. So if a marked frame follows a damaged one, the damaged frame
//! was durable and may have been acknowledged, and recovery refuses the log. If none follows, the
//! damage is in the last commit, which a crash interrupted, and recovery ends the log there. The
//! zeros behind the last frame are no frame, so they are an end like that. A header proves as much
//! as a mark: a segment is begun only after everything before it was synced.

use std::io;

use claviger_provider::Node;

use super::encode::put_digits;
use super::fields::Lost;
use super::file::LogFile;
use super::origin::{Origin, Position};
use super::stamp::{DIGITS, MAX_JSON, Unnumbered};

/// Marks the first frame of a commit.
pub(super) const FIRST: u32 = 1 << 31;

/// The same in the first byte of the length.
const FIRST_BYTE: u8 = (FIRST >> 24) as u8;

/// The bytes before a frame's JSON.
pub(super) const PREFIX: usize = 8;

/// The first word of a skip: no length of a frame has this bit.
const SKIP: u32 = 1 << 30 | 8;

/// The length of a skip, in bytes. No lost part is shorter.
pub(super) const SKIP_LENGTH: u64 = 16;

/// The beginning of a segment's header line.
const MAGIC: &str = "claviger-audit-log/2 ";

/// The beginning of the first line of an `audit.log`, the one file of earlier releases.
const OLD_MAGIC: &str = "claviger-audit-log/1 ";

/// The greatest length of a header line, in bytes.
pub(super) const MAX_HEADER: usize = 160;

/// Number of bytes of one read.
const CHUNK: usize = 1 << 20;

/// The header line of the segment at that position.
pub(super) fn header(origin: &Origin, position: u64) -> String {
    format!("{MAGIC}{} {} {position}\n", origin.installation, origin.node.as_str())
}

/// The first line of an `audit.log`.
pub(super) fn old_header(origin: &Origin) -> String {
    format!("{OLD_MAGIC}{} {}\n", origin.installation, origin.node.as_str())
}

/// Reads the header line of the segment at that position. Returns the owner of the log and the
/// position of the first frame, or `None` if none of these versions begins there.
pub(super) fn read_header(file: &dyn LogFile, position: u64) -> io::Result<Option<(Origin, u64)>> {
    let mut line = [0; MAX_HEADER];
    let read = file.read_at(position, &mut line)?;
    Ok(parse_header(&line[..read], position).map(|(origin, length)| (origin, position + length as u64)))
}

/// Returns the owner in the header line at the beginning of `bytes`, at that position of the log, and
/// the length of the line.
pub(super) fn parse_header(bytes: &[u8], position: u64) -> Option<(Origin, usize)> {
    let end = bytes.iter().take(MAX_HEADER).position(|b| *b == b'\n')?;
    let line = std::str::from_utf8(&bytes[..end]).ok()?;
    let owner = match line.strip_prefix(OLD_MAGIC) {
        Some(owner) => (position == 0).then_some(owner)?,
        None => line.strip_prefix(MAGIC)?.strip_suffix(&format!(" {position}"))?,
    };
    let (installation, node) = owner.split_once(' ')?;
    let node: Node = node.parse().ok()?;
    let installation = installation.parse().ok()?;
    Some((Origin { installation, node }, end + 1))
}

/// Appends the record's frame to the buffer. Returns the offset in the buffer of the number.
pub(super) fn put(buffer: &mut Vec<u8>, record: Unnumbered<'_>, number: u64) -> usize {
    let start = buffer.len();
    buffer.extend_from_slice(&[0; PREFIX]);
    buffer.extend_from_slice(record.before);
    let number_at = buffer.len();
    put_digits(buffer, number);
    buffer.extend_from_slice(record.after);
    // `Record::stamp` refuses what is longer than MAX_JSON, so the length fits.
    let length = (buffer.len() - start - PREFIX) as u32;
    // The caller has checked the beginning, which is the greater part, outside of the lock.
    let check = crc32c::crc32c_append(record.check, &buffer[number_at..]);
    buffer[start..start + 4].copy_from_slice(&length.to_be_bytes());
    buffer[start + 4..start + PREFIX].copy_from_slice(&check.to_be_bytes());
    number_at
}

/// The greatest length of the record's frame, in bytes.
pub(super) const fn max_len(record: Unnumbered<'_>) -> usize {
    PREFIX + record.before.len() + DIGITS + record.after.len()
}

/// Marks the frame at the beginning of `bytes` as the first of a commit. Allowed only where
/// everything before it was synced.
pub(super) fn mark(bytes: &mut [u8]) {
    if let Some(first) = bytes.first_mut() {
        *first |= FIRST_BYTE;
    }
}

/// The bytes that stand at the beginning of a lost part.
pub(super) fn skip(lost: Lost) -> [u8; SKIP_LENGTH as usize] {
    let to = lost.to.get().to_be_bytes();
    let mut bytes = [0; SKIP_LENGTH as usize];
    bytes[..4].copy_from_slice(&SKIP.to_be_bytes());
    bytes[4..PREFIX].copy_from_slice(&crc32c::crc32c(&to).to_be_bytes());
    bytes[PREFIX..].copy_from_slice(&to);
    bytes
}

/// Returns the lost part whose skip is at the beginning of `bytes`, at that offset of the file.
fn parse_skip(bytes: &[u8], offset: u64) -> Option<Lost> {
    let (to, _) = bytes.get(PREFIX..)?.split_first_chunk()?;
    let lost = Lost::new(offset, u64::from_be_bytes(*to));
    (bytes.starts_with(&skip(lost)) && lost.to.get() >= offset + SKIP_LENGTH).then_some(lost)
}

/// Returns the JSON of the frame at the beginning of `bytes`, and whether it is the first of a
/// commit; `None` if there is no whole, undamaged frame.
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

/// The result of reading one frame.
pub(super) enum Step<'a> {
    /// A whole, undamaged frame.
    Frame { position: Position, json: &'a [u8] },
    /// A part of the log was lost here. The next step reads after it.
    Skip(Lost),
    /// A segment begins here. The next step reads its first frame.
    Header,
    /// The end of the last file, directly after the last frame.
    End,
    /// There is no whole frame at this position, and it is not the end of the file.
    Damaged { position: Position },
}

/// Reads the frames of a file in order, with about 1 MiB of it in memory.
pub(super) struct Frames<'a> {
    file: &'a dyn LogFile,
    buffer: Vec<u8>,
    /// The offset in the file of `buffer[0]`.
    base: u64,
    /// The index in `buffer` of the next frame.
    next: usize,
    /// Whether `buffer` reaches the end of the file.
    whole: bool,
}

impl<'a> Frames<'a> {
    /// Starts with the frame at `offset`.
    pub(super) fn from(file: &'a dyn LogFile, offset: u64) -> Self {
        Self {
            file,
            buffer: Vec::new(),
            base: offset,
            next: 0,
            whole: false,
        }
    }

    /// The offset of the next frame.
    pub(super) fn offset(&self) -> u64 {
        self.base + self.next as u64
    }

    /// Reads ahead, so that `buffer` has the longest possible next frame, or the rest of the
    /// file.
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

    /// Reads the next frame and goes on behind it. At a damaged frame it stays: the next call
    /// returns [`Step::Damaged`] again.
    ///
    /// # Errors
    /// The error of reading the file.
    pub(super) fn step(&mut self) -> io::Result<Step<'_>> {
        self.fill()?;
        let position = Position(self.offset());
        if let Some(lost) = parse_skip(&self.buffer[self.next..], position.0) {
            *self = Self::from(self.file, lost.to.get());
            return Ok(Step::Skip(lost));
        }
        let rest = &self.buffer[self.next..];
        if rest.is_empty() {
            return Ok(Step::End);
        }
        if let Some((_, length)) = parse_header(rest, position.0) {
            self.next += length;
            return Ok(Step::Header);
        }
        match parse(rest) {
            Some((json, _)) => {
                self.next += PREFIX + json.len();
                Ok(Step::Frame { position, json })
            }
            None => Ok(Step::Damaged { position }),
        }
    }

    /// Whether a commit follows anywhere after this offset: a marked frame, or a skip, which is
    /// written in a commit of its own.
    ///
    /// # Errors
    /// The error of reading the file.
    pub(super) fn commit_follows(self) -> io::Result<bool> {
        Ok(self.find(is_commit)?.is_some())
    }

    /// The offset of the next whole frame or skip after this offset.
    ///
    /// # Errors
    /// The error of reading the file.
    pub(super) fn next_whole(self) -> io::Result<Option<u64>> {
        // An unmarked length begins with 0x00, which JSON has not either.
        self.find(|bytes, offset| is_commit(bytes, offset) || (bytes[0] == 0 && parse(bytes).is_some()))
    }

    /// The next offset at whose bytes, with all of the longest frame, the test succeeds.
    fn find(mut self, test: impl Fn(&[u8], u64) -> bool) -> io::Result<Option<u64>> {
        loop {
            self.next = self.buffer.len().min(self.next + 1);
            self.fill()?;
            let rest = &self.buffer[self.next..];
            if rest.len() <= PREFIX {
                return Ok(None);
            }
            // A part that was cut reads as zeros. A frame begins with two at most.
            let zeros = leading_zeros(rest);
            if zeros > PREFIX {
                self.next += zeros - PREFIX;
                continue;
            }
            if test(rest, self.offset()) {
                return Ok(Some(self.offset()));
            }
        }
    }
}

/// Whether a commit begins with these bytes at that offset.
fn is_commit(bytes: &[u8], offset: u64) -> bool {
    // A marked length up to 60,000 begins with 0x80, 0x00, and a skip with 0x40, 0x00. JSON has
    // no byte 0x00 and no line feed, so no text from a caller can look like one, or like a header.
    match bytes[..2] {
        [0x80, 0] => parse(bytes).is_some_and(|(_, first)| first),
        [0x40, 0] => parse_skip(bytes, offset).is_some(),
        [b'c', b'l'] => parse_header(bytes, offset).is_some(),
        _ => false,
    }
}

/// How many zeros these bytes begin with.
pub(super) fn leading_zeros(bytes: &[u8]) -> usize {
    const BLOCK: usize = 4096;
    let whole = bytes.chunks_exact(BLOCK).take_while(|block| **block == [0; BLOCK]).count() * BLOCK;
    whole + bytes[whole..].iter().take_while(|byte| **byte == 0).count()
}
