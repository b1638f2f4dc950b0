//! Revocations: disable, sever, revoke, suspend and the deletion of a principal, all committed and
//! applied the same way.
//!
//! A revocation has two steps. [`Broker::revoke`] commits it to the store, or to the kill file if
//! log or store cannot take it, unless the store has it already.
//! [`Broker::apply_revocation`] then applies it to this node's memory. It is used for every committed
//! revocation: of a use case, of the recovery at a start, and later of another node.

use claviger_provider::{Id, PrincipalId, TenantId};

use super::context::Effect;
use super::write_ahead::CUT_PATIENCE;
use super::{Broker, Failure, RequestContext};
use crate::audit::{EmergencyRevocation, Health, JournaledRevocation};
use crate::store::model::{Connection, Key, Tenant, Token};
use crate::store::{Change, Refused, StoreError};

/// A revocation, with the object's row after it.
#[derive(Debug, Clone)]
pub enum Revoked {
    /// A disabled key.
    Key(Key),
    /// A severed connection.
    Connection(Connection),
    /// A revoked token.
    Token {
        /// Its row.
        row: Token,
        /// The public ids of all tokens that ended: it and its descendants.
        ended: Vec<String>,
    },
    /// A suspended tenant.
    Tenant(Tenant),
    /// A deleted principal.
    Principal {
        /// Its tenant.
        tenant: TenantId,
        /// Its id.
        id: PrincipalId,
        /// When it was deleted, in Unix microseconds.
        at: i64,
        /// The public ids of all tokens that ended: its own and their descendants.
        ended: Vec<String>,
    },
}

impl Revoked {
    /// When the row was revoked, in Unix microseconds.
    const fn at(&self) -> i64 {
        match self {
            Self::Key(key) => key.updated,
            Self::Connection(connection) => connection.updated,
            Self::Token { row, .. } => match row.revoked {
                Some(at) => at,
                None => 0,
            },
            Self::Tenant(_) => 0,
            Self::Principal { at, .. } => *at,
        }
    }

    /// How log and kill file name the revocation.
    pub(super) const fn journaled(&self) -> JournaledRevocation {
        match self {
            Self::Key(key) => EmergencyRevocation::Disable(key.id).at_lifts(key.lifts),
            Self::Connection(connection) => EmergencyRevocation::Sever(connection.id).at_lifts(connection.lifts),
            // A revoked token is never valid again, and neither is a deleted principal.
            Self::Token { row, .. } => EmergencyRevocation::Revoke(row.id).at_lifts(0),
            Self::Principal { id, .. } => EmergencyRevocation::DeletePrincipal(*id).at_lifts(0),
            Self::Tenant(tenant) => EmergencyRevocation::Suspend(tenant.id).at_lifts(tenant.lifts),
        }
    }

    /// The id of what is revoked.
    fn id(&self) -> [u8; 16] {
        match self {
            Self::Key(key) => *key.id.bytes(),
            Self::Connection(connection) => *connection.id.bytes(),
            Self::Token { row, .. } => *row.id.bytes(),
            Self::Tenant(tenant) => *tenant.id.bytes(),
            Self::Principal { id, .. } => *id.bytes(),
        }
    }

    const fn tenant(&self) -> TenantId {
        match self {
            Self::Key(key) => key.tenant,
            Self::Connection(connection) => connection.tenant,
            Self::Token { row, .. } => row.tenant,
            Self::Tenant(tenant) => tenant.id,
            Self::Principal { tenant, .. } => *tenant,
        }
    }
}

impl Broker {
    /// Announces a revocation, commits it and applies it to this node's memory. `expected` is the
    /// row as the transaction will leave it; it is applied as it is when the store cannot commit.
    /// `is_new` says whether it differs from the row as it was read. Of what is revoked already, and
    /// stored so, nothing is written but the record of the request. The caller holds the `change`
    /// lock of a key or connection.
    ///
    /// # Errors
    /// `unauthenticated` for a credential that has ended; `not_found` when the store has no such
    /// object any more.
    pub(super) async fn revoke(&self, cx: &RequestContext, expected: Revoked, is_new: bool) -> Result<Revoked, Failure> {
        if !is_new && let Some(stored) = self.stored_revocation(&expected).await {
            self.in_force(cx)?;
            cx.set_effect(Effect::Repeated);
            self.apply_of(cx, &stored);
            return Ok(stored);
        }
        let revocation = expected.journaled();
        let change = &self.announce_revocation(cx, revocation).await?;
        let at = expected.at();
        let committed = self.commit_revocation(expected.tenant(), revocation.revocation, at, change).await;
        let (revoked, stored) = match self.revocation_committed(cx, revocation, at, change, committed).await? {
            Some(revoked) => (revoked, true),
            None => {
                // The store could not take the revocation, so keep it in memory until it can.
                match &expected {
                    Revoked::Token { row, .. } => self.authenticator().refuse(Refused::Token(row.id)),
                    Revoked::Principal { id, .. } => self.authenticator().refuse(Refused::Principal(*id)),
                    Revoked::Tenant(tenant) => self.authenticator().refuse(Refused::Tenant(tenant.id)),
                    Revoked::Key(row) => self.directory().keep_disabled(row),
                    Revoked::Connection(row) => self.directory().keep_severed(row),
                }
                (expected, false)
            }
        };
        self.apply_of(cx, &revoked);
        if stored {
            cx.note_stored();
            // An earlier request may have found that the store could not take it.
            self.stored(cx.tenant(), revocation.revocation);
        }
        Ok(revoked)
    }

    /// Applies the revocation of a request to this node's memory. The request is answered once no response arrives any
    /// more that depends on what it revoked.
    fn apply_of(&self, cx: &RequestContext, revoked: &Revoked) {
        cx.note_end(revoked);
        self.apply_revocation(revoked);
        cx.set_revoked(revoked.id());
    }

    /// A revocation as the store has it; `None` if it lacks it, or cannot be asked. The object must have been lifted as often
    /// as memory knows: otherwise the commit of a lift has failed, and it may be found after a crash all the same.
    async fn stored_revocation(&self, expected: &Revoked) -> Option<Revoked> {
        let (tenant, journaled) = (expected.tenant(), expected.journaled());
        // What is not in the files at their paths is lost with this process. Where the log may lack the record of the request
        // that revoked it, this request's must say what changed.
        let log_has_all = self.log.health() == Health::Sound && self.log.deferred() == 0;
        if !log_has_all || !self.store.has_its_files() || self.unstored.contains(tenant, journaled.revocation) {
            return None;
        }
        let stored = async {
            Ok::<_, StoreError>(match expected {
                Revoked::Key(key) => {
                    let row = self.store.key(tenant, key.id).await?;
                    (row.state.is_disabled() && row.lifts == journaled.lifts).then_some(Revoked::Key(row))
                }
                Revoked::Connection(connection) => {
                    let row = self.store.connection(tenant, connection.id).await?;
                    (row.severed && row.lifts == journaled.lifts).then_some(Revoked::Connection(row))
                }
                Revoked::Tenant(_) => {
                    let row = self.store.tenant(tenant).await?;
                    (row.suspended && row.lifts == journaled.lifts).then_some(Revoked::Tenant(row))
                }
                Revoked::Token { row, .. } => {
                    let row = self.store.token(tenant, row.id).await?;
                    match row.revoked {
                        // The request that revoked them may not have applied it yet.
                        Some(_) => Some(Revoked::Token {
                            ended: self.store.token_family(tenant, row.id).await?,
                            row,
                        }),
                        None => None,
                    }
                }
                // A deleted one is not found.
                Revoked::Principal { .. } => None,
            })
        };
        match tokio::time::timeout(CUT_PATIENCE, stored).await {
            Ok(Ok(stored)) => stored,
            Ok(Err(_)) | Err(_) => None,
        }
    }

    /// Commits a revocation to the store.
    ///
    /// # Errors
    /// `NotFound` when there is no such object.
    pub(super) async fn commit_revocation(
        &self,
        tenant: TenantId,
        revocation: EmergencyRevocation,
        at: i64,
        change: &Change,
    ) -> Result<Revoked, StoreError> {
        Ok(match revocation {
            EmergencyRevocation::Disable(key) => Revoked::Key(self.store.set_key_disabled(tenant, key, true, at, change).await?),
            EmergencyRevocation::Sever(connection) => {
                Revoked::Connection(self.store.set_connection_severed(tenant, connection, true, at, change).await?)
            }
            EmergencyRevocation::Revoke(token) => {
                let (row, mut ended) = self.store.revoke_token(tenant, token, at, change).await?;
                ended.push(row.public_id.clone());
                Revoked::Token { row, ended }
            }
            EmergencyRevocation::Suspend(suspended) => Revoked::Tenant(self.store.set_tenant_suspended(suspended, true, change).await?),
            EmergencyRevocation::DeletePrincipal(id) => {
                let ended = match self.store.delete_principal(tenant, id, at, change).await {
                    // The principal was deleted before, which is the wanted state.
                    Err(StoreError::NotFound) => {
                        self.store.mark_applied(tenant, change).await?;
                        Vec::new()
                    }
                    ended => ended?,
                };
                Revoked::Principal { tenant, id, at, ended }
            }
        })
    }

    /// Applies a committed revocation to this node's memory. Once this returns, no answer made
    /// before it is handed over, no cache entry made before it is found, and no load that read
    /// before the commit puts its result into memory.
    ///
    /// A row that is older than the one in memory changes nothing. So a feed of revocations from
    /// other nodes may be late and may repeat itself.
    pub fn apply_revocation(&self, revoked: &Revoked) {
        match revoked {
            Revoked::Key(key) => {
                self.directory().key_revoked(key);
                self.cache().drop_key(key.tenant, key.id);
            }
            Revoked::Connection(connection) => {
                self.directory().connection_revoked(connection);
                self.cache().drop_connection(connection.tenant, connection.id);
            }
            Revoked::Token { ended, .. } | Revoked::Principal { ended, .. } => {
                self.authenticator().forget_tokens(ended.iter().map(String::as_str))
            }
            // Each token in memory has a copy of its tenant's suspension.
            Revoked::Tenant(tenant) => {
                self.directory().factories().note_suspended(tenant.id, true);
                self.authenticator().suspend(tenant.id);
            }
        }
    }
}

#[cfg(test)]
mod tests;
