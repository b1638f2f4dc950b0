//! Revocations of detached keys, within the transaction of a change: the keys come back as these left them.

use claviger_provider::{ConnectionId, KeyId, TenantId};

use super::transaction::Transaction;
use super::{StoreError, rules};

/// Keeps the sever of a connection that is deleted in force for the detached keys that were reached through it.
pub(super) async fn sever(transaction: &mut dyn Transaction, tenant: TenantId, through: ConnectionId) -> Result<(), StoreError> {
    for mut key in transaction.detached_through(tenant, through).await? {
        if rules::sever_detached(&mut key) {
            transaction.update_detached(&key).await?;
        }
    }
    Ok(())
}

/// Disables a detached key, unless it was enabled more often than `lifts`, the journal's number: `false` then.
///
/// # Errors
/// `NotFound` where no key of this id is detached.
pub(super) async fn disable(transaction: &mut dyn Transaction, tenant: TenantId, id: KeyId, lifts: u64) -> Result<bool, StoreError> {
    let mut key = transaction.detached_key(tenant, id).await?;
    if key.lifts > lifts {
        return Ok(false);
    }
    let is_raised = rules::raise_lifts(&mut key.lifts, lifts);
    let at = key.updated;
    if rules::set_disabled(&mut key, true, at) || is_raised {
        transaction.update_detached(&key).await?;
    }
    Ok(true)
}
