//! Wholes as objects of operations: the tenant, its list of keys, the installation, and a tenant of it.

use std::collections::BTreeSet;

use claviger_provider::{ConnectionId, KeyId, TenantId};

use super::decide;
use super::objects::{Names, connection};
use crate::access::{Action, PolicyRef, Resource};
use crate::broker::{Broker, Code, Failure, RequestContext};
use crate::store::StoreError;
use crate::store::model::{DetachedFilter, Key, KeyFilter, Page, Tenant};

/// The tenant as a whole, for what only a tenant has: keys and connections.
pub struct TenantScope(());

impl Names<TenantScope> for () {
    async fn admit(self, broker: &Broker, cx: &RequestContext, action: Action) -> Result<(TenantScope, PolicyRef), Failure> {
        cx.require_tenant()?;
        let policy = decide::allowed(broker, cx, action, Resource::Tenant).await?;
        Ok((TenantScope(()), policy))
    }
}

/// The keys that a list is asked for.
pub struct ListedKeys {
    pub(in crate::broker) through: Through,
}

/// Which connection the keys of a list are reached through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::broker) enum Through {
    /// Any.
    Any,
    /// This one.
    Connection(ConnectionId),
    /// A connection that does not exist, so the list is empty.
    Missing,
}

impl Through {
    /// The connection's id, where it was looked up.
    pub(in crate::broker) const fn id(&self) -> Option<ConnectionId> {
        match self {
            Self::Connection(id) => Some(*id),
            Self::Any | Self::Missing => None,
        }
    }

    /// The connection of a name among those of some keys, which may be detached.
    async fn among(broker: &Broker, tenant: TenantId, only: &BTreeSet<KeyId>, name: &str) -> Result<Self, Failure> {
        let filter = KeyFilter {
            only: Some(only.clone()),
            ..KeyFilter::default()
        };
        let detached = DetachedFilter {
            connection: None,
            only: Some(only.clone()),
        };
        let mut page = Page { after: None, size: 1000 };
        loop {
            let rows = broker.store.keys(tenant, &filter, &page).await?;
            if let Some(id) = rows.items.iter().find_map(|key| id_of(key, name)) {
                return Ok(Self::Connection(id));
            }
            let Some(next) = rows.next else { break };
            page.after = Some(next);
        }
        page.after = None;
        loop {
            let rows = broker.store.detached_keys(tenant, &detached, &page).await?;
            if let Some(id) = rows.items.iter().find_map(|row| id_of(&row.key, name)) {
                return Ok(Self::Connection(id));
            }
            let Some(next) = rows.next else { return Ok(Self::Missing) };
            page.after = Some(next);
        }
    }
}

/// The id of a key's connection, if that has this name.
fn id_of(key: &Key, name: &str) -> Option<ConnectionId> {
    let connection = key.primary.connection.as_ref()?;
    (connection.name == name).then_some(connection.id)
}

impl Names<ListedKeys> for Option<&str> {
    async fn admit(self, broker: &Broker, cx: &RequestContext, action: Action) -> Result<(ListedKeys, PolicyRef), Failure> {
        let (TenantScope(()), policy) = Names::<TenantScope>::admit((), broker, cx, action).await?;
        let reached = broker.authorizer.keys(cx.caller(), action);
        let through = match (self, reached.only()) {
            (None, _) => Through::Any,
            // A caller who reaches named keys alone has no other connection looked up: what the list costs must not
            // depend on whether there is one.
            (Some(name), Some(only)) => Through::among(broker, cx.tenant(), only, name).await?,
            (Some(name), None) => match connection(broker, cx.tenant(), name, action).await? {
                Some(entry) => Through::Connection(entry.id()),
                None => Through::Missing,
            },
        };
        Ok((ListedKeys { through }, policy))
    }
}

/// The installation, which holds the tenants. For platform operators only.
pub struct Installation(());

impl Names<Installation> for () {
    async fn admit(self, broker: &Broker, cx: &RequestContext, action: Action) -> Result<(Installation, PolicyRef), Failure> {
        let policy = decide::allowed(broker, cx, action, Resource::Installation).await?;
        Ok((Installation(()), policy))
    }
}

impl Names<Tenant> for &str {
    async fn admit(self, broker: &Broker, cx: &RequestContext, action: Action) -> Result<(Tenant, PolicyRef), Failure> {
        let policy = decided(broker, cx, action, Resource::Installation).await?;
        let as_revoked = broker.as_revoked();
        match broker.store.tenant_by_name(self).await {
            Ok(tenant) => Ok((as_revoked.tenant(tenant), policy)),
            Err(StoreError::NotFound) => {
                Err(Failure::new(Code::NotFound, "There is no tenant of that name.").advice("`claviger tenants list` shows all names."))
            }
            Err(error) => Err(error.into()),
        }
    }
}

/// Decides before the object is looked up, so that the record names the policy even if there is no
/// such object.
///
/// # Errors
/// `permission_denied`.
pub(super) async fn decided(broker: &Broker, cx: &RequestContext, action: Action, resource: Resource<'_>) -> Result<PolicyRef, Failure> {
    let policy = decide::allowed(broker, cx, action, resource).await?;
    cx.subject(|subject| subject.policy = Some(policy.clone()));
    Ok(policy)
}
