//! A kill file that something else removes, replaces or changes while the gateway runs.

use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::{Inner, KillFile, KillFileError, NAME, SLOT, SLOTS, Slot, encode};
use crate::audit::held_folder::is_at;

/// The name under which what is in the file's place is kept.
const REPLACED: &str = "cuts.kill.replaced";

impl KillFile {
    /// Compares the file with what was written to it, and writes it anew if something else removed,
    /// replaced or changed it. Call it every second.
    ///
    /// # Errors
    /// [`KillFileError::Io`], [`KillFileError::FolderMoved`]: its revocations do not survive the process, until
    /// a later call succeeds.
    pub fn look(&self) -> Result<(), KillFileError> {
        self.put_back(&mut self.inner.lock())
    }

    /// As [`KillFile::look`].
    pub(super) fn put_back(&self, inner: &mut Inner) -> Result<(), KillFileError> {
        let was_lost = inner.lost;
        // Stays, if this fails.
        inner.lost = true;
        if !self.folder.is_in_place()? {
            if !was_lost {
                tracing::error!("the folder of the kill file cuts.kill was moved away or replaced: move it back");
            }
            return Err(KillFileError::FolderMoved);
        }
        if !is_at(&self.path, &inner.file)? || !inner.is_whole(&self.header)? {
            if !was_lost {
                tracing::error!(
                    "the kill file cuts.kill was removed, replaced or changed by something else than the gateway; the gateway writes it \
                     anew and must not be stopped until then"
                );
            }
            self.keep_replaced(was_lost);
            self.write_anew(inner)?;
            tracing::warn!("the kill file is in its place again");
        }
        inner.lost = false;
        Ok(())
    }

    /// Gives what is in the file's place another name: it may be somebody's only copy. Says so once, not at
    /// each try.
    fn keep_replaced(&self, again: bool) {
        match self.folder.keep(Path::new(NAME), Path::new(REPLACED)) {
            _ if again => {}
            Ok(()) => tracing::warn!(file = REPLACED, "what was in the kill file's place is kept under another name"),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => tracing::warn!(%error, "what is in the kill file's place could not be kept"),
        }
    }
}

impl Inner {
    /// Whether the file has its header and every revocation that was written to it.
    fn is_whole(&self, header: &[u8; SLOT]) -> io::Result<bool> {
        let mut bytes = vec![0; SLOT * (SLOTS + 1)];
        match self.file.read_exact_at(&mut bytes, 0) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
            read => read?,
        }
        let has = |(slot, bytes): (&Slot, &[u8])| match slot {
            Slot::Taken(entry) => encode(entry) == bytes,
            Slot::Free | Slot::Failed(_) | Slot::Damaged => true,
        };
        Ok(bytes.starts_with(header) && self.slots.iter().zip(bytes[SLOT..].chunks_exact(SLOT)).all(has))
    }
}
