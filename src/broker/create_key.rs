//! Create: makes a key at the provider, or adopts one that exists there.

use std::sync::Arc;

use claviger_provider::{Error, ErrorKind, KeyDescription, KeyId, KeyRequest, KeySpec, OpContext, ProviderKind, TenantId};

use super::connections::MANAGED_BY;
use super::described::{described_anew, number_versions};
use super::export::{Destination, may_leave};
use super::external_custody::{may_cache, may_change_cache};
use super::identity::Described;
use super::reach::Reach;
use super::read::changed;
use super::{Authorized, Broker, Code, Completed, Completion, Failure, Guarded, Keep, RequestContext, op};
use crate::audit::{self, Object, Verb};
use crate::store::model::{
    CacheSettings, Connection, Custody, DetachedFilter, Key, KeyState, KeyVersion, Labels, Page, Resource, Wanted, WantedKey,
};
use crate::store::{Change, StoreError, rules};

/// The longest name of a provider key that is adopted, in bytes.
const MAX_PROVIDER_KEY: usize = 512;

/// A key to be created or adopted.
#[derive(Debug, Clone)]
pub struct NewKey {
    /// Unique in the tenant.
    pub name: String,
    /// The key's specification.
    pub spec: KeySpec,
    /// The provider key to adopt; `None` to make one.
    pub adopt: Option<String>,
    /// The id to take, for an operator who restores a key; random if `None`.
    pub id: Option<KeyId>,
    /// Labels.
    pub labels: Labels,
    /// Cache rules.
    pub cache: CacheSettings,
    /// Whether the operator's configuration declares it.
    pub declared: bool,
}

impl Broker {
    /// Creates or adopts a key through a connection. A key that this tenant detached comes back
    /// under its id. It comes back disabled if it was disabled before, or if a connection of one of
    /// its versions was severed then or is severed now.
    ///
    /// # Errors
    /// `already_exists`, `provider_key_taken` within the tenant, `provider_denied` where the owner is not
    /// proven or another tenant has claimed the provider key, `unsupported` for a specification that the provider
    /// lacks, `operator_only_setting` for an id that is not an operator's, `quota_exceeded`, and what the provider reports.
    pub async fn create_key(
        &self,
        authorized: Authorized<op::CreateKey>,
        new: NewKey,
        keep: Keep<Key>,
    ) -> Result<Guarded<Completed<Key>>, Failure> {
        let (cx, connection) = (authorized.cx(), &authorized.object().connection);
        if new.id.is_some() && !cx.caller().is_operator() {
            return Err(Failure::new(Code::OperatorOnlySetting, "Only a platform operator chooses a key's id.").at("/id", "left out"));
        }
        let reach = Reach::through(Arc::clone(connection))
            .map_err(|_| Failure::new(Code::ConnectionSevered, "The connection is severed.").advice("Restore the connection."))?;
        let view = &reach.row;
        can_be_made(&reach, new.spec, new.adopt.as_deref())?;
        // Of two requests for the same name, the second must fail before it creates a key at the
        // provider. A creation keeps the name also after its request ran out of time.
        let reserved = self.directory().reserve_name(cx.tenant(), &new.name);
        let reserved = Arc::new(reserved.ok_or_else(being_made)?);
        let wanted = WantedKey {
            name: new.name.clone(),
            labels: new.labels.clone(),
            cache: new.cache,
            declared: new.declared,
        };
        let drawn = match keep.drawn() {
            Some(drawn) => Some(drawn),
            None => self.begun_before(cx, &new, &wanted, view).await?,
        };
        if let Some(drawn) = drawn
            && let Some(finished) = self.finished_before(&authorized, &keep, drawn).await?
        {
            return Ok(finished);
        }
        match self.store.key_by_name(cx.tenant(), &new.name).await {
            Ok(_) => return Err(taken_name()),
            Err(StoreError::NotFound) => {}
            Err(error) => return Err(error.into()),
        }
        let new = self.with_own_name(cx, &reach, new).await?;
        let id = self.id_of(cx, &reach, &new, drawn).await?;
        authorized.creates(id);
        may_cache(cx, new.cache, Custody::of(view.provider).is_external())?;
        // A key in external custody must not get out of it by a detach and an adoption.
        match self.store.detached_key(cx.tenant(), id).await {
            Ok(before) => {
                may_leave(&before.key, &before.key.primary, Destination::SameKey(Custody::of(view.provider)))?;
                let versions = self.store.key_versions(cx.tenant(), id).await?;
                may_change_cache(cx, new.cache, versions.iter().any(|version| version.custody.is_external()))?;
                self.has_room(cx, &[], &keep).await?;
            }
            Err(StoreError::NotFound) => self.has_room(cx, &[Resource::Keys, Resource::Versions], &keep).await?,
            Err(error) => return Err(error.into()),
        }

        let request = KeyRequest {
            key_id: id,
            made_as: id,
            repeated: new.adopt.is_none() && drawn == Some(id),
            spec: new.spec,
            adopt: new.adopt,
            taken: false,
        };
        let goes_on = match view.provider {
            // It works in this process, and not for callers who are gone.
            ProviderKind::Local => None,
            _ => Some(Arc::clone(&reserved)),
        };
        let verb = if request.adopt.is_some() { Verb::Adopt } else { Verb::Create };
        let change = audit::StateChange::new(verb, Object::Key, &id).at_provider();
        let (change, described) = self
            .create_at_provider(cx, &keep, &reach, &request, Wanted::Key(wanted.clone()), change, goes_on)
            .await?;
        let described = made(described, request.spec)?;
        let identities = self.identify_detached(cx, id, &described, &reach).await?;
        let complete = |key: &Key| {
            cx.note(|fields| fields.key_version = Some(key.primary.number));
            // The response that is stored for a repeated request must show the row as the transaction
            // will leave it.
            Ok(change.keeping(keep.row(Completion::Created, key, Some(key.revision))?))
        };
        let row = self
            .store_created((&cx.op_context(), &reach), id, &wanted, (&described, &identities), complete)
            .await
            .map_err(|failure| left_there(&request, &described.id, failure))?;
        self.keep_first_canary(cx, id).await;
        Ok(Guarded::free(changed(Completion::Created, row)))
    }

    /// The id that was drawn for a key of this name through the same connection, whose creation has not ended,
    /// or whose caller has not been told that it has. `None` if that key is another one by now.
    ///
    /// # Errors
    /// `in_progress` while a creation of other labels or cache rules has not ended: it gets the key that it
    /// asked for, or none.
    async fn begun_before(
        &self,
        cx: &RequestContext,
        new: &NewKey,
        wanted: &WantedKey,
        through: &Connection,
    ) -> Result<Option<KeyId>, Failure> {
        if new.adopt.is_some() {
            return Ok(None);
        }
        let begun = self.store.creation_of_key(cx.tenant(), &new.name, through.id, new.spec).await;
        let begun = match begun {
            Ok(begun) if new.id.is_none_or(|asked| asked == begun.key) => begun,
            Ok(_) | Err(StoreError::NotFound) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let is_same = begun.wanted == Wanted::Key(wanted.clone());
        if self.store.holder(cx.tenant(), begun.key).await?.is_none() {
            return if is_same { Ok(Some(begun.key)) } else { Err(another_is_begun()) };
        }
        match self.store.key(cx.tenant(), begun.key).await {
            // Only the same request is answered with a key that exists.
            Ok(key) if key.name == new.name && is_same => Ok(Some(begun.key)),
            Ok(_) | Err(StoreError::NotFound) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The answer to a repetition whose first attempt the gateway finished after its answer was lost.
    async fn finished_before(
        &self,
        authorized: &Authorized<op::CreateKey>,
        keep: &Keep<Key>,
        id: KeyId,
    ) -> Result<Option<Guarded<Completed<Key>>>, Failure> {
        let cx = authorized.cx();
        let key = match self.store.key(cx.tenant(), id).await {
            Ok(key) => key,
            Err(StoreError::NotFound) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        authorized.creates(id);
        cx.note(|fields| fields.key_version = Some(key.primary.number));
        let kept = keep.row(Completion::Created, &key, Some(key.revision))?;
        let told = self.unannounced(cx).keeping(kept).ending(id);
        self.store.mark_applied(cx.tenant(), &told).await?;
        self.keep_first_canary(cx, id).await;
        Ok(Some(Guarded::free(changed(Completion::Created, key))))
    }

    /// Makes the canary of a key that was created or adopted.
    async fn keep_first_canary(&self, cx: &RequestContext, id: KeyId) {
        if let Ok(Some(entry)) = self.directory().key(cx.tenant(), id).await {
            Box::pin(self.keep_canary(cx, &entry)).await;
        }
    }

    /// Stores a key that a provider created or adopted through this connection. `complete` makes the change to commit of
    /// the row as the transaction will leave it.
    ///
    /// # Errors
    /// Those of [`Broker::create_key`] that the store decides.
    pub(super) async fn store_created(
        &self,
        (cx, through): (&OpContext, &Reach),
        id: KeyId,
        wanted: &WantedKey,
        (described, identities): Described<'_>,
        complete: impl FnOnce(&Key) -> Result<Change, Failure>,
    ) -> Result<Key, Failure> {
        let (tenant, view) = (cx.tenant, &*through.row);
        let beside = self.keys_elsewhere(cx, (tenant, id), &described.id, through).await?;
        self.not_detached_under_another_id((tenant, id), view.provider, &described.id, &beside)
            .await?;
        let now = self.now();
        // A key that is adopted again continues the numbers of its old versions.
        let old = self.versions_of(tenant, id).await?;
        let (mut versions, primary) = number_versions(&old, |version| identities.can_be(version), described, view, now)?;
        // They use this connection from now on. So do the versions that `rules::follow` selects.
        versions.extend(described_anew(&old, described, view));
        let primary = versions.iter().find(|version| version.number == primary).cloned();
        let primary = primary.ok_or_else(|| Failure::internal(&"a primary version without a row"))?;
        let mut key = Key {
            id,
            tenant,
            name: wanted.name.clone(),
            state: KeyState::Enabled,
            compromised_since: None,
            needs_restore: false,
            allow_export: false,
            primary,
            rotating: None,
            cache: wanted.cache,
            labels: wanted.labels.clone(),
            managed_by: wanted.declared.then(|| MANAGED_BY.to_owned()),
            epoch: 1,
            lifts: 0,
            revision: 1,
            created: now,
            updated: now,
        };
        // A key comes back disabled if a connection of one of its versions is severed.
        self.store_severs(tenant, &old).await?;
        if let Some(before) = self.store.holder(tenant, id).await? {
            rules::adopt(&mut key, &before, &old)?;
        }
        let change = complete(&key)?.beside(beside);
        let created = self.store.create_key(&key, &versions, &change).await;
        let row = created.map_err(|error| self.refused_claim(view, error))?;
        self.directory().readopted(tenant, id);
        Ok(row)
    }

    /// The request with the provider's own id of the key to adopt, if the tenant may have had that key before
    /// and the request names it otherwise, as by an alias or a short name: the store finds the key's old id only
    /// by the provider's own one. Reads at the provider where a call is needed, and changes nothing there.
    ///
    /// # Errors
    /// What the provider reports.
    async fn with_own_name(&self, cx: &RequestContext, through: &Reach, new: NewKey) -> Result<NewKey, Failure> {
        let Some(name) = &new.adopt else { return Ok(new) };
        let holders = self.store.provider_key_holders(cx.tenant(), through.row.provider, name).await?;
        if !holders.is_empty() || !self.has_detached_keys(cx.tenant()).await? {
            return Ok(new);
        }
        let factory = self.directory().factories().get(through.row.provider);
        if let Some(own) = factory.and_then(|factory| factory.own_id(&through.row.settings, name)) {
            return Ok(NewKey { adopt: Some(own), ..new });
        }
        let id = new.id.unwrap_or_else(KeyId::random);
        let request = KeyRequest {
            key_id: id,
            made_as: id,
            repeated: false,
            spec: new.spec,
            adopt: Some(name.clone()),
            taken: self.is_taken(cx.tenant(), &through.row, name).await?,
        };
        Ok(NewKey {
            adopt: Some(self.adopted(cx, through, &request).await?.id),
            ..new
        })
    }

    async fn has_detached_keys(&self, tenant: TenantId) -> Result<bool, Failure> {
        let any = DetachedFilter {
            connection: None,
            only: None,
        };
        let first = Page { after: None, size: 1 };
        Ok(!self.store.detached_keys(tenant, &any, &first).await?.items.is_empty())
    }

    /// The id that the key gets: the one that an earlier attempt of the request drew, or another. A provider
    /// key that this tenant detached before gets its old id, so that its wrapped keys open again.
    async fn id_of(&self, cx: &RequestContext, through: &Reach, new: &NewKey, drawn: Option<KeyId>) -> Result<KeyId, Failure> {
        let mut detached = Vec::new();
        let mut held = None;
        if let Some(name) = &new.adopt {
            let op = cx.op_context();
            for (holder, is_detached) in self.store.provider_key_holders(cx.tenant(), through.row.provider, name).await? {
                if is_detached {
                    detached.push(holder);
                } else if !self.is_elsewhere(&op, (cx.tenant(), holder), name, through).await? {
                    return Err(StoreError::ProviderKeyTaken.into());
                }
            }
            held = self.comes_back(&op, (cx.tenant(), &detached), name, through).await?;
        }
        match (held, new.id) {
            (Some(held), Some(asked)) if held != asked => Err(StoreError::ProviderKeyTaken.into()),
            (Some(held), Some(_) | None) => Ok(held),
            (None, Some(asked)) if self.versions_of(cx.tenant(), asked).await?.is_empty() => Ok(asked),
            (None, Some(_)) => Err(
                Failure::new(Code::AlreadyExists, "A key of that id exists in this tenant, or was detached.")
                    .advice("Leave out id, or adopt the detached key's provider key."),
            ),
            (None, None) => Ok(drawn.unwrap_or_else(KeyId::random)),
        }
    }

    /// Refuses an alias or a short name of a provider key that this tenant detached. Such a key
    /// must get its old id, which the store finds only by the provider key id. Those `beside` it are at other servers.
    async fn not_detached_under_another_id(
        &self,
        (tenant, id): (TenantId, KeyId),
        provider: ProviderKind,
        provider_key: &str,
        beside: &[KeyId],
    ) -> Result<(), Failure> {
        let holders = self.store.provider_key_holders(tenant, provider, provider_key).await?;
        match holders.into_iter().find(|(held, _)| *held != id && !beside.contains(held)) {
            Some((_, true)) => Err(Failure::new(
                Code::ProviderKeyTaken,
                format!("The tenant had this provider's key before and detached it; its own name is {provider_key}."),
            )
            .at(
                "/provider_key",
                "the provider's own name of the key, so that it comes back under its id",
            )),
            Some((_, false)) | None => Ok(()),
        }
    }

    /// The versions that the key of this id has, or had before it was detached; empty if there is none.
    pub(super) async fn versions_of(&self, tenant: TenantId, id: KeyId) -> Result<Vec<KeyVersion>, Failure> {
        match self.store.key_versions(tenant, id).await {
            Ok(versions) => Ok(versions),
            Err(StoreError::NotFound) => Ok(Vec::new()),
            Err(error) => Err(error.into()),
        }
    }
}

/// Refuses a specification that the connection's provider cannot create, or a provider key name
/// (`adopt`) that it cannot adopt.
///
/// # Errors
/// `invalid_request`, `unsupported`.
pub(super) fn can_be_made(reach: &Reach, spec: KeySpec, adopt: Option<&str>) -> Result<(), Failure> {
    if adopt.is_some_and(|name| name.is_empty() || name.len() > MAX_PROVIDER_KEY) {
        return Err(Failure::invalid("/provider_key", "1 to 512 bytes"));
    }
    let capabilities = reach.pipeline.capabilities();
    if capabilities.of(spec).is_none() {
        let mut failure = Failure::new(Code::Unsupported, "The connection's provider has no keys of this specification.");
        failure.provider = Some(reach.row.provider);
        return Err(failure.at("/spec", "one that the connection's capabilities name"));
    }
    if adopt.is_none() && !capabilities.create_key {
        return Err(
            Failure::new(Code::Unsupported, "The connection's provider makes no keys; it adopts them.")
                .at("/provider_key", "an existing key"),
        );
    }
    Ok(())
}

/// A key that the provider made or adopted as it was asked to.
///
/// # Errors
/// `key_state` when it is of another specification, or not enabled.
pub(super) fn made(described: KeyDescription, spec: KeySpec) -> Result<KeyDescription, Failure> {
    if described.spec != spec {
        let found = described.spec.as_str();
        let detail = format!(
            "The provider's key is of the specification {found}, and {} was asked for.",
            spec.as_str()
        );
        return Err(Failure::new(Code::KeyState, detail).at("/spec", found));
    }
    if described.state != claviger_provider::KeyState::Enabled {
        return Err(
            Failure::new(Code::KeyState, "The provider's key is not enabled.").advice("Enable the key at the provider, then retry.")
        );
    }
    Ok(described)
}

/// The failure of a creation or a move. Where the provider key cannot be claimed that was made for it, it is named, since
/// nothing will use it, and the gateway deletes nothing at a provider.
pub(super) fn left_there(request: &KeyRequest, provider_key: &str, failure: Failure) -> Failure {
    let is_claimed = matches!(failure.code, Code::ProviderKeyTaken | Code::ProviderDenied);
    if request.adopt.is_some() || !is_claimed {
        return failure;
    }
    let detail = format!(
        "{} The provider made the key `{provider_key}` for this request, and nothing uses it: delete it there.",
        failure.detail
    );
    Failure {
        detail: detail.into(),
        ..failure
    }
}

/// The failure of a creation of a name whose last creation, with other labels or cache rules, may still succeed.
fn another_is_begun() -> Failure {
    Failure::new(
        Code::InProgress,
        "A creation of that name with other labels or cache rules was not answered by the provider, and may still succeed.",
    )
    .advice(
        "Repeat that request as it was, or wait: the gateway finds out a minute after it. Then change the key's labels and cache rules, or \
         create it if there is none.",
    )
}

/// The failure of a creation: what the provider does not find is the place for the key.
pub(super) fn refused_creation(error: Error) -> Failure {
    let is_nowhere = error.kind == ErrorKind::KeyNotFound;
    let mut failure = Failure::from(error);
    if is_nowhere {
        failure.detail =
            "The provider has no such place for keys as the connection's settings name, or hides it from the connection's identity.".into();
    }
    failure
}

/// The failure of a creation or a rename while another one has reserved the name.
pub(super) fn being_made() -> Failure {
    Failure::new(Code::InProgress, "A key of that name is being made.").advice("Repeat the request in a moment.")
}

pub(super) fn taken_name() -> Failure {
    Failure::new(Code::AlreadyExists, "A key of that name exists in this tenant.")
}
