//! Creations that go on after their requests, and the keys that providers created too late for these.

use std::collections::HashMap;
use std::sync::Arc;

use claviger_provider::{KeyDescription, KeyId, TenantId};
use parking_lot::Mutex;

/// How many creations of a tenant may go on after their requests. Further ones end with theirs: what a caller does
/// not wait for takes memory, and a place among the calls of its connection.
const MOST: usize = 64;

/// Keys that providers created after the requests for them had ended.
#[derive(Default)]
pub(super) struct LateAnswers {
    /// By the ids that they were created under. Each is one of a creation that is noted in the store.
    created: Mutex<HashMap<(TenantId, KeyId), KeyDescription>>,
    /// The number of creations under way that may go on, by tenant.
    under_way: Mutex<HashMap<TenantId, usize>>,
}

impl LateAnswers {
    /// Takes them all.
    pub(super) fn take(&self) -> HashMap<(TenantId, KeyId), KeyDescription> {
        std::mem::take(&mut *self.created.lock())
    }

    /// Counts a creation that may go on; `None` if the tenant has [`MOST`].
    pub(super) fn begin(self: &Arc<Self>, tenant: TenantId) -> Option<GoesOn> {
        let mut under_way = self.under_way.lock();
        let number = under_way.entry(tenant).or_default();
        (*number < MOST).then(|| {
            *number += 1;
            GoesOn {
                late_answers: Arc::clone(self),
                tenant,
            }
        })
    }
}

/// A creation that may go on after its request. Dropped when it has ended.
pub(super) struct GoesOn {
    late_answers: Arc<LateAnswers>,
    tenant: TenantId,
}

impl GoesOn {
    /// Keeps the key that was created under this id, until it is taken.
    pub(super) fn keep(&self, made_as: KeyId, described: KeyDescription) {
        let _before = self.late_answers.created.lock().insert((self.tenant, made_as), described);
    }
}

impl Drop for GoesOn {
    fn drop(&mut self) {
        let mut under_way = self.late_answers.under_way.lock();
        if let Some(number) = under_way.get_mut(&self.tenant) {
            *number -= 1;
            if *number == 0 {
                under_way.remove(&self.tenant);
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test stops where an expectation fails")]
mod tests {
    use std::sync::Arc;

    use claviger_provider::TenantId;

    use super::{LateAnswers, MOST};

    #[test]
    fn a_tenant_has_so_many_creations_that_go_on_and_no_more() {
        let (late_answers, ours) = (Arc::<LateAnswers>::default(), TenantId::random());
        let mut under_way: Vec<_> = (0..MOST).map(|_| late_answers.begin(ours).unwrap()).collect();
        assert!(late_answers.begin(ours).is_none());
        assert!(late_answers.begin(TenantId::random()).is_some(), "another tenant has its own");
        under_way.pop();
        under_way.push(late_answers.begin(ours).unwrap());
        drop(under_way);
        assert!(late_answers.under_way.lock().is_empty());
    }
}
