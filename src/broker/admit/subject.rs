//! What the audit record says of an operation's object and of the decision on it.

use claviger_provider::{ConnectionId, Id, KeyId, ProviderKind};

use crate::access::{Action, PolicyRef};
use crate::audit::{Decision, Number, Policy, Record, Text};

/// The part of a record that admission fills. Only [`super`] writes its fields: no use case
/// and no protocol can record another action or object than the one that was decided.
#[derive(Debug, Clone)]
pub struct Subject {
    pub(in crate::broker::admit) action: Action,
    pub(in crate::broker::admit) key: Option<KeyId>,
    pub(in crate::broker::admit) connection: Option<ConnectionId>,
    pub(in crate::broker::admit) provider: Option<ProviderKind>,
    /// Whether an operator may do it in a suspended tenant. True until that is known: admission asks.
    pub(in crate::broker::admit) while_suspended: bool,
    /// The policy that allowed the operation; `None` until then.
    pub(in crate::broker::admit) policy: Option<PolicyRef>,
}

impl Subject {
    /// Of an operation that is not decided yet.
    pub(in crate::broker) const fn undecided(action: Action) -> Self {
        Self {
            action,
            key: None,
            connection: None,
            provider: None,
            while_suspended: true,
            policy: None,
        }
    }

    /// The action that is recorded.
    pub(in crate::broker) const fn action(&self) -> Action {
        self.action
    }

    /// Whether an operator may do it in a suspended tenant.
    pub(in crate::broker) const fn while_suspended(&self) -> bool {
        self.while_suspended
    }

    /// The id of the object that the operation is on, if it is a key or a connection; of a creation, that of what it is made
    /// through.
    pub(in crate::broker) fn object(&self) -> Option<[u8; 16]> {
        let connection = || self.connection.map(|id| *id.bytes());
        self.key.map(|id| *id.bytes()).or_else(connection)
    }

    /// Writes object, decision and policy into a record.
    pub(in crate::broker) fn fill(self, record: &mut Record) {
        record.key = self.key;
        record.connection = self.connection;
        record.provider = self.provider;
        record.decision = self.policy.is_some().then_some(Decision::Allow);
        record.policy = self.policy.map(|policy| Policy {
            id: Text::new(policy.id),
            version: Number::saturating(policy.version),
        });
    }
}
