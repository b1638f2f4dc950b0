//! Which declared connections lead to a provider that does not answer.

use std::collections::BTreeSet;

use parking_lot::Mutex;

/// The connections, by tenant and name, whose provider did not answer in time when it was last asked for a declared
/// object. There are never more than were declared.
#[derive(Default)]
pub(super) struct SlowConnections(Mutex<BTreeSet<(String, String)>>);

impl SlowConnections {
    /// Those that are slow now.
    pub(super) fn now(&self) -> BTreeSet<(String, String)> {
        self.0.lock().clone()
    }

    /// Notes whether the provider answered in time.
    pub(super) fn note(&self, (tenant, connection): (&str, &str), slow: bool) {
        let id = (tenant.to_owned(), connection.to_owned());
        if slow {
            self.0.lock().insert(id);
        } else {
            self.0.lock().remove(&id);
        }
    }
}
