//! The key of a cache entry.

use aws_lc_rs::digest;
use claviger_provider::{BoundContext, Id};

use crate::envelope::Envelope;
use crate::keys::EpochGuard;

/// Identifies an entry: SHA-256 over the length-prefixed tenant, key, connection, epochs,
/// wrapped key and context. So another context or tenant never hits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct CacheKey(pub(super) [u8; 32]);

impl CacheKey {
    /// For this wrapped key and context. Tenant, key and epochs are those that the caller was
    /// authorized for, not those that the wrapped key names.
    pub fn new(epoch_guard: &EpochGuard, envelope: &Envelope, context: &BoundContext) -> Self {
        let mut hash = digest::Context::new(&digest::SHA256);
        let epochs = [epoch_guard.key_epoch().to_be_bytes(), epoch_guard.connection_epoch().to_be_bytes()];
        let (tenant, key) = (epoch_guard.tenant(), epoch_guard.key());
        let connection = epoch_guard.connection();
        let parts: [&[u8]; 6] = [
            tenant.bytes(),
            key.bytes(),
            connection.bytes(),
            epochs.as_flattened(),
            envelope.as_text().as_bytes(),
            context.bytes(),
        ];
        for part in parts {
            hash.update(&(part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        let mut key = [0; 32];
        key.copy_from_slice(hash.finish().as_ref());
        Self(key)
    }
}
