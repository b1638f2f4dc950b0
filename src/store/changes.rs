//! The changes of every store: each is one transaction that marks the intent, keeps the answer,
//! applies a rule of [`rules`] and writes the rows that it touched.

use async_trait::async_trait;
use chrono::Utc;
use claviger_provider::{ConnectionId, KeyId, PrincipalId, SealedName, Secret, TenantId, TokenId};

use super::check_credential::check_credential;
use super::claiming::{claim, claim_anew};
use super::model::{
    Connection, ConnectionPatch, Key, KeyPatch, KeyVersion, Liftable, Principal, ProviderState, Resource, SeenVersion, Tenant, Token,
    WrapsReserved,
};
use super::transaction::{Backend, Existing, Priority, TokenRoots, Transaction};
use super::{Change, CreationMark, LastRecord, LogBytes, Store, StoreError, detached, rules};

/// Begins a change: takes the transaction, refuses a credential that is not in force, marks the intent as
/// applied, begins or ends a creation, and keeps the answer.
async fn begin(backend: &impl Backend, tenant: TenantId, change: &Change) -> Result<Box<dyn Transaction>, StoreError> {
    let priority = if change.revocation {
        Priority::Revocation
    } else {
        Priority::Ordinary
    };
    let mut transaction = backend.begin(tenant, priority).await?;
    if let Some(asker) = &change.credential {
        check_credential(&mut *transaction, asker).await?;
    }
    if let Some(position) = change.intent {
        transaction.insert_applied(tenant, position).await?;
    }
    match &change.creation {
        Some(CreationMark::Begins(creation)) => transaction.put_creation(creation).await?,
        Some(CreationMark::Ends(made_as)) => transaction.delete_creation(tenant, *made_as).await?,
        None => {}
    }
    if let Some(record) = &change.idempotency {
        let expired = rules::answers_expired_at(Utc::now());
        let replaces = transaction.delete_expired_answer(&record.key, expired).await?;
        if !transaction.insert_answer(record).await? {
            return Err(StoreError::IdempotencyTaken);
        }
        if !replaces {
            added(&mut *transaction, change, record.key.tenant, Resource::IdempotencyKeys, 1).await?;
        }
    }
    Ok(transaction)
}

/// Counts objects that a change adds, and refuses them over the quota.
async fn added(
    transaction: &mut dyn Transaction,
    change: &Change,
    tenant: TenantId,
    resource: Resource,
    more: usize,
) -> Result<(), StoreError> {
    let more = i64::try_from(more).map_err(|_| StoreError::Damaged("a number beyond 2^63"))?;
    if more == 0 {
        return Ok(());
    }
    let number = transaction.count(tenant, resource, more).await?;
    rules::check_quota(change.quotas.as_ref(), resource, number)
}

/// Counts objects that a change deletes.
async fn deleted(transaction: &mut dyn Transaction, tenant: TenantId, resource: Resource, fewer: u64) -> Result<(), StoreError> {
    let fewer = i64::try_from(fewer).map_err(|_| StoreError::Damaged("a number beyond 2^63"))?;
    transaction.count(tenant, resource, -fewer).await?;
    Ok(())
}

/// Sealed values must be those of the object that they are written with.
fn check_names(values: &[(SealedName, Secret)], tenant: TenantId, row: Option<&str>) -> Result<(), StoreError> {
    let is_own = |name: &SealedName| name.tenant == tenant && row.is_none_or(|row| name.row == row);
    if values.iter().all(|(name, _)| is_own(name)) {
        Ok(())
    } else {
        Err(StoreError::NotFound)
    }
}

/// Writes those of `versions` that are new to a key, and claims the provider keys of all that it has
/// then. Returns all versions, and whether one was new.
async fn add_versions(
    transaction: &mut dyn Transaction,
    key: &Key,
    versions: &[KeyVersion],
    change: &Change,
) -> Result<(Vec<KeyVersion>, bool), StoreError> {
    let mut all = transaction.versions(key.tenant, key.id).await?;
    let new: Vec<KeyVersion> = rules::new_versions(&all, versions)?.into_iter().cloned().collect();
    transaction.insert_versions(key, &new).await?;
    added(transaction, change, key.tenant, Resource::Versions, new.len()).await?;
    claim(transaction, key, (&all, &new), &change.beside).await?;
    let is_new = !new.is_empty();
    all.extend(new);
    Ok((all, is_new))
}

/// Adds versions to a key, makes `primary` the one that wraps, and commits.
async fn with_primary(
    mut transaction: Box<dyn Transaction>,
    mut key: Key,
    versions: &[KeyVersion],
    primary: u32,
    at: i64,
    change: &Change,
) -> Result<Key, StoreError> {
    let (all, added) = add_versions(&mut *transaction, &key, versions, change).await?;
    if rules::set_primary(&mut key, &all, primary, added, at)? {
        transaction.update_key(&key).await?;
    }
    transaction.commit().await?;
    Ok(key)
}

#[async_trait]
impl<B: Backend> Store for B {
    async fn close(&self) {
        Backend::close(self).await;
    }

    async fn keep_last_record(&self, last: Option<LastRecord>, bytes: &LogBytes) -> Result<(), StoreError> {
        self.write_last_record(last, bytes).await
    }

    async fn mark_applied(&self, tenant: TenantId, change: &Change) -> Result<(), StoreError> {
        let transaction = match begin(self, tenant, change).await {
            Err(StoreError::NotFound) => begin(self, TenantId::INSTALLATION, change).await?,
            begun => begun?,
        };
        transaction.commit().await
    }

    async fn prune_applied(&self, before: u64) -> Result<(), StoreError> {
        self.delete_applied(before).await
    }

    async fn rewind_applied(&self, last: Option<u64>) -> Result<(), StoreError> {
        let change = Change {
            intent: last,
            ..Change::unannounced()
        };
        let mut transaction = begin(self, TenantId::INSTALLATION, &change).await?;
        transaction.delete_applied_after(last).await?;
        transaction.commit().await
    }

    async fn raise_lifts(&self, tenant: TenantId, object: Liftable, journal: u64) -> Result<(), StoreError> {
        let mut transaction = begin(self, tenant, &Change::unannounced()).await?;
        match object {
            Liftable::Key(id) => {
                let mut key = transaction.key(tenant, id).await?;
                if rules::raise_lifts(&mut key.lifts, journal) {
                    transaction.update_key(&key).await?;
                }
            }
            Liftable::Connection(id) => {
                let mut connection = transaction.connection(tenant, id).await?;
                if rules::raise_lifts(&mut connection.lifts, journal) {
                    transaction.update_connection(&connection).await?;
                }
            }
            Liftable::Tenant(id) => {
                let mut tenant = transaction.tenant(id).await?;
                if rules::raise_lifts(&mut tenant.lifts, journal) {
                    transaction.update_tenant(&tenant).await?;
                }
            }
        }
        transaction.commit().await
    }

    async fn prune_idempotency(&self, before: i64) -> Result<u64, StoreError> {
        self.delete_answers(before).await
    }

    async fn prune_deleted_principals(&self, before: i64) -> Result<(), StoreError> {
        self.forget_deleted_principals(before).await
    }

    async fn prune_ended_tokens(&self, before: i64) -> Result<u64, StoreError> {
        self.delete_ended_tokens(before).await
    }

    async fn create_tenant(&self, tenant: &Tenant, sealed: Vec<(SealedName, Secret)>, change: &Change) -> Result<(), StoreError> {
        check_names(&sealed, tenant.id, None)?;
        // The change belongs to the operator: the tenant does not exist yet.
        let mut transaction = begin(self, TenantId::INSTALLATION, change).await?;
        transaction.insert_tenant(tenant).await?;
        transaction.put_sealed(&sealed, Existing::Refuse).await?;
        transaction.commit().await
    }

    async fn set_tenant_suspended(&self, id: TenantId, suspended: bool, change: &Change) -> Result<Tenant, StoreError> {
        // The change belongs to the operator.
        let mut transaction = begin(self, TenantId::INSTALLATION, change).await?;
        let mut tenant = transaction.tenant(id).await?;
        if rules::set_suspended(&mut tenant, suspended) {
            transaction.update_tenant(&tenant).await?;
        }
        transaction.commit().await?;
        Ok(tenant)
    }

    async fn create_principal(&self, principal: &Principal, change: &Change) -> Result<(), StoreError> {
        let mut transaction = begin(self, principal.tenant, change).await?;
        transaction.insert_principal(principal).await?;
        added(&mut *transaction, change, principal.tenant, Resource::Principals, 1).await?;
        transaction.commit().await
    }

    async fn delete_principal(&self, tenant: TenantId, id: PrincipalId, at: i64, change: &Change) -> Result<Vec<String>, StoreError> {
        let mut transaction = begin(self, tenant, change).await?;
        let ended = transaction.revoke_tokens(TokenRoots::Of(tenant, id), at).await?;
        let tokens = transaction.delete_principal(tenant, id, at).await?;
        deleted(&mut *transaction, tenant, Resource::Principals, 1).await?;
        deleted(&mut *transaction, tenant, Resource::Tokens, tokens).await?;
        transaction.commit().await?;
        Ok(ended)
    }

    async fn create_token(&self, token: &Token, change: &Change) -> Result<(), StoreError> {
        let mut transaction = begin(self, token.tenant, change).await?;
        let parent = match token.parent {
            Some(id) => Some(transaction.parent_token(token.tenant, id).await?),
            None => None,
        };
        rules::check_new_token(token, parent.as_ref())?;
        transaction.insert_token(token).await?;
        added(&mut *transaction, change, token.tenant, Resource::Tokens, 1).await?;
        transaction.commit().await
    }

    async fn revoke_token(&self, tenant: TenantId, id: TokenId, at: i64, change: &Change) -> Result<(Token, Vec<String>), StoreError> {
        let mut transaction = begin(self, tenant, change).await?;
        let mut token = transaction.token(tenant, id).await?;
        rules::revoke(&mut token, at);
        let ended = transaction.revoke_tokens(TokenRoots::One(tenant, id), at).await?;
        transaction.commit().await?;
        Ok((token, ended))
    }

    async fn create_connection(
        &self,
        connection: &Connection,
        sealed: Vec<(SealedName, Secret)>,
        change: &Change,
    ) -> Result<(), StoreError> {
        check_names(&sealed, connection.tenant, Some(&connection.id.to_string()))?;
        let mut transaction = begin(self, connection.tenant, change).await?;
        transaction.insert_connection(connection).await?;
        added(&mut *transaction, change, connection.tenant, Resource::Connections, 1).await?;
        transaction.put_sealed(&sealed, Existing::Refuse).await?;
        transaction.commit().await
    }

    async fn update_connection(
        &self,
        tenant: TenantId,
        id: ConnectionId,
        patch: &ConnectionPatch,
        sealed: Vec<(SealedName, Secret)>,
        change: &Change,
    ) -> Result<Connection, StoreError> {
        let mut transaction = begin(self, tenant, change).await?;
        let mut connection = transaction.connection(tenant, id).await?;
        let claims = connection.claims.clone();
        rules::patch_connection(&mut connection, patch)?;
        check_names(&sealed, tenant, Some(&id.to_string()))?;
        transaction.update_connection(&connection).await?;
        let claims_differ = claims != connection.claims;
        if patch.network.is_some() || claims_differ {
            let users = transaction.users(tenant, id).await?;
            let proven = patch.network.as_ref().and_then(|network| network.proven.as_ref());
            rules::check_proven(proven, &users)?;
            if claims_differ {
                claim_anew(&mut *transaction, tenant, &users).await?;
            }
        }
        transaction.put_sealed(&sealed, Existing::Replace).await?;
        transaction.commit().await?;
        Ok(connection)
    }

    async fn set_connection_severed(
        &self,
        tenant: TenantId,
        id: ConnectionId,
        severed: bool,
        at: i64,
        change: &Change,
    ) -> Result<Connection, StoreError> {
        let mut transaction = begin(self, tenant, change).await?;
        let mut connection = transaction.connection(tenant, id).await?;
        if rules::set_severed(&mut connection, severed, at) {
            transaction.update_connection(&connection).await?;
        }
        transaction.commit().await?;
        Ok(connection)
    }

    async fn release_connection(&self, tenant: TenantId, id: ConnectionId, at: i64, change: &Change) -> Result<Connection, StoreError> {
        let mut transaction = begin(self, tenant, change).await?;
        let mut connection = transaction.connection(tenant, id).await?;
        if rules::release_connection(&mut connection, at) {
            transaction.update_connection(&connection).await?;
        }
        transaction.commit().await?;
        Ok(connection)
    }

    async fn release_key(&self, tenant: TenantId, id: KeyId, at: i64, change: &Change) -> Result<Key, StoreError> {
        let mut transaction = begin(self, tenant, change).await?;
        let mut key = transaction.key(tenant, id).await?;
        if rules::release_key(&mut key, at) {
            transaction.update_key(&key).await?;
        }
        transaction.commit().await?;
        Ok(key)
    }

    async fn delete_connection(&self, tenant: TenantId, id: ConnectionId, change: &Change) -> Result<(), StoreError> {
        let mut transaction = begin(self, tenant, change).await?;
        if let Some(key) = transaction.connection_user(tenant, id).await? {
            return Err(StoreError::InUse(key));
        }
        if transaction.connection(tenant, id).await?.severed {
            detached::sever(&mut *transaction, tenant, id).await?;
        }
        transaction.delete_connection(tenant, id).await?;
        deleted(&mut *transaction, tenant, Resource::Connections, 1).await?;
        transaction.delete_sealed(tenant, &id.to_string()).await?;
        transaction.commit().await
    }

    async fn create_key(&self, key: &Key, versions: &[KeyVersion], change: &Change) -> Result<Key, StoreError> {
        rules::check_new_key(key, versions)?;
        let mut key = Key {
            rotating: None,
            ..key.clone()
        };
        let mut transaction = begin(self, key.tenant, change).await?;
        match transaction.holder(key.tenant, key.id).await? {
            Some(before) => {
                let old = transaction.versions(key.tenant, key.id).await?;
                rules::adopt(&mut key, &before, &old)?;
                transaction.take_over_key(&key).await?;
                transaction.update_versions(&key, &rules::follow(&key, &old, versions)).await?;
            }
            None => {
                transaction.insert_key(&key).await?;
                added(&mut *transaction, change, key.tenant, Resource::Keys, 1).await?;
            }
        }
        let (all, _) = add_versions(&mut *transaction, &key, versions, change).await?;
        // A primary version that the key had before is not replaced by the given row.
        let primary = all.into_iter().find(|version| version.number == key.primary.number);
        key.primary = primary.ok_or(StoreError::NotFound)?;
        transaction.replace_labels(&key).await?;
        transaction.commit().await?;
        Ok(key)
    }

    async fn update_key(&self, tenant: TenantId, id: KeyId, patch: &KeyPatch, change: &Change) -> Result<Key, StoreError> {
        let mut transaction = begin(self, tenant, change).await?;
        let mut key = transaction.key(tenant, id).await?;
        rules::patch_key(&mut key, patch)?;
        transaction.update_key(&key).await?;
        transaction.replace_labels(&key).await?;
        transaction.commit().await?;
        Ok(key)
    }

    async fn set_key_disabled(&self, tenant: TenantId, id: KeyId, disabled: bool, at: i64, change: &Change) -> Result<Key, StoreError> {
        let mut transaction = begin(self, tenant, change).await?;
        let mut key = transaction.key(tenant, id).await?;
        if rules::set_disabled(&mut key, disabled, at) {
            transaction.update_key(&key).await?;
        }
        transaction.commit().await?;
        Ok(key)
    }

    async fn disable_detached(&self, tenant: TenantId, id: KeyId, lifts: u64, change: &Change) -> Result<bool, StoreError> {
        let mut transaction = begin(self, tenant, change).await?;
        let is_in_force = detached::disable(&mut *transaction, tenant, id, lifts).await?;
        if is_in_force {
            transaction.commit().await?;
        }
        Ok(is_in_force)
    }

    async fn add_key_versions(
        &self,
        tenant: TenantId,
        id: KeyId,
        versions: &[KeyVersion],
        primary: u32,
        at: i64,
        change: &Change,
    ) -> Result<Key, StoreError> {
        let mut transaction = begin(self, tenant, change).await?;
        let key = transaction.key(tenant, id).await?;
        with_primary(transaction, key, versions, primary, at, change).await
    }

    async fn move_key(
        &self,
        tenant: TenantId,
        id: KeyId,
        versions: &[KeyVersion],
        primary: u32,
        at: i64,
        change: &Change,
    ) -> Result<Key, StoreError> {
        let mut transaction = begin(self, tenant, change).await?;
        let key = transaction.key(tenant, id).await?;
        rules::check_moved(&transaction.versions(tenant, id).await?, versions)?;
        with_primary(transaction, key, versions, primary, at, change).await
    }

    async fn set_provider_states(
        &self,
        tenant: TenantId,
        id: KeyId,
        seen: &[SeenVersion],
        at: i64,
        change: &Change,
    ) -> Result<Key, StoreError> {
        let mut transaction = begin(self, tenant, change).await?;
        let mut key = transaction.key(tenant, id).await?;
        let mut versions = transaction.versions(tenant, id).await?;
        let changed = rules::set_provider_states(&mut versions, seen);
        // One that was replaced gives its names up before another one takes them.
        let (replaced, others): (Vec<_>, Vec<_>) = changed
            .iter()
            .cloned()
            .partition(|version| version.provider_state == ProviderState::Replaced);
        transaction.update_versions(&key, &replaced).await?;
        transaction.update_versions(&key, &others).await?;
        if !changed.is_empty() {
            rules::set_provider_states(std::slice::from_mut(&mut key.primary), seen);
            rules::key_changed(&mut key, at);
            transaction.update_key(&key).await?;
        }
        transaction.commit().await?;
        Ok(key)
    }

    async fn set_key_rotating(&self, tenant: TenantId, id: KeyId, since: Option<i64>, at: i64, change: &Change) -> Result<Key, StoreError> {
        let mut transaction = begin(self, tenant, change).await?;
        let mut key = transaction.key(tenant, id).await?;
        rules::set_rotating(&mut key, since, at);
        transaction.update_key(&key).await?;
        transaction.commit().await?;
        Ok(key)
    }

    async fn reserve_wraps(&self, tenant: TenantId, key: KeyId, version: u32, count: u64) -> Result<WrapsReserved, StoreError> {
        let mut transaction = begin(self, tenant, &Change::unannounced()).await?;
        let before = transaction.wraps_reserved(tenant, key, version).await?;
        let reserved = rules::reserve_wraps(before, count);
        if reserved.granted > 0 {
            transaction.set_wraps_reserved(tenant, key, version, reserved.total).await?;
            transaction.commit().await?;
        }
        Ok(reserved)
    }

    async fn detach_key(&self, tenant: TenantId, id: KeyId, at: i64, change: &Change) -> Result<Key, StoreError> {
        let mut transaction = begin(self, tenant, change).await?;
        let mut key = transaction.key(tenant, id).await?;
        let severed = transaction.holder(tenant, id).await?.is_some_and(|holder| holder.severed);
        rules::detach(&mut key, severed, at);
        transaction.detach_key(&key).await?;
        transaction.drop_claims(&key).await?;
        transaction.commit().await?;
        Ok(key)
    }
}
