//! Refuses a change whose credential is not in force, within its transaction.

use super::transaction::Transaction;
use super::{Asker, StoreError, clock, rules};

/// Looks a credential up as it is in this transaction. Only then at the refusals: one that the rows do not show now
/// is refused still, since nothing else is committed meanwhile.
pub(super) async fn check_credential(transaction: &mut dyn Transaction, asker: &Asker) -> Result<(), StoreError> {
    let Asker { credential, refusals } = asker;
    let token = match transaction.token_snapshot(&credential.public_id).await {
        Ok(token) => Some(token),
        // Deleted with its principal.
        Err(StoreError::NotFound) => None,
        Err(error) => return Err(error),
    };
    let acting = match credential.acting {
        Some(tenant) => Some(transaction.tenant(tenant).await?),
        None => None,
    };
    rules::check_credential(token.as_ref(), acting.as_ref(), clock::now())?;
    let line = token.iter().flat_map(|found| std::iter::once(&found.token).chain(&found.ancestors));
    let mut tenants = token.iter().map(|found| found.token.tenant).chain(credential.acting);
    if line.into_iter().any(|token| refusals.has_token(token.id, token.principal)) {
        return Err(StoreError::CredentialEnded);
    }
    if tenants.any(|tenant| refusals.has_tenant(tenant)) {
        return Err(StoreError::TenantSuspended);
    }
    Ok(())
}
