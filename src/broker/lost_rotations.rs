//! Rotations of which the log does not say whether their provider carried them out: a start asks the providers, all at
//! once and not for long. What it cannot find out, [`Broker::finish_rotations`] does.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use claviger_provider::{KeyId, ProviderKind, TenantId};
use futures::StreamExt;

use super::rounds::{AT_ONCE, ROUND_OF_TENANT};
use super::{Broker, Code, Failure};
use crate::audit::{EffectiveChange, Object, OpenIntent, Outcome, Position, Record, Verb};
use crate::store::{Change, StoreError};

/// How long a start asks providers, in all: it serves nobody meanwhile.
const LOOKS: Duration = Duration::from_secs(5);

/// A rotation that the store lacks.
#[derive(Debug)]
pub(super) enum LostRotation {
    /// Its intent has no outcome.
    Open(Box<OpenIntent>),
    /// Its outcome is `interrupted`.
    Interrupted(Box<EffectiveChange>),
}

impl LostRotation {
    fn intent(&self) -> (&Record, Position) {
        match self {
            Self::Open(intent) => (intent.record(), intent.position()),
            Self::Interrupted(change) => (&change.intent, change.position),
        }
    }

    /// Whether the key's row may lack that the rotation is looked for, after a look with this result.
    fn is_unnoted<T>(&self, look: &Result<T, Failure>) -> bool {
        match (self, look) {
            (Self::Open(_), _) => true,
            // It was noted when it was recorded, unless the store failed; most were found out since, and nothing in the
            // store tells by which record. To wait for those again would keep the key from its next rotation.
            (Self::Interrupted(_), Err(failure)) => !matches!(failure.code, Code::ConnectionSevered | Code::PermissionDenied),
            (Self::Interrupted(_), Ok(_)) => false,
        }
    }
}

/// The key that this intent rotates.
pub(super) fn rotated_key(intent: &Record) -> Option<KeyId> {
    let change = intent.change()?;
    (change.object == Object::Key && change.verb == Verb::Rotate).then(|| KeyId::from_bytes(change.id.0))
}

impl Broker {
    /// Asks the providers what became of rotations, and stores the versions that they made. The keys of one tenant
    /// wait for each other, and no tenant's for another's. Returns each with the outcome: `interrupted` of those that
    /// are looked for later, for example through a severed connection, because their provider did not answer in time, or
    /// because it shows no new version yet.
    pub(super) async fn look_for_rotations(&self, lost: Vec<LostRotation>) -> Vec<(LostRotation, Outcome)> {
        let until = Instant::now() + LOOKS;
        let mut tenants: HashMap<TenantId, HashMap<KeyId, Vec<LostRotation>>> = HashMap::new();
        for rotation in lost {
            let (intent, _) = rotation.intent();
            if let Some(key) = rotated_key(intent) {
                tenants.entry(intent.tenant()).or_default().entry(key).or_default().push(rotation);
            }
        }
        let of_tenant = |(tenant, keys): (TenantId, HashMap<KeyId, Vec<LostRotation>>)| {
            let looks = keys
                .into_iter()
                .map(move |(key, rotations)| self.look_for_all(tenant, key, rotations, until));
            futures::stream::iter(looks)
                .buffer_unordered(ROUND_OF_TENANT as usize)
                .collect::<Vec<_>>()
        };
        let looked = futures::stream::iter(tenants.into_iter().map(of_tenant)).buffer_unordered(AT_ONCE);
        let mut looked: Vec<_> = looked.collect::<Vec<_>>().await.into_iter().flatten().flatten().collect();
        looked.sort_by_key(|(rotation, _)| rotation.intent().1);
        looked
    }

    /// Looks for the rotations of one key, one after the other: a version belongs to one of them.
    async fn look_for_all(
        &self,
        tenant: TenantId,
        key: KeyId,
        rotations: Vec<LostRotation>,
        until: Instant,
    ) -> Vec<(LostRotation, Outcome)> {
        let mut looked = Vec::with_capacity(rotations.len());
        for rotation in rotations {
            let outcome = self
                .look_for_rotation(tenant, key, &rotation, until)
                .await
                .unwrap_or_else(|failure| {
                    tracing::warn!(%tenant, %key, code = failure.code.as_str(), "what became of a rotation is found out later");
                    Outcome::Interrupted
                });
            looked.push((rotation, outcome));
        }
        looked
    }

    /// Takes over the version that a rotation made, if its provider shows one. If it shows none, it may still make one:
    /// the request can be under way to it. Only the embedded provider has nothing under way after a kill.
    ///
    /// # Errors
    /// Why it is not known: then [`Broker::finish_rotations`] finds it out.
    async fn look_for_rotation(&self, tenant: TenantId, key: KeyId, rotation: &LostRotation, until: Instant) -> Result<Outcome, Failure> {
        let nothing_made = Outcome::Failed(Code::Internal.as_str());
        let Some(entry) = self.directory().key(tenant, key).await? else {
            return Ok(nothing_made);
        };
        let left = until.saturating_duration_since(Instant::now());
        let taken = if left.is_zero() {
            Err(Failure::deadline())
        } else {
            let Position(position) = rotation.intent().1;
            let change = Change::announced(position);
            self.take_versions_in_background("recovery", &entry, left, Some(&change)).await
        };
        match taken {
            Ok(true) => Ok(Outcome::Success),
            Ok(false) if entry.view()?.key.primary.provider == ProviderKind::Local => Ok(nothing_made),
            taken => {
                if rotation.is_unnoted(&taken) {
                    self.watch_rotation(&entry).await;
                }
                taken.map(|_| Outcome::Interrupted)
            }
        }
    }

    /// Counts the rotations of which it is not known yet what became of them, for [`Broker::lost_rotations`].
    ///
    /// # Errors
    /// The store's.
    pub(super) async fn count_lost_rotations(&self) -> Result<(), StoreError> {
        self.lost_rotations.store(self.store.lost_rotations().await?, Ordering::Relaxed);
        Ok(())
    }

    /// Of how many rotations the provider's answer was lost, and is looked for.
    pub fn lost_rotations(&self) -> u64 {
        self.lost_rotations.load(Ordering::Relaxed)
    }
}
