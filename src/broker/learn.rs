//! Reads a key's versions and their states at the provider, and stores what changed. Each such
//! change has an intent and an outcome in the tenant's log, like a change that a request makes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use claviger_provider::{ConnectionId, ErrorKind, KeyDescription, KeyId, OpContext, TenantId};

use super::described::{all_in_state, in_place, known_states, number_versions};
use super::identity::Described;
use super::reach::Reach;
use super::young::is_young;
use super::{Broker, Code, Failure};
use crate::audit::{self, Authn, Intent, Internal, Object, Outcome, Verb};
use crate::keys::{KeyEntry, KeyView};
use crate::store::model::{Connection, KeyVersion, ProviderState, SeenVersion};
use crate::store::{Change, rules};

/// The least time that a record may take, as in [`super::conclude`].
const RECORD_TIME: Duration = Duration::from_secs(3);

/// What a key description contains and the store lacks.
struct News {
    /// Versions without a row.
    versions: Vec<KeyVersion>,
    /// What differs of versions that have one.
    states: Vec<SeenVersion>,
    /// The number of the primary version.
    primary: u32,
    /// Whether the primary version is another one.
    moves: bool,
}

/// What was stored of it.
#[derive(Default)]
pub(super) struct Stored {
    /// New versions, or another primary one.
    versions: bool,
    /// Other states.
    states: bool,
}

impl Stored {
    /// Something else than versions.
    pub(super) const fn states() -> Self {
        Self {
            versions: false,
            states: true,
        }
    }
}

impl News {
    fn of(view: &KeyView, (described, identities): Described<'_>, through: &Connection, now: i64) -> Result<Self, Failure> {
        let states = known_states(&view.versions, described, identities, through);
        if !identities.permit_versions() {
            return Ok(Self {
                versions: Vec::new(),
                states,
                primary: view.key.primary.number,
                moves: false,
            });
        }
        let in_place = in_place(view);
        let can_be = |version: &KeyVersion| in_place(version) && identities.can_be(version);
        let (versions, primary) = number_versions(&view.versions, can_be, described, through, now)?;
        Ok(Self {
            states,
            moves: !versions.is_empty() || primary != view.key.primary.number,
            versions,
            primary,
        })
    }
}

impl Broker {
    /// As [`Broker::take_versions`], without a request.
    ///
    /// # Errors
    /// As [`Broker::take_versions`]; `connection_severed`, and `permission_denied` for a suspended
    /// tenant: nothing was asked then.
    pub(super) async fn take_versions_in_background(
        &self,
        name: &str,
        key: &Arc<KeyEntry>,
        patience: Duration,
        announced: Option<&Change>,
    ) -> Result<bool, Failure> {
        if self.is_suspended(key.tenant()).await? {
            return Err(Failure::new(Code::PermissionDenied, "The tenant is suspended."));
        }
        let Ok(view) = key.view() else { return Ok(false) };
        let reach = self.reach(key, &view.key.primary).await?;
        let cx = self.background.operation(name, key.tenant(), reach.connection.id(), patience);
        self.take_versions_through(&cx, key, &view, &reach, announced).await
    }

    /// Asks the primary version's provider to describe the key, and stores what changed: new
    /// versions (after an interrupted rotate, or a rotation at the provider itself) and changed
    /// states. Returns whether there were new versions, or another primary version. The caller
    /// holds the turn at the provider, so that the key does not move meanwhile. `announced` is the
    /// change that a recovered intent announced; only new versions belong to it.
    ///
    /// # Errors
    /// What the provider, the log or the store reports.
    pub(super) async fn take_versions(&self, cx: &OpContext, key: &Arc<KeyEntry>) -> Result<bool, Failure> {
        let Ok(view) = key.view() else { return Ok(false) };
        let reach = self.reach(key, &view.key.primary).await?;
        self.take_versions_through(cx, key, &view, &reach, None).await
    }

    /// As [`Broker::take_versions`], through the connection of the primary version of these rows.
    /// `announced` is the change that a recovered intent announced; only new versions belong to it.
    pub(super) async fn take_versions_through(
        &self,
        cx: &OpContext,
        key: &KeyEntry,
        view: &KeyView,
        reach: &Reach,
        announced: Option<&Change>,
    ) -> Result<bool, Failure> {
        let described = match announced {
            None => self.describe(cx, key, &view.key.primary, reach).await?,
            Some(_) => Some(reach.pipeline.describe(cx, &view.key.primary.whole_kek(view.key.id)).await?),
        };
        let Some(described) = described else { return Ok(false) };
        let through = &reach.row;
        let identities = self
            .identify(cx, (key.tenant(), key.id()), &view.versions, &described, (through, &reach.pipeline))
            .await?;
        let described = (&described, &identities);
        let news = News::of(view, described, through, self.now())?;
        if !news.moves && (news.states.is_empty() || announced.is_some()) {
            return Ok(false);
        }
        if let Some(change) = announced {
            return Ok(self.store_news(key, through, described, change).await?.versions);
        }
        let store = async |change: &Change| self.store_news(key, through, described, change).await;
        Ok(self.learn(key, through, cx.deadline, store).await?.versions)
    }

    /// Asks the provider of a version to describe its key, and stores the states that changed. The caller holds
    /// the turn at the provider.
    ///
    /// # Errors
    /// What the provider, the log or the store reports.
    pub(super) async fn take_states(&self, cx: &OpContext, key: &KeyEntry, version: &KeyVersion, reach: &Reach) -> Result<(), Failure> {
        let through = &reach.row;
        let Some(described) = self.describe(cx, key, version, reach).await? else {
            return Ok(());
        };
        let known = key.view()?.versions;
        let identities = self
            .identify(cx, (key.tenant(), key.id()), &known, &described, (through, &reach.pipeline))
            .await?;
        self.take(cx, key, reach, |versions| known_states(versions, &described, &identities, through))
            .await
    }

    /// Has the provider of a version describe its key. Stores that it does not find the key, unless it may not know it
    /// yet, or that the key is of a kind that cannot be used: then the description is `None`. The request is not at fault
    /// for what an owner did to a key, or has put in its place.
    async fn describe(
        &self,
        cx: &OpContext,
        key: &KeyEntry,
        version: &KeyVersion,
        reach: &Reach,
    ) -> Result<Option<KeyDescription>, Failure> {
        let error = match reach.pipeline.describe(cx, &version.whole_kek(key.id())).await {
            Ok(described) => return Ok(Some(described)),
            Err(error) => error,
        };
        let is_unfit = error.kind == ErrorKind::InvalidInput && error.found.is_some();
        let is_missing = error.kind == ErrorKind::KeyNotFound && !is_young(version, self.now());
        if is_unfit || is_missing {
            let state = if is_unfit { ProviderState::Unfit } else { ProviderState::Unknown };
            self.take(cx, key, reach, |versions| all_in_state(versions, version, state)).await?;
        }
        if is_unfit { Ok(None) } else { Err(error.into()) }
    }

    /// Stores the states that `changed` returns of the key's versions.
    pub(super) async fn take(
        &self,
        cx: &OpContext,
        key: &KeyEntry,
        reach: &Reach,
        changed: impl Fn(&[KeyVersion]) -> Vec<SeenVersion>,
    ) -> Result<(), Failure> {
        if changed(&key.view()?.versions).is_empty() {
            return Ok(());
        }
        let store = async |change: &Change| {
            let _row = key.change().lock().await;
            let view = key.view()?;
            let states = changed(&view.versions);
            self.store_states(key, &states, view.versions.to_vec(), change).await?;
            Ok(Stored {
                versions: false,
                states: !states.is_empty(),
            })
        };
        self.learn(key, &reach.row, cx.deadline, store).await.map(drop)
    }

    /// Records an intent, runs `store`, and records the outcome, with the primary version that the key has
    /// then.
    pub(super) async fn learn(
        &self,
        key: &KeyEntry,
        through: &Connection,
        deadline: Instant,
        store: impl AsyncFnOnce(&Change) -> Result<Stored, Failure>,
    ) -> Result<Stored, Failure> {
        let update = audit::StateChange::new(Verb::Update, Object::Key, &key.id());
        let intent = self.announce_learned(key.tenant(), key.id(), through, update, deadline).await?;
        // What a provider describes is not the tenant's wish alone, and must not fill the store either.
        let change = Change::announced(intent.position().0).within(Some(self.quotas));
        let mut stored = store(&change).await;
        // A stored change marks the intent as applied. If nothing was left to store, it is marked here:
        // its outcome is `success`, so the next start expects it in the store.
        if matches!(
            stored,
            Ok(Stored {
                versions: false,
                states: false
            })
        ) && let Err(error) = self.store.mark_applied(key.tenant(), &change).await
        {
            stored = Err(error.into());
        }
        let primary = match &stored {
            Ok(Stored { versions: true, .. }) => key.view().ok().map(|view| view.key.primary.number),
            Ok(_) | Err(_) => None,
        };
        resolve_learned(intent, &stored, primary).await;
        stored
    }

    /// Records the intent of a change that a lost answer left to be finished, runs `store`, which returns the
    /// number of the primary version, and records the outcome.
    pub(super) async fn finish(
        &self,
        key: KeyId,
        through: &Connection,
        change: audit::StateChange,
        deadline: Instant,
        store: impl AsyncFnOnce(Change) -> Result<u32, Failure>,
    ) -> Result<(), Failure> {
        let intent = self.announce_learned(through.tenant, key, through, change, deadline).await?;
        let stored = store(Change::announced(intent.position().0).within(Some(self.quotas))).await;
        resolve_learned(intent, &stored, stored.as_ref().ok().copied()).await;
        stored.map(drop)
    }

    /// A record of what no request asked for.
    pub(super) fn background_entry(&self, tenant: TenantId, key: KeyId, connection: ConnectionId) -> audit::Record {
        let mut record = self.log.entry(tenant, audit::Operation::Internal(Internal::Background));
        record.authn = Some(Authn::Gateway);
        record.key = Some(key);
        record.connection = Some(connection);
        record
    }

    /// Records the intent of a change that no request asked for.
    async fn announce_learned(
        &self,
        tenant: TenantId,
        key: KeyId,
        through: &Connection,
        change: audit::StateChange,
        deadline: Instant,
    ) -> Result<Intent, Failure> {
        let mut record = self.background_entry(tenant, key, through.id);
        record.provider = Some(through.provider);
        self.log.intent(record, change, deadline).await.map_err(|error| {
            tracing::error!(%error, "an intent could not be recorded");
            Failure::new(Code::AuditUnavailable, "The audit log cannot record the intent; nothing was done.")
        })
    }

    async fn store_news(&self, key: &KeyEntry, through: &Connection, described: Described<'_>, change: &Change) -> Result<Stored, Failure> {
        let _row = key.change().lock().await;
        let now = self.now();
        let Ok(view) = key.view() else { return Ok(Stored::default()) };
        let news = News::of(&view, described, through, now)?;
        let (tenant, id) = (key.tenant(), key.id());
        let mut versions = view.versions.to_vec();
        if news.moves {
            // A new version can have the names of one that was replaced. That alone does not apply the change.
            let replaced = |seen: &SeenVersion| seen.state == ProviderState::Replaced;
            let replaced: Vec<SeenVersion> = news.states.iter().copied().filter(replaced).collect();
            if !replaced.is_empty() {
                self.store
                    .set_provider_states(tenant, id, &replaced, now, &Change::unannounced())
                    .await?;
            }
            let added = self
                .store
                .add_key_versions(tenant, id, &news.versions, news.primary, now, change)
                .await;
            let row = added.map_err(|error| self.refused_claim(through, error))?;
            versions.extend(news.versions);
            key.put(row, Some(versions.clone()));
        }
        self.store_states(key, &news.states, versions, change).await?;
        Ok(Stored {
            versions: news.moves,
            states: !news.states.is_empty(),
        })
    }

    /// Stores other states of a key's `versions`. The caller holds the key's `change` lock.
    async fn store_states(
        &self,
        key: &KeyEntry,
        states: &[SeenVersion],
        mut versions: Vec<KeyVersion>,
        change: &Change,
    ) -> Result<(), Failure> {
        if states.is_empty() {
            return Ok(());
        }
        let row = self
            .store
            .set_provider_states(key.tenant(), key.id(), states, self.now(), change)
            .await?;
        let before = versions.clone();
        rules::set_provider_states(&mut versions, states);
        warn_of(key, &versions, &before);
        key.put(row, Some(versions));
        Ok(())
    }
}

/// Logs what became of versions at their provider that an operator should know.
fn warn_of(key: &KeyEntry, versions: &[KeyVersion], before: &[KeyVersion]) {
    let (tenant, id) = (key.tenant(), key.id());
    let pairs = || versions.iter().zip(before);
    for (version, _) in pairs().filter(|(version, before)| version.exposure != before.exposure && is_exposed(version)) {
        let version = version.number;
        tracing::warn!(%tenant, key = %id, version, "the owner of a key lets a version's material leave the provider now: the version has warnings");
    }
    // All of them are of one provider key.
    let became = |state| {
        let news = move |(version, before): &(&KeyVersion, &KeyVersion)| version.provider_state == state && before.provider_state != state;
        pairs().rfind(news).map(|(newest, _)| newest)
    };
    if let Some(newest) = became(ProviderState::Unproven) {
        let (version, provider_key) = (newest.number, &newest.provider_key);
        tracing::warn!(%tenant, key = %id, version, provider_key, "the provider may have another key under the name of a version's key, and nothing shows which: no version of it is taken");
    }
    if let Some(newest) = became(ProviderState::Replaced) {
        let (version, provider_key) = (newest.number, &newest.provider_key);
        tracing::warn!(%tenant, key = %id, version, provider_key, "the provider has another key under the name of a version's key: it is not used, and what the old one wrapped does not open");
    }
    if let Some(newest) = became(ProviderState::Unfit) {
        let (version, provider_key) = (newest.number, &newest.provider_key);
        tracing::warn!(%tenant, key = %id, version, provider_key, "the key of a version is of another type at the provider, or has not the usages that the gateway needs: nothing is wrapped with it");
    }
    if let Some(newest) = became(ProviderState::Unknown) {
        let (version, provider_key) = (newest.number, &newest.provider_key);
        tracing::warn!(%tenant, key = %id, version, provider_key, "the provider does not have a version of a key any more, or hides it from the connection's identity");
    }
}

/// Records the outcome of a change that no request asked for, with the primary version that it led to.
async fn resolve_learned<T>(intent: Intent, stored: &Result<T, Failure>, primary: Option<u32>) {
    let outcome = match stored {
        Ok(_) => Outcome::Success,
        Err(failure) if failure.outcome_unknown => Outcome::Interrupted,
        Err(failure) => Outcome::Failed(failure.code.as_str()),
    };
    let complete = |record: &mut audit::Record| record.key_version = primary.map(audit::Number::from);
    if let Err(error) = intent.resolve(outcome, complete, (), Instant::now() + RECORD_TIME).await {
        tracing::error!(%error, "the outcome of what was learned of a key could not be recorded yet");
    }
}

const fn is_exposed(version: &KeyVersion) -> bool {
    version.exposure.exportable || version.exposure.plaintext_backup
}
