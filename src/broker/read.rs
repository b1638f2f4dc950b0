//! Reads: lists and single objects. They change nothing and call no provider.

use std::sync::Arc;

use claviger_provider::{KeyId, TenantId, TokenId};

use super::{Broker, Failure, Guarded, RequestContext};
use crate::access::{AccessError, Permit, op};
use crate::keys::{ConnectionEntry, KeyEntry, KeyView};
use crate::store::model::{Connection, Key, KeyFilter, KeyVersion, Page, Principal, Tenant, Token};

/// A page of a list.
#[derive(Debug)]
pub struct Listed<T> {
    /// What is on it.
    pub items: Vec<T>,
    /// After what the next page begins; `None` on the last one.
    pub next: Option<String>,
}

impl<T> Listed<T> {
    fn new(items: Vec<T>, page: &Page, name: impl Fn(&T) -> String) -> Self {
        let full = usize::try_from(page.size).is_ok_and(|size| items.len() >= size);
        let next = items.last().filter(|_| full).map(name);
        Self { items, next }
    }
}

/// Which keys a list shows, by the names that a caller knows.
#[derive(Debug, Default)]
pub struct KeyQuery {
    /// Only through the connection of this name.
    pub connection: Option<String>,
    /// Only disabled, or only enabled.
    pub disabled: Option<bool>,
    /// Only with this label and value.
    pub label: Option<(String, String)>,
}

/// A key and the name of its connection.
#[derive(Debug)]
pub struct NamedKey {
    /// The key.
    pub key: Key,
    /// Its connection's name.
    pub connection: String,
}

impl Broker {
    /// Keys by name, of those that the caller's credential reaches: a page may hold fewer
    /// than asked for.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn list_keys(
        &self,
        cx: &RequestContext,
        permit: &Permit<op::ReadKey>,
        query: KeyQuery,
        page: &Page,
    ) -> Result<Guarded<Listed<NamedKey>>, Failure> {
        cx.permitted(permit);
        let connection = match query.connection {
            None => None,
            Some(name) => match self.connection_by_name(cx.tenant(), &name).await? {
                Some(entry) => Some(entry.id()),
                None => {
                    return Ok(Guarded::free(Listed {
                        items: Vec::new(),
                        next: None,
                    }));
                }
            },
        };
        let filter = KeyFilter {
            connection,
            disabled: query.disabled,
            label: query.label,
        };
        let rows = Listed::new(self.store.keys(cx.tenant(), &filter, page).await?, page, |key| key.name.clone());
        let mut items = Vec::with_capacity(rows.items.len());
        let reached = |key: &Key| cx.caller().grants().keys().contains(key.id);
        for key in rows.items.into_iter().filter(reached) {
            let connection = self.directory().connection(key.tenant, key.connection).await?;
            let connection = connection.map_or_else(String::new, |entry| entry.view().name.clone());
            items.push(NamedKey { key, connection });
        }
        Ok(Guarded::free(Listed { items, next: rows.next }))
    }

    /// A key with its versions, as it is now.
    ///
    /// # Errors
    /// `not_found` when it was detached meanwhile.
    pub fn read_key(&self, cx: &RequestContext, permit: &Permit<op::ReadKey>, key: &KeyEntry) -> Result<Guarded<KeyView>, Failure> {
        self.note_key(cx, key);
        cx.permitted(permit);
        Ok(Guarded::free(key.view()?))
    }

    /// A key's versions after this number, oldest first.
    ///
    /// # Errors
    /// `not_found` when it was detached meanwhile.
    pub fn list_versions(
        &self,
        cx: &RequestContext,
        permit: &Permit<op::ReadKey>,
        key: &KeyEntry,
        after: u32,
        page: &Page,
    ) -> Result<Guarded<Listed<KeyVersion>>, Failure> {
        self.note_key(cx, key);
        cx.permitted(permit);
        let size = usize::try_from(page.size).unwrap_or(usize::MAX);
        let view = key.view()?;
        let rows = view.versions.iter().filter(|version| version.number > after).take(size);
        Ok(Guarded::free(Listed::new(rows.cloned().collect(), page, |version: &KeyVersion| {
            version.number.to_string()
        })))
    }

    /// Connections by name.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn list_connections(
        &self,
        cx: &RequestContext,
        permit: &Permit<op::ReadConnection>,
        page: &Page,
    ) -> Result<Guarded<Listed<Connection>>, Failure> {
        cx.permitted(permit);
        let rows = self.store.connections(cx.tenant(), page).await?;
        Ok(Guarded::free(Listed::new(rows, page, |row| row.name.clone())))
    }

    /// A connection as it is now.
    pub fn read_connection(
        &self,
        cx: &RequestContext,
        permit: &Permit<op::ReadConnection>,
        connection: &ConnectionEntry,
    ) -> Guarded<Arc<Connection>> {
        self.note_connection(cx, connection);
        cx.permitted(permit);
        Guarded::free(connection.view())
    }

    /// Tenants by name.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn list_tenants(
        &self,
        cx: &RequestContext,
        permit: &Permit<op::ManageTenants>,
        page: &Page,
    ) -> Result<Guarded<Listed<Tenant>>, Failure> {
        cx.permitted(permit);
        let rows = self.store.tenants(page).await?;
        Ok(Guarded::free(Listed::new(rows, page, |row| row.name.clone())))
    }

    /// A tenant by name.
    ///
    /// # Errors
    /// `not_found`.
    pub async fn read_tenant(
        &self,
        cx: &RequestContext,
        permit: &Permit<op::ManageTenants>,
        name: &str,
    ) -> Result<Guarded<Tenant>, Failure> {
        cx.permitted(permit);
        Ok(Guarded::free(self.store.tenant_by_name(name).await?))
    }

    /// Principals of the caller's tenant, by name.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn list_principals(
        &self,
        cx: &RequestContext,
        permit: &Permit<op::ManagePrincipals>,
        page: &Page,
    ) -> Result<Guarded<Listed<Principal>>, Failure> {
        cx.permitted(permit);
        let rows = self.store.principals(cx.tenant(), page).await?;
        Ok(Guarded::free(Listed::new(rows, page, |row| row.name.clone())))
    }

    /// A principal by name, for one who was permitted to manage something of it.
    ///
    /// # Errors
    /// `not_found`.
    pub async fn principal(&self, tenant: TenantId, name: &str) -> Result<Principal, Failure> {
        Ok(self.store.principal_by_name(tenant, name).await?)
    }

    /// A principal's tokens, by id.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn list_tokens(
        &self,
        cx: &RequestContext,
        permit: &Permit<op::ManageTokens>,
        principal: &Principal,
        page: &Page,
    ) -> Result<Guarded<Listed<Token>>, Failure> {
        cx.permitted(permit);
        let rows = self.store.tokens(principal.tenant, principal.id, page).await?;
        Ok(Guarded::free(Listed::new(rows, page, |row| row.id.to_string())))
    }

    /// One of a principal's tokens.
    ///
    /// # Errors
    /// `not_found`.
    pub async fn token(&self, principal: &Principal, id: TokenId) -> Result<Token, Failure> {
        let token = self.store.token(principal.tenant, id).await?;
        if token.principal == principal.id {
            Ok(token)
        } else {
            Err(AccessError::NotFound.into())
        }
    }

    /// The id of a named key that the caller's credential reaches. One that leads nowhere is
    /// told only to a caller who reaches every key.
    ///
    /// # Errors
    /// `permission_denied`, `not_found`.
    pub async fn reached_key(&self, cx: &RequestContext, name: &str) -> Result<KeyId, Failure> {
        let entry = self.directory().key_by_name(cx.tenant(), name).await?;
        let reach = cx.caller().grants().keys();
        match entry {
            Some(entry) if reach.contains(entry.id()) => Ok(entry.id()),
            None if reach.is_all() => Err(AccessError::NotFound.into()),
            Some(_) | None => Err(AccessError::Denied.into()),
        }
    }

    /// Whether the store answers, for readiness.
    pub async fn store_answers(&self) -> bool {
        self.store.last_applied().await.is_ok()
    }

    /// Deletes answers that were kept long enough.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn prune_kept_answers(&self) -> Result<u64, Failure> {
        Ok(self.store.prune_idempotency(self.now() - KEPT).await?)
    }
}

/// How long an answer is kept for its idempotency key, in microseconds.
const KEPT: i64 = 24 * 3600 * 1_000_000;
