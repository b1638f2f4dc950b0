//! Claims the provider keys of keys, within the transaction that changes their versions or connections.

use std::collections::BTreeSet;

use claviger_provider::{KeyId, TenantId};

use super::model::{Connection, Key, KeyVersion};
use super::transaction::Transaction;
use super::{StoreError, rules};

/// Claims the provider keys of a key's versions.
pub(super) async fn claim(transaction: &mut dyn Transaction, key: &Key, versions: &[KeyVersion]) -> Result<(), StoreError> {
    let mut connections: Vec<Connection> = Vec::new();
    for version in versions {
        if let Some(id) = version.connection_id()
            && connections.iter().all(|connection| connection.id != id)
        {
            connections.push(transaction.connection(key.tenant, id).await?);
        }
    }
    for claim in rules::claims(key.tenant, versions, &connections) {
        match transaction.claim(&claim, key).await? {
            Some(other) if other == key.tenant => return Err(StoreError::ProviderKeyTaken),
            Some(_) => return Err(StoreError::ClaimedElsewhere),
            None => {}
        }
        // A detached key keeps its provider keys reserved until it is adopted again.
        if claim.span == key.tenant && transaction.is_remembered(&claim, key).await? {
            return Err(StoreError::ProviderKeyTaken);
        }
    }
    Ok(())
}

/// Claims the provider keys of these keys anew, after the span of a connection's claims changed.
pub(super) async fn claim_anew(
    transaction: &mut dyn Transaction,
    tenant: TenantId,
    users: &[(KeyId, u32, bool)],
) -> Result<(), StoreError> {
    let ids: BTreeSet<KeyId> = users.iter().map(|(key, _, _)| *key).collect();
    let mut keys = Vec::with_capacity(ids.len());
    for id in ids {
        let key = transaction.key(tenant, id).await?;
        transaction.drop_claims(&key).await?;
        keys.push(key);
    }
    for key in keys {
        let versions = transaction.versions(tenant, key.id).await?;
        claim(transaction, &key, &versions).await?;
    }
    Ok(())
}
