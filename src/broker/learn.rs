//! Learns of the versions that a provider describes.

use claviger_provider::{KeyDescription, OpContext};

use super::{Broker, Failure};
use crate::keys::KeyEntry;
use crate::store::model::{Connection, Custody, KeyState, KeyVersion, Material};

impl Broker {
    /// Stores versions that the provider has and the store lacks: after an interrupted rotate, or a
    /// rotation at the provider itself. Returns whether there were any. The caller holds the turn at
    /// the provider.
    ///
    /// # Errors
    /// What the provider or the store reports.
    pub(super) async fn take_versions(&self, cx: &OpContext, key: &KeyEntry, change: &crate::store::Change) -> Result<bool, Failure> {
        let Ok(view) = key.view() else { return Ok(false) };
        let described = key.connection().pipeline().describe(cx, &view.key.primary.whole_kek(view.key.id)).await?;
        let _row = key.change().lock().await;
        let Ok(view) = key.view() else { return Ok(false) };
        let now = self.now();
        let (new, primary) = number_versions(&view.versions, &described, &key.connection().view(), now)?;
        if new.is_empty() && primary == view.key.primary.number {
            return Ok(false);
        }
        let added = self.store.add_key_versions(key.tenant(), key.id(), &new, primary, now, change).await;
        let row = added.map_err(|error| self.refused_claim(&key.connection().view(), error))?;
        let versions = view.versions.iter().cloned().chain(new).collect();
        key.put(row, Some(versions));
        Ok(true)
    }
}

/// Numbers the versions that a provider describes through a connection: known ones keep their
/// numbers, new ones get the next. Returns the new rows and the number of the primary version.
///
/// # Errors
/// `provider_protocol` when the description names no version, or no primary.
pub(super) fn number_versions(
    known: &[KeyVersion],
    described: &KeyDescription,
    through: &Connection,
    now: i64,
) -> Result<(Vec<KeyVersion>, u32), Failure> {
    let nonsense = || {
        claviger_provider::Error::new(
            claviger_provider::ErrorKind::UpstreamProtocol,
            "a key description without a primary version",
        )
    };
    let mut next = known.iter().map(|version| version.number).max().unwrap_or(0);
    let mut new = Vec::new();
    let mut primary = None;
    // Versions without a name are matched by their order.
    let mut unclaimed: Vec<&KeyVersion> = known.iter().collect();
    for (at, version) in described.versions.iter().enumerate() {
        let same = |row: &&KeyVersion| row.is(through.provider, &version.key.id, &version.key.version);
        let there = unclaimed.iter().position(same).map(|at| unclaimed.remove(at).number);
        let number = match there {
            Some(number) => number,
            None => {
                next += 1;
                new.push(KeyVersion {
                    number: next,
                    connection: Some(through.into()),
                    provider: through.provider,
                    provider_key: version.key.id.clone(),
                    provider_version: version.key.version.clone(),
                    spec: described.spec,
                    custody: Custody::of(through.provider),
                    state: KeyState::Enabled,
                    provider_state: version.state.into(),
                    material: Material::of(through.provider),
                    expires: None,
                    compromised_since: None,
                    created: version.created.map_or(now, |seconds| seconds.saturating_mul(1_000_000)),
                });
                next
            }
        };
        if at == described.primary {
            primary = Some(number);
        }
    }
    Ok((new, primary.ok_or_else(nonsense)?))
}
