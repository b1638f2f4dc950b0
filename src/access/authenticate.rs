//! Credential -> [`Caller`].

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use claviger_provider::TenantId;
use dashmap::DashSet;
use moka::sync::Cache;
use parking_lot::RwLock;

use super::caller::{Caller, Credential};
use super::{ApiToken, Grants};
use crate::store::model::Token;
use crate::store::{Store, StoreError};

/// Why a request has no caller. Each is answered alike but for [`Unauthenticated::Store`],
/// which is our fault.
#[derive(Debug, thiserror::Error)]
pub enum Unauthenticated {
    /// No credential, or one of a form we do not know.
    #[error("no usable credential")]
    Missing,
    /// Unknown, wrong, expired or revoked.
    #[error("the credential is not valid")]
    Invalid,
    /// A tenant's credential named a tenant, or the tenant that an operator named does not
    /// exist, or the tenant is suspended.
    #[error("the tenant is not the credential's to act for")]
    Tenant,
    /// The store could not be asked.
    #[error("the store could not be asked")]
    Store(#[source] StoreError),
}

/// A token as it is kept in memory.
struct Known {
    token: Token,
    grants: Arc<Grants>,
    tenant_suspended: bool,
    /// The era in which it was read; in a later one it is as good as forgotten.
    era: u64,
}

/// Turns credentials into callers. Known tokens are kept in memory; a revocation or a
/// suspension must be told through [`Authenticator::forget_token`] or
/// [`Authenticator::forget_all`] before it is answered.
pub struct Authenticator {
    store: Arc<dyn Store>,
    known: Cache<String, Arc<Known>>,
    /// Grows whenever something is forgotten, so that a load that began before keeps
    /// nothing. Held shared while a load is kept and alone while something is forgotten:
    /// what was kept first is forgotten, and what comes second is not kept.
    forgotten: RwLock<u64>,
    /// Grows whenever everything is forgotten. (moka's own way compares clock readings.)
    era: AtomicU64,
    /// Revoked while the store could not take it.
    refused: DashSet<String>,
}

impl Authenticator {
    /// Authenticates against this store, with this many tokens in memory at most.
    pub fn new(store: Arc<dyn Store>, tokens: usize) -> Self {
        Self {
            store,
            known: Cache::new(tokens as u64),
            forgotten: RwLock::new(0),
            era: AtomicU64::new(0),
            refused: DashSet::new(),
        }
    }

    /// Authenticates a bearer credential. `tenant` is the name that the request's
    /// `Claviger-Tenant` header gave; `now` in Unix microseconds.
    ///
    /// # Errors
    /// See [`Unauthenticated`].
    pub async fn bearer(&self, text: &str, tenant: Option<&str>, source: Option<IpAddr>, now: i64) -> Result<Caller, Unauthenticated> {
        let presented = ApiToken::parse(text).map_err(|_| Unauthenticated::Invalid)?;
        if self.refused.contains(presented.public_id()) {
            return Err(Unauthenticated::Invalid);
        }
        let known = self.known(presented.public_id()).await?;
        if !presented.matches(&known.token.secret_sha256) || known.token.revoked.is_some() || known.token.expires <= now {
            return Err(Unauthenticated::Invalid);
        }
        if known.tenant_suspended {
            return Err(Unauthenticated::Tenant);
        }
        let home = known.token.tenant;
        let acting = match tenant {
            None => home,
            Some(_) if home != TenantId::INSTALLATION => return Err(Unauthenticated::Tenant),
            Some(name) => self.named_tenant(name).await?,
        };
        Ok(Caller {
            principal: known.token.principal,
            home,
            acting,
            credential: Credential::Token(known.token.id),
            grants: Arc::clone(&known.grants),
            source,
        })
    }

    /// Refuses a token from now on, whatever the store says: for a revocation that the
    /// store could not take. It holds until this process ends; the kill file goes on.
    pub fn refuse(&self, public_id: &str) {
        self.refused.insert(public_id.to_owned());
    }

    /// Forgets one token, after its revocation was committed. Once this returned, nobody
    /// is let in by what the store said before.
    pub fn forget_token(&self, public_id: &str) {
        let mut forgotten = self.forgotten.write();
        *forgotten += 1;
        self.known.invalidate(public_id);
    }

    /// Forgets everything, after a principal was deleted or a tenant suspended; as
    /// [`Authenticator::forget_token`].
    pub fn forget_all(&self) {
        let mut forgotten = self.forgotten.write();
        *forgotten += 1;
        self.era.fetch_add(1, Ordering::SeqCst);
        self.known.invalidate_all();
    }

    async fn known(&self, public_id: &str) -> Result<Arc<Known>, Unauthenticated> {
        loop {
            if let Some(known) = self.known.get(public_id)
                && known.era == self.era.load(Ordering::SeqCst)
            {
                return Ok(known);
            }
            let before = *self.forgotten.read();
            let loaded = Arc::new(self.load(public_id).await?);
            let now = self.forgotten.read();
            // Otherwise what was read may be from before a revocation that is committed by now.
            if *now == before {
                self.known.insert(public_id.to_owned(), Arc::clone(&loaded));
                return Ok(loaded);
            }
        }
    }

    async fn load(&self, public_id: &str) -> Result<Known, Unauthenticated> {
        let era = self.era.load(Ordering::SeqCst);
        let (token, _principal, tenant) = match self.store.token_by_public_id(public_id).await {
            Ok(found) => found,
            Err(StoreError::NotFound) => return Err(Unauthenticated::Invalid),
            Err(error) => return Err(Unauthenticated::Store(error)),
        };
        let grants = Grants::from_kept(&token.grants).ok_or(Unauthenticated::Store(StoreError::Damaged("a token's grants")))?;
        Ok(Known {
            token,
            grants: Arc::new(grants),
            tenant_suspended: tenant.suspended,
            era,
        })
    }

    async fn named_tenant(&self, name: &str) -> Result<TenantId, Unauthenticated> {
        match self.store.tenant_by_name(name).await {
            Ok(tenant) if !tenant.suspended => Ok(tenant.id),
            Ok(_) | Err(StoreError::NotFound) => Err(Unauthenticated::Tenant),
            Err(error) => Err(Unauthenticated::Store(error)),
        }
    }
}

#[cfg(test)]
mod tests;
