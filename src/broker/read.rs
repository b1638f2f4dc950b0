//! Reads: lists and single objects. They change nothing and call no provider.

use std::collections::BTreeSet;

use claviger_provider::KeyId;

use super::admit::Through;
use super::connection_now::ConnectionNow;
use super::cursor::Position;
use super::sever::completed;
use super::tokens::GrantedToken;
use super::{Authorized, Broker, Completed, Completion, Failure, Guarded, Operation, op};
use crate::keys::KeyView;
use crate::store::model::{
    self, Connection, DetachedFilter, DetachedKey, Key, KeyFilter, KeyState, KeyVersion, Principal, Rows, Tenant, Weight,
};

/// A page of a list.
#[derive(Debug)]
pub struct Page<T> {
    /// The items, in the list's order.
    pub items: Vec<T>,
    /// Where the next page starts; `None` on the last page.
    pub next: Option<Position>,
}

impl<T> Page<T> {
    const fn empty() -> Self {
        Self {
            items: Vec::new(),
            next: None,
        }
    }

    /// Of rows that the store found for the request `asked`; `name` is what the list is ordered by.
    fn of(items: Vec<T>, asked: &model::Page, name: impl Fn(&T) -> String) -> Self
    where
        T: Weight,
    {
        let full = asked.is_full(&items);
        let next = items.last().filter(|_| full).map(|last| Position::after(name(last)));
        Self { items, next }
    }

    /// Of rows whose filters the store applied.
    fn filtered(rows: Rows<T>) -> Self {
        Self {
            items: rows.items,
            next: rows.next.map(Position::after),
        }
    }
}

/// Which keys of those that were authorized a list shows.
#[derive(Debug, Default)]
pub struct KeyQuery {
    /// Only those in this state.
    pub state: Option<KeyState>,
    /// Only those with this label and value.
    pub label: Option<(String, String)>,
}

/// A change of a key that succeeded.
pub(super) const fn changed(completion: Completion, key: Key) -> Completed<Key> {
    Completed {
        completion,
        revision: Some(key.revision),
        object: key,
    }
}

impl Broker {
    /// Keys by name, of those that the caller may read. Where few keys match the filters, a page may
    /// have fewer than asked for, or none, and a next one.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn list_keys(
        &self,
        authorized: Authorized<op::ListKeys>,
        query: KeyQuery,
        page: &model::Page,
    ) -> Result<Guarded<Page<Key>>, Failure> {
        let as_revoked = self.as_revoked();
        let through = &authorized.object().through;
        if *through == Through::Missing {
            return Ok(Guarded::free(Page::empty()));
        }
        let filter = KeyFilter {
            connection: through.id(),
            // What the store lacks it cannot find.
            state: query.state.filter(|_| as_revoked.is_empty()),
            label: query.label,
            only: self.only(&authorized),
        };
        let mut rows = self.store.keys(authorized.caller().tenant(), &filter, page).await?;
        let items = rows.items.into_iter().map(|row| as_revoked.key(row));
        rows.items = items.filter(|row| query.state.is_none_or(|state| row.state == state)).collect();
        Ok(Guarded::free(Page::filtered(rows)))
    }

    /// Detached keys by id, of those that the caller may read. Pages as of [`Broker::list_keys`].
    ///
    /// # Errors
    /// When the store fails.
    pub async fn list_detached_keys(
        &self,
        authorized: Authorized<op::ListKeys>,
        page: &model::Page,
    ) -> Result<Guarded<Page<DetachedKey>>, Failure> {
        let through = &authorized.object().through;
        if *through == Through::Missing {
            return Ok(Guarded::free(Page::empty()));
        }
        let filter = DetachedFilter {
            connection: through.id(),
            only: self.only(&authorized),
        };
        let rows = self.store.detached_keys(authorized.caller().tenant(), &filter, page).await?;
        Ok(Guarded::free(Page::filtered(rows)))
    }

    /// The keys that a list may show to the caller; `None` for all. The store applies it, so that
    /// neither a page's size nor its cursor depends on another key.
    fn only(&self, listed: &Authorized<op::ListKeys>) -> Option<BTreeSet<KeyId>> {
        let keys = self.authorizer.keys(listed.caller(), <op::ListKeys as Operation>::ACTION);
        keys.only().cloned()
    }

    /// A key as it is now.
    ///
    /// # Errors
    /// `not_found` when it was detached meanwhile.
    pub fn read_key(&self, authorized: &Authorized<op::ReadKey>) -> Result<Guarded<Completed<Key>>, Failure> {
        let row = Key::clone(&authorized.object().view()?.key);
        Ok(Guarded::free(changed(Completion::Done, row)))
    }

    /// A key's versions after this number, oldest first.
    ///
    /// # Errors
    /// `not_found` when it was detached meanwhile.
    pub fn list_versions(
        &self,
        authorized: &Authorized<op::ReadKey>,
        after: u32,
        page: &model::Page,
    ) -> Result<Guarded<Page<KeyVersion>>, Failure> {
        let size = usize::try_from(page.size).unwrap_or(usize::MAX);
        let KeyView { versions, .. } = authorized.object().view()?;
        let rows = versions.iter().filter(|version| version.number > after).take(size);
        Ok(Guarded::free(Page::of(rows.cloned().collect(), page, |version: &KeyVersion| {
            version.number.to_string()
        })))
    }

    /// Connections by name.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn list_connections(
        &self,
        authorized: Authorized<op::ListConnections>,
        page: &model::Page,
    ) -> Result<Guarded<Page<Connection>>, Failure> {
        let as_revoked = self.as_revoked();
        let rows = self.store.connections(authorized.caller().tenant(), page).await?;
        let rows = Page::of(rows, page, |row| row.name.clone());
        Ok(Guarded::free(Page {
            items: rows.items.into_iter().map(|row| as_revoked.connection(row)).collect(),
            next: rows.next,
        }))
    }

    /// A connection as it is now.
    pub fn read_connection(&self, authorized: &Authorized<op::ReadConnection>) -> Guarded<Completed<ConnectionNow>> {
        let connection = authorized.object();
        let Completed {
            completion,
            object,
            revision,
        } = completed(Completion::Done, Connection::clone(&connection.view()));
        Guarded::free(Completed {
            completion,
            object: ConnectionNow::of(object, &connection.pipeline()),
            revision,
        })
    }

    /// Tenants by name.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn list_tenants(
        &self,
        _authorized: Authorized<op::ListTenants>,
        page: &model::Page,
    ) -> Result<Guarded<Page<Tenant>>, Failure> {
        let as_revoked = self.as_revoked();
        let rows = self.store.tenants(page).await?;
        let rows = Page::of(rows, page, |row| row.name.clone());
        Ok(Guarded::free(Page {
            items: rows.items.into_iter().map(|row| as_revoked.tenant(row)).collect(),
            next: rows.next,
        }))
    }

    /// A tenant.
    pub fn read_tenant(&self, authorized: &Authorized<op::ReadTenant>) -> Guarded<Tenant> {
        Guarded::free(authorized.object().clone())
    }

    /// Principals of the caller's tenant, by name.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn list_principals(
        &self,
        authorized: Authorized<op::ListPrincipals>,
        page: &model::Page,
    ) -> Result<Guarded<Page<Principal>>, Failure> {
        let as_revoked = self.as_revoked();
        let rows = self.store.principals(authorized.caller().tenant(), page).await?;
        let mut rows = Page::of(rows, page, |row| row.name.clone());
        rows.items.retain(|row| !as_revoked.is_deleted(row));
        Ok(Guarded::free(rows))
    }

    /// A principal.
    pub fn read_principal(&self, authorized: &Authorized<op::ReadPrincipal>) -> Guarded<Principal> {
        Guarded::free(authorized.object().clone())
    }

    /// A principal's tokens, by id.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn list_tokens(
        &self,
        authorized: Authorized<op::ListTokens>,
        page: &model::Page,
    ) -> Result<Guarded<Page<GrantedToken>>, Failure> {
        let principal = authorized.object();
        let as_revoked = self.as_revoked();
        let rows = self.store.tokens(principal.tenant, principal.id, page).await?;
        let rows = Page::of(rows, page, |row| row.id.to_string());
        let mut items = Vec::with_capacity(rows.items.len());
        for row in rows.items {
            let row = self.token_as_revoked(row, &as_revoked).await?;
            items.push(GrantedToken::of(row, principal.name.clone())?);
        }
        Ok(Guarded::free(Page { items, next: rows.next }))
    }

    /// Whether the store answers, for readiness.
    pub async fn store_answers(&self) -> bool {
        self.store.last_applied().await.is_ok()
    }

    /// Whether the store's files are those that were opened.
    pub fn store_has_its_files(&self) -> bool {
        self.store.has_its_files()
    }

    /// Deletes answers, names of deleted principals and tokens that ended, which were kept long enough.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn prune_kept(&self) -> Result<(), Failure> {
        self.store.prune_idempotency(self.now() - KEPT).await?;
        self.store.prune_deleted_principals(self.now() - NAMES_KEPT).await?;
        while self.store.prune_ended_tokens(self.now() - TOKENS_KEPT).await? > 0 {}
        Ok(())
    }
}

/// How long an answer is kept for its idempotency key, in microseconds.
const KEPT: i64 = 24 * 3600 * 1_000_000;

/// How long the name of a deleted principal is kept, in microseconds. It is deleted after that,
/// because it may be a person's name.
const NAMES_KEPT: i64 = 30 * KEPT;

/// How long a token is listed after its end, in microseconds. It counts towards the quota until then.
const TOKENS_KEPT: i64 = 30 * KEPT;
