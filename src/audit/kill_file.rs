//! The kill file `cuts.kill`: makes a revocation durable when the disk is full.
//!
//! The file has its full size from the first start, so a revocation is written in place and
//! needs no free disk space. A revocation that store or log cannot write is pushed here and
//! synced before it is answered. At start the file is read before the store; its revocations
//! are applied, and cleared once store and log have them, as they are while the gateway runs. The file is also written anew then, so
//! that it shares no block with a copy of the data folder.
//!
//! While the gateway runs, something else may remove the file, replace it or write to it. Memory has
//! all slots. So the file is compared with them before a push counts, and every second; one that
//! differs is kept under another name, and the file is written anew.
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

mod share;
mod watch;

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use parking_lot::Mutex;

use claviger_provider::{ConnectionId, Id, InstallationId, KeyId, PrincipalId, TenantId, TokenId};

use super::file::private;
use super::held_folder::HeldFolder;
use super::index;
use super::scalar::{Number, Timestamp};
use super::segments;
use super::state_change::{EmergencyRevocation, JournaledRevocation, ObjectId};

/// The most revocations in the file.
pub const SLOTS: usize = 4096;

const SLOT: usize = 64;
const MAGIC: &[u8; 24] = b"claviger-kill-file/1\n\0\0\0";

/// The file's name in the data folder.
pub const NAME: &str = "cuts.kill";

/// Its name while it is written anew.
const NEW_NAME: &str = "cuts.new";

/// The content of a slot that is known to be damaged, in a file that is written anew.
const DAMAGED: [u8; SLOT] = [0xff; SLOT];

/// Why the kill file could not be used.
#[derive(Debug, thiserror::Error)]
pub enum KillFileError {
    /// The file system returned an error.
    #[error("the kill file cannot be read or written")]
    Io(#[from] io::Error),
    /// The file is not a kill file of this installation, or is too short.
    #[error("the kill file is damaged or of another installation")]
    Damaged,
    /// All slots are in use, or as many as the tenant may take.
    #[error("the kill file has no free slot for the tenant")]
    Full,
    /// The data folder is not at its path any more.
    #[error("the kill file's folder was moved away or replaced")]
    FolderMoved,
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

impl KillEntry {
    /// A revocation that takes effect now.
    pub fn now(tenant: TenantId, revocation: JournaledRevocation) -> Self {
        Self {
            tenant,
            revocation,
            time: Timestamp::now(),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Slot {
    Free,
    Taken(KillEntry),
    /// The write of this entry failed, so any part of it may be on the disk. The same revocation
    /// takes the slot again; another one does not before the slot is cleared.
    Failed(KillEntry),
    /// Partly written, or corrupted. It is not reused before it is cleared.
    Damaged,
}

impl Slot {
    fn entry(&self) -> Option<&KillEntry> {
        match self {
            Self::Taken(entry) | Self::Failed(entry) => Some(entry),
            Self::Free | Self::Damaged => None,
        }
    }
}

/// What a start found of the kill file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KillFileStanding {
    /// It is in place, and its blocks are its own.
    Sound,
    /// It was missing although the installation had one: revocations that only it had are lost.
    WasMissing,
    /// It could not be written anew. A copy of the folder may share its blocks, and then a full disk
    /// takes no revocation.
    NotRenewed,
    /// Something else removed, replaced or changed it, and it could not be written anew yet.
    Lost,
    /// A tenant has taken as many slots as it may.
    Full,
}

/// The open kill file. Every method blocks on the disk.
#[derive(Debug)]
pub struct KillFile {
    folder: HeldFolder,
    path: PathBuf,
    header: [u8; SLOT],
    was_missing: bool,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    file: File,
    slots: Vec<Slot>,
    /// Whether this process wrote the file, so that its blocks are its own.
    own: bool,
    /// Whether the file has its name. One that was missing gets it when the start ends, or with its first revocation: the
    /// start may be killed, and then the next one must find it missing, too.
    named: bool,
    /// Whether a rename of the file may not be durable yet.
    renamed: bool,
    /// Whether something else changed the file, until it is written anew.
    lost: bool,
}

impl KillFile {
    /// Opens the file in the data folder, or creates it with its full size. An existing one is
    /// written anew, because a copy of the folder may share the blocks of the old one (`cp` on XFS
    /// and Btrfs). If that fails, the old one stays in use. `had_log`: whether the store knows of a log in the folder.
    ///
    /// # Errors
    /// [`KillFileError::Io`], [`KillFileError::Damaged`].
    pub fn open(folder: &Path, installation: InstallationId, had_log: bool) -> Result<Self, KillFileError> {
        let path = folder.join(NAME);
        let header = header(installation);
        let held = HeldFolder::open(folder)?;
        if !path.try_exists()? {
            // The log is made after the kill file, so where there is one, there was the other.
            let was_missing = had_log || segments::exist(folder)? || folder.join(index::NAME).try_exists()?;
            if was_missing {
                tracing::error!(
                    "the kill file cuts.kill is missing and was made anew: revocations that neither the store nor the audit log \
                     has are lost. If a copy of the data folder has it, stop the gateway and restore it"
                );
            }
            let slots = vec![Slot::Free; SLOTS];
            let mut inner = Inner {
                file: written(&held, &header, &slots)?,
                slots,
                own: true,
                named: false,
                renamed: false,
                lost: false,
            };
            if !was_missing {
                inner.sync_name(&held)?;
            }
            return Ok(Self::new(held, path, header, was_missing, inner));
        }
        let file = private().read(true).write(true).open(&path)?;
        let mut bytes = vec![0; SLOT * (SLOTS + 1)];
        match file.read_exact_at(&mut bytes, 0) {
            Ok(()) if bytes[..SLOT] == header => {}
            Ok(()) => return Err(KillFileError::Damaged),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Err(KillFileError::Damaged),
            Err(error) => return Err(error.into()),
        }
        let inner = Inner {
            file,
            slots: bytes[SLOT..].chunks_exact(SLOT).map(decode).collect(),
            own: false,
            named: true,
            renamed: false,
            lost: false,
        };
        let file = Self::new(held, path, header, false, inner);
        if file.damaged() > 0 {
            tracing::error!(slots = file.damaged(), "the kill file has damaged slots");
        }
        if let Err(error) = file.renew() {
            tracing::warn!(
                %error,
                "the kill file could not be written anew. If a copy of the data folder shares its blocks, a full disk takes no revocation"
            );
        }
        Ok(file)
    }

    fn new(folder: HeldFolder, path: PathBuf, header: [u8; SLOT], was_missing: bool, inner: Inner) -> Self {
        Self {
            folder,
            path,
            header,
            was_missing,
            inner: Mutex::new(inner),
        }
    }

    /// Writes the file anew unless this process has done so. Revocations whose write failed are
    /// durable afterwards.
    ///
    /// # Errors
    /// The error of the file system; the old file stays in use.
    pub fn renew(&self) -> io::Result<()> {
        let mut inner = self.inner.lock();
        if inner.own {
            return Ok(());
        }
        self.write_anew(&mut inner)
    }

    fn write_anew(&self, inner: &mut Inner) -> io::Result<()> {
        let file = written(&self.folder, &self.header, &inner.slots)?;
        self.folder.rename(Path::new(NEW_NAME), Path::new(NAME))?;
        inner.file = file;
        (inner.own, inner.named, inner.renamed) = (true, true, true);
        inner.sync_name(&self.folder)?;
        for slot in &mut inner.slots {
            if let Slot::Failed(entry) = *slot {
                *slot = Slot::Taken(entry);
            }
        }
        Ok(())
    }

    /// Ends a start that is refused: where the file was missing, the next start finds that, too.
    pub fn start_refused(&self) {
        if !self.inner.lock().named
            && let Err(error) = self.folder.remove(Path::new(NEW_NAME))
        {
            tracing::warn!(%error, "a kill file that is not used is left in the data folder");
        }
    }

    /// Ends a start that is not refused: gives a file that was missing its name. What fails is tried again by the next
    /// [`KillFile::look`].
    pub fn start_accepted(&self) {
        if let Err(error) = self.inner.lock().sync_name(&self.folder) {
            tracing::warn!(%error, "the new kill file has no name yet");
        }
    }

    /// What the start found, and whether it was mended since.
    pub fn standing(&self) -> KillFileStanding {
        let inner = self.inner.lock();
        match (self.was_missing, inner.own) {
            _ if inner.lost => KillFileStanding::Lost,
            (true, _) => KillFileStanding::WasMissing,
            (false, false) => KillFileStanding::NotRenewed,
            (false, true) if inner.is_full() => KillFileStanding::Full,
            (false, true) => KillFileStanding::Sound,
        }
    }

    /// Makes a revocation durable. Does nothing if the file already has it. If the file has an
    /// older revocation of the same object, which was lifted since, the new one takes its slot.
    ///
    /// # Errors
    /// [`KillFileError::Io`], [`KillFileError::Full`], [`KillFileError::FolderMoved`]: the revocation is not durable.
    pub fn push(&self, entry: KillEntry) -> Result<(), KillFileError> {
        let mut inner = self.inner.lock();
        inner.sync_name(&self.folder)?;
        let JournaledRevocation { revocation, lifts } = entry.revocation;
        let same = inner.slots.iter().position(|slot| {
            let taken = slot.entry();
            taken.is_some_and(|taken| taken.tenant == entry.tenant && taken.revocation.revocation == revocation)
        });
        let at = match same {
            Some(at) => match inner.slots[at] {
                Slot::Taken(taken) if taken.revocation.lifts >= lifts => return self.put_back(&mut inner),
                _ => at,
            },
            None => inner.free_for(entry.tenant).ok_or(KillFileError::Full)?,
        };
        // After an error, the content of the slot is unknown. After a failed sync the page is written
        // again as a whole, by the next push of the same revocation.
        inner.slots[at] = Slot::Failed(entry);
        inner.file.write_all_at(&encode(&entry), offset(at))?;
        inner.file.sync_data()?;
        inner.slots[at] = Slot::Taken(entry);
        // After the sync: what is not at the file's path then is not found by the next start.
        self.put_back(&mut inner)
    }

    /// The revocations in the file, in no particular order.
    pub fn entries(&self) -> Vec<KillEntry> {
        let inner = self.inner.lock();
        let taken = |slot: &Slot| match slot {
            Slot::Taken(entry) => Some(*entry),
            Slot::Free | Slot::Failed(_) | Slot::Damaged => None,
        };
        inner.slots.iter().filter_map(taken).collect()
    }

    /// How many slots have no valid entry: a push that was never answered, or corruption.
    pub fn damaged(&self) -> usize {
        let inner = self.inner.lock();
        inner
            .slots
            .iter()
            .filter(|slot| matches!(slot, Slot::Failed(_) | Slot::Damaged))
            .count()
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
            Slot::Failed(_) | Slot::Damaged => true,
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

impl Inner {
    /// Gives the file its name if it has none yet, and makes that durable, so that a crash does not bring an older file
    /// back.
    fn sync_name(&mut self, folder: &HeldFolder) -> io::Result<()> {
        if !self.named {
            folder.rename(Path::new(NEW_NAME), Path::new(NAME))?;
            (self.named, self.renamed) = (true, true);
        }
        if self.renamed {
            folder.sync()?;
            self.renamed = false;
        }
        Ok(())
    }
}

/// Writes a whole new file beside the old one. The caller puts it in its place.
fn written(folder: &HeldFolder, header: &[u8; SLOT], slots: &[Slot]) -> io::Result<File> {
    // Write zeros rather than leave a hole, so that the blocks are allocated.
    let mut bytes = Vec::with_capacity(SLOT * (SLOTS + 1));
    bytes.extend_from_slice(header);
    for slot in slots {
        bytes.extend_from_slice(&match slot {
            Slot::Free => [0; SLOT],
            Slot::Taken(entry) | Slot::Failed(entry) => encode(entry),
            Slot::Damaged => DAMAGED,
        });
    }
    let beside = Path::new(NEW_NAME);
    let written = || {
        let file = folder.open_file(beside)?;
        file.set_len(0)?;
        file.write_all_at(&bytes, 0)?;
        file.sync_all()?;
        Ok(file)
    };
    written().inspect_err(|_| {
        // It would take room that is scarce already.
        let _ = folder.remove(beside);
    })
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
mod tests;
