//! Conditions for calling a key's provider: an open connection, and the turn to change the key there.

use tokio::sync::MutexGuard;

use super::{Code, Failure, RequestContext};
use crate::keys::KeyEntry;

/// The failure for a key whose connection is severed.
pub fn severed() -> Failure {
    Failure::new(Code::ConnectionSevered, "The key's connection is severed.").advice("Restore the connection.")
}

/// Waits for the turn to change a key at its provider, at most until the request's deadline. The
/// key's own lock is not held meanwhile: a slow provider must not delay a disable.
pub(super) async fn turn_at_provider<'k>(cx: &RequestContext, key: &'k KeyEntry) -> Result<MutexGuard<'k, ()>, Failure> {
    tokio::time::timeout_at(cx.info().deadline.into(), key.at_provider().lock())
        .await
        .map_err(|_| Failure::deadline())
}

/// Refuses a key whose connection is severed.
pub(super) fn not_severed(key: &KeyEntry) -> Result<(), Failure> {
    if key.connection().view().severed {
        return Err(severed());
    }
    Ok(())
}
