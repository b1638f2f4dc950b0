//! What a change does to the rows: states, epochs, revisions and limits, as pure functions. Every
//! store applies these, and so does the broker where the store cannot answer.
//!
//! Two numbers matter. The **revision** grows with every change of a row and is its etag. The
//! **epoch** grows with every change after which older answers must not be handed over and older
//! cache entries must not be found. Both only grow, also when a key is adopted again.
//!
//! A third one, **lifts**, grows with every enable and restore. The journal (write-ahead log and kill
//! file) has a revocation under the number of that moment, so a start can tell a revocation that
//! the store lacks from one that was lifted since.

use std::collections::{BTreeSet, HashMap};

use chrono::{DateTime, TimeDelta, Utc};
use claviger_provider::{ClaimSpan, ConnectionId, KeyId, ProviderKind, TenantId};

use super::StoreError;
use super::model::{
    Claim, Connection, ConnectionPatch, Holder, Key, KeyPatch, KeyState, KeyVersion, ProviderState, Quotas, Resource, SeenVersion, Tenant,
    Token, TokenKind, TokenSnapshot, WrapsReserved,
};

/// The most tokens above a token: the standing one, and the delegated ones between.
pub const MAX_DEPTH: u8 = 8;

/// The most wraps under one version whose nonces are random ones of 96 bits. Up to here two of them are the
/// same with a probability below 2^-32 (NIST SP 800-38D, section 8.3).
pub const MAX_WRAPS: u64 = 1 << 32;

/// How long an answer is kept for its idempotency key.
const ANSWER_LIFE: TimeDelta = TimeDelta::hours(24);

/// Answers made at this time or before, in Unix microseconds, count as absent.
pub fn answers_expired_at(now: DateTime<Utc>) -> i64 {
    (now - ANSWER_LIFE).timestamp_micros()
}

/// Checks the number of a tenant's objects of a kind, as it is after an addition. Without quotas nothing
/// is refused.
///
/// # Errors
/// `OverQuota`.
pub fn check_quota(quotas: Option<&Quotas>, resource: Resource, number: u64) -> Result<(), StoreError> {
    match quotas.map(|quotas| quotas.of(resource)) {
        Some(quota) if number > u64::from(quota) => Err(StoreError::OverQuota(resource, quota)),
        Some(_) | None => Ok(()),
    }
}

/// Reserves `count` more wraps of a version that has `reserved` so far, or as many as [`MAX_WRAPS`] leaves.
pub fn reserve_wraps(reserved: u64, count: u64) -> WrapsReserved {
    let granted = count.min(MAX_WRAPS.saturating_sub(reserved));
    WrapsReserved {
        granted,
        total: reserved + granted,
    }
}

/// Disables or enables a key. `false` when nothing changes: it is disabled already, or in a state
/// that only its own operation ends.
///
/// An enable counts even if the key is enabled here: a disable that the store could not take may
/// be in the journal. Epoch and revision do not change then.
pub fn set_disabled(key: &mut Key, disabled: bool, at: i64) -> bool {
    match (key.state, disabled) {
        (KeyState::Enabled | KeyState::DecryptOnly, true) => key.state = KeyState::Disabled,
        (KeyState::Disabled, false) => {
            key.state = KeyState::Enabled;
            key.needs_restore = false;
            key.lifts += 1;
        }
        (KeyState::Enabled | KeyState::DecryptOnly, false) => {
            key.lifts += 1;
            return true;
        }
        (_, _) => return false,
    }
    key.epoch += 1;
    key_changed(key, at);
    true
}

/// Changes what a PATCH names. Other cache rules end the entries made under the old ones.
///
/// # Errors
/// `Precondition` when the patch is for another revision.
pub fn patch_key(key: &mut Key, patch: &KeyPatch) -> Result<(), StoreError> {
    if key.revision != patch.expected_revision {
        return Err(StoreError::Precondition);
    }
    if let Some(name) = &patch.name {
        key.name.clone_from(name);
    }
    if let Some(labels) = &patch.labels {
        key.labels.clone_from(labels);
    }
    if let Some(cache) = patch.cache.filter(|cache| *cache != key.cache) {
        key.cache = cache;
        key.epoch += 1;
    }
    if let Some(allow_export) = patch.allow_export {
        // What was begun while export was allowed must not be handed over.
        key.epoch += u64::from(key.allow_export && !allow_export);
        key.allow_export = allow_export;
    }
    key_changed(key, patch.at);
    Ok(())
}

/// The versions among `given` that are new to a key that has `existing` ones.
///
/// # Errors
/// `AlreadyExists` when a number belongs to another version, or when a version that the provider
/// names has another number. `ProviderKeyTaken` when a version through another connection is the
/// same by the provider's ids: envelopes name these ids alone, and would reach the wrong custodian.
pub fn new_versions<'v>(existing: &[KeyVersion], given: &'v [KeyVersion]) -> Result<Vec<&'v KeyVersion>, StoreError> {
    let mut known = KnownVersions::default();
    for version in existing {
        known.add(version);
    }
    let mut new: Vec<&KeyVersion> = Vec::new();
    for version in given {
        let same = known.connections(version);
        if same.iter().any(|other| *other != version.connection_id()) {
            return Err(StoreError::ProviderKeyTaken);
        }
        match known.numbered(version.number) {
            Some(other) if other.is(version.provider, &version.provider_key, &version.provider_version) => {}
            Some(_) => return Err(StoreError::AlreadyExists),
            None if !version.provider_version.is_empty() && !same.is_empty() => return Err(StoreError::AlreadyExists),
            None => {
                known.add(version);
                new.push(version);
            }
        }
    }
    Ok(new)
}

/// Versions by number, and the connections of those with the same ids at the provider. With a
/// thousand versions, a search through all of them for each would keep the writer long.
#[derive(Default)]
struct KnownVersions<'v> {
    by_number: HashMap<u32, &'v KeyVersion>,
    by_provider: HashMap<(ProviderKind, &'v str, &'v str), Vec<Option<ConnectionId>>>,
}

impl<'v> KnownVersions<'v> {
    fn add(&mut self, version: &'v KeyVersion) {
        self.by_number.entry(version.number).or_insert(version);
        let name = (version.provider, &*version.provider_key, &*version.provider_version);
        let connections = self.by_provider.entry(name).or_default();
        // One that was replaced has given its ids up.
        if version.provider_state != ProviderState::Replaced && !connections.contains(&version.connection_id()) {
            connections.push(version.connection_id());
        }
    }

    fn numbered(&self, number: u32) -> Option<&'v KeyVersion> {
        self.by_number.get(&number).copied()
    }

    /// The connections of those that are the same as this one by the provider's ids.
    fn connections<'k>(&'k self, version: &'v KeyVersion) -> &'k [Option<ConnectionId>] {
        let name = (version.provider, &*version.provider_key, &*version.provider_version);
        self.by_provider.get(&name).map_or(&[], Vec::as_slice)
    }
}

/// Checks the versions that a key which has `existing` ones moves to.
///
/// # Errors
/// `ProviderKeyTaken` when one is the same by the provider's ids as a version that the key has,
/// through whatever connection, also where the provider names no versions: what was wrapped under
/// the old one would be opened as the new one.
pub fn check_moved(existing: &[KeyVersion], given: &[KeyVersion]) -> Result<(), StoreError> {
    let repeats = |version: &KeyVersion| {
        existing
            .iter()
            .any(|other| other.is(version.provider, &version.provider_key, &version.provider_version))
    };
    if given.iter().any(repeats) {
        Err(StoreError::ProviderKeyTaken)
    } else {
        Ok(())
    }
}

/// What an attached key with these versions claims: each provider key within the tenant, and those
/// through a connection of a wider span for the installation. `connections` are the versions'. The
/// claims within the tenant come first, so that a conflict there hides one with another tenant.
pub fn claims(tenant: TenantId, versions: &[KeyVersion], connections: &[Connection]) -> Vec<Claim> {
    let claim = |version: &KeyVersion, span, service: &str| Claim {
        provider: version.provider,
        provider_key: version.provider_key.clone(),
        span,
        service: service.to_owned(),
    };
    let within_tenant = versions.iter().map(|version| claim(version, tenant, ""));
    let within_installation = versions.iter().filter_map(|version| {
        let connection = connections
            .iter()
            .find(|connection| version.connection_id() == Some(connection.id))?;
        match &connection.claims {
            ClaimSpan::Tenant => None,
            ClaimSpan::Installation { service } => Some(claim(version, TenantId::INSTALLATION, service)),
        }
    });
    let mut claims: Vec<Claim> = Vec::new();
    for claim in within_tenant.chain(within_installation) {
        if !claims.contains(&claim) {
            claims.push(claim);
        }
    }
    claims
}

/// Makes another version the one that wraps, and ends a rotation that is under way. `false` when
/// nothing changes: `added` says whether the key got a version.
///
/// # Errors
/// `NotFound` when `versions` has no version of that number.
pub fn set_primary(key: &mut Key, versions: &[KeyVersion], primary: u32, added: bool, at: i64) -> Result<bool, StoreError> {
    if !added && key.primary.number == primary {
        return Ok(false);
    }
    let version = versions.iter().find(|version| version.number == primary);
    key.primary.clone_from(version.ok_or(StoreError::NotFound)?);
    key.rotating = None;
    key_changed(key, at);
    Ok(true)
}

/// Stores what a provider says of versions, by number. Returns those that changed.
pub fn set_provider_states(versions: &mut [KeyVersion], seen: &[SeenVersion]) -> Vec<KeyVersion> {
    let mut changed = Vec::new();
    for version in versions {
        let told = seen.iter().find(|seen| seen.number == version.number);
        if told.is_some_and(|told| told.apply(version)) {
            changed.push(version.clone());
        }
    }
    changed
}

/// Notes since when a rotation is under way at the provider, or that none is.
pub fn set_rotating(key: &mut Key, since: Option<i64>, at: i64) {
    key.rotating = since;
    key_changed(key, at);
}

/// Detaches a key: no answer of it is handed over, and no cache entry of it is found, any more.
/// `severed` says that one of its versions' connections is severed: then it comes back disabled.
pub fn detach(key: &mut Key, severed: bool, at: i64) {
    if severed {
        outlive_sever(key);
    }
    key.epoch += 1;
    key_changed(key, at);
}

/// Keeps a sever in force for a detached key, whose connection may be deleted or be another one when
/// it comes back. `false` when it is kept already.
pub fn sever_detached(key: &mut Key) -> bool {
    let before = (key.state, key.needs_restore);
    outlive_sever(key);
    let changed = before != (key.state, key.needs_restore);
    key.revision += u64::from(changed);
    changed
}

/// Without a connection a sever cannot stop a key: the key's own state does, until it is enabled by
/// one who may restore as well.
fn outlive_sever(key: &mut Key) {
    key.needs_restore = true;
    match key.state {
        KeyState::Enabled | KeyState::DecryptOnly => key.state = KeyState::Disabled,
        KeyState::Disabled
        | KeyState::Archived
        | KeyState::PendingDeletion
        | KeyState::Destroying
        | KeyState::Destroyed
        | KeyState::Unrecognized => {}
    }
}

/// Checks a new key and the versions that it begins with.
///
/// # Errors
/// `NotFound` when its primary version is not among them.
pub fn check_new_key(key: &Key, versions: &[KeyVersion]) -> Result<(), StoreError> {
    if versions.contains(&key.primary) {
        Ok(())
    } else {
        Err(StoreError::NotFound)
    }
}

/// Lets a new key take over the row of a detached one, which has the versions `old`. Epoch, lifts
/// and revision grow on from the old ones, so nothing that was kept under those can be found. What
/// restricted the old key restricts the new one: its state, a sever of any of its connections, and its
/// cache rules where the new key has none.
///
/// # Errors
/// `AlreadyExists` when the row's key is attached, or has no version at the new one's provider.
pub fn adopt(key: &mut Key, before: &Holder, old: &[KeyVersion]) -> Result<(), StoreError> {
    if !before.detached || old.iter().all(|version| version.provider != key.primary.provider) {
        return Err(StoreError::AlreadyExists);
    }
    key.epoch = key.epoch.max(before.epoch + 1);
    key.lifts = key.lifts.max(before.lifts);
    key.revision = key.revision.max(before.revision + 1);
    key.state = before.state;
    key.compromised_since = before.compromised_since;
    key.needs_restore = before.needs_restore;
    key.cache = key.cache.or(before.cache);
    if before.severed {
        outlive_sever(key);
    }
    Ok(())
}

/// The versions among `old`, those of a detached key, that follow the key to the connection that
/// it comes back through with the versions `given`, as they are then, exposed as `given` says: those of a provider key
/// that comes back. Nothing else was proven to the new connection's provider, so every other version keeps
/// its connection, or has none if that was deleted.
pub fn follow(key: &Key, old: &[KeyVersion], given: &[KeyVersion]) -> Vec<KeyVersion> {
    let comes_back = |version: &&KeyVersion| {
        version.provider == key.primary.provider && given.iter().any(|new| new.provider_key == version.provider_key)
    };
    let following = |version: &KeyVersion| KeyVersion {
        connection: key.primary.connection.clone(),
        exposure: given.iter().find(|new| new.number == version.number).unwrap_or(version).exposure,
        ..version.clone()
    };
    let followed = old.iter().filter(comes_back).map(|version| (version, following(version)));
    followed.filter(|(version, now)| *version != now).map(|(_, now)| now).collect()
}

/// Raises the revision after a change of a key's row or of its versions.
pub fn key_changed(key: &mut Key, at: i64) {
    key.revision += 1;
    key.updated = at;
}

/// Severs or restores a connection, as [`set_disabled`] does a key.
pub fn set_severed(connection: &mut Connection, severed: bool, at: i64) -> bool {
    connection.lifts += u64::from(!severed);
    if connection.severed == severed {
        return !severed;
    }
    connection.severed = severed;
    connection.epoch += 1;
    connection_changed(connection, at);
    true
}

/// Changes what a PATCH names. The epoch stays: answers made with the old secrets and settings stay good.
///
/// # Errors
/// `Precondition` when the patch is for another revision.
pub fn patch_connection(connection: &mut Connection, patch: &ConnectionPatch) -> Result<(), StoreError> {
    if connection.revision != patch.expected_revision {
        return Err(StoreError::Precondition);
    }
    if let Some(labels) = &patch.labels {
        connection.labels.clone_from(labels);
    }
    if let Some(timeouts) = patch.timeouts {
        connection.timeouts = timeouts;
    }
    if let Some(network) = &patch.network {
        connection.settings.clone_from(&network.settings);
    }
    connection.claims = patch.claims.clone().unwrap_or_else(|| connection.claims.clone());
    connection_changed(connection, patch.at);
    Ok(())
}

/// Checks that every version among a connection's `users` (key, version, whether it may wrap) that may wrap was proven
/// to be reached through its new network settings. `None` where no proof is needed.
///
/// # Errors
/// `Precondition`.
pub fn check_proven(proven: Option<&BTreeSet<(KeyId, u32)>>, users: &[(KeyId, u32, bool)]) -> Result<(), StoreError> {
    let is_proven =
        |(key, version, may_wrap): &(KeyId, u32, bool)| !may_wrap || proven.is_none_or(|proven| proven.contains(&(*key, *version)));
    if users.iter().all(is_proven) {
        Ok(())
    } else {
        Err(StoreError::Precondition)
    }
}

/// Releases a connection from the operator's configuration. `false` when it is released already.
pub fn release_connection(connection: &mut Connection, at: i64) -> bool {
    let declared = connection.managed_by.take().is_some();
    if declared {
        connection_changed(connection, at);
    }
    declared
}

/// Releases a key from the operator's configuration. `false` when it is released already.
pub fn release_key(key: &mut Key, at: i64) -> bool {
    let declared = key.managed_by.take().is_some();
    if declared {
        key_changed(key, at);
    }
    declared
}

fn connection_changed(connection: &mut Connection, at: i64) {
    connection.revision += 1;
    connection.updated = at;
}

/// Raises an object's number of lifts to the journal's, if that is greater: the store is an older copy
/// then, and must not use a number twice. `false` when nothing changes.
pub fn raise_lifts(lifts: &mut u64, journal: u64) -> bool {
    let grows = *lifts < journal;
    *lifts = journal.max(*lifts);
    grows
}

/// Revokes a token. A repeated revocation keeps the time of the first one; `false` then.
pub fn revoke(token: &mut Token, at: i64) -> bool {
    let first = token.revoked.is_none();
    token.revoked.get_or_insert(at);
    first
}

/// Suspends or resumes a tenant, and returns whether the row changed. A resume raises `lifts` also when the row is not
/// suspended: a suspend that never reached the row may be in the log, and must not be applied after it.
pub fn set_suspended(tenant: &mut Tenant, suspended: bool) -> bool {
    let is_repeated = suspended && tenant.suspended;
    tenant.suspended = suspended;
    tenant.lifts += u64::from(!suspended);
    !is_repeated
}

/// Checks a new token against its parent's row, which a delegated one needs.
///
/// # Errors
/// `NotFound` without the parent, when it is revoked, and when the token is not one that it may
/// have issued: one step below it, and ending no later.
pub fn check_new_token(token: &Token, parent: Option<&Token>) -> Result<(), StoreError> {
    let sound = match parent {
        None => is_root(token),
        Some(parent) => is_below(token, parent),
    };
    if sound { Ok(()) } else { Err(StoreError::NotFound) }
}

/// When a token ends, in Unix microseconds. `None` when it is not in force whatever the time: it or
/// a token above it is revoked, or the line up to a standing one is not complete.
pub fn token_ends(token: &Token, ancestors: &[Token]) -> Option<i64> {
    let mut last = token;
    for parent in ancestors {
        if !is_below(last, parent) {
            return None;
        }
        last = parent;
    }
    // No token ends after its parent, so the first one ends first.
    (token.revoked.is_none() && is_root(last)).then_some(token.expires)
}

/// Checks the credential that asks for a change, as it is in the change's transaction: the token that was
/// `found`, and the tenant that it acts for. `now` in Unix microseconds.
///
/// # Errors
/// `CredentialEnded` without the token, and when it is not in force; `TenantSuspended`.
pub fn check_credential(found: Option<&TokenSnapshot>, acting: Option<&Tenant>, now: i64) -> Result<(), StoreError> {
    let found = found.ok_or(StoreError::CredentialEnded)?;
    if token_ends(&found.token, &found.ancestors).is_none_or(|ends| ends <= now) {
        return Err(StoreError::CredentialEnded);
    }
    if found.tenant.suspended || acting.is_some_and(|tenant| tenant.suspended) {
        return Err(StoreError::TenantSuspended);
    }
    Ok(())
}

fn is_root(token: &Token) -> bool {
    matches!((token.kind, token.parent, token.depth), (TokenKind::Standing, None, 0))
}

/// Whether this parent, which is not revoked, may have issued the token.
fn is_below(token: &Token, parent: &Token) -> bool {
    matches!(token.kind, TokenKind::Delegated)
        && token.parent == Some(parent.id)
        && token.depth <= MAX_DEPTH
        && parent.depth.checked_add(1) == Some(token.depth)
        && token.expires <= parent.expires
        && parent.revoked.is_none()
}

#[cfg(test)]
mod tests;
