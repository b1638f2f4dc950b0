//! Rows as callers read them while the store lacks a revocation of theirs: revoked. A revocation was answered as in
//! force, so whoever looks afterwards must find it, whatever the store could take.

use super::unstored::Lacking;
use super::{Broker, Failure};
use crate::audit::EmergencyRevocation;
use crate::store::model::{Connection, Key, Principal, Tenant, Token};
use crate::store::{StoreError, rules};

/// The revocations that the store lacks. To be taken before rows are read: what is not in it then, the store has.
pub(super) struct AsRevoked<'a>(Lacking<'a>);

impl Broker {
    /// Those that the store lacks now.
    pub(super) fn as_revoked(&self) -> AsRevoked<'_> {
        AsRevoked(self.unstored.lacking())
    }

    /// A token as it is for callers: it ends with those above it, and with their principals.
    ///
    /// # Errors
    /// When the store fails.
    pub(super) async fn token_as_revoked(&self, mut row: Token, as_revoked: &AsRevoked<'_>) -> Result<Token, Failure> {
        if row.revoked.is_some() || as_revoked.is_empty() {
            return Ok(row);
        }
        let above = match self.store.token_by_public_id(&row.public_id).await {
            Ok(snapshot) => snapshot.ancestors,
            Err(StoreError::NotFound) => Vec::new(),
            Err(error) => return Err(error.into()),
        };
        let all = std::iter::once(&row).chain(&above);
        row.revoked = all.filter_map(|token| as_revoked.ended(token)).min();
        Ok(row)
    }
}

impl AsRevoked<'_> {
    /// Whether the store has all of them, as it nearly always does.
    pub(super) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn key(&self, mut row: Key) -> Key {
        if let Some(disable) = self.0.get(row.tenant, EmergencyRevocation::Disable(row.id))
            && row.lifts <= disable.journaled.lifts
        {
            rules::set_disabled(&mut row, true, disable.at);
        }
        row
    }

    pub(super) fn connection(&self, mut row: Connection) -> Connection {
        if let Some(sever) = self.0.get(row.tenant, EmergencyRevocation::Sever(row.id))
            && row.lifts <= sever.journaled.lifts
        {
            rules::set_severed(&mut row, true, sever.at);
        }
        row
    }

    pub(super) fn tenant(&self, mut row: Tenant) -> Tenant {
        if let Some(suspend) = self.0.get(row.id, EmergencyRevocation::Suspend(row.id))
            && row.lifts <= suspend.journaled.lifts
        {
            rules::set_suspended(&mut row, true);
        }
        row
    }

    /// Whether a principal was deleted that the store has.
    pub(super) fn is_deleted(&self, principal: &Principal) -> bool {
        let deletion = EmergencyRevocation::DeletePrincipal(principal.id);
        self.0.get(principal.tenant, deletion).is_some()
    }

    /// When a token was revoked, or its principal deleted, if the store lacks that.
    fn ended(&self, token: &Token) -> Option<i64> {
        let ends = [
            EmergencyRevocation::Revoke(token.id),
            EmergencyRevocation::DeletePrincipal(token.principal),
        ];
        let ends = ends.into_iter().filter_map(|end| self.0.get(token.tenant, end));
        ends.map(|end| end.at).min()
    }
}
