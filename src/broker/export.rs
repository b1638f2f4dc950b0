//! Export: data keys leave external custody only where the tenant's administrator allowed it.

use super::{Code, Failure};
use crate::store::model::{Custody, Key, KeyVersion};

/// Where a data key, or the next ones, will be wrapped.
#[derive(Debug, Clone, Copy)]
pub enum Destination {
    /// Under a version of the same key in this custody.
    SameKey(Custody),
    /// Under another key.
    AnotherKey,
}

/// Decides whether what the version `from` of a key wraps may be wrapped elsewhere.
///
/// # Errors
/// `permission_denied` if the version is in external custody, the data key would leave it or be
/// wrapped under another key, and the key does not allow export.
pub fn may_leave(key: &Key, from: &KeyVersion, to: Destination) -> Result<(), Failure> {
    let stays = match to {
        Destination::SameKey(custody) => custody.is_external(),
        Destination::AnotherKey => false,
    };
    if key.allow_export || stays || !from.custody.is_external() {
        return Ok(());
    }
    Err(Failure::new(
        Code::PermissionDenied,
        "The source key's custody is external and export is not allowed.",
    )
    .advice("The tenant's administrator can set allow_export on the source key, with a justification."))
}
