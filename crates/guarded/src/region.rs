//! One mapping of locked memory.

use std::ptr::NonNull;

use crate::NotHardened;

/// Anonymous pages of this process alone, zero at first, locked into memory, left out of core
/// dumps and not given to child processes, as far as the system allows.
pub(crate) struct Region {
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: a region is an address and a length. It hands out raw pointers only, and whoever
// uses one answers for the bytes behind it.
unsafe impl Send for Region {}
// SAFETY: as above; no method changes anything through `&self`.
unsafe impl Sync for Region {}

/// Names of the measures for each region, in the order of the results of [`Region::map`].
pub(crate) const MEASURES: [&str; 3] = ["memory_locked", "not_in_core_dumps", "not_in_child_processes"];

/// The results of [`MEASURES`].
pub(crate) type Granted = [Result<(), NotHardened>; MEASURES.len()];

/// The length of a region is a multiple of this: of every usual page size.
pub(crate) const STEP: usize = 64 * 1024;

impl Region {
    pub(crate) fn start(&self) -> NonNull<u8> {
        self.start
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }
}

#[cfg(not(miri))]
impl Region {
    /// Maps as many of these steps as the system lets this process lock, and at least one, if
    /// need be unlocked. Tries [`MEASURES`] for them.
    pub(crate) fn map(steps: usize) -> Result<(Self, Granted), NotHardened> {
        let len = steps.max(1) * STEP;
        // SAFETY: a new anonymous mapping at an address of the kernel's choice touches nothing
        // that exists.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                len,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANON,
                -1,
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(NotHardened::last());
        }
        let mut region = Self {
            start: NonNull::new(start.cast()).ok_or(NotHardened::NotAvailable)?,
            len,
        };
        let locked = region.lock_most();
        let granted = [locked, region.advise(Advice::DontDump), region.advise(Advice::DontFork)];
        Ok((region, granted))
    }

    /// Locks as many steps as the system allows, and unmaps the others. One stays in any case.
    fn lock_most(&mut self) -> Result<(), NotHardened> {
        let Err(refused) = self.lock(self.len) else {
            return Ok(());
        };
        // The limit is not asked for: some processes may exceed it, and others may have less left.
        let (mut granted, mut too_many) = (0, self.len / STEP);
        while too_many - granted > 1 {
            let middle = granted.midpoint(too_many);
            match self.lock(middle * STEP) {
                Ok(()) => granted = middle,
                Err(_) => too_many = middle,
            }
        }
        self.truncate(granted.max(1) * STEP);
        if granted == 0 { Err(refused) } else { Ok(()) }
    }

    /// Locks the first `len` bytes: each page as soon as it is used, so that an arena without values
    /// takes no memory. They count against the limit at once.
    #[cfg(target_os = "linux")]
    fn lock(&self, len: usize) -> Result<(), NotHardened> {
        // SAFETY: the range is within this region's own mapping.
        let status = unsafe { libc::mlock2(self.start.as_ptr().cast(), len, libc::MLOCK_ONFAULT) };
        if status == 0 { Ok(()) } else { Err(NotHardened::last()) }
    }

    /// Locks the first `len` bytes.
    #[cfg(not(target_os = "linux"))]
    fn lock(&self, len: usize) -> Result<(), NotHardened> {
        // SAFETY: the range is within this region's own mapping.
        let status = unsafe { libc::mlock(self.start.as_ptr().cast(), len) };
        if status == 0 { Ok(()) } else { Err(NotHardened::last()) }
    }

    /// Unmaps all but the first `len` bytes, a multiple of [`STEP`] over zero.
    fn truncate(&mut self, len: usize) {
        if len >= self.len {
            return;
        }
        // SAFETY: `len` is less than the region's length.
        let tail = unsafe { self.start.as_ptr().add(len) };
        // Only a range that is not mapped could fail; then more stays mapped than is used.
        // SAFETY: the range is the end of this region's own mapping, and nothing points into it yet.
        let _ = unsafe { libc::munmap(tail.cast(), self.len - len) };
        self.len = len;
    }

    #[cfg(target_os = "linux")]
    fn advise(&self, advice: Advice) -> Result<(), NotHardened> {
        let advice = match advice {
            Advice::DontDump => libc::MADV_DONTDUMP,
            Advice::DontFork => libc::MADV_DONTFORK,
        };
        // SAFETY: the range is this region's own mapping; neither advice changes its contents
        // in this process.
        let status = unsafe { libc::madvise(self.start.as_ptr().cast(), self.len, advice) };
        if status == 0 { Ok(()) } else { Err(NotHardened::last()) }
    }

    #[cfg(not(target_os = "linux"))]
    fn advise(&self, _advice: Advice) -> Result<(), NotHardened> {
        Err(NotHardened::NotAvailable)
    }
}

#[cfg(not(miri))]
enum Advice {
    DontDump,
    DontFork,
}

#[cfg(not(miri))]
impl Drop for Region {
    fn drop(&mut self) {
        // Only a range that is not mapped could fail, and there is nothing to do about it here.
        // SAFETY: the range is this region's own mapping, and whoever got a pointer into it
        // holds the arena, whose drop this is part of.
        let _ = unsafe { libc::munmap(self.start.as_ptr().cast(), self.len) };
    }
}

/// Miri has no `mlock` and no `madvise`: the same over its own allocator.
#[cfg(miri)]
impl Region {
    fn layout(len: usize) -> Option<std::alloc::Layout> {
        std::alloc::Layout::from_size_align(len, 4096).ok()
    }

    pub(crate) fn map(steps: usize) -> Result<(Self, Granted), NotHardened> {
        let len = steps.max(1) * STEP;
        let layout = Self::layout(len).ok_or(NotHardened::NotAvailable)?;
        // SAFETY: the arena's regions are longer than zero.
        let start = NonNull::new(unsafe { std::alloc::alloc_zeroed(layout) }).ok_or(NotHardened::NotAvailable)?;
        Ok((Self { start, len }, [Err(NotHardened::NotAvailable); MEASURES.len()]))
    }
}

#[cfg(miri)]
impl Drop for Region {
    fn drop(&mut self) {
        if let Some(layout) = Self::layout(self.len) {
            // SAFETY: the block came from `alloc_zeroed` with this layout.
            unsafe { std::alloc::dealloc(self.start.as_ptr(), layout) };
        }
    }
}
