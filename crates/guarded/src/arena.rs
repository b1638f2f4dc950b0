//! Locked memory for secrets that outlive a call.

use std::fmt;
use std::ptr::NonNull;
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};

use crate::Hardening;
use crate::heap::zero;
use crate::region::{Granted, MEASURES, Region, STEP};

/// The most bytes of one value.
pub const MAX_LEN: usize = 4096;

/// Bytes of a slot. A value takes as many slots as it needs, wherever they are: most are data keys
/// of 16 to 64 bytes. With one size of slots, free memory serves values of every length.
const SLOT: usize = 64;

/// The bounds of an arena.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ArenaConfig {
    /// The most bytes that are mapped, rounded up to 64 KiB. [`Arena::capacity`] is less when the
    /// system does not let the process lock as many (`RLIMIT_MEMLOCK`).
    pub max_bytes: usize,
}

impl Default for ArenaConfig {
    /// 4 MiB: half of what systemd lets a service lock by default.
    fn default() -> Self {
        Self { max_bytes: 4 << 20 }
    }
}

/// Why a value was not stored. Callers continue without storing it: an arena is for caches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ArenaError {
    /// The value is empty or over [`MAX_LEN`].
    Length,
    /// There are not enough free slots.
    Full,
}

impl fmt::Display for ArenaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Length => "a locked value has 1 to 4096 bytes",
            Self::Full => "the locked arena is full",
        })
    }
}

impl std::error::Error for ArenaError {}

/// Memory that is not swapped, not in core dumps and not in child processes.
///
/// Cheap to clone; clones share the memory. It is given back when the last clone and the last value
/// are gone.
#[derive(Clone)]
pub struct Arena(Arc<Memory>);

struct Memory {
    /// `None` if the system gave no memory.
    region: Option<Region>,
    measures: Granted,
    free: Mutex<Free>,
}

/// The slots without a value, by their numbers.
struct Free {
    /// Those that had one.
    returned: Vec<u32>,
    /// The first of those that never had one, up to `end`.
    unused: u32,
    end: u32,
}

impl Free {
    fn take(&mut self) -> Option<u32> {
        self.returned.pop().or_else(|| {
            let slot = self.unused;
            (slot < self.end).then(|| {
                self.unused += 1;
                slot
            })
        })
    }

    fn len(&self) -> usize {
        self.returned.len() + (self.end - self.unused) as usize
    }
}

impl Arena {
    /// Maps and locks the memory. [`Arena::hardening`] and [`Arena::capacity`] report what the system
    /// granted.
    pub fn new(config: ArenaConfig) -> Self {
        let most = u32::MAX as usize * SLOT / STEP;
        let (region, measures) = match Region::map(config.max_bytes.div_ceil(STEP).min(most)) {
            Ok((region, granted)) => (Some(region), granted),
            Err(refused) => (None, [Err(refused); MEASURES.len()]),
        };
        let slots = region.as_ref().map_or(0, Region::len) / SLOT;
        let free = Free {
            returned: Vec::new(),
            unused: 0,
            end: u32::try_from(slots).unwrap_or(u32::MAX),
        };
        Self(Arc::new(Memory {
            region,
            measures,
            free: Mutex::new(free),
        }))
    }

    /// The bytes of this arena.
    pub fn capacity(&self) -> usize {
        self.0.region.as_ref().map_or(0, Region::len)
    }

    /// The bytes that a value of `len` bytes takes: whole slots of 64 bytes.
    pub const fn taken_by(len: usize) -> usize {
        len.div_ceil(SLOT).saturating_mul(SLOT)
    }

    /// Copies a value in. The caller answers for the source.
    ///
    /// # Errors
    /// [`ArenaError::Length`] and [`ArenaError::Full`].
    pub fn store(&self, bytes: &[u8]) -> Result<LockedBytes, ArenaError> {
        if bytes.is_empty() || bytes.len() > MAX_LEN {
            return Err(ArenaError::Length);
        }
        let slots = self.take(bytes.len().div_ceil(SLOT)).ok_or(ArenaError::Full)?;
        let value = Value {
            slots,
            len: bytes.len(),
            live: RwLock::new(true),
            arena: self.clone(),
        };
        for (start, piece) in value.starts().zip(bytes.chunks(SLOT)) {
            // SAFETY: the slot was free, so it is this value's alone, which nobody else has yet; it
            // has `SLOT` bytes, at least as many as the piece; the source is other memory, since
            // nobody can hold a borrow of a free slot.
            unsafe { std::ptr::copy_nonoverlapping(piece.as_ptr(), start.as_ptr(), piece.len()) };
        }
        Ok(LockedBytes(Arc::new(value)))
    }

    /// Takes slots, or none of them if there are too few.
    fn take(&self, slots: usize) -> Option<Slots> {
        let mut free = self.0.free.lock();
        if slots == 1 {
            return free.take().map(|slot| Slots::One([slot]));
        }
        if free.len() < slots {
            return None;
        }
        Some(Slots::Many((0..slots).map_while(|_| free.take()).collect()))
    }

    /// Which protections apply to all its memory; for each other one, the system's refusal. Call it at
    /// startup.
    pub fn hardening(&self) -> Vec<Hardening> {
        MEASURES
            .into_iter()
            .zip(self.0.measures)
            .map(|(name, result)| Hardening { name, result })
            .collect()
    }

    /// The first byte of a slot of this arena.
    fn start_of(&self, slot: u32) -> NonNull<u8> {
        let region = self.0.region.as_ref().map_or(NonNull::dangling(), Region::start);
        // SAFETY: slots are handed out by number up to the region's length divided by `SLOT`, none
        // without a region; so the offset is within the region.
        unsafe { region.add(slot as usize * SLOT) }
    }
}

impl fmt::Debug for Arena {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Arena")
    }
}

/// A value in locked memory. Clones share it. It is zeroed by [`LockedBytes::wipe`] or when
/// the last handle is dropped, whichever is first.
#[derive(Clone)]
pub struct LockedBytes(Arc<Value>);

/// The numbers of a value's slots, in the order of its bytes.
enum Slots {
    /// Without a block of its own on the heap.
    One([u32; 1]),
    Many(Box<[u32]>),
}

impl Slots {
    fn numbers(&self) -> &[u32] {
        match self {
            Self::One(slot) => slot,
            Self::Many(slots) => slots,
        }
    }
}

/// The owner of its slots. While it lives, no other value has them.
struct Value {
    slots: Slots,
    len: usize,
    /// Whether the bytes are still there. Who reads them holds it shared, who zeroes them
    /// holds it alone.
    live: RwLock<bool>,
    /// Keeps the memory mapped.
    arena: Arena,
}

impl Value {
    /// The first bytes of its slots.
    fn starts(&self) -> impl Iterator<Item = NonNull<u8>> {
        self.slots.numbers().iter().map(|slot| self.arena.start_of(*slot))
    }

    /// Zeroes its slots. The caller must be the only one who uses them.
    fn zero(&self) {
        for start in self.starts() {
            // SAFETY: the slot is this value's and has `SLOT` bytes; the caller holds `live` alone
            // or is the last owner, so nobody reads.
            unsafe { zero(start.as_ptr(), SLOT) };
        }
    }
}

impl LockedBytes {
    /// A copy of the bytes, without spare capacity; `None` when they were wiped. The caller answers
    /// for the copy.
    pub fn copy(&self) -> Option<Vec<u8>> {
        let mut copy = Vec::with_capacity(self.0.len);
        let live = self.0.live.read();
        live.then(|| {
            for start in self.0.starts() {
                let len = SLOT.min(self.0.len - copy.len());
                // SAFETY: the slot is this value's, `len` bytes of it were written by `store`, and
                // nobody writes while the lock is held. The borrow ends with this round.
                copy.extend_from_slice(unsafe { std::slice::from_raw_parts(start.as_ptr(), len) });
            }
            copy
        })
    }

    /// Zeroes the bytes now, for all handles; waits for those who are reading. When it
    /// returns, nobody gets them any more.
    pub fn wipe(&self) {
        let mut live = self.0.live.write();
        if std::mem::take(&mut *live) {
            self.0.zero();
        }
    }

    /// Whether the bytes were zeroed.
    pub fn is_wiped(&self) -> bool {
        !*self.0.live.read()
    }

    /// The number of bytes that were stored, which is no secret.
    pub fn len(&self) -> usize {
        self.0.len
    }

    /// Always `false`: nothing empty is stored.
    pub fn is_empty(&self) -> bool {
        self.0.len == 0
    }
}

impl fmt::Debug for LockedBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LockedBytes({} bytes)", self.0.len)
    }
}

impl Drop for Value {
    fn drop(&mut self) {
        if std::mem::take(self.live.get_mut()) {
            self.zero();
        }
        // The slots go back with their ownership: `self` uses them no more.
        self.arena.0.free.lock().returned.extend_from_slice(self.slots.numbers());
    }
}

#[cfg(test)]
mod tests;
