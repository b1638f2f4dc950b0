//! Whether the key that a provider describes is still the one of the stored versions. Where a provider reuses names, a
//! key that its owner deleted and made again has the names and numbers of the old one.
//!
//! A creation time that differs from the stored one raises the question for a version, no more: the same material can
//! have been imported again. The version's canary answers it. If the canary opens, it is the same version; if the
//! provider rejects it, the version is replaced, until its canary opens again. Without an answer the question stays.
//!
//! Times are in whole seconds, so an equal one does not prove a version of a key that lacks newer ones, or one that was
//! missing. Its canary is tried, too; without an answer the time counts.

use std::collections::HashMap;

use claviger_provider::{KeyDescription, KeyId, OpContext, Pipeline, ProviderKeyRef, TenantId, VersionDescription};

use super::lost_versions::forbidden_at_provider;
use super::opening::open_canary;
use super::reach::Reach;
use super::{Broker, Code, Failure, RequestContext};
use crate::store::canary_name;
use crate::store::model::{Connection, KeyVersion, ProviderState};

/// The most canaries that one description of a key is tried with. Of the others the question stays.
const MOST: usize = 16;

/// What became of a version in question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Identity {
    /// Its canary opened.
    Same,
    /// Another key has its names.
    Replaced,
    /// Nothing shows it.
    Unproven,
}

/// What a provider responds to a canary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CanaryResponse {
    Opens,
    Rejected,
    /// Nothing of either kind.
    Silent,
    /// None was made.
    NoCanary,
}

/// The versions of a description that were in question, by number.
#[derive(Debug, Default)]
pub(super) struct Identities {
    found: HashMap<u32, Identity>,
    /// Whether one of the known versions is proven to be the described key's.
    is_same_key: bool,
}

impl Identities {
    /// What became of a version; `None` if it was not in question.
    pub(super) fn of(&self, version: &KeyVersion) -> Option<Identity> {
        self.found.get(&version.number).copied()
    }

    /// Whether a version that the description names may be a known one.
    pub(super) fn can_be(&self, version: &KeyVersion) -> bool {
        self.of(version) != Some(Identity::Replaced)
    }

    /// Notes that a rotation made the primary version of this description, also where a version that was missing before it
    /// had that name.
    pub(super) fn note_rotation(&mut self, known: &[KeyVersion], described: &KeyDescription) {
        let Some(made) = described.versions.get(described.primary) else {
            return;
        };
        let had_its_name = |version: &&KeyVersion| {
            let is_missing = version.provider.reuses_names() && version.provider_state == ProviderState::Unknown;
            is_missing && version.is(version.provider, &made.key.id, &made.key.version)
        };
        for version in known.iter().filter(had_its_name) {
            self.found.insert(version.number, Identity::Replaced);
        }
    }

    /// Whether versions of the described key may be taken: it is the known one, and no question is open.
    pub(super) fn permit_versions(&self) -> bool {
        let any = |identity| self.found.values().any(|found| *found == identity);
        !any(Identity::Unproven) && (self.is_same_key || !any(Identity::Replaced))
    }

    /// The failure of an adoption by which a detached key with these versions would come back on another key. `adds` says
    /// whether it has new versions.
    pub(super) fn refused_return(&self, known: &[KeyVersion], adds: bool) -> Option<Failure> {
        let in_state = |identity, state| {
            let version = known.iter().rev().find(|version| self.of(version) == Some(identity))?;
            let version = KeyVersion {
                provider_state: state,
                ..version.clone()
            };
            Some(forbidden_at_provider(&version))
        };
        if self.permit_versions() {
            return None;
        }
        let replaced = || in_state(Identity::Replaced, ProviderState::Replaced).filter(|_| !self.is_same_key);
        replaced().or_else(|| in_state(Identity::Unproven, ProviderState::Unproven).filter(|_| adds))
    }
}

/// A description, and which of the known versions it is of.
pub(super) type Described<'a> = (&'a KeyDescription, &'a Identities);

/// Whether a version is of the key that is described through a connection.
pub(super) fn is_of(version: &KeyVersion, described: &KeyDescription, through: &Connection) -> bool {
    version.connection_id() == Some(through.id) && version.provider_key == described.id
}

impl Broker {
    /// Finds out which of the known versions a description is of, with their canaries where their creation differs. The
    /// question of versions above the newest one described comes up only where nothing shows the same key.
    ///
    /// # Errors
    /// What the store fails with.
    pub(super) async fn identify(
        &self,
        cx: &OpContext,
        (tenant, key): (TenantId, KeyId),
        known: &[KeyVersion],
        described: &KeyDescription,
        (through, pipeline): (&Connection, &Pipeline),
    ) -> Result<Identities, Failure> {
        let mut identities = Identities::default();
        if !through.provider.reuses_names() {
            return Ok(identities);
        }
        let there: HashMap<&str, &VersionDescription> = described.versions.iter().map(|there| (&*there.key.version, there)).collect();
        let (mut in_question, mut missing, mut same_time) = (Vec::new(), Vec::new(), Vec::new());
        for version in known.iter().rev().filter(|version| is_of(version, described, through)) {
            // A key of another type that was there for a while leaves the creation of the known one: it may be put back.
            let is_replaced = version.provider_state == ProviderState::Replaced;
            let was_replaced = version.is_replaced();
            let times = there
                .get(&*version.provider_version)
                .map(|there| (version.created_at_provider(), there.created));
            match times {
                None if was_replaced => in_question.push(version),
                None => missing.push(version),
                Some((Some(then), Some(now))) if then == now && !is_replaced => same_time.push(version),
                Some((Some(_), Some(_))) => in_question.push(version),
                Some(_) if was_replaced => in_question.push(version),
                Some(_) => {}
            }
        }
        let lacks_any = missing.iter().any(|version| version.provider_state != ProviderState::Destroyed);
        let was_in_doubt = |version: &KeyVersion| matches!(version.provider_state, ProviderState::Unknown | ProviderState::Unproven);
        let is_doubtful = |version: &&KeyVersion| lacks_any || was_in_doubt(version);
        let (doubtful, certain): (Vec<_>, Vec<_>) = same_time.into_iter().partition(is_doubtful);
        identities.is_same_key = !certain.is_empty();
        // A replaced version stays so without an answer, so the others come first.
        in_question.sort_by_key(|version| version.is_replaced());
        let (mut left, mut without, mut is_another) = (MOST, Vec::new(), false);
        for version in in_question {
            let answer = match left.checked_sub(1) {
                Some(rest) => {
                    left = rest;
                    self.try_canary(cx, (tenant, key), version, pipeline).await?
                }
                None => CanaryResponse::Silent,
            };
            let was_replaced = version.is_replaced();
            let found = match answer {
                CanaryResponse::Opens => Identity::Same,
                CanaryResponse::Silent | CanaryResponse::NoCanary if !was_replaced => Identity::Unproven,
                CanaryResponse::Rejected | CanaryResponse::Silent | CanaryResponse::NoCanary => Identity::Replaced,
            };
            if found == Identity::Unproven && answer == CanaryResponse::NoCanary {
                without.push(version.number);
            }
            identities.is_same_key |= found == Identity::Same;
            let there = there.get(&*version.provider_version);
            is_another |= found == Identity::Replaced && there.is_some_and(|there| there.created == version.created_at_provider());
            identities.found.insert(version.number, found);
        }
        self.resolve_doubts(cx, (tenant, key), (&doubtful, is_another), pipeline, (&mut left, &mut identities))
            .await?;
        // Nothing can be asked about these, and their key is the same.
        for number in without.into_iter().filter(|_| identities.is_same_key) {
            identities.found.insert(number, Identity::Same);
        }
        for version in missing.into_iter().take(left).filter(|_| !identities.is_same_key) {
            if self.try_canary(cx, (tenant, key), version, pipeline).await? == CanaryResponse::Rejected {
                identities.found.insert(version.number, Identity::Replaced);
            }
        }
        // Of two versions of the same names, only one can be there.
        let is_same = |version: &&KeyVersion| identities.found.get(&version.number) == Some(&Identity::Same);
        let same: Vec<&KeyVersion> = known.iter().filter(is_same).collect();
        for version in known {
            let names = (version.provider, &*version.provider_key, &*version.provider_version);
            if same
                .iter()
                .any(|same| same.number != version.number && same.is(names.0, names.1, names.2))
            {
                identities.found.insert(version.number, Identity::Replaced);
            }
        }
        Ok(identities)
    }

    /// Tries the canaries of versions of the same time as the stored ones, which may be another key's of the same second, as
    /// long as the provider answers. One that opens proves the key, and so the versions that were not missing. `is_another`
    /// says whether another version of the same time was rejected already.
    async fn resolve_doubts(
        &self,
        cx: &OpContext,
        key: (TenantId, KeyId),
        (doubtful, mut is_another): (&[&KeyVersion], bool),
        pipeline: &Pipeline,
        (left, identities): (&mut usize, &mut Identities),
    ) -> Result<(), Failure> {
        for version in doubtful {
            if identities.is_same_key && version.provider_state != ProviderState::Unknown {
                continue;
            }
            let Some(rest) = left.checked_sub(1) else { break };
            *left = rest;
            match self.try_canary(cx, key, version, pipeline).await? {
                CanaryResponse::Opens => {
                    identities.is_same_key = true;
                    identities.found.insert(version.number, Identity::Same);
                }
                CanaryResponse::Rejected => {
                    is_another = true;
                    identities.found.insert(version.number, Identity::Replaced);
                }
                CanaryResponse::NoCanary => {}
                CanaryResponse::Silent => break,
            }
        }
        // Otherwise their times say it, as far as they can.
        identities.is_same_key |= !doubtful.is_empty() && !is_another;
        if !identities.is_same_key {
            for version in doubtful {
                identities.found.entry(version.number).or_insert(Identity::Unproven);
            }
        }
        Ok(())
    }

    /// As [`Broker::identify`], of the versions that a detached key had which comes back through a connection.
    ///
    /// # Errors
    /// `key_state` if it would come back on another key, or may; what the store fails with.
    pub(super) async fn identify_detached(
        &self,
        cx: &RequestContext,
        key: KeyId,
        described: &KeyDescription,
        through: &Reach,
    ) -> Result<Identities, Failure> {
        let (tenant, op_context) = (cx.tenant(), cx.op_context());
        let mut old = self.versions_of(tenant, key).await?;
        let elsewhere = |version: &&KeyVersion| version.connection_id() != Some(through.row.id) && version.provider_key == described.id;
        let elsewhere: Vec<&KeyVersion> = old.iter().rev().filter(elsewhere).collect();
        // Of the others the canaries are tried below.
        let passes_by_time = |version: &&KeyVersion| {
            let passes = |there: &VersionDescription| {
                let times = version.created_at_provider().zip(there.created);
                there.key.version == version.provider_version && times.is_none_or(|(then, now)| then == now)
            };
            is_of(version, described, &through.row) && described.versions.iter().any(passes)
        };
        match elsewhere.is_empty() {
            // Where the connection led may have changed since, which canaries of other keys proved.
            true => {
                let here: Vec<&KeyVersion> = old.iter().rev().filter(passes_by_time).collect();
                self.one_opens(cx, (tenant, key), &here, through).await?;
            }
            false => self.prove_server(cx, (tenant, key), &elsewhere, through).await?,
        }
        for version in &mut old {
            version.connection = Some((&*through.row).into());
        }
        let way = (&*through.row, &through.pipeline);
        let identities = self.identify(&op_context, (tenant, key), &old, described, way).await?;
        let is_known = |there: &ProviderKeyRef| {
            old.iter()
                .any(|version| version.is(through.row.provider, &there.id, &there.version))
        };
        let adds = described.versions.iter().any(|there| !is_known(&there.key));
        match identities.refused_return(&old, adds) {
            Some(refused) => Err(refused),
            None => Ok(identities),
        }
    }

    /// Proves that a connection leads to the key of these versions, which were reached through another one.
    /// Whoever makes a connection says where it leads, and a server there can have keys of any name.
    ///
    /// # Errors
    /// `key_state` where no canary opens; what the store fails with.
    async fn prove_server(
        &self,
        cx: &RequestContext,
        key: (TenantId, KeyId),
        versions: &[&KeyVersion],
        through: &Reach,
    ) -> Result<(), Failure> {
        if self.one_opens(cx, key, versions, through).await? {
            return Ok(());
        }
        // It was detached before any was made, or by a release that made none.
        match cx.caller().is_operator() {
            true => Ok(()),
            false => Err(Failure::new(
                Code::KeyState,
                "The tenant detached a key of this name through another connection, and nothing proves that this one leads to it: it has no canary.",
            )
            .advice("Bring it back through the connection that it was detached from, or have an operator bring it back.")),
        }
    }

    /// Whether the canary of one of these versions opens; `true`, too, if no caller could have led the connection to another
    /// server, and `false` if no version has a canary.
    ///
    /// # Errors
    /// `key_state` where none opens; what the store fails with.
    async fn one_opens(
        &self,
        cx: &RequestContext,
        key: (TenantId, KeyId),
        versions: &[&KeyVersion],
        through: &Reach,
    ) -> Result<bool, Failure> {
        if !self.takes_canaries(&through.row) {
            return Ok(true);
        }
        let mut shut = None;
        for version in versions.iter().take(MOST) {
            match self.try_canary(&cx.op_context(), key, version, &through.pipeline).await? {
                CanaryResponse::Opens => return Ok(true),
                CanaryResponse::NoCanary => {}
                CanaryResponse::Rejected => {
                    shut.get_or_insert(
                        "The tenant detached another key of this name: the one that the connection leads to does not open its canary.",
                    );
                }
                CanaryResponse::Silent => {
                    shut.get_or_insert(
                        "The tenant detached a key of this name, and nothing proves that the connection leads to it: its canary was not \
                         opened.",
                    );
                }
            }
        }
        shut.map_or(Ok(false), |detail| {
            Err(Failure::new(Code::KeyState, detail).advice(
                "Bring the key back through a connection to the server that it was on, where the provider lets this credential unwrap.",
            ))
        })
    }

    /// Has the provider open the canary of a version.
    pub(super) async fn try_canary(
        &self,
        cx: &OpContext,
        (tenant, key): (TenantId, KeyId),
        version: &KeyVersion,
        pipeline: &Pipeline,
    ) -> Result<CanaryResponse, Failure> {
        let Some(canary) = self.store.get(&canary_name(tenant, key, version.number)).await? else {
            return Ok(CanaryResponse::NoCanary);
        };
        Ok(match open_canary::<Failure>(cx, pipeline, &canary).await {
            Ok(()) => CanaryResponse::Opens,
            Err(failure) if failure.code == Code::CiphertextRejected => CanaryResponse::Rejected,
            Err(_) => CanaryResponse::Silent,
        })
    }
}
