//! The objects of operations: how a request names each, how it is found, and what is decided on it.

use std::future::Future;
use std::sync::Arc;

use claviger_provider::{KeyId, KeySpec, ProviderKind, TenantId};

use super::decide;
use crate::access::{Action, KeySet, PolicyRef, Resource};
use crate::broker::external_custody::may_restore;
use crate::broker::{Broker, Code, Failure, RequestContext};
use crate::envelope::Envelope;
use crate::keys::{ConnectionEntry, KeyEntry};
use crate::store::StoreError;
use crate::store::model::{DetachedFilter, DetachedKey, KeyVersion, Page};

/// How a request names an object of type `T`.
pub trait Names<T>: Send {
    /// Finds the object and decides the action on it.
    ///
    /// # Errors
    /// `permission_denied`; `not_found` only for a caller who would be allowed.
    fn admit(self, broker: &Broker, cx: &RequestContext, action: Action) -> impl Future<Output = Result<(T, PolicyRef), Failure>> + Send;
}

/// How a request names a key.
#[derive(Debug, Clone, Copy)]
pub enum KeyNamed<'a> {
    /// By the key's name.
    Name(&'a str),
    /// By a wrapped key, whose header holds the key's id.
    Envelope(&'a Envelope),
}

impl Names<Arc<KeyEntry>> for KeyNamed<'_> {
    async fn admit(self, broker: &Broker, cx: &RequestContext, action: Action) -> Result<(Arc<KeyEntry>, PolicyRef), Failure> {
        cx.require_tenant()?;
        decide::precheck(broker, cx, action)?;
        let tenant = cx.tenant();
        let reached = broker.authorizer.keys(cx.caller(), action);
        let found = match self {
            KeyNamed::Name(name) if action == Action::Disable => broker.directory.key_to_disable(tenant, name, reached.only()).await?,
            KeyNamed::Name(name) => broker.directory.key_by_name(tenant, name, reached.only()).await?,
            KeyNamed::Envelope(envelope) => match key_of(cx, reached, envelope) {
                Some(id) => broker.directory.key(tenant, id).await?,
                None => None,
            },
        };
        let view = found.as_ref().and_then(|entry| entry.view().ok());
        let key = view.as_ref().map(|view| view.key.clone());
        cx.subject(|subject| {
            subject.key = key.as_ref().map(|key| key.id);
            subject.connection = key.as_ref().and_then(|key| key.primary.connection_id());
            subject.provider = key.as_ref().map(|key| key.primary.provider);
        });
        let policy = match decide::allowed(broker, cx, action, Resource::Key(key.as_deref())).await {
            Ok(policy) => policy,
            Err(denied) if key.is_some() => return Err(denied),
            Err(denied) => return Err(detached(broker, cx, action, self).await?.unwrap_or(denied)),
        };
        if action == Action::Enable && key.as_ref().is_some_and(|key| key.needs_restore) {
            // It undoes a sever, on any of the tenant's connections: that one may be deleted.
            let restore = (Action::Restore, Resource::Connection(None));
            let advice = "The key was detached while a connection of it was severed. Enabling it needs the permission Restore as well.";
            also_allowed(broker, cx, restore, advice).await?;
            let is_external = view.is_some_and(|view| view.versions.iter().any(|version| version.custody.is_external()));
            may_restore(cx, is_external)?;
        }
        match (found, key) {
            (Some(entry), Some(_)) => Ok((entry, policy)),
            (Some(_) | None, _) => Err(match self {
                KeyNamed::Name(_) => Failure::none_named("key"),
                // The same error as for a wrapped key of no key, so that a caller cannot find out
                // which wrapped keys belong to a key of this gateway.
                KeyNamed::Envelope(_) => Failure::ciphertext_rejected(),
            }),
        }
    }
}

/// The key that an envelope names, if the caller reaches it. No other one is looked up: what a denial costs must not
/// depend on whether there is such a key.
fn key_of(cx: &RequestContext, reached: &KeySet, envelope: &Envelope) -> Option<KeyId> {
    let header = envelope.header();
    (header.tenant() == cx.tenant() && reached.contains(header.key())).then(|| header.key())
}

/// The detached key that an envelope names, as [`key_of`].
async fn detached_of(broker: &Broker, cx: &RequestContext, action: Action, envelope: &Envelope) -> Result<Option<DetachedKey>, Failure> {
    let Some(id) = key_of(cx, broker.authorizer.keys(cx.caller(), action), envelope) else {
        return Ok(None);
    };
    match broker.store.detached_key(cx.tenant(), id).await {
        Ok(found) => Ok(Some(found)),
        Err(StoreError::NotFound) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// More keys than a grant names.
const NAMED_KEYS: u32 = 1_000;

/// The failure for a caller who reaches named keys alone, and names one of them that is detached: to such
/// a caller a key that does not exist is denied, and a denial would lead to a search for permissions.
async fn detached(broker: &Broker, cx: &RequestContext, action: Action, named: KeyNamed<'_>) -> Result<Option<Failure>, Failure> {
    let found = match named {
        KeyNamed::Name(name) => match broker.authorizer.keys(cx.caller(), action) {
            KeySet::All => Vec::new(),
            // Those of the grant alone, however many detached keys the tenant has.
            KeySet::Only(keys) => {
                let filter = DetachedFilter {
                    connection: None,
                    only: Some(keys.clone()),
                };
                let page = Page {
                    after: None,
                    size: NAMED_KEYS,
                };
                let mut found = broker.store.detached_keys(cx.tenant(), &filter, &page).await?.items;
                found.retain(|detached| detached.key.name == name);
                found
            }
        },
        KeyNamed::Envelope(envelope) => detached_of(broker, cx, action, envelope).await?.into_iter().collect(),
    };
    for detached in found {
        let resource = Resource::Key(Some(&detached.key));
        if decide::allowed(broker, cx, action, resource).await.is_err() {
            continue;
        }
        cx.subject(|subject| subject.key = Some(detached.key.id));
        return Ok(Some(match named {
            KeyNamed::Envelope(_) => Failure::ciphertext_rejected(),
            KeyNamed::Name(_) => Failure::new(Code::NotFound, "The key was detached.")
                .advice("One who may create keys brings it back under its id: `claviger keys list --state detached` shows what to say."),
        }));
    }
    Ok(None)
}

/// Decides a second action that an operation needs. A denial is recorded as one of that action.
async fn also_allowed(
    broker: &Broker,
    cx: &RequestContext,
    (action, resource): (Action, Resource<'_>),
    advice: &'static str,
) -> Result<(), Failure> {
    let of_operation = cx.subject(|subject| {
        let of_operation = subject.clone();
        subject.action = action;
        of_operation
    });
    let decided = decide::allowed(broker, cx, action, resource).await;
    decided.map_err(|denied| denied.advice(advice))?;
    cx.subject(|subject| *subject = of_operation);
    Ok(())
}

/// How a request names a key to be changed.
#[derive(Debug, Clone, Copy)]
pub struct UpdateNamed<'a> {
    /// The key, by name.
    pub key: &'a str,
    /// The name that it is to get, if the change has one.
    pub new_name: Option<&'a str>,
    /// Whether the change allows export.
    pub allows_export: bool,
}

/// A key to be changed.
pub struct UpdateOf {
    pub(in crate::broker) key: Arc<KeyEntry>,
    /// Whether the change is a rename, and was decided as one. The name can be another one by the time of the change.
    pub(in crate::broker) renames: bool,
}

impl Names<UpdateOf> for UpdateNamed<'_> {
    async fn admit(self, broker: &Broker, cx: &RequestContext, action: Action) -> Result<(UpdateOf, PolicyRef), Failure> {
        let (key, policy) = Names::<Arc<KeyEntry>>::admit(KeyNamed::Name(self.key), broker, cx, action).await?;
        if self.allows_export {
            // Who may lead data keys out of external custody could otherwise do by a rewrap what they
            // must not do by a move.
            let resource = Resource::NewKey { connection: None };
            let advice = "To allow export decides where the tenant's keys are held. It needs the permission CreateKey on all keys as well.";
            also_allowed(broker, cx, (Action::CreateKey, resource), advice).await?;
        }
        let row = key.view()?.key;
        let renames = self.new_name.is_some_and(|name| name != row.name);
        if renames {
            // A rename takes a name, as a creation does: whoever may not create keys must neither learn which names
            // are taken nor take one that others expect.
            let connection = row.primary.connection.as_ref().map(|connection| connection.name.as_str());
            let connection = match connection {
                Some(name) => self::connection(broker, cx.tenant(), name, Action::CreateKey).await?,
                None => None,
            };
            let view = connection.as_ref().map(|entry| entry.view());
            let resource = Resource::NewKey {
                connection: view.as_deref(),
            };
            let advice = "A rename takes another name, as a creation does. It needs the permission CreateKey as well.";
            also_allowed(broker, cx, (Action::CreateKey, resource), advice).await?;
        }
        Ok((UpdateOf { key, renames }, policy))
    }
}

/// The failure for an envelope of no key of the tenant. It says so to one who may read all of the tenant's keys, and
/// so knows which there are: with the same words for another tenant's key and for one that nobody has.
async fn of_no_key(broker: &Broker, cx: &RequestContext, named: KeyNamed<'_>, refused: Failure) -> Failure {
    let is_rejected = matches!(named, KeyNamed::Envelope(_)) && refused.code == Code::CiphertextRejected;
    if !is_rejected || decide::allowed(broker, cx, Action::ReadKey, Resource::Key(None)).await.is_err() {
        return refused;
    }
    Failure::new(
        Code::CiphertextRejected,
        "This tenant does not have the key that the wrapped key names.",
    )
    .advice(
        "It belongs to another tenant or installation, or the key was lost with an older copy of the data (`claviger restore`, \
         --accept-rollback). If its provider key still exists, a platform operator creates it again with the id in the wrapped key's \
         header: `claviger keys create NAME --connection CONNECTION --id ID --provider-key PROVIDER-KEY`.",
    )
}

/// The key of an envelope that is inspected.
pub enum InspectedKey {
    /// A key that is not detached.
    Attached(Arc<KeyEntry>),
    /// A detached key. Its row names the provider keys that it had.
    Detached(Box<DetachedKey>),
}

impl Names<InspectedKey> for KeyNamed<'_> {
    async fn admit(self, broker: &Broker, cx: &RequestContext, action: Action) -> Result<(InspectedKey, PolicyRef), Failure> {
        let refused = match Names::<Arc<KeyEntry>>::admit(self, broker, cx, action).await {
            Ok((entry, policy)) => return Ok((InspectedKey::Attached(entry), policy)),
            Err(failure) if matches!(failure.code, Code::CiphertextRejected | Code::PermissionDenied) => failure,
            Err(failure) => return Err(failure),
        };
        let detached = match self {
            KeyNamed::Envelope(envelope) => detached_of(broker, cx, action, envelope).await?,
            KeyNamed::Name(_) => None,
        };
        let Some(detached) = detached else {
            return Err(of_no_key(broker, cx, self, refused).await);
        };
        // Only a caller with the permission to list detached keys learns that this key is detached.
        let resource = Resource::Key(Some(&detached.key));
        let (Ok(policy), Ok(_)) = (
            decide::allowed(broker, cx, action, resource).await,
            decide::allowed(broker, cx, Action::ReadKey, resource).await,
        ) else {
            return Err(refused);
        };
        cx.subject(|subject| {
            subject.key = Some(detached.key.id);
            subject.connection = detached.key.primary.connection_id();
            subject.provider = Some(detached.key.primary.provider);
        });
        Ok((InspectedKey::Detached(Box::new(detached)), policy))
    }
}

/// The two keys of a rewrap to another key. The record names the source, or the target once
/// the operation fails on it or has succeeded.
pub struct KeyPair {
    pub(in crate::broker) source: Arc<KeyEntry>,
    pub(in crate::broker) target: Arc<KeyEntry>,
}

/// How a request names the keys of a rewrap to another key.
#[derive(Debug, Clone, Copy)]
pub struct PairNamed<'a> {
    /// The key that the wrapped key belongs to, by name.
    pub source: &'a str,
    /// The key that is to wrap, by name.
    pub target: &'a str,
}

impl Names<KeyPair> for PairNamed<'_> {
    async fn admit(self, broker: &Broker, cx: &RequestContext, action: Action) -> Result<(KeyPair, PolicyRef), Failure> {
        let (source, policy) = Names::<Arc<KeyEntry>>::admit(KeyNamed::Name(self.source), broker, cx, action).await?;
        // A denial from here on is recorded for the target key.
        let of_source = cx.subject(|subject| {
            let of_source = subject.clone();
            subject.action = Action::RewrapTo;
            of_source
        });
        let (target, _) = Names::<Arc<KeyEntry>>::admit(KeyNamed::Name(self.target), broker, cx, Action::RewrapTo).await?;
        cx.subject(|subject| *subject = of_source);
        Ok((KeyPair { source, target }, policy))
    }
}

impl Names<Arc<ConnectionEntry>> for &str {
    async fn admit(self, broker: &Broker, cx: &RequestContext, action: Action) -> Result<(Arc<ConnectionEntry>, PolicyRef), Failure> {
        cx.require_tenant()?;
        decide::precheck(broker, cx, action)?;
        let found = reached_connection(broker, cx, action, self, Resource::Connection(None)).await?;
        let row = found.as_ref().map(|entry| entry.view());
        cx.subject(|subject| {
            subject.connection = row.as_ref().map(|row| row.id);
            subject.provider = row.as_ref().map(|row| row.provider);
        });
        let policy = decide::allowed(broker, cx, action, Resource::Connection(row.as_deref())).await?;
        let absent = || {
            let degraded = broker.no_such_connection(cx.tenant(), self, cx.caller().is_operator());
            degraded.unwrap_or_else(|| Failure::none_named("connection"))
        };
        found.map(|entry| (entry, policy)).ok_or_else(absent)
    }
}

/// How a request names a connection to be changed.
#[derive(Debug, Clone, Copy)]
pub struct ConnectionUpdateNamed<'a> {
    /// The connection, by name.
    pub connection: &'a str,
    /// Whether the change is of its network settings.
    pub changes_network: bool,
}

impl Names<Arc<ConnectionEntry>> for ConnectionUpdateNamed<'_> {
    async fn admit(self, broker: &Broker, cx: &RequestContext, action: Action) -> Result<(Arc<ConnectionEntry>, PolicyRef), Failure> {
        let (connection, policy) = Names::<Arc<ConnectionEntry>>::admit(self.connection, broker, cx, action).await?;
        if self.changes_network {
            // Who may say where the tenant's data keys go could do so by a new connection as well.
            let provider = connection.view().provider;
            let create = (Action::CreateConnection, Resource::NewConnection { provider });
            let advice =
                "Other network settings decide where the tenant's data keys go. They need the permission CreateConnection as well.";
            also_allowed(broker, cx, create, advice).await?;
        }
        Ok((connection, policy))
    }
}

/// A connection by name. It is not looked up for a caller who reaches named keys alone and is denied `absent`, what
/// decides where there is no such connection: the denial costs the same whether there is one.
async fn reached_connection(
    broker: &Broker,
    cx: &RequestContext,
    action: Action,
    name: &str,
    absent: Resource<'_>,
) -> Result<Option<Arc<ConnectionEntry>>, Failure> {
    let is_limited = broker.authorizer.keys(cx.caller(), action).only().is_some();
    if is_limited && decide::allowed(broker, cx, action, absent).await.is_err() {
        return Ok(None);
    }
    connection(broker, cx.tenant(), name, action).await
}

pub(super) async fn connection(
    broker: &Broker,
    tenant: TenantId,
    name: &str,
    action: Action,
) -> Result<Option<Arc<ConnectionEntry>>, Failure> {
    match broker.store.connection_by_name(tenant, name).await {
        Ok(row) if action == Action::Sever => Ok(broker.directory.connection_to_sever(tenant, row.id).await?),
        Ok(row) => Ok(broker.directory.connection(tenant, row.id).await?),
        Err(StoreError::NotFound) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// A connection to be created in the tenant. A request names the kind of provider.
pub struct NewConnectionIn {
    pub(in crate::broker) provider: ProviderKind,
}

impl Names<NewConnectionIn> for ProviderKind {
    async fn admit(self, broker: &Broker, cx: &RequestContext, action: Action) -> Result<(NewConnectionIn, PolicyRef), Failure> {
        cx.require_tenant()?;
        cx.subject(|subject| subject.provider = Some(self));
        let policy = decide::allowed(broker, cx, action, Resource::NewConnection { provider: self }).await?;
        Ok((NewConnectionIn { provider: self }, policy))
    }
}

/// A key to be created through a connection. A request names the connection.
pub struct NewKeyIn {
    pub(in crate::broker) connection: Arc<ConnectionEntry>,
}

impl Names<NewKeyIn> for &str {
    async fn admit(self, broker: &Broker, cx: &RequestContext, action: Action) -> Result<(NewKeyIn, PolicyRef), Failure> {
        cx.require_tenant()?;
        decide::precheck(broker, cx, action)?;
        let found = reached_connection(broker, cx, action, self, Resource::NewKey { connection: None }).await?;
        let row = found.as_ref().map(|entry| entry.view());
        cx.subject(|subject| {
            subject.connection = row.as_ref().map(|row| row.id);
            subject.provider = row.as_ref().map(|row| row.provider);
        });
        let resource = Resource::NewKey {
            connection: row.as_deref(),
        };
        let policy = decide::allowed(broker, cx, action, resource).await?;
        let absent =
            || Failure::new(Code::NotFound, "There is no such connection in this tenant.").at("/connection", "a connection's name");
        let degraded = || broker.no_such_connection(cx.tenant(), self, cx.caller().is_operator());
        let connection = found.ok_or_else(|| degraded().unwrap_or_else(absent))?;
        Ok((NewKeyIn { connection }, policy))
    }
}

/// What a new primary version is to be; what is `None` stays as it is.
#[derive(Debug, Clone, Copy, Default)]
pub struct NewPrimary<'a> {
    /// The name of the connection to reach it through.
    pub connection: Option<&'a str>,
    /// The provider key to adopt.
    pub provider_key: Option<&'a str>,
    /// The specification.
    pub spec: Option<KeySpec>,
}

impl NewPrimary<'_> {
    /// Whether the new primary version uses another provider key than this version. Then the key
    /// moves. If the request names a provider key, it must be another one; otherwise the move is
    /// refused.
    pub fn differs_from(&self, primary: &KeyVersion) -> bool {
        let there = primary.connection.as_ref().map(|connection| connection.name.as_str());
        self.provider_key.is_some()
            || self.connection.is_some_and(|connection| Some(connection) != there)
            || self.spec.is_some_and(|spec| spec != primary.spec)
    }
}

/// A key to be rotated and, if it moves, the new connection. The record names the key's old
/// connection, or the new one if the operation was denied there or has succeeded.
pub struct RotateOf {
    pub(in crate::broker) key: Arc<KeyEntry>,
    pub(in crate::broker) to: Option<Arc<ConnectionEntry>>,
}

/// How a request names a key to be rotated.
#[derive(Debug, Clone, Copy)]
pub struct RotateNamed<'a> {
    /// The key, by name.
    pub key: &'a str,
    /// What its new primary version is to be.
    pub new: NewPrimary<'a>,
}

impl Names<RotateOf> for RotateNamed<'_> {
    async fn admit(self, broker: &Broker, cx: &RequestContext, action: Action) -> Result<(RotateOf, PolicyRef), Failure> {
        let (key, policy) = Names::<Arc<KeyEntry>>::admit(KeyNamed::Name(self.key), broker, cx, action).await?;
        let primary = key.view()?.key;
        let primary = &primary.primary;
        if !self.new.differs_from(primary) {
            return Ok((RotateOf { key, to: None }, policy));
        }
        // A move uses a new provider key, as a creation does, so it needs the permission to create
        // keys. A denial from here on is recorded as a denied `CreateKey`.
        let of_key = cx.subject(|subject| {
            let of_key = subject.clone();
            subject.action = Action::CreateKey;
            of_key
        });
        let there = primary.connection.as_ref().map_or("", |connection| connection.name.as_str());
        let (to, _) = Names::<NewKeyIn>::admit(self.new.connection.unwrap_or(there), broker, cx, Action::CreateKey).await?;
        cx.subject(|subject| *subject = of_key);
        let to = Some(to.connection);
        Ok((RotateOf { key, to }, policy))
    }
}
