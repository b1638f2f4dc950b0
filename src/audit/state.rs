//! What the log must know to continue: the next sequence numbers, the open intents, the last
//! effective change.

use std::collections::HashMap;

use claviger_provider::TenantId;

use super::origin::Position;
use super::role::Role;
use super::scalar::Timestamp;

/// The state after all records up to one offset of the file.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct State {
    /// The next sequence number of each tenant.
    pub(super) next: HashMap<TenantId, u64>,
    /// Intents without an outcome, by tenant and sequence number, and their offsets.
    pub(super) open: HashMap<(TenantId, u64), Position>,
    /// The position of the last change that took effect, or may have: that of its intent, or of its
    /// outcome if it had no intent. Open intents do not count.
    pub(super) last_effective: Option<Position>,
    /// The time of the last record.
    pub(super) last_time: Option<Timestamp>,
}

impl State {
    /// The sequence number of the tenant's next record.
    pub(super) fn next(&self, tenant: TenantId) -> u64 {
        self.next.get(&tenant).copied().unwrap_or(0)
    }

    /// Adds a durable record.
    pub(super) fn add(&mut self, tenant: TenantId, number: u64, role: Role, position: Position, time: Timestamp) {
        self.next.insert(tenant, number + 1);
        self.last_time = Some(time);
        match role {
            Role::Plain => {}
            Role::Opens => {
                self.open.insert((tenant, number), position);
            }
            Role::Closes { intent, effective } => {
                let opened = self.open.remove(&(tenant, intent));
                if effective {
                    self.last_effective = self.last_effective.max(opened);
                }
            }
            Role::Effective => self.last_effective = self.last_effective.max(Some(position)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_counts_when_it_took_effect_and_not_before() {
        let (tenant, time) = (TenantId::random(), Timestamp::now());
        let mut state = State::default();
        state.add(tenant, 0, Role::Opens, Position(100), time);
        state.add(tenant, 1, Role::Opens, Position(200), time);
        assert_eq!(state.last_effective, None);
        let closes = Role::Closes {
            intent: 0,
            effective: true,
        };
        state.add(tenant, 2, closes, Position(300), time);
        assert_eq!(state.last_effective, Some(Position(100)));
        assert_eq!(state.open.values().collect::<Vec<_>>(), [&Position(200)]);
        assert_eq!(state.next(tenant), 3);
    }
}
