//! How many slots of the kill file each tenant may take.

use std::collections::HashMap;

use claviger_provider::TenantId;

use super::{Inner, Slot};

/// Slots that only the installation's own revocations may take: an operator must be able to suspend
/// a tenant that takes all it can get.
pub(super) const OPERATORS: usize = 64;

impl Inner {
    /// How many slots one tenant may take: as many as are free for all. So every further tenant finds
    /// some, however many slots the others took (a dynamic threshold, as in shared switch buffers).
    fn share(&self) -> usize {
        let free = self.slots.iter().filter(|slot| **slot == Slot::Free).count();
        free.saturating_sub(OPERATORS)
    }

    /// Whether some tenant has its share, or a further one would get none.
    pub(super) fn is_full(&self) -> bool {
        let (share, mut own) = (self.share(), HashMap::new());
        for entry in self.slots.iter().filter_map(Slot::entry) {
            *own.entry(entry.tenant).or_insert(0) += 1;
        }
        share == 0
            || own
                .into_iter()
                .any(|(tenant, own)| tenant != TenantId::INSTALLATION && own >= share)
    }

    /// A free slot for a tenant that has not taken its share.
    pub(super) fn free_for(&self, tenant: TenantId) -> Option<usize> {
        let own = self
            .slots
            .iter()
            .filter(|slot| slot.entry().is_some_and(|entry| entry.tenant == tenant))
            .count();
        let may = tenant == TenantId::INSTALLATION || own < self.share();
        may.then(|| self.slots.iter().position(|slot| *slot == Slot::Free))?
    }
}
