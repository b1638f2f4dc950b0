//! How much of a cache each tenant holds. Who needs room gets it from the tenant that holds most, so that one with many
//! or large entries pushes out its own.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use claviger_provider::TenantId;
use parking_lot::Mutex;

/// The places of a cache, and who holds them. An entry takes one or more.
pub struct Room {
    capacity: usize,
    held: Mutex<Held>,
    /// Whether entries in place grew beyond the capacity.
    has_grown: AtomicBool,
}

#[derive(Default)]
struct Held {
    total: usize,
    tenants: HashMap<TenantId, usize>,
    /// The same by their places, so that the largest is found at once.
    by_places: BTreeSet<(usize, TenantId)>,
}

impl Held {
    fn change(&mut self, tenant: TenantId, before: usize, now: usize) {
        let held = self.tenants.remove(&tenant).unwrap_or(0);
        self.by_places.remove(&(held, tenant));
        let changed = (held + now).saturating_sub(before);
        self.total = (self.total + now).saturating_sub(before);
        if changed > 0 {
            self.tenants.insert(tenant, changed);
            self.by_places.insert((changed, tenant));
        }
    }
}

impl Room {
    /// This many places, which nobody holds yet.
    pub fn new(capacity: usize) -> Arc<Self> {
        Arc::new(Self {
            capacity,
            held: Mutex::default(),
            has_grown: AtomicBool::new(false),
        })
    }

    /// Takes places, if there are so many.
    pub(super) fn take(&self, tenant: TenantId, places: usize) -> bool {
        let mut held = self.held.lock();
        let fits = held.total + places <= self.capacity;
        if fits {
            held.change(tenant, 0, places);
        }
        fits
    }

    /// Takes places, or gives some back, whatever the capacity.
    pub fn change(&self, tenant: TenantId, before: usize, now: usize) {
        let mut held = self.held.lock();
        held.change(tenant, before, now);
        if now > before && held.total > self.capacity {
            self.has_grown.store(true, Ordering::Relaxed);
        }
    }

    /// Whether entries in place have grown beyond the capacity since this was asked.
    pub(super) fn has_grown(&self) -> bool {
        self.has_grown.load(Ordering::Relaxed) && self.has_grown.swap(false, Ordering::Relaxed)
    }

    /// Whether more is held than there is room for.
    pub(super) fn is_exceeded(&self) -> bool {
        self.held.lock().total > self.capacity
    }

    /// Whose entries leave when a tenant takes so many places more: its own, if it would hold most then; otherwise, or
    /// where none of them can leave, those of the tenant that holds most.
    pub(super) fn who_leaves(&self, tenant: TenantId, places: usize) -> [Option<TenantId>; 2] {
        let held = self.held.lock();
        let own = held.tenants.get(&tenant).map_or(0, |own| own + places);
        let largest = held.by_places.last();
        let own = largest.filter(|(most, _)| own >= *most).map(|_| tenant);
        [own, largest.map(|(_, tenant)| *tenant)]
    }

    /// The most places that one entry counts for, so that there is room for each.
    pub const fn most(&self) -> usize {
        match self.capacity / 8 {
            0 => 1,
            most => most,
        }
    }

    #[cfg(test)]
    pub fn taken(&self) -> usize {
        self.held.lock().total
    }
}
