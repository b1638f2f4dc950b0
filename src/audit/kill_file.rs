//! The kill file: where a cut is made durable when neither store nor log has room.
//!
//! It has its full size from the first start, so a cut is written in place and needs no
//! room on the disk. A cut that store or log cannot take is pushed here, synced, and only
//! then answered; at start the file is read before the store, applied, and cleared once
//! store and log hold what it says.
//!
//! ```text
//! file = header(64) 4096 * slot(64)
//! slot = kind(1) zero(7) tenant id(16) object id(16) i64be microseconds(8) zero(12) u32be CRC-32C of the 60 bytes(4)
//! ```

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use parking_lot::Mutex;

use claviger_provider::{ConnectionId, Id, InstallationId, KeyId, TenantId, TokenId};

use super::fields::Timestamp;
use super::file::{private, replace};
use super::state_change::{EmergencyRevocation, ObjectId};

/// How many cuts the file holds.
pub const SLOTS: usize = 4096;

const SLOT: usize = 64;
const MAGIC: &[u8; 24] = b"claviger-kill-file/1\n\0\0\0";

/// The file's name in the data folder.
const NAME: &str = "cuts.kill";

/// Why the kill file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KillFileError {
    /// The file system refused something.
    #[error("the kill file cannot be read or written")]
    Io(#[from] io::Error),
    /// The file is not a kill file of this installation, or is cut short.
    #[error("the kill file is damaged or of another installation")]
    Damaged,
    /// All slots are taken.
    #[error("the kill file is full")]
    Full,
}

/// One cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KillEntry {
    /// In which tenant.
    pub tenant: TenantId,
    /// What was cut off.
    pub revocation: EmergencyRevocation,
    /// When.
    pub time: Timestamp,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Slot {
    Free,
    Taken(KillEntry),
    /// Written halfway, or rotten; not used again before it is cleared.
    Damaged,
}

/// The open file. Every method blocks for as long as the disk takes.
#[derive(Debug)]
pub struct KillFile {
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    file: File,
    slots: Vec<Slot>,
}

impl KillFile {
    /// Opens the file in the data folder, or makes it at its full size.
    ///
    /// # Errors
    /// [`KillFileError::Io`], [`KillFileError::Damaged`].
    pub fn open(folder: &Path, installation: InstallationId) -> Result<Self, KillFileError> {
        let path = folder.join(NAME);
        let header = header(installation);
        if !path.try_exists()? {
            // Written and not left as a hole, so that it has its blocks.
            let mut empty = vec![0; SLOT * (SLOTS + 1)];
            empty[..SLOT].copy_from_slice(&header);
            replace(&path, &empty)?;
        }
        let file = private().read(true).write(true).open(&path)?;
        let mut bytes = vec![0; SLOT * (SLOTS + 1)];
        match file.read_exact_at(&mut bytes, 0) {
            Ok(()) if bytes[..SLOT] == header => {}
            Ok(()) => return Err(KillFileError::Damaged),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Err(KillFileError::Damaged),
            Err(error) => return Err(error.into()),
        }
        let slots: Vec<Slot> = bytes[SLOT..].chunks_exact(SLOT).map(decode).collect();
        let file = Self {
            inner: Mutex::new(Inner { file, slots }),
        };
        if file.damaged() > 0 {
            tracing::error!(slots = file.damaged(), "the kill file has slots that were not written to their end");
        }
        Ok(file)
    }

    /// Makes a cut durable. One that is here already costs nothing.
    ///
    /// # Errors
    /// [`KillFileError::Io`], [`KillFileError::Full`]: the cut is not durable.
    pub fn push(&self, entry: KillEntry) -> Result<(), KillFileError> {
        let mut inner = self.inner.lock();
        let same = |slot: &Slot| match slot {
            Slot::Taken(taken) => taken.tenant == entry.tenant && taken.revocation == entry.revocation,
            Slot::Free | Slot::Damaged => false,
        };
        if inner.slots.iter().any(same) {
            return Ok(());
        }
        let at = inner.slots.iter().position(|slot| *slot == Slot::Free).ok_or(KillFileError::Full)?;
        // After an error nobody knows what stands there: it is not used again until cleared.
        inner.slots[at] = Slot::Damaged;
        inner.file.write_all_at(&encode(&entry), offset(at))?;
        inner.file.sync_data()?;
        inner.slots[at] = Slot::Taken(entry);
        Ok(())
    }

    /// The cuts that are here, in no order.
    pub fn entries(&self) -> Vec<KillEntry> {
        let inner = self.inner.lock();
        let taken = |slot: &Slot| match slot {
            Slot::Taken(entry) => Some(*entry),
            Slot::Free | Slot::Damaged => None,
        };
        inner.slots.iter().filter_map(taken).collect()
    }

    /// How many slots hold something that is no whole entry: a push that was never
    /// answered, or rot.
    pub fn damaged(&self) -> usize {
        self.inner.lock().slots.iter().filter(|slot| **slot == Slot::Damaged).count()
    }

    /// Removes these cuts, and what is damaged, after store and log hold them; those
    /// pushed meanwhile stay. An enable, restore or resume clears its cut before it takes
    /// effect, or the next start would cut again.
    ///
    /// # Errors
    /// [`KillFileError::Io`]: some may still be there at the next start, which applies
    /// them again.
    pub fn clear(&self, folded: &[KillEntry]) -> Result<(), KillFileError> {
        let mut inner = self.inner.lock();
        let goes = |slot: &Slot| match slot {
            Slot::Taken(entry) => folded.contains(entry),
            Slot::Damaged => true,
            Slot::Free => false,
        };
        let going: Vec<usize> = (0..SLOTS).filter(|at| goes(&inner.slots[*at])).collect();
        if going.is_empty() {
            return Ok(());
        }
        for at in &going {
            inner.slots[*at] = Slot::Damaged;
            inner.file.write_all_at(&[0; SLOT], offset(*at))?;
        }
        inner.file.sync_data()?;
        for at in going {
            inner.slots[at] = Slot::Free;
        }
        Ok(())
    }
}

const fn offset(slot: usize) -> u64 {
    (SLOT * (slot + 1)) as u64
}

/// Puts the checksum of the first 60 bytes into the last four.
fn checked(mut slot: [u8; SLOT]) -> [u8; SLOT] {
    let check = crc32c::crc32c(&slot[..SLOT - 4]);
    slot[SLOT - 4..].copy_from_slice(&check.to_be_bytes());
    slot
}

fn header(installation: InstallationId) -> [u8; SLOT] {
    let mut header = [0; SLOT];
    header[..24].copy_from_slice(MAGIC);
    header[24..40].copy_from_slice(installation.bytes());
    checked(header)
}

fn encode(entry: &KillEntry) -> [u8; SLOT] {
    let (kind, ObjectId(object)) = match &entry.revocation {
        EmergencyRevocation::Disable(id) => (1, ObjectId::of(id)),
        EmergencyRevocation::Sever(id) => (2, ObjectId::of(id)),
        EmergencyRevocation::Revoke(id) => (3, ObjectId::of(id)),
        EmergencyRevocation::Suspend(id) => (4, ObjectId::of(id)),
    };
    let mut slot = [0; SLOT];
    slot[0] = kind;
    slot[8..24].copy_from_slice(entry.tenant.bytes());
    slot[24..40].copy_from_slice(&object);
    slot[40..48].copy_from_slice(&entry.time.micros().to_be_bytes());
    checked(slot)
}

fn decode(slot: &[u8]) -> Slot {
    if slot.iter().all(|b| *b == 0) {
        return Slot::Free;
    }
    let entry = || {
        let slot: [u8; SLOT] = slot.try_into().ok()?;
        let tenant = TenantId::try_from(&slot[8..24]).ok()?;
        let object: [u8; 16] = slot[24..40].try_into().ok()?;
        let revocation = match slot[0] {
            1 => EmergencyRevocation::Disable(KeyId::from_bytes(object)),
            2 => EmergencyRevocation::Sever(ConnectionId::from_bytes(object)),
            3 => EmergencyRevocation::Revoke(TokenId::from_bytes(object)),
            4 => EmergencyRevocation::Suspend(TenantId::from_bytes(object)),
            _ => return None,
        };
        let time = Timestamp::from_micros(i64::from_be_bytes(slot[40..48].try_into().ok()?));
        let entry = KillEntry { tenant, revocation, time };
        // Byte for byte what would be written: nothing but a whole slot passes.
        (encode(&entry) == slot).then_some(entry)
    };
    entry().map_or(Slot::Damaged, Slot::Taken)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test stops where an expectation fails")]
mod tests {
    use super::*;

    fn entries() -> [KillEntry; 4] {
        let tenant = TenantId::random();
        let time = Timestamp::now();
        [
            EmergencyRevocation::Disable(KeyId::random()),
            EmergencyRevocation::Sever(ConnectionId::random()),
            EmergencyRevocation::Revoke(TokenId::random()),
            EmergencyRevocation::Suspend(tenant),
        ]
        .map(|revocation| KillEntry { tenant, revocation, time })
    }

    #[test]
    fn what_was_pushed_is_there_after_a_reopen_until_it_is_cleared() {
        let folder = tempfile::tempdir().unwrap();
        let installation = InstallationId::random();
        let [a, b, c, d] = entries();
        let file = KillFile::open(folder.path(), installation).unwrap();
        let size = || std::fs::metadata(folder.path().join(NAME)).unwrap().len();
        let before = size();
        for entry in [a, b, c, d, b] {
            file.push(entry).unwrap();
        }
        assert_eq!(size(), before, "a push must not need room");
        let file = KillFile::open(folder.path(), installation).unwrap();
        assert_eq!(file.entries(), [a, b, c, d]);
        file.clear(&[a, c]).unwrap();
        let file = KillFile::open(folder.path(), installation).unwrap();
        assert_eq!(file.entries(), [b, d]);
    }

    #[test]
    fn a_push_cut_at_any_byte_leaves_the_others_and_never_another_entry() {
        let folder = tempfile::tempdir().unwrap();
        let installation = InstallationId::random();
        let path = folder.path().join(NAME);
        let [a, b, ..] = entries();
        KillFile::open(folder.path(), installation).unwrap().push(a).unwrap();
        let before = std::fs::read(&path).unwrap();
        let slot = encode(&b);
        for cut in 0..=SLOT {
            let mut torn = before.clone();
            torn[2 * SLOT..2 * SLOT + cut].copy_from_slice(&slot[..cut]);
            std::fs::write(&path, &torn).unwrap();
            let file = KillFile::open(folder.path(), installation).unwrap();
            let whole = torn[2 * SLOT..3 * SLOT] == slot;
            assert_eq!(file.entries(), if whole { vec![a, b] } else { vec![a] }, "cut after {cut} bytes");
            assert_eq!(file.damaged(), usize::from(cut > 0 && !whole), "cut after {cut} bytes");
            // The torn slot is not in the way of the same push.
            file.push(b).unwrap();
            assert_eq!(KillFile::open(folder.path(), installation).unwrap().entries(), [a, b]);
        }
    }

    #[test]
    fn a_flipped_bit_is_seen_and_cleared() {
        let folder = tempfile::tempdir().unwrap();
        let installation = InstallationId::random();
        let path = folder.path().join(NAME);
        let [a, b, ..] = entries();
        let file = KillFile::open(folder.path(), installation).unwrap();
        file.push(a).unwrap();
        file.push(b).unwrap();
        let good = std::fs::read(&path).unwrap();
        for bit in 0..SLOT * 8 {
            let mut bad = good.clone();
            bad[SLOT + bit / 8] ^= 1 << (bit % 8);
            std::fs::write(&path, &bad).unwrap();
            let file = KillFile::open(folder.path(), installation).unwrap();
            assert_eq!((file.entries(), file.damaged()), (vec![b], 1), "bit {bit}");
        }
        let file = KillFile::open(folder.path(), installation).unwrap();
        file.clear(&[]).unwrap();
        assert_eq!((file.entries(), file.damaged()), (vec![b], 0));
    }

    #[test]
    fn another_installation_and_a_short_file_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let installation = InstallationId::random();
        drop(KillFile::open(folder.path(), installation).unwrap());
        let other = KillFile::open(folder.path(), InstallationId::random());
        assert!(matches!(other, Err(KillFileError::Damaged)));
        let path = folder.path().join(NAME);
        File::options().write(true).open(&path).unwrap().set_len(100_000).unwrap();
        assert!(matches!(KillFile::open(folder.path(), installation), Err(KillFileError::Damaged)));
    }

    #[test]
    fn the_file_is_bounded() {
        let folder = tempfile::tempdir().unwrap();
        let file = KillFile::open(folder.path(), InstallationId::random()).unwrap();
        let [entry, ..] = entries();
        file.inner.lock().slots.fill(Slot::Taken(entry));
        let other = KillEntry {
            tenant: TenantId::random(),
            ..entry
        };
        assert!(matches!(file.push(other), Err(KillFileError::Full)));
    }
}
