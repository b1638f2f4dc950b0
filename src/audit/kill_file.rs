//! The kill file `cuts.kill`: makes a revocation durable when the disk is full.
//!
//! The file has its full size from the first start, so a revocation is written in place and
//! needs no free disk space. A revocation that store or log cannot write is pushed here and
//! synced before it is answered. At start the file is read before the store; its revocations
//! are applied, and cleared once store and log have them.
//!
//! ```text
//! file = header(64) 4096 * slot(64)
//! slot = kind(1) zero(7) tenant id(16) object id(16) i64be microseconds(8) u64be lifts(8) zero(4)
//!        u32be CRC-32C of the 60 bytes(4)
//! ```
//!
//! `lifts` is how often the object had been enabled, restored or resumed. Slots of earlier builds
//! have 0 there. An entry is void if its object was enabled, restored or resumed since, so it does
//! no harm until it is removed.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use parking_lot::Mutex;

use claviger_provider::{ConnectionId, Id, InstallationId, KeyId, PrincipalId, TenantId, TokenId};

use super::file::{private, replace};
use super::scalar::{Number, Timestamp};
use super::state_change::{EmergencyRevocation, JournaledRevocation, ObjectId};

/// The most revocations in the file.
pub const SLOTS: usize = 4096;

const SLOT: usize = 64;
const MAGIC: &[u8; 24] = b"claviger-kill-file/1\n\0\0\0";

/// The file's name in the data folder.
pub const NAME: &str = "cuts.kill";

/// Why the kill file could not be used.
#[derive(Debug, thiserror::Error)]
pub enum KillFileError {
    /// The file system returned an error.
    #[error("the kill file cannot be read or written")]
    Io(#[from] io::Error),
    /// The file is not a kill file of this installation, or is too short.
    #[error("the kill file is damaged or of another installation")]
    Damaged,
    /// All slots are in use.
    #[error("the kill file is full")]
    Full,
}

/// A revocation in the kill file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KillEntry {
    /// The tenant of the revoked object.
    pub tenant: TenantId,
    /// The revocation.
    pub revocation: JournaledRevocation,
    /// The time of the revocation.
    pub time: Timestamp,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Slot {
    Free,
    Taken(KillEntry),
    /// Partly written, or corrupted. It is not reused before it is cleared.
    Damaged,
}

/// The open kill file. Every method blocks on the disk.
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
    /// Opens the file in the data folder, or creates it with its full size.
    ///
    /// # Errors
    /// [`KillFileError::Io`], [`KillFileError::Damaged`].
    pub fn open(folder: &Path, installation: InstallationId) -> Result<Self, KillFileError> {
        let path = folder.join(NAME);
        let header = header(installation);
        if !path.try_exists()? {
            // Write zeros rather than leave a hole, so that the blocks are allocated.
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
            tracing::error!(slots = file.damaged(), "the kill file has damaged slots");
        }
        Ok(file)
    }

    /// Makes a revocation durable. Does nothing if the file already has it. If the file has an
    /// older revocation of the same object, which was lifted since, the new one takes its slot.
    ///
    /// # Errors
    /// [`KillFileError::Io`], [`KillFileError::Full`]: the revocation is not durable.
    pub fn push(&self, entry: KillEntry) -> Result<(), KillFileError> {
        let mut inner = self.inner.lock();
        let JournaledRevocation { revocation, lifts } = entry.revocation;
        let same = inner.slots.iter().enumerate().find_map(|(at, slot)| match slot {
            Slot::Taken(taken) if taken.tenant == entry.tenant && taken.revocation.revocation == revocation => {
                Some((at, taken.revocation.lifts))
            }
            Slot::Taken(_) | Slot::Free | Slot::Damaged => None,
        });
        let at = match same {
            Some((_, taken)) if taken >= lifts => return Ok(()),
            Some((at, _)) => at,
            None => inner.slots.iter().position(|slot| *slot == Slot::Free).ok_or(KillFileError::Full)?,
        };
        // After an error, the content of the slot is unknown, so do not reuse the slot until it is
        // cleared.
        inner.slots[at] = Slot::Damaged;
        inner.file.write_all_at(&encode(&entry), offset(at))?;
        inner.file.sync_data()?;
        inner.slots[at] = Slot::Taken(entry);
        Ok(())
    }

    /// The revocations in the file, in no particular order.
    pub fn entries(&self) -> Vec<KillEntry> {
        let inner = self.inner.lock();
        let taken = |slot: &Slot| match slot {
            Slot::Taken(entry) => Some(*entry),
            Slot::Free | Slot::Damaged => None,
        };
        inner.slots.iter().filter_map(taken).collect()
    }

    /// How many slots have no valid entry: a push that was never answered, or corruption.
    pub fn damaged(&self) -> usize {
        self.inner.lock().slots.iter().filter(|slot| **slot == Slot::Damaged).count()
    }

    /// Removes these revocations, which store and log now have, and damaged slots. Those that
    /// were pushed meanwhile stay.
    ///
    /// # Errors
    /// [`KillFileError::Io`]: some may be left, and the next start looks at them again.
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

/// Writes the checksum of the first 60 bytes into the last four.
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
    let (kind, ObjectId(object)) = match &entry.revocation.revocation {
        EmergencyRevocation::Disable(id) => (1, ObjectId::of(id)),
        EmergencyRevocation::Sever(id) => (2, ObjectId::of(id)),
        EmergencyRevocation::Revoke(id) => (3, ObjectId::of(id)),
        EmergencyRevocation::Suspend(id) => (4, ObjectId::of(id)),
        EmergencyRevocation::DeletePrincipal(id) => (5, ObjectId::of(id)),
    };
    let mut slot = [0; SLOT];
    slot[0] = kind;
    slot[8..24].copy_from_slice(entry.tenant.bytes());
    slot[24..40].copy_from_slice(&object);
    slot[40..48].copy_from_slice(&entry.time.micros().to_be_bytes());
    slot[48..56].copy_from_slice(&entry.revocation.lifts.to_be_bytes());
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
            5 => EmergencyRevocation::DeletePrincipal(PrincipalId::from_bytes(object)),
            _ => return None,
        };
        let time = Timestamp::from_micros(i64::from_be_bytes(slot[40..48].try_into().ok()?));
        let lifts = u64::from_be_bytes(slot[48..56].try_into().ok()?);
        let entry = KillEntry {
            tenant,
            revocation: revocation.at_lifts(lifts),
            time,
        };
        // Compare with what would be written, because only a complete slot is valid.
        (lifts <= Number::MAX.get() && encode(&entry) == slot).then_some(entry)
    };
    entry().map_or(Slot::Damaged, Slot::Taken)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test stops where an expectation fails")]
mod tests {
    use super::*;

    fn entries() -> [KillEntry; 5] {
        let tenant = TenantId::random();
        let time = Timestamp::now();
        [
            EmergencyRevocation::Disable(KeyId::random()),
            EmergencyRevocation::Sever(ConnectionId::random()),
            EmergencyRevocation::Revoke(TokenId::random()),
            EmergencyRevocation::Suspend(tenant),
            EmergencyRevocation::DeletePrincipal(PrincipalId::random()),
        ]
        .map(|revocation| KillEntry {
            tenant,
            revocation: revocation.at_lifts(2),
            time,
        })
    }

    #[test]
    fn pushed_revocations_survive_a_reopen_until_they_are_cleared() {
        let folder = tempfile::tempdir().unwrap();
        let installation = InstallationId::random();
        let [a, b, c, d, e] = entries();
        let file = KillFile::open(folder.path(), installation).unwrap();
        let size = || std::fs::metadata(folder.path().join(NAME)).unwrap().len();
        let before = size();
        for entry in [a, b, c, d, e, b] {
            file.push(entry).unwrap();
        }
        assert_eq!(size(), before, "a push must not need disk space");
        let file = KillFile::open(folder.path(), installation).unwrap();
        assert_eq!(file.entries(), [a, b, c, d, e]);
        file.clear(&[a, c]).unwrap();
        let file = KillFile::open(folder.path(), installation).unwrap();
        assert_eq!(file.entries(), [b, d, e]);
    }

    #[test]
    fn a_push_torn_at_any_byte_leaves_the_others_and_never_another_entry() {
        let folder = tempfile::tempdir().unwrap();
        let installation = InstallationId::random();
        let path = folder.path().join(NAME);
        let [a, b, ..] = entries();
        KillFile::open(folder.path(), installation).unwrap().push(a).unwrap();
        let before = std::fs::read(&path).unwrap();
        let slot = encode(&b);
        for written in 0..=SLOT {
            let mut torn = before.clone();
            torn[2 * SLOT..2 * SLOT + written].copy_from_slice(&slot[..written]);
            std::fs::write(&path, &torn).unwrap();
            let file = KillFile::open(folder.path(), installation).unwrap();
            let whole = torn[2 * SLOT..3 * SLOT] == slot;
            assert_eq!(
                file.entries(),
                if whole { vec![a, b] } else { vec![a] },
                "torn after {written} bytes"
            );
            assert_eq!(file.damaged(), usize::from(written > 0 && !whole), "torn after {written} bytes");
            // The torn slot does not prevent the same push.
            file.push(b).unwrap();
            assert_eq!(KillFile::open(folder.path(), installation).unwrap().entries(), [a, b]);
        }
    }

    #[test]
    fn a_flipped_bit_is_detected_and_cleared() {
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
    fn a_slot_of_an_earlier_build_has_no_lifts() {
        let folder = tempfile::tempdir().unwrap();
        let installation = InstallationId::random();
        let [entry, ..] = entries();
        KillFile::open(folder.path(), installation).unwrap().push(entry).unwrap();
        let path = folder.path().join(NAME);
        let mut bytes = std::fs::read(&path).unwrap();
        let mut slot: [u8; SLOT] = bytes[SLOT..2 * SLOT].try_into().unwrap();
        slot[48..60].fill(0);
        bytes[SLOT..2 * SLOT].copy_from_slice(&checked(slot));
        std::fs::write(&path, &bytes).unwrap();
        let [read] = <[KillEntry; 1]>::try_from(KillFile::open(folder.path(), installation).unwrap().entries()).unwrap();
        assert_eq!(read.revocation, entry.revocation.revocation.at_lifts(0));
        // More than a record can hold is damage.
        slot[48..56].fill(0xff);
        bytes[SLOT..2 * SLOT].copy_from_slice(&checked(slot));
        std::fs::write(&path, &bytes).unwrap();
        let file = KillFile::open(folder.path(), installation).unwrap();
        assert_eq!((file.entries(), file.damaged()), (Vec::new(), 1));
    }

    #[test]
    fn a_revocation_takes_the_slot_of_one_that_was_lifted() {
        let folder = tempfile::tempdir().unwrap();
        let installation = InstallationId::random();
        let [old, other, ..] = entries();
        let file = KillFile::open(folder.path(), installation).unwrap();
        file.push(old).unwrap();
        file.push(other).unwrap();
        let again = |lifts| KillEntry {
            revocation: old.revocation.revocation.at_lifts(lifts),
            ..old
        };
        for (pushed, kept) in [(1, 2), (2, 2), (3, 3), (2, 3)] {
            file.push(again(pushed)).unwrap();
            assert_eq!(file.entries(), [again(kept), other], "pushed {pushed}");
            let reopened = KillFile::open(folder.path(), installation).unwrap();
            assert_eq!(reopened.entries(), [again(kept), other], "pushed {pushed}");
        }
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
