//! Creations that go on after their requests, and the keys that providers created too late for these.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

use claviger_provider::{ConnectionId, KeyDescription, KeyId, TenantId};
use parking_lot::Mutex;

/// How many creations of a tenant may go on after their requests. Further ones end with theirs: what a caller does
/// not wait for takes memory.
const MOST: usize = 64;
/// The share of a connection's concurrent calls that such creations may take: an eighth, and at least one call.
/// They last longer than any request, and the connection's other callers need its calls.
const SHARE: usize = 8;

/// Keys that providers created after the requests for them had ended.
#[derive(Default)]
pub(super) struct LateAnswers {
    /// By the ids that they were created under. Each is one of a creation that is noted in the store.
    created: Mutex<HashMap<(TenantId, KeyId), KeyDescription>>,
    under_way: Mutex<UnderWay>,
}

/// The number of creations that go on after their requests.
#[derive(Default)]
struct UnderWay {
    by_tenant: HashMap<TenantId, usize>,
    by_connection: HashMap<ConnectionId, usize>,
}

impl LateAnswers {
    /// Takes them all.
    pub(super) fn take(&self) -> HashMap<(TenantId, KeyId), KeyDescription> {
        std::mem::take(&mut *self.created.lock())
    }

    /// Counts a creation that goes on after its request, through a connection with so many concurrent calls. `None`
    /// if the tenant has [`MOST`], or the connection its [`SHARE`].
    pub(super) fn begin(self: &Arc<Self>, tenant: TenantId, connection: ConnectionId, concurrency: usize) -> Option<GoesOn> {
        let mut under_way = self.under_way.lock();
        let of_tenant = under_way.by_tenant.get(&tenant).copied().unwrap_or_default();
        let of_connection = under_way.by_connection.get(&connection).copied().unwrap_or_default();
        (of_tenant < MOST && of_connection < (concurrency / SHARE).max(1)).then(|| {
            under_way.by_tenant.insert(tenant, of_tenant + 1);
            under_way.by_connection.insert(connection, of_connection + 1);
            GoesOn {
                late_answers: Arc::clone(self),
                tenant,
                connection,
            }
        })
    }
}

/// A creation that goes on after its request. Dropped when it has ended.
pub(super) struct GoesOn {
    late_answers: Arc<LateAnswers>,
    tenant: TenantId,
    connection: ConnectionId,
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
        subtract(&mut under_way.by_tenant, &self.tenant);
        subtract(&mut under_way.by_connection, &self.connection);
    }
}

/// Counts one less, and forgets what has none.
fn subtract<K: Hash + Eq>(numbers: &mut HashMap<K, usize>, of: &K) {
    if let Some(number) = numbers.get_mut(of) {
        *number -= 1;
        if *number == 0 {
            numbers.remove(of);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test stops where an expectation fails")]
mod tests {
    use std::sync::Arc;

    use claviger_provider::{ConnectionId, TenantId};

    use super::{LateAnswers, MOST};

    #[test]
    fn a_tenant_and_a_connection_have_so_many_creations_that_go_on_and_no_more() {
        let late_answers = Arc::<LateAnswers>::default();
        let (ours, theirs) = (TenantId::random(), TenantId::random());
        let begin = |tenant, connection| late_answers.begin(tenant, connection, 64);
        let mut under_way = Vec::new();
        for _ in 0..MOST / 8 {
            let connection = ConnectionId::random();
            under_way.extend((0..8).map(|_| begin(ours, connection).unwrap()));
            assert!(begin(theirs, connection).is_none(), "the connection has its eighth");
        }
        assert!(begin(ours, ConnectionId::random()).is_none());
        assert!(begin(theirs, ConnectionId::random()).is_some(), "another tenant has its own");
        let ended = under_way.pop().unwrap().connection;
        under_way.push(begin(ours, ended).unwrap());
        drop(under_way);
        let left = late_answers.under_way.lock();
        assert!(left.by_tenant.is_empty() && left.by_connection.is_empty());
    }

    #[test]
    fn a_connection_of_few_calls_has_one() {
        let (late_answers, connection) = (Arc::<LateAnswers>::default(), ConnectionId::random());
        let one = late_answers.begin(TenantId::random(), connection, 1);
        assert!(one.is_some() && late_answers.begin(TenantId::random(), connection, 1).is_none());
    }
}
