//! A global allocator that zeroes memory when it is freed.

use std::alloc::{GlobalAlloc, Layout};
use std::ptr;

/// Zeroes every block before `A` frees it.
///
/// The binary installs it with `#[global_allocator]`, so it also zeroes the buffers of HTTP, TLS and
/// SDK libraries. It does not cover the stack, registers, memory that
/// C code takes from `malloc` by itself (aws-lc cleans its own), or blocks still in use.
///
/// Growing and shrinking always move the block: within `A` the old block, or the tail that
/// is cut off, could go back with its bytes.
pub struct ZeroOnFree<A>(A);

impl<A> ZeroOnFree<A> {
    /// Wraps an allocator.
    pub const fn new(inner: A) -> Self {
        Self(inner)
    }
}

// SAFETY: blocks come from and go to `A` with the layout they were asked for, unchanged, and
// `A` keeps the contract of `GlobalAlloc`. Zeroing and copying stay within a block's layout.
// Nothing here unwinds or allocates by itself.
unsafe impl<A: GlobalAlloc> GlobalAlloc for ZeroOnFree<A> {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps `alloc`'s contract, which is `A`'s.
        unsafe { self.0.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps `alloc_zeroed`'s contract, which is `A`'s.
        unsafe { self.0.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller gives up the block, which has `layout.size()` bytes.
        unsafe { zero(block, layout.size()) };
        // SAFETY: the caller says that the block was allocated here with this layout, so it
        // came from `A` with this layout.
        unsafe { self.0.dealloc(block, layout) };
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // SAFETY: the caller guarantees that `new_size`, rounded up to the alignment, does not
        // overflow `isize`, and the alignment comes from a valid layout.
        let new_layout = unsafe { Layout::from_size_align_unchecked(new_size, layout.align()) };
        // SAFETY: the caller guarantees that `new_size` is not zero.
        let new_block = unsafe { self.0.alloc(new_layout) };
        if new_block.is_null() {
            // The old block stays the caller's, as the contract says.
            return new_block;
        }
        // SAFETY: both blocks are valid for the smaller size, and a fresh block cannot overlap
        // one that is still allocated.
        unsafe { ptr::copy_nonoverlapping(block, new_block, layout.size().min(new_size)) };
        // SAFETY: the caller gives the old block up, and its bytes are no longer needed.
        unsafe { self.dealloc(block, layout) };
        new_block
    }
}

/// Writes zeroes that the compiler may not leave out.
///
/// # Safety
/// `block` must be valid for writes of `len` bytes, and nobody else may use them meanwhile.
pub(crate) unsafe fn zero(block: *mut u8, len: usize) {
    // SAFETY: the caller's promise. `u8` may have any value, so writing over uninitialised
    // bytes is fine too.
    unsafe { ptr::write_bytes(block, 0, len) };
    // SAFETY: as above; and now the bytes are initialised, so a shared slice of them is valid.
    let written = unsafe { std::slice::from_raw_parts(block, len) };
    // The barrier reads the memory as far as the compiler knows, so the writes must happen
    // although the block is freed next.
    zeroize::optimization_barrier(written);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test stops where an expectation fails")]

    use std::alloc::{GlobalAlloc, Layout, System};
    use std::cell::RefCell;

    use super::ZeroOnFree;

    /// Checks every block when it is freed.
    #[derive(Default)]
    struct Inspector {
        freed: RefCell<Vec<(usize, bool)>>,
        refuse: bool,
    }

    // SAFETY: forwards to the system's allocator; reads a block only before it is freed.
    unsafe impl GlobalAlloc for Inspector {
        unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
            if self.refuse {
                return std::ptr::null_mut();
            }
            // Every byte initialised, so that a byte left alone by `ZeroOnFree` is seen.
            // SAFETY: the caller keeps `alloc`'s contract.
            let block = unsafe { System.alloc(layout) };
            // SAFETY: the system's allocator gave `layout.size()` bytes.
            unsafe { std::ptr::write_bytes(block, 0xee, layout.size()) };
            block
        }

        unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
            // SAFETY: `alloc` initialised every byte of the block.
            let bytes = unsafe { std::slice::from_raw_parts(block, layout.size()) };
            self.freed.borrow_mut().push((layout.size(), bytes.iter().all(|byte| *byte == 0)));
            // SAFETY: the block came from the system's allocator with this layout.
            unsafe { System.dealloc(block, layout) };
        }
    }

    /// A block of `size` bytes with every byte set to `fill`.
    fn block(heap: &ZeroOnFree<Inspector>, size: usize, align: usize, fill: u8) -> (*mut u8, Layout) {
        let layout = Layout::from_size_align(size, align).unwrap();
        // SAFETY: the tests use sizes over zero.
        let block = unsafe { heap.alloc(layout) };
        assert!(!block.is_null());
        // SAFETY: the block has `size` bytes.
        unsafe { std::ptr::write_bytes(block, fill, size) };
        (block, layout)
    }

    #[test]
    fn a_freed_block_is_zero() {
        for (size, align) in [(1, 1), (31, 1), (32, 8), (4096, 64), (1 << 20, 4096)] {
            let heap = ZeroOnFree::new(Inspector::default());
            let (block, layout) = block(&heap, size, align, 0x5a);
            // SAFETY: the block came from this allocator with this layout.
            unsafe { heap.dealloc(block, layout) };
            assert_eq!(heap.0.freed.take(), [(size, true)]);
        }
    }

    #[test]
    fn growing_and_shrinking_keep_the_bytes_and_zero_the_old_block() {
        for (old, new, align) in [(16, 64, 1), (64, 16, 1), (100, 100, 8), (5000, 1, 64), (1, 70_000, 16)] {
            let heap = ZeroOnFree::new(Inspector::default());
            let (block, layout) = block(&heap, old, align, 0x5a);
            // SAFETY: the block came from this allocator with this layout, `new` is over zero.
            let moved = unsafe { heap.realloc(block, layout, new) };
            assert!(!moved.is_null() && moved.addr() % align == 0);
            // SAFETY: the new block has `new` bytes, all initialised by the inspector or copied.
            let bytes = unsafe { std::slice::from_raw_parts(moved, new) };
            assert!(bytes.iter().take(old).all(|byte| *byte == 0x5a));
            assert_eq!(heap.0.freed.take(), [(old, true)], "{old} to {new}");
            let layout = Layout::from_size_align(new, align).unwrap();
            // SAFETY: the block came from this allocator with this layout.
            unsafe { heap.dealloc(moved, layout) };
            assert_eq!(heap.0.freed.take(), [(new, true)]);
        }
    }

    #[test]
    fn a_refused_growth_leaves_the_block_alone() {
        let mut heap = ZeroOnFree::new(Inspector::default());
        let (block, layout) = block(&heap, 32, 1, 0x5a);
        heap.0.refuse = true;
        // SAFETY: the block came from this allocator with this layout.
        assert!(unsafe { heap.realloc(block, layout, 64) }.is_null());
        // SAFETY: the block is still allocated, with 32 initialised bytes.
        let bytes = unsafe { std::slice::from_raw_parts(block, 32) };
        assert!(bytes.iter().all(|byte| *byte == 0x5a));
        assert_eq!(heap.0.freed.take(), []);
        // SAFETY: the block came from this allocator with this layout.
        unsafe { heap.dealloc(block, layout) };
    }
}
