//! Creations of provider keys whose answers were lost: found out at the provider, and finished, or reported.
//!
//! Each creation is noted in the store before the provider is asked, under the id that names the provider
//! key there, and ends in the transaction of what it was for. What is left after [`LOST`] is looked for.

use std::sync::Arc;
use std::time::{Duration, Instant};

use claviger_provider::{ErrorKind, KeyDescription, KeyId, KeyRequest, TenantId};

use super::create_key::{made, taken_name};
use super::idempotency::Begun;
use super::identity::Identities;
use super::reach::{Reach, permitted};
use super::rotate::not_rotating;
use super::rounds::{PATIENCE, ROUND, ROUND_OF_TENANT, check_all, later, passes};
use super::{Broker, Code, Failure, Keep, RequestContext};
use crate::audit::{self, Object, Outcome, Verb};
use crate::keys::{ConnectionEntry, KeyEntry};
use crate::store::model::{Creation, KeyState, Wanted, WantedKey};
use crate::store::{Change, StoreError};

/// How long after its begin a creation is looked for: the request may still be under way to the provider,
/// its caller may repeat it, and not every provider lists a new key at once.
const LOST: Duration = Duration::from_secs(60);
/// How long the caller whose request it was can learn by repeating it that a creation is finished.
const UNTOLD: Duration = Duration::from_secs(24 * 3600);
/// The pause after a look that failed.
const AGAIN: Duration = Duration::from_secs(5 * 60);
/// How long a provider is asked that cannot answer.
const BELIEVED: Duration = Duration::from_secs(24 * 3600);

impl Broker {
    /// Notes that a provider is asked next to create a key under `request.made_as`: so that a repetition with
    /// the idempotency key creates no second one, and that it is looked for if its answer gets lost.
    ///
    /// # Errors
    /// The store's, and `quota_exceeded`: the provider must not be asked.
    pub(super) async fn begin_creation<T>(
        &self,
        cx: &RequestContext,
        keep: &Keep<T>,
        request: &KeyRequest,
        through: &Reach,
        wanted: Wanted,
    ) -> Result<(), Failure> {
        let begun = self.now();
        let creation = Creation {
            tenant: cx.tenant(),
            made_as: request.made_as,
            key: request.key_id,
            connection: through.row.id,
            spec: request.spec,
            wanted,
            asked_by: cx.credential_ref(),
            begun,
            due: later(begun, LOST),
        };
        let change = self
            .unannounced(cx)
            .keeping(keep.begins(Begun::MakeAs(request.made_as)))
            .within(self.quotas_of(cx))
            .beginning(creation);
        self.store.mark_applied(cx.tenant(), &change).await?;
        cx.set_noted();
        Ok(())
    }

    /// Forgets what [`Broker::begin_creation`] noted, where the provider certainly created nothing: what exists
    /// there under that name is somebody else's.
    pub(super) async fn forget_creation<T>(&self, cx: &RequestContext, keep: &Keep<T>, request: &KeyRequest) {
        // An earlier attempt may have created it.
        if cx.provider_may_have_changed() || request.repeated {
            return;
        }
        let change = Change::unannounced().keeping(keep.begins_nothing()).ending(request.made_as);
        if let Err(error) = self.store.mark_applied(cx.tenant(), &change).await {
            tracing::warn!(%error, "a refused creation is looked for at the provider, and its repetition may take what exists there");
        }
    }

    /// Looks for each provider key that was asked for and whose answer was lost, once it is due. Finishes what
    /// it was for, or reports it: also where the credential that asked has ended. Those of a suspended tenant wait
    /// for its resume. Call it periodically.
    ///
    /// # Errors
    /// The code of a failure; each failure is logged.
    pub async fn finish_creations(&self) -> Result<(), Code> {
        let due = self
            .store
            .due_creations(self.now(), ROUND, ROUND_OF_TENANT)
            .await
            .map_err(|error| {
                tracing::warn!(%error, "the store cannot list the creations whose answers were lost");
                Failure::from(error).code
            })?;
        let late = self.late_answers.take().into_iter();
        let late = late.map(|((tenant, made_as), described)| (tenant, made_as, Some(described)));
        let looks = late.chain(due.into_iter().map(|creation| (creation.tenant, creation.made_as, None)));
        check_all(looks.map(async |(tenant, made_as, described)| {
            let finished = self.finish_begun(tenant, made_as, described).await;
            finished.map_err(|failure| {
                tracing::warn!(%tenant, %made_as, code = failure.code.as_str(), "a provider key whose creation was not answered could not be looked for");
                failure.code
            })
        }))
        .await
    }

    /// Finishes a creation, unless it has ended since. `described` is what the provider answered too late.
    async fn finish_begun(&self, tenant: TenantId, made_as: KeyId, described: Option<KeyDescription>) -> Result<(), Failure> {
        // A late answer is looked for again, as every creation is, after the tenant's resume.
        if self.is_suspended(tenant).await? {
            return Ok(());
        }
        match self.store.creation(tenant, made_as).await {
            Ok(creation) => self.finish_creation(&creation, described).await,
            Err(StoreError::NotFound) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Takes the lock that a request for the same takes, and looks.
    async fn finish_creation(&self, creation: &Creation, described: Option<KeyDescription>) -> Result<(), Failure> {
        match &creation.wanted {
            Wanted::Key(wanted) => {
                let Some(_reserved) = self.directory().reserve_name(creation.tenant, &wanted.name) else {
                    return Ok(());
                };
                if self.has_finished(creation).await? {
                    // Nobody has asked for it since.
                    let told = Change::unannounced().ending(creation.made_as);
                    return Ok(self.store.mark_applied(creation.tenant, &told).await?);
                }
                self.look_for(creation, described, async |creation, reach, described| {
                    self.finish_key(creation, wanted, reach, described).await
                })
                .await
            }
            Wanted::VersionAfter(from) => {
                let Some(key) = self.directory().key(creation.tenant, creation.key).await? else {
                    let detached = || Failure::new(Code::NotFound, "The key was detached.");
                    return self
                        .look_for(creation, described, async |_: &Creation, _: &Reach, _: KeyDescription| {
                            Err(detached())
                        })
                        .await;
                };
                let Ok(_one_at_a_time) = key.at_provider().try_lock() else {
                    return Ok(());
                };
                self.look_for(creation, described, async |creation, reach, described| {
                    self.finish_move(creation, &key, *from, reach, described).await
                })
                .await
            }
        }
    }

    /// Whether the key of a creation has the provider key already.
    async fn has_finished(&self, creation: &Creation) -> Result<bool, Failure> {
        let versions = match self.store.key_versions(creation.tenant, creation.key).await {
            Ok(versions) => versions,
            Err(StoreError::NotFound) => return Ok(false),
            Err(error) => return Err(error.into()),
        };
        Ok(versions.iter().any(|version| version.connection_id() == Some(creation.connection)))
    }

    /// Asks the provider for the key, unless it has answered too late, and runs `finish` on it, with the creation as
    /// it is stored now. The caller holds the lock that a request for the same takes.
    async fn look_for(
        &self,
        creation: &Creation,
        late: Option<KeyDescription>,
        finish: impl AsyncFnOnce(&Creation, &Reach, KeyDescription) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let (tenant, now) = (creation.tenant, self.now());
        // A request may have ended it, or begun it again with another credential, since it was listed.
        let creation = &match self.store.creation(tenant, creation.made_as).await {
            Ok(creation) if late.is_some() || creation.is_due(now) => creation,
            Ok(_) | Err(StoreError::NotFound) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let Some(connection) = self.directory().connection(tenant, creation.connection).await? else {
            return self.give_up(creation, None, Code::NotFound, None).await;
        };
        // Looked for once the connection is restored.
        let Ok(reach) = Reach::through(connection) else {
            return self.postpone(creation, LOST).await;
        };
        let request = KeyRequest {
            key_id: creation.key,
            made_as: creation.made_as,
            repeated: true,
            spec: creation.spec,
            adopt: None,
            taken: false,
        };
        let found = if late.is_some() {
            Ok(late)
        } else {
            let cx = self.background.operation("creation", tenant, reach.row.id, PATIENCE);
            reach.pipeline.find_made(&cx, &request).await
        };
        let described = match found {
            Ok(Some(described)) => described,
            Ok(None) => {
                let Creation { key, made_as, .. } = creation;
                tracing::info!(%tenant, %key, %made_as, "the provider has not created the key whose creation was not answered");
                return self.end_creation(creation, Some(&reach), Code::NotFound).await;
            }
            Err(error) if error.kind == ErrorKind::Severed => return self.postpone(creation, LOST).await,
            Err(error) if now > later(creation.begun, BELIEVED) => {
                let failure = Failure::from(error);
                return self.give_up(creation, Some(&reach), failure.code, None).await;
            }
            Err(error) => {
                self.postpone(creation, AGAIN).await?;
                return Err(error.into());
            }
        };
        let provider_key = described.id.clone();
        match finish(creation, &reach, described).await {
            Ok(()) => {
                let Creation { key, made_as, .. } = creation;
                tracing::info!(%tenant, %key, %made_as, provider_key, "a creation whose answer was lost is finished");
                Ok(())
            }
            // Suspended meanwhile: it waits for the resume.
            Err(failure) if failure.code == Code::PermissionDenied && self.is_suspended(tenant).await? => Ok(()),
            Err(failure) if passes(failure.code) && now <= later(creation.begun, BELIEVED) => {
                self.postpone(creation, AGAIN).await?;
                Err(failure)
            }
            Err(failure) => self.give_up(creation, Some(&reach), failure.code, Some(&provider_key)).await,
        }
    }

    /// Stores the key that the request wanted, if the credential that asked for it is still in force: otherwise who
    /// stole it would get a key after the revocation, at a key service that answers when they like. A key that the
    /// configuration declares is the operator's wish, whoever had it applied.
    async fn finish_key(&self, creation: &Creation, wanted: &WantedKey, through: &Reach, described: KeyDescription) -> Result<(), Failure> {
        let tenant = creation.tenant;
        let change = audit::StateChange::new(Verb::Create, Object::Key, &creation.key);
        let deadline = Instant::now() + PATIENCE;
        let primary = async |change: Change| {
            let described = made(described, creation.spec)?;
            match self.store.key_by_name(tenant, &wanted.name).await {
                Ok(_) => return Err(taken_name()),
                Err(StoreError::NotFound) => {}
                Err(error) => return Err(error.into()),
            }
            // The caller does not know yet.
            let untold = Creation {
                due: later(self.now(), UNTOLD),
                ..creation.clone()
            };
            let asked_by = creation.asked_by.clone().filter(|_| !wanted.declared);
            let change = change.beginning(untold).asked_with(asked_by, self.authenticator().refusals());
            if self.store.holder(tenant, creation.key).await?.is_some() {
                return Err(StoreError::AlreadyExists.into());
            }
            let cx = self.background.operation("creation", tenant, through.row.id, PATIENCE);
            let row = self
                .store_created((&cx, through), creation.key, wanted, (&described, &Identities::default()), |_| {
                    Ok(change)
                })
                .await?;
            Ok(row.primary.number)
        };
        self.finish(creation.key, &through.row, change, deadline, primary).await
    }

    /// Gives a key the primary version that a move wanted, as [`Broker::finish_key`].
    async fn finish_move(
        &self,
        creation: &Creation,
        key: &Arc<KeyEntry>,
        from: u32,
        through: &Reach,
        described: KeyDescription,
    ) -> Result<(), Failure> {
        let change = audit::StateChange::new(Verb::Move, Object::Key, &key.id());
        let deadline = Instant::now() + PATIENCE;
        let to: &Arc<ConnectionEntry> = &through.connection;
        let primary = async |change: Change| {
            let described = made(described, creation.spec)?;
            let view = key.view()?;
            permitted(&view, KeyState::wraps)?;
            not_rotating(&view.key)?;
            if view.key.primary.number != from {
                return Err(Failure::new(Code::KeyState, "The key has another primary version since."));
            }
            let change = change
                .ending(creation.made_as)
                .asked_with(creation.asked_by.clone(), self.authenticator().refusals());
            let row = self.store_moved(None, key, to, &described, |_| Ok(change)).await?;
            Ok(row.primary.number)
        };
        self.finish(key.id(), &through.row, change, deadline, primary).await
    }

    async fn postpone(&self, creation: &Creation, by: Duration) -> Result<(), Failure> {
        let tenant = creation.tenant;
        let creation = Creation {
            due: later(self.now(), by),
            ..creation.clone()
        };
        let change = Change::unannounced().beginning(creation);
        Ok(self.store.mark_applied(tenant, &change).await?)
    }

    /// Reports a provider key that the gateway cannot use, or not find out about.
    async fn give_up(&self, creation: &Creation, through: Option<&Reach>, code: Code, provider_key: Option<&str>) -> Result<(), Failure> {
        let Creation {
            tenant,
            key,
            made_as,
            connection,
            ..
        } = creation;
        let provider_key = provider_key.unwrap_or("not known; named after `made_as` where names can be chosen");
        tracing::error!(
            %tenant, %key, %made_as, %connection, provider_key, code = code.as_str(),
            "the provider may have a key that a creation left and that nothing uses: adopt it (`provider_key`), or delete it at the provider"
        );
        self.end_creation(creation, through, code).await
    }

    /// Records that a creation came to nothing here, and forgets it.
    async fn end_creation(&self, creation: &Creation, through: Option<&Reach>, code: Code) -> Result<(), Failure> {
        let mut record = self.background_entry(creation.tenant, creation.key, creation.connection);
        record.provider = through.map(|reach| reach.row.provider);
        let deadline = Instant::now() + PATIENCE;
        let recorded = self.log.record(record, Outcome::Failed(code.as_str()), (), deadline).await;
        recorded.map(audit::Recorded::into_value).map_err(|error| {
            tracing::error!(%error, "the end of a creation could not be recorded");
            Failure::new(Code::AuditUnavailable, "The audit log cannot record the end of a creation.")
        })?;
        let change = Change::unannounced().ending(creation.made_as);
        Ok(self.store.mark_applied(creation.tenant, &change).await?)
    }
}
