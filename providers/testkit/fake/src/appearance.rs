//! New keys that are not found at first, as at an eventually consistent service.

use std::sync::atomic::{AtomicU32, Ordering};

/// For how many reads a new key is not found; initially none.
#[derive(Debug, Default)]
pub struct Appearance(AtomicU32);

/// The reads that do not find a key yet.
#[derive(Debug, Default)]
pub struct Hidden(AtomicU32);

impl Appearance {
    /// The next `reads` of each key that is created from now on do not find it.
    pub fn hide_new_keys(&self, reads: u32) {
        self.0.store(reads, Ordering::SeqCst);
    }

    /// The value of a key that is created now.
    pub fn of_new_key(&self) -> Hidden {
        Hidden(AtomicU32::new(self.0.load(Ordering::SeqCst)))
    }
}

impl Hidden {
    /// Whether this read does not find the key. Counts it.
    pub fn hides(&self) -> bool {
        let fewer = |left: u32| left.checked_sub(1);
        self.0.fetch_update(Ordering::SeqCst, Ordering::SeqCst, fewer).is_ok()
    }
}
