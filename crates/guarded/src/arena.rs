//! Locked memory for secrets that outlive a call.

use std::fmt;
use std::ptr::NonNull;
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};

use crate::heap::zero;
use crate::region::{MEASURES, Region};
use crate::{Hardening, NotHardened};

/// The most bytes of one value.
pub const MAX_LEN: usize = 4096;

/// The sizes that slots come in. Most values are data keys of 16 to 64 bytes.
const CLASSES: [usize; 4] = [64, 256, 1024, MAX_LEN];

/// Bytes of one region, all of it slots of one class: a multiple of every usual page size
/// and of every class.
const REGION_LEN: usize = 64 * 1024;

/// The bounds of an arena.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ArenaConfig {
    /// The most bytes that are mapped, in steps of 64 KiB and at least one of them. What is
    /// over `RLIMIT_MEMLOCK` works, and is reported as not locked.
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
    /// Every slot that would hold it is taken, and no more may be mapped.
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
/// Cheap to clone; clones share the memory. It grows by regions up to its bound and gives
/// them back when the last clone and the last value are gone.
#[derive(Clone)]
pub struct Arena(Arc<Mutex<Pool>>);

/// A slot's first byte. Whoever owns the value owns the slot: the pool while it is free, one
/// [`Slot`] while it is taken.
struct SlotStart(NonNull<u8>);

// SAFETY: the pointer goes along with the ownership of the bytes behind it, and those are
// bound to no thread.
unsafe impl Send for SlotStart {}
// SAFETY: nothing is reached through `&SlotStart` but by `Slot`, which holds its lock then.
unsafe impl Sync for SlotStart {}

struct Pool {
    regions_left: usize,
    regions: Vec<Region>,
    free: [Vec<SlotStart>; CLASSES.len()],
    measures: [Result<(), NotHardened>; MEASURES.len()],
}

impl Arena {
    /// Maps the first region already, so that [`Arena::hardening`] reports at startup which measures apply.
    pub fn new(config: ArenaConfig) -> Self {
        let mut pool = Pool {
            regions_left: (config.max_bytes / REGION_LEN).max(1),
            regions: Vec::new(),
            free: Default::default(),
            measures: [Ok(()); MEASURES.len()],
        };
        pool.grow(0);
        Self(Arc::new(Mutex::new(pool)))
    }

    /// Copies a value in. The caller answers for the source.
    ///
    /// # Errors
    /// [`ArenaError::Length`] and [`ArenaError::Full`].
    pub fn store(&self, bytes: &[u8]) -> Result<LockedBytes, ArenaError> {
        if bytes.is_empty() {
            return Err(ArenaError::Length);
        }
        let fit = CLASSES.iter().position(|size| bytes.len() <= *size).ok_or(ArenaError::Length)?;
        let (class, start) = self.0.lock().take(fit).ok_or(ArenaError::Full)?;
        // SAFETY: the slot was free, so it is this call's alone; it has at least
        // `CLASSES[fit]` bytes, which are at least as many; the source is other memory,
        // since nobody can hold a borrow of a free slot.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), start.0.as_ptr(), bytes.len()) };
        Ok(LockedBytes(Arc::new(Slot {
            start,
            class,
            len: bytes.len(),
            live: RwLock::new(true),
            arena: self.clone(),
        })))
    }

    /// Which protections apply to all memory mapped so far; for each other one, the system's first
    /// refusal. Call it at startup and for `/readyz`.
    pub fn hardening(&self) -> Vec<Hardening> {
        let measures = self.0.lock().measures;
        MEASURES
            .into_iter()
            .zip(measures)
            .map(|(name, result)| Hardening { name, result })
            .collect()
    }
}

impl fmt::Debug for Arena {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Arena")
    }
}

impl Pool {
    fn take(&mut self, fit: usize) -> Option<(usize, SlotStart)> {
        if self.free[fit].is_empty() {
            self.grow(fit);
        }
        // A larger slot is better than none.
        (fit..CLASSES.len()).find_map(|class| Some((class, self.free[class].pop()?)))
    }

    fn grow(&mut self, class: usize) {
        if self.regions_left == 0 {
            return;
        }
        match Region::map(REGION_LEN) {
            Ok((region, granted)) => {
                for (measure, granted) in self.measures.iter_mut().zip(granted) {
                    *measure = measure.and(granted);
                }
                for offset in (0..REGION_LEN).step_by(CLASSES[class]) {
                    // SAFETY: the offset is within the region, which is `REGION_LEN` long.
                    let start = unsafe { region.start().add(offset) };
                    self.free[class].push(SlotStart(start));
                }
                self.regions.push(region);
                self.regions_left -= 1;
            }
            Err(refused) => {
                for measure in &mut self.measures {
                    *measure = measure.and(Err(refused));
                }
            }
        }
    }
}

/// A value in locked memory. Clones share it. It is zeroed by [`LockedBytes::wipe`] or when
/// the last handle is dropped, whichever is first.
#[derive(Clone)]
pub struct LockedBytes(Arc<Slot>);

struct Slot {
    start: SlotStart,
    class: usize,
    len: usize,
    /// Whether the bytes are still there. Who reads them holds it shared, who zeroes them
    /// holds it alone.
    live: RwLock<bool>,
    /// Keeps the memory mapped.
    arena: Arena,
}

impl LockedBytes {
    /// Shows the bytes to `use_bytes`; `None` when they were wiped. Keep it short: a wipe
    /// waits for it.
    pub fn with<R>(&self, use_bytes: impl FnOnce(&[u8]) -> R) -> Option<R> {
        // Recursive, so that a reader within a reader does not wait for a wipe between them.
        let live = self.0.live.read_recursive();
        live.then(|| {
            // SAFETY: the slot is this value's, `len` bytes of it were written by `store`, and
            // nobody writes while the lock is held. The borrow cannot leave `use_bytes`.
            let bytes = unsafe { std::slice::from_raw_parts(self.0.start.0.as_ptr(), self.0.len) };
            use_bytes(bytes)
        })
    }

    /// Zeroes the bytes now, for all handles; waits for those who are reading. When it
    /// returns, nobody gets them any more. Must not be called from within
    /// [`LockedBytes::with`] of the same value, for which it would wait for ever.
    pub fn wipe(&self) {
        let mut live = self.0.live.write();
        if std::mem::take(&mut *live) {
            // SAFETY: the slot is this value's, has at least `len` bytes, and nobody reads
            // while the lock is held alone.
            unsafe { zero(self.0.start.0.as_ptr(), self.0.len) };
        }
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

impl Drop for Slot {
    fn drop(&mut self) {
        if std::mem::take(self.live.get_mut()) {
            // SAFETY: the slot is this value's and has at least `len` bytes; with the last
            // handle gone nobody reads.
            unsafe { zero(self.start.0.as_ptr(), self.len) };
        }
        // The pointer goes back with its ownership: `self` uses it no more.
        let start = SlotStart(self.start.0);
        self.arena.0.lock().free[self.class].push(start);
    }
}

#[cfg(test)]
mod tests;
