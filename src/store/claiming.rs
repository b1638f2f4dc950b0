//! Claims the provider keys of keys, within the transaction that changes their versions or connections.

use std::collections::BTreeSet;

use claviger_provider::{KeyId, TenantId};

use super::model::{Claim, Connection, Key, KeyVersion, MAX_HOLDERS};
use super::transaction::Transaction;
use super::{StoreError, rules};

/// Claims the provider keys of a key: those of the versions that it had `before`, and of `new` ones. Within the tenant,
/// a new one is refused where another key has a provider key of the same id and is not among those `beside` it. What
/// the key had before, it was given so.
pub(super) async fn claim(
    transaction: &mut dyn Transaction,
    key: &Key,
    (before, new): (&[KeyVersion], &[KeyVersion]),
    beside: &[KeyId],
) -> Result<(), StoreError> {
    let versions = [before, new].concat();
    let mut connections: Vec<Connection> = Vec::new();
    for version in &versions {
        if let Some(id) = version.connection_id()
            && connections.iter().all(|connection| connection.id != id)
        {
            connections.push(transaction.connection(key.tenant, id).await?);
        }
    }
    for claim in rules::claims(key.tenant, &versions, &connections) {
        if claim.span == key.tenant {
            let had = |version: &KeyVersion| version.provider == claim.provider && version.provider_key == claim.provider_key;
            let is_other = |(holder, _): &(KeyId, bool)| *holder != key.id && !beside.contains(holder);
            if !before.iter().any(had) {
                let holders = transaction.holders(&claim, key.tenant).await?;
                // The list has this key, too. A full one may lack holders: detached ones, which are last.
                if holders.len() >= MAX_HOLDERS as usize || holders.iter().any(is_other) {
                    return Err(StoreError::ProviderKeyTaken);
                }
            }
            if transaction.claim(&claim, key).await?.is_some() {
                let service = key.id.to_string();
                transaction.claim(&Claim { service, ..claim }, key).await?;
            }
        } else if let Some(other) = transaction.claim(&claim, key).await? {
            let within = other == key.tenant;
            return Err(if within {
                StoreError::ProviderKeyTaken
            } else {
                StoreError::ClaimedElsewhere
            });
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
        claim(transaction, &key, (&versions, &[]), &[]).await?;
    }
    Ok(())
}
