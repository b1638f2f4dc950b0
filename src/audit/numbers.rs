//! The next sequence number of each tenant.

use std::collections::HashMap;

use claviger_provider::TenantId;

/// The next number of each tenant, at one place of the log.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Numbers {
    /// Those of tenants with a record before, or with a number that a loss may have used.
    pub(super) next: HashMap<TenantId, u64>,
    /// That of every other tenant: more than 0 if records of unknown tenants may be lost.
    pub(super) first: u64,
}

impl Numbers {
    /// The tenant's next number.
    pub(super) fn next(&self, tenant: TenantId) -> u64 {
        self.next.get(&tenant).copied().unwrap_or(self.first)
    }

    /// Gives the tenant's next number.
    pub(super) fn give(&mut self, tenant: TenantId) -> u64 {
        let next = self.next.entry(tenant).or_insert(self.first);
        let number = *next;
        *next += 1;
        number
    }
}
