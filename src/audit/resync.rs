//! Makes the end of a log durable whose last process may have ended after a failed sync.
//!
//! After a failed sync the kernel may have marked pages clean that never reached the disk
//! ([`super::durable_file`]). The next process reads them from the page cache, and a sync of its own
//! would not write them: a later power loss would leave a hole. Written again, they are synced.

use std::io;

use super::file::LogFile;
use super::segments::Segments;

/// The most bytes that one append can write: the messages of a commit, each with a record of the greatest
/// length. Everything before the last append was synced, or written again.
const MAX_APPEND: u64 = 256 << 20;
const PART: usize = 1 << 20;

/// Writes the bytes from `synced` to `end` again, as they are, and syncs the last file. `synced` is where
/// the sidecar says that everything before was synced. Closed files need nothing: the next one was begun
/// only after they were synced.
///
/// # Errors
/// The file system's.
pub(super) fn rewrite(file: &Segments, synced: u64, end: u64) -> io::Result<()> {
    let mut at = synced.max(end.saturating_sub(MAX_APPEND)).max(file.last_start());
    let mut part = vec![0; PART];
    while at < end {
        let length = PART.min(usize::try_from(end - at).unwrap_or(PART));
        let read = file.read_at(at, &mut part[..length])?;
        if read == 0 {
            break;
        }
        file.write_at(at, &part[..read])?;
        at += read as u64;
    }
    file.sync()
}
