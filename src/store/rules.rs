//! What a change does to the rows: states, epochs, revisions and limits, as pure functions. Every
//! store applies these, and so does the broker where the store cannot answer.
//!
//! Two numbers matter. The **revision** grows with every change of a row and is its etag. The
//! **epoch** grows with every change after which older answers must not be handed over and older
//! cache entries must not be found. Both only grow, also when a key is adopted again.

use chrono::{DateTime, TimeDelta, Utc};
use claviger_provider::ProviderKind;

use super::StoreError;
use super::model::{Connection, ConnectionPatch, Key, KeyPatch, KeyVersion, Tenant, Token, TokenKind};

/// The most tokens above a token: the standing one, and the delegated ones between.
pub const MAX_DEPTH: u8 = 8;

/// How long an answer is kept for its idempotency key.
const ANSWER_LIFE: TimeDelta = TimeDelta::hours(24);

/// Answers made at this time or before, in Unix microseconds, count as absent.
pub fn answers_expired_at(now: DateTime<Utc>) -> i64 {
    (now - ANSWER_LIFE).timestamp_micros()
}

/// Disables or enables a key. `false` when it is in that state already; nothing changes then.
pub fn set_disabled(key: &mut Key, disabled: bool, at: i64) -> bool {
    if key.disabled == disabled {
        return false;
    }
    key.disabled = disabled;
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
    key.allow_export = patch.allow_export.unwrap_or(key.allow_export);
    key_changed(key, patch.at);
    Ok(())
}

/// The versions among `given` that are new to a key that has `existing` ones.
///
/// # Errors
/// `AlreadyExists` when a number belongs to another version, or when a version that the provider
/// names has another number.
pub fn new_versions<'v>(existing: &[KeyVersion], given: &'v [KeyVersion]) -> Result<Vec<&'v KeyVersion>, StoreError> {
    let mut new: Vec<&KeyVersion> = Vec::new();
    for version in given {
        let names_the_same =
            |other: &KeyVersion| other.provider_key == version.provider_key && other.provider_version == version.provider_version;
        let known = || existing.iter().chain(new.iter().copied());
        match known().find(|other| other.number == version.number) {
            Some(same) if names_the_same(same) => {}
            Some(_) => return Err(StoreError::AlreadyExists),
            None if !version.provider_version.is_empty() && known().any(names_the_same) => return Err(StoreError::AlreadyExists),
            None => new.push(version),
        }
    }
    Ok(new)
}

/// Makes another version the one that wraps, and ends a rotation that is under way. `false` when
/// nothing changes: `added` says whether the key got a version.
///
/// # Errors
/// `NotFound` when `versions` has no version of that number.
pub fn set_primary(key: &mut Key, versions: &[KeyVersion], primary: u32, added: bool, at: i64) -> Result<bool, StoreError> {
    if !added && key.primary_version == primary {
        return Ok(false);
    }
    let version = versions.iter().find(|version| version.number == primary);
    key.provider_key.clone_from(&version.ok_or(StoreError::NotFound)?.provider_key);
    key.primary_version = primary;
    key.rotating = None;
    key_changed(key, at);
    Ok(true)
}

/// Notes since when a rotation is under way at the provider, or that none is.
pub fn set_rotating(key: &mut Key, since: Option<i64>, at: i64) {
    key.rotating = since;
    key_changed(key, at);
}

/// Detaches a key: no answer of it is handed over, and no cache entry of it is found, any more.
pub fn detach(key: &mut Key, at: i64) {
    key.epoch += 1;
    key_changed(key, at);
}

/// What a store knows of the row that has a new key's id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Holder {
    /// Whether the key of this row was detached.
    pub detached: bool,
    /// The provider of its provider keys.
    pub provider: ProviderKind,
    /// Its epoch.
    pub epoch: u64,
    /// Its revision.
    pub revision: u64,
}

/// Checks a new key and the versions that it begins with.
///
/// # Errors
/// `NotFound` when no version is the primary one on the key's provider key.
pub fn check_new_key(key: &Key, versions: &[KeyVersion]) -> Result<(), StoreError> {
    match versions.iter().find(|version| version.number == key.primary_version) {
        Some(primary) if primary.provider_key == key.provider_key => Ok(()),
        Some(_) | None => Err(StoreError::NotFound),
    }
}

/// Lets a new key take over the row of a detached one. Epoch and revision grow on from the old
/// ones, so nothing that was kept under those can be found.
///
/// # Errors
/// `AlreadyExists` when the row's key is attached, or is a key of another provider.
pub fn adopt(key: &mut Key, before: &Holder) -> Result<(), StoreError> {
    if !before.detached || before.provider != key.provider {
        return Err(StoreError::AlreadyExists);
    }
    key.epoch = key.epoch.max(before.epoch + 1);
    key.revision = key.revision.max(before.revision + 1);
    Ok(())
}

fn key_changed(key: &mut Key, at: i64) {
    key.revision += 1;
    key.updated = at;
}

/// Severs or restores a connection. `false` when it is in that state already; nothing changes
/// then.
pub fn set_severed(connection: &mut Connection, severed: bool, at: i64) -> bool {
    if connection.severed == severed {
        return false;
    }
    connection.severed = severed;
    connection.epoch += 1;
    connection_changed(connection, at);
    true
}

/// Changes what a PATCH names. The epoch stays: answers made with the old secrets stay good.
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
    connection_changed(connection, patch.at);
    Ok(())
}

fn connection_changed(connection: &mut Connection, at: i64) {
    connection.revision += 1;
    connection.updated = at;
}

/// Revokes a token. A repeated revocation keeps the time of the first one; `false` then.
pub fn revoke(token: &mut Token, at: i64) -> bool {
    let first = token.revoked.is_none();
    token.revoked.get_or_insert(at);
    first
}

/// Suspends or resumes a tenant. A resume raises `lifts` also when the row is not suspended: a
/// suspend that never reached the row may be in the log, and must not be applied after it.
pub fn set_suspended(tenant: &mut Tenant, suspended: bool) {
    tenant.suspended = suspended;
    tenant.lifts += u64::from(!suspended);
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
