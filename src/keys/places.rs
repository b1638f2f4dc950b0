//! The places of a key in memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::view::KeyView;
use crate::loading_cache::Room;
use crate::store::model::KeyVersion;

/// The bytes of a place: a key with one version and few labels.
const PLACE: usize = 2048;

/// The places of a key in memory, as its rows are now.
pub(super) struct KeyPlaces {
    room: Arc<Room>,
    places: AtomicUsize,
}

impl KeyPlaces {
    /// Those of a key that is not in place yet.
    pub(super) fn new(room: Arc<Room>, view: &KeyView) -> Self {
        let places = AtomicUsize::new(places(view).min(room.most()));
        Self { room, places }
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.places.load(Ordering::Relaxed)
    }

    /// Counts other rows of a key that is in place.
    pub(super) fn recount(&self, view: &KeyView) {
        let now = places(view).min(self.room.most());
        let before = self.places.swap(now, Ordering::Relaxed);
        if now != before {
            self.room.change(view.key.tenant, before, now);
        }
    }
}

/// About how much memory rows take.
fn places(view: &KeyView) -> usize {
    let label = |(name, value): (&String, &String)| 96 + name.capacity() + value.capacity();
    let version = |version: &KeyVersion| 512 + version.provider_key.capacity() + version.provider_version.capacity();
    let labels: usize = view.key.labels.iter().map(label).sum();
    let versions: usize = view.versions.iter().map(version).sum();
    (1024 + view.key.name.capacity() + labels + versions).div_ceil(PLACE)
}
