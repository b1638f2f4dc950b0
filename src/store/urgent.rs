//! Which reads belong to a revocation: they have a database connection of their own, so that no
//! load of other requests delays them.

use super::transaction::Priority;

tokio::task_local! {
    /// Set while the reads of a revocation are made.
    static REVOCATION: ();
}

/// Makes the reads of this future those of a revocation. A task that it starts is not included.
///
/// The loads of a revocation are the same code as those of other requests, several layers below, so
/// the mark goes with the task and not with each call.
pub async fn for_revocation<F: Future>(reads: F) -> F::Output {
    REVOCATION.scope((), reads).await
}

/// Whether reads that are made now are those of a revocation.
pub fn is_for_revocation() -> bool {
    REVOCATION.try_with(|()| ()).is_ok()
}

/// The priority of a read that is made now.
pub(super) fn priority() -> Priority {
    if is_for_revocation() {
        Priority::Revocation
    } else {
        Priority::Ordinary
    }
}
