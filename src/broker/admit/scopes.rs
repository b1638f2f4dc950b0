//! Wholes as objects of operations: the tenant, its list of keys, the installation, and a tenant of it.

use claviger_provider::ConnectionId;

use super::decide;
use super::objects::{Names, connection};
use crate::access::{Action, PolicyRef, Resource};
use crate::broker::{Broker, Code, Failure, RequestContext};
use crate::store::StoreError;
use crate::store::model::{Key, Tenant};

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
    /// The one of this name, among those of the keys that the caller reaches.
    Named(String),
    /// A connection that does not exist, so the list is empty.
    Missing,
}

impl Through {
    /// The connection's id, where it was looked up.
    pub(in crate::broker) const fn id(&self) -> Option<ConnectionId> {
        match self {
            Self::Connection(id) => Some(*id),
            Self::Any | Self::Named(_) | Self::Missing => None,
        }
    }

    /// Whether a key that was read is one of the list, as far as names decide.
    pub(in crate::broker) fn may_lead_to(&self, key: &Key) -> bool {
        match self {
            Self::Named(name) => key.primary.connection.as_ref().is_some_and(|connection| connection.name == *name),
            Self::Any | Self::Connection(_) | Self::Missing => true,
        }
    }
}

impl Names<ListedKeys> for Option<&str> {
    async fn admit(self, broker: &Broker, cx: &RequestContext, action: Action) -> Result<(ListedKeys, PolicyRef), Failure> {
        let (TenantScope(()), policy) = Names::<TenantScope>::admit((), broker, cx, action).await?;
        let through = match self {
            None => Through::Any,
            // A caller who reaches named keys alone has no other connection looked up: what the list costs must not
            // depend on whether there is one.
            Some(name) if broker.authorizer.keys(cx.caller(), action).only().is_some() => Through::Named(name.to_owned()),
            Some(name) => match connection(broker, cx.tenant(), name, action).await? {
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
