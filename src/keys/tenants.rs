//! A tenant's own secrets: the keys that seal its envelopes and hash its contexts.

use claviger_provider::{SealedName, Secret, TenantId};

use super::LoadError;
use crate::audit::{ContextHash, Digest, Text};
use crate::envelope::SealKey;
use crate::store::{Store, StoreError};

/// Name of the sealed row.
const ROW: &str = "tenant";
/// The prefix of the columns of seal keys; an ordinal follows. The key with the highest ordinal
/// seals. The store returns columns in byte order, so it is the last one.
const SEAL: &str = "seal/";
/// The column of the context-hash key.
const CONTEXT_HASH: &str = "context-hash";

/// A tenant's secrets, in memory while the tenant is in use.
pub struct TenantSecrets {
    seal_keys: Vec<SealKey>,
    context_hash: aws_lc_rs::hmac::Key,
    context_hash_id: Text,
}

impl TenantSecrets {
    /// Draws the secrets of a new tenant, with the names to seal them under.
    pub fn draw(tenant: TenantId) -> Vec<(SealedName, Secret)> {
        let name = |column: String| SealedName {
            tenant,
            row: ROW.to_owned(),
            column,
        };
        let seal = SealKey::generate();
        vec![
            (name(format!("{SEAL}0001")), seal.to_secret()),
            (name(CONTEXT_HASH.to_owned()), Secret::random(32)),
        ]
    }

    pub(super) async fn load(store: &dyn Store, tenant: TenantId) -> Result<Self, LoadError> {
        let mut seal_keys = Vec::new();
        let mut context_hash = None;
        for (column, value) in store.sealed_row(tenant, ROW).await? {
            if column.starts_with(SEAL) {
                seal_keys.push(SealKey::from_secret(&value).map_err(|_| StoreError::Damaged("a seal key"))?);
            } else if column == CONTEXT_HASH {
                context_hash = Some(value);
            }
        }
        let context_hash = context_hash.ok_or(StoreError::Damaged("a tenant's context-hash key is missing"))?;
        if seal_keys.is_empty() {
            return Err(StoreError::Damaged("a tenant's seal key is missing").into());
        }
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, context_hash.expose());
        Ok(Self {
            seal_keys,
            context_hash_id: Text::new(hex::encode(&digest.as_ref()[..8])),
            context_hash: aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, context_hash.expose()),
        })
    }

    /// Every seal key, oldest first.
    pub fn seal_keys(&self) -> &[SealKey] {
        &self.seal_keys
    }

    /// The key that seals new envelopes. `load` refuses a tenant without one.
    pub fn seal_key(&self) -> &SealKey {
        &self.seal_keys[self.seal_keys.len() - 1]
    }

    /// HMAC-SHA-256 of context bytes for the audit record, with the id of the HMAC key.
    pub fn hash_context(&self, bytes: &[u8]) -> ContextHash {
        let mut hash = [0; 32];
        hash.copy_from_slice(aws_lc_rs::hmac::sign(&self.context_hash, bytes).as_ref());
        ContextHash {
            hash: Digest(hash),
            key_id: self.context_hash_id.clone(),
        }
    }
}
