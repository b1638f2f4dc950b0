//! Credential -> [`Caller`].

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use claviger_provider::TenantId;
use dashmap::DashMap;
use moka::sync::Cache;
use parking_lot::RwLock;
use tokio::sync::OnceCell;

use super::caller::{Ancestry, Caller, Credential};
use super::gate::{CallerGates, Gate, Gates, TokenGate};
use super::token::{PublicId, public_id};
use super::{ApiToken, Grants};
use crate::loading_cache::{Full, LoadingCache, WhenFull};
use crate::store::model::{Token, TokenSnapshot};
use crate::store::{Refusals, Refused, Store, StoreError, is_for_revocation, rules};

/// The most tenant names in memory.
const TENANTS: u64 = 100_000;

/// Why a request has no caller.
#[derive(Debug, thiserror::Error)]
pub enum Unauthenticated {
    /// No credential, or one of an unknown form.
    #[error("no usable credential")]
    Missing,
    /// Unknown, wrong, expired or revoked.
    #[error("the credential is not valid")]
    Invalid,
    /// A tenant's credential named a tenant, be it its own: whether that tenant exists is not looked up.
    #[error("a tenant's credential named a tenant")]
    TenantNamed,
    /// The tenant that an operator named does not exist. An operator acts for every tenant, so this is no secret.
    #[error("there is no such tenant")]
    UnknownTenant,
    /// The credential is valid, and its tenant is suspended.
    #[error("the tenant is suspended")]
    Suspended,
    /// The store failed.
    #[error("the store could not be asked")]
    Store(#[source] StoreError),
}

/// What the store says of a token.
struct Known {
    token: Token,
    grants: Arc<Grants>,
    tenant_suspended: bool,
    /// When it ends, as its ancestors were when it was loaded; `None` when it is not in force.
    ends: Option<i64>,
    gate: Arc<TokenGate>,
}

/// A tenant that an operator names.
#[derive(Clone)]
struct NamedTenant {
    id: TenantId,
    suspended: bool,
    gate: Arc<Gate>,
}

/// A value in memory.
#[derive(Clone)]
struct Remembered<V> {
    value: V,
    /// The era in which it was read; in a later one it counts as forgotten.
    era: u64,
}

/// The state of the memory when a load began.
#[derive(Clone, Copy)]
struct LoadBegan {
    forgotten: u64,
    era: u64,
}

/// What a load found, for all who waited for it.
#[derive(Clone)]
enum Loaded {
    Known(Arc<Known>),
    /// There is no such token.
    Absent,
    /// It may have read before a revocation that is committed by now: it must be done again.
    Outdated,
    /// The store failed. The one that loaded says how.
    Failed,
}

/// Whose load it is: a token's, by its public id, and whether for a revocation, which waits for no load of
/// another request: that one may have to wait for its turn at the store.
type LoadName = (bool, Box<str>);
type Loads = DashMap<LoadName, Arc<OnceCell<Loaded>>>;

/// One that waits for the load of a token. The last one removes the load.
struct Waits<'a> {
    loads: &'a Loads,
    name: LoadName,
    load: Arc<OnceCell<Loaded>>,
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        // The map's and this one's. A load that was forgotten is not in the map, or another is.
        self.loads.remove_if(&self.name, |_, load| {
            Arc::ptr_eq(load, &self.load) && (load.initialized() || Arc::strong_count(load) <= 2)
        });
    }
}

/// Turns credentials into callers. Known tokens and the names of tenants are kept in memory. A
/// revocation or suspension must be reported through [`Authenticator::forget_tokens`] or
/// [`Authenticator::suspend`] before it is answered: it closes the gates of the callers that were let in,
/// so that no answer reaches them either.
pub struct Authenticator {
    store: Arc<dyn Store>,
    /// By their public ids. Each tenant keeps an equal part, so that one with many tokens pushes out its own.
    tokens: LoadingCache<PublicId, Remembered<Arc<Known>>>,
    /// The loads of tokens under way: requests that come with one token at once, as after a suspend, wait
    /// for one read. Loads that began before a report are removed by it.
    loads: Loads,
    /// Tenants by name. What was refused is not kept, so a new tenant needs no report.
    tenants: Cache<String, Remembered<NamedTenant>>,
    /// The gates of all tokens in memory and of all requests under way, by the tokens' public ids.
    token_gates: Gates<Box<str>, TokenGate>,
    /// The same of their tenants, and of those that operators act for.
    tenant_gates: Gates<TenantId, Gate>,
    /// Grows with each report, so that a load that began before keeps nothing. Held shared while a
    /// load is kept and exclusively during a report: a value kept before the report is forgotten,
    /// one that comes after it is not kept.
    forgotten: RwLock<u64>,
    /// Grows when everything is forgotten. (moka's own invalidation compares clock readings.)
    era: AtomicU64,
    /// What was revoked while the store could not record it.
    refusals: Arc<Refusals>,
}

impl Authenticator {
    /// Authenticates against this store, with this many tokens in memory at most.
    pub fn new(store: Arc<dyn Store>, tokens: usize) -> Self {
        Self {
            store,
            // Whoever holds a token's gate finds it again by the table of gates: every token may leave.
            tokens: LoadingCache::new("tokens", tokens, |_| true).shared(|_, known| known.value.token.tenant, |_| 1),
            loads: DashMap::new(),
            tenants: Cache::new(TENANTS),
            token_gates: Gates::new(),
            tenant_gates: Gates::new(),
            forgotten: RwLock::new(0),
            era: AtomicU64::new(0),
            refusals: Arc::default(),
        }
    }

    /// Authenticates a bearer credential. `tenant` is the name that the request's
    /// `Claviger-Tenant` header gave; `now` in Unix microseconds.
    ///
    /// # Errors
    /// See [`Unauthenticated`].
    pub async fn bearer(&self, text: &str, tenant: Option<&str>, source: Option<IpAddr>, now: i64) -> Result<Caller, Unauthenticated> {
        let presented = ApiToken::parse(text).map_err(|_| Unauthenticated::Invalid)?;
        let known = self.valid(&presented, now).await?;
        let home = known.token.tenant;
        match tenant {
            None => Ok(known.caller(source)),
            Some(_) if home != TenantId::INSTALLATION => Err(Unauthenticated::TenantNamed),
            Some(name) => {
                let mut named = self.named_tenant(name).await?;
                named.suspended |= self.refuses_tenant(named.id);
                Ok(known.caller(source).acting_for(named))
            }
        }
    }

    /// The presented token, if it is in force and its secret is right.
    async fn valid(&self, presented: &ApiToken, now: i64) -> Result<Arc<Known>, Unauthenticated> {
        let known = self.known(presented).await?;
        let in_force = known.ends.is_some_and(|ends| now < ends) && !self.is_refused(&known);
        if !presented.matches(&known.token.secret_sha256) || !in_force {
            return Err(Unauthenticated::Invalid);
        }
        if known.tenant_suspended || self.refuses_tenant(known.token.tenant) {
            return Err(Unauthenticated::Suspended);
        }
        Ok(known)
    }

    /// Refuses tokens until this process ends, whatever the store says: for a revocation that the
    /// store could not record. The kill file keeps it for the next start.
    pub fn refuse(&self, refused: Refused) {
        self.refusals.add(refused);
        // A caller that is let in from here on is compared with the set after its gate is found here.
        match refused {
            Refused::Token(id) => self.token_gates.close_all(|gate| gate.descends(|token, _| token == id)),
            Refused::Principal(id) => self.token_gates.close_all(|gate| gate.descends(|_, principal| principal == id)),
            Refused::Tenant(id) => self.tenant_gates.close(&id),
        }
    }

    /// Whether the token, or one above it, is refused.
    fn is_refused(&self, known: &Known) -> bool {
        self.refusals.is_used() && known.gate.descends(|token, principal| self.refusals.has_token(token, principal))
    }

    /// Whether this process refuses a tenant whose suspend the store could not record.
    pub fn refuses_tenant(&self, tenant: TenantId) -> bool {
        self.refusals.has_tenant(tenant)
    }

    /// What is refused, for the transactions of changes.
    pub const fn refusals(&self) -> &Arc<Refusals> {
        &self.refusals
    }

    /// Ends a refusal, and forgets every token and tenant: for a resume that the store has recorded.
    pub fn readmit(&self, refused: Refused) {
        self.refusals.remove(refused);
        self.forget_all();
    }

    /// Forgets tokens by their public ids, after their revocation was committed. Once this has
    /// returned, no request is authenticated by what the store said before, and no answer is handed over
    /// to a caller who was. A revocation ends the token's descendants, too: name them all.
    pub fn forget_tokens<'a>(&self, public_ids: impl IntoIterator<Item = &'a str>) {
        let mut forgotten = self.forgotten.write();
        *forgotten += 1;
        self.loads.clear();
        for text in public_ids {
            if let Some(id) = public_id(text) {
                self.tokens.remove_if(&id, |_| true);
            }
            self.token_gates.close(text);
        }
    }

    /// Forgets every token and tenant, after this tenant's suspension was committed; as
    /// [`Authenticator::forget_tokens`] for those of the tenant.
    pub fn suspend(&self, tenant: TenantId) {
        self.forget_all();
        // A caller that is let in from here on knows of the suspension.
        self.tenant_gates.close(&tenant);
    }

    /// Forgets every token and tenant.
    fn forget_all(&self) {
        let mut forgotten = self.forgotten.write();
        *forgotten += 1;
        self.loads.clear();
        // Tokens of an earlier era stay in place, as forgotten, until they are read again or leave.
        self.era.fetch_add(1, Ordering::SeqCst);
        self.tenants.invalidate_all();
    }

    async fn known(&self, presented: &ApiToken) -> Result<Arc<Known>, Unauthenticated> {
        match self.recall(self.tokens.get(presented.id())) {
            Some(known) => Ok(known),
            None => Box::pin(self.load(presented.public_id())).await,
        }
    }

    /// Reads a token, once for all who ask for it at the same time.
    async fn load(&self, public_id: &str) -> Result<Arc<Known>, Unauthenticated> {
        loop {
            let name: LoadName = (is_for_revocation(), public_id.into());
            let load = Arc::clone(&self.loads.entry(name.clone()).or_default());
            let waits = Waits {
                loads: &self.loads,
                name,
                load,
            };
            let mut failure = None;
            let read = async {
                self.read(public_id).await.unwrap_or_else(|error| {
                    failure = Some(error);
                    Loaded::Failed
                })
            };
            match waits.load.get_or_init(|| read).await.clone() {
                Loaded::Known(known) => return Ok(known),
                Loaded::Absent => return Err(Unauthenticated::Invalid),
                Loaded::Outdated => {}
                Loaded::Failed => return Err(Unauthenticated::Store(failure.unwrap_or(StoreError::Busy))),
            }
        }
    }

    async fn named_tenant(&self, name: &str) -> Result<NamedTenant, Unauthenticated> {
        loop {
            if let Some(tenant) = self.recall(self.tenants.get(name)) {
                return Ok(tenant);
            }
            let began = self.load_begins();
            let tenant = match self.store.tenant_by_name(name).await {
                Ok(tenant) => tenant,
                Err(StoreError::NotFound) => return Err(Unauthenticated::UnknownTenant),
                Err(error) => return Err(Unauthenticated::Store(error)),
            };
            let named = || NamedTenant {
                id: tenant.id,
                suspended: tenant.suspended,
                gate: self.tenant_gates.open(tenant.id, Gate::default),
            };
            let keep = |tenant| self.tenants.insert(name.to_owned(), tenant);
            if let Some(named) = self.keep(began, named, keep) {
                return Ok(named);
            }
        }
    }

    /// The value in memory, unless everything was forgotten since.
    fn recall<V>(&self, found: Option<Remembered<V>>) -> Option<V> {
        let found = found?;
        (found.era == self.era.load(Ordering::SeqCst)).then_some(found.value)
    }

    /// To be called before a load reads the store.
    fn load_begins(&self) -> LoadBegan {
        LoadBegan {
            forgotten: *self.forgotten.read(),
            era: self.era.load(Ordering::SeqCst),
        }
    }

    /// Has `keep` put into memory what `value` makes of a load, with its gate, and returns it. `None` when the load may
    /// have read before a revocation that is committed by now: it must be done again.
    fn keep<V: Clone>(&self, began: LoadBegan, value: impl FnOnce() -> V, keep: impl FnOnce(Remembered<V>)) -> Option<V> {
        let forgotten = self.forgotten.read();
        (*forgotten == began.forgotten).then(|| {
            let value = value();
            keep(Remembered {
                value: value.clone(),
                era: began.era,
            });
            value
        })
    }

    /// Puts a token into memory, in place of what is known of it there.
    fn keep_token(&self, id: PublicId, known: Remembered<Arc<Known>>) {
        self.tokens.remove_if(&id, |_| true);
        let load = self.tokens.loads().begin(id);
        // Without room for a single token the next request reads it again.
        let (Ok(_) | Err(Full)) = self.tokens.insert(id, known, &load, WhenFull::Refuse);
    }

    async fn read(&self, text: &str) -> Result<Loaded, StoreError> {
        let began = self.load_begins();
        let found = match self.store.token_by_public_id(text).await {
            Ok(found) => found,
            Err(StoreError::NotFound) => return Ok(Loaded::Absent),
            Err(error) => return Err(error),
        };
        let grants = Grants::from_kept(&found.token.grants).ok_or(StoreError::Damaged("a token's grants"))?;
        let keep = |known| {
            if let Some(id) = public_id(text) {
                self.keep_token(id, known);
            }
        };
        let known = self.keep(began, || self.with_gate(found, grants), keep);
        Ok(known.map_or(Loaded::Outdated, Loaded::Known))
    }

    fn with_gate(&self, found: TokenSnapshot, grants: Grants) -> Arc<Known> {
        let TokenSnapshot {
            token, tenant, ancestors, ..
        } = found;
        let public_id = token.public_id.clone().into_boxed_str();
        let gate = self.token_gates.open(public_id.clone(), || {
            let line = std::iter::once(&token).chain(&ancestors).map(|token| (token.id, token.principal));
            let of_tenant = self.tenant_gates.open(token.tenant, Gate::default);
            TokenGate::new(public_id, line.collect(), of_tenant)
        });
        Arc::new(Known {
            ends: rules::token_ends(&token, &ancestors),
            token,
            grants: Arc::new(grants),
            tenant_suspended: tenant.suspended,
            gate,
        })
    }
}

impl Known {
    /// A caller with this token, acting for its own tenant.
    fn caller(&self, source: Option<IpAddr>) -> Caller {
        Caller {
            principal: self.token.principal,
            home: self.token.tenant,
            acting: self.token.tenant,
            suspended: false,
            credential: Credential::Token(self.token.id),
            grants: Arc::clone(&self.grants),
            ancestry: Ancestry {
                kind: self.token.kind,
                depth: self.token.depth,
                ends: self.ends,
            },
            source,
            gates: Some(CallerGates {
                token: Arc::clone(&self.gate),
                acting: None,
            }),
        }
    }
}

impl Caller {
    /// The same operator, acting for a tenant.
    fn acting_for(mut self, tenant: NamedTenant) -> Self {
        self.acting = tenant.id;
        self.suspended = tenant.suspended;
        if let Some(gates) = &mut self.gates
            && tenant.id != self.home
        {
            gates.acting = Some(tenant.gate);
        }
        self
    }
}

#[cfg(test)]
mod tests;
