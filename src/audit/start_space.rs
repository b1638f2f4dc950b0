//! Free space for a start on a full disk.
//!
//! A start opens the store before the log, and the store writes files of its own. Without space for
//! them the gateway would not start, and would take no revocation. So the disk reserve, and after it the
//! zeros at the end of the last segment, are shortened by what the store lacks.

use std::io;
use std::path::Path;

use super::file::{Disk, RealDisk, private, read_full};
use super::reserve;
use super::segments::{self, NEXT_NAME};

/// How many free bytes a start wants for the store: several times what it was seen to need.
const WANTED: u64 = 2 << 20;

/// Number of bytes of zeros that a file keeps, so that it can still take some revocations.
const LEAST: u64 = reserve::SHORTEST;

/// Frees space for the store, if the disk has almost none. Call it before the store is opened, while
/// the data folder is locked. It only logs what it cannot free, because the store may open all the same.
pub fn free_space_for_start(folder: &Path) {
    if let Err(error) = free_space(folder) {
        tracing::warn!(%error, "no space on the disk could be freed for the start");
    }
}

fn free_space(folder: &Path) -> io::Result<()> {
    // The log would remove them when it opens. Nothing of them counts after the end of their process.
    for name in [NEXT_NAME, reserve::NEW_NAME] {
        RealDisk.remove(&folder.join(name))?;
    }
    shorten(&folder.join(reserve::NAME), lacking(folder)?)?;
    match segments::names(folder)?.last() {
        Some((last, _)) => shorten(&folder.join(last), lacking(folder)?),
        None => Ok(()),
    }
}

fn lacking(folder: &Path) -> io::Result<u64> {
    Ok(WANTED.saturating_sub(RealDisk.available_space(folder)?))
}

/// Shortens a file by that many bytes, or as many as it has of zeros at its end.
fn shorten(path: &Path, bytes: u64) -> io::Result<()> {
    if bytes == 0 {
        return Ok(());
    }
    let file = match private().read(true).write(true).open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        opened => opened?,
    };
    file.try_lock()?;
    let length = file.metadata()?.len();
    let mut end = vec![0; bytes.saturating_add(LEAST).min(length) as usize];
    let read = read_full(&file, length - end.len() as u64, &mut end)?;
    let zeros = end[..read].iter().rev().take_while(|byte| **byte == 0).count() as u64;
    let spare = zeros.saturating_sub(LEAST);
    if spare > 0 {
        tracing::warn!(file = %path.display(), bytes = spare, "the disk is full; zeros that were written for the audit log give their space to the store");
        file.set_len(length - spare)?;
        // Some file systems free blocks only with this.
        file.sync_all()?;
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test stops where an expectation fails")]
mod tests {
    use super::*;

    #[test]
    fn only_zeros_at_the_end_are_given_up_and_some_stay() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        shorten(&path, 100).unwrap();
        assert!(!path.exists());
        let content = vec![7; 1000];
        let zeros = |count: u64| [&content[..], &vec![0; count as usize]].concat();
        for (has, bytes, left) in [
            (3 * LEAST, 100, 3 * LEAST - 100),
            (3 * LEAST, 5 * LEAST, LEAST),
            (10, 100, 10),
            (0, 100, 0),
        ] {
            std::fs::write(&path, zeros(has)).unwrap();
            shorten(&path, bytes).unwrap();
            assert_eq!(std::fs::read(&path).unwrap(), zeros(left), "{has} zeros less {bytes}");
        }
    }
}
