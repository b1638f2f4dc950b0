//! What a provider's description of a key says of the versions that are stored, and which it adds to them.

use std::collections::{HashMap, VecDeque};

use claviger_provider::{Exposure, KeyDescription, ProviderKeyRef, VersionDescription};

use super::Failure;
use super::identity::{Identities, Identity, is_of};
use crate::keys::KeyView;
use crate::store::model::{Connection, Custody, KeyState, KeyVersion, Material, ProviderState, SeenVersion};

/// The most versions that the gateway stores of one key description: the primary one and the newest
/// others.
const MAX_TAKEN: usize = 1000;

/// The versions of a description that the gateway stores, with their index in it.
fn taken(described: &KeyDescription) -> impl Iterator<Item = (usize, &VersionDescription)> {
    let cut = described.versions.len().saturating_sub(MAX_TAKEN);
    // One more is left out where the primary version is among the old ones.
    let cut = cut + usize::from(described.primary < cut);
    let numbered = described.versions.iter().enumerate();
    numbered.filter(move |(at, _)| *at >= cut || *at == described.primary)
}

/// What is known of versions of a key that the provider does not find (`Unknown`), or that is of a kind that cannot be
/// used (`Unfit`), of those that it changes. The gateway still asks for them, but for versions that would be gone
/// anyway, or are another key's.
pub(super) fn all_in_state(known: &[KeyVersion], asked: &KeyVersion, state: ProviderState) -> Vec<SeenVersion> {
    let same_key = |version: &&KeyVersion| version.connection == asked.connection && version.provider_key == asked.provider_key;
    let changes = |version: &&KeyVersion| match version.provider_state {
        ProviderState::Enabled
        | ProviderState::DecryptOnly
        | ProviderState::Disabled
        | ProviderState::PendingImport
        | ProviderState::Failed
        | ProviderState::Unproven
        | ProviderState::Unfit
        | ProviderState::Unknown => version.provider_state != state,
        ProviderState::PendingDeletion | ProviderState::Destroyed | ProviderState::Replaced | ProviderState::Unrecognized => false,
    };
    let known = known.iter().filter(same_key).filter(changes);
    known.map(|version| SeenVersion::in_state(version.number, state)).collect()
}

/// What a description says of known versions, of those that it changes. If a complete description does not contain a
/// version, its state is `Unknown`: only a call can show whether the version is usable.
pub(super) fn known_states(
    known: &[KeyVersion],
    described: &KeyDescription,
    identities: &Identities,
    through: &Connection,
) -> Vec<SeenVersion> {
    let whole = described.versions.len() <= MAX_TAKEN;
    let mut unclaimed = Unclaimed::of(described.versions.iter().map(|there| (names(&there.key), there)));
    let mut states = Vec::new();
    for version in known.iter().filter(|version| is_of(version, described, through)) {
        let found = identities.of(version);
        if found == Some(Identity::Replaced) {
            // What is described is another version's.
            let seen = SeenVersion::in_state(version.number, ProviderState::Replaced);
            states.extend(seen.apply(&mut version.clone()).then_some(seen));
            continue;
        }
        let there = (version.provider == through.provider).then(|| unclaimed.take((&version.provider_key, &version.provider_version)));
        let seen = match there.flatten() {
            Some(there) if found == Some(Identity::Unproven) => match there.state.into() {
                ProviderState::Enabled | ProviderState::DecryptOnly => SeenVersion::in_state(version.number, ProviderState::Unproven),
                state => SeenVersion::in_state(version.number, state),
            },
            Some(there) => SeenVersion {
                exposure: there.exposure,
                created: there.created.filter(|_| found == Some(Identity::Same) || lacks_its_time(version)),
                ..SeenVersion::in_state(version.number, there.state.into())
            },
            None if whole => SeenVersion::in_state(version.number, ProviderState::Unknown),
            None => continue,
        };
        if seen.apply(&mut version.clone()) {
            states.push(seen);
        }
    }
    states
}

/// Whether the time of a version has to be known, and its provider did not say it so far.
fn lacks_its_time(version: &KeyVersion) -> bool {
    version.provider.reuses_names() && version.created_at_provider().is_none()
}

/// A version's names at the provider: its key's id, and its own.
type VersionNames<'a> = (&'a str, &'a str);

fn names(key: &ProviderKeyRef) -> VersionNames<'_> {
    (&key.id, &key.version)
}

/// Versions by their names at the provider, each to be taken once. Those of equal names, because the provider names
/// none, are taken in their order.
struct Unclaimed<'a, T>(HashMap<VersionNames<'a>, VecDeque<T>>);

impl<'a, T> Unclaimed<'a, T> {
    fn of(versions: impl Iterator<Item = (VersionNames<'a>, T)>) -> Self {
        let mut by_names: HashMap<_, VecDeque<T>> = HashMap::new();
        for (names, version) in versions {
            by_names.entry(names).or_default().push_back(version);
        }
        Self(by_names)
    }

    fn take(&mut self, names: VersionNames<'a>) -> Option<T> {
        self.0.get_mut(&names)?.pop_front()
    }
}

/// The versions that a rotation in place can name again: those through the primary's connection.
pub(super) fn in_place(view: &KeyView) -> impl Fn(&KeyVersion) -> bool {
    let connection = view.key.primary.connection_id();
    move |version| version.connection_id() == connection
}

/// Numbers the versions that a provider describes through a connection, [`MAX_TAKEN`] at most: those
/// of `known` that `can_be` named keep their numbers, new ones get the next. Returns the new rows and
/// the number of the primary version.
///
/// # Errors
/// `provider_protocol` when the description names no version, or no primary.
pub(super) fn number_versions(
    known: &[KeyVersion],
    can_be: impl Fn(&KeyVersion) -> bool,
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
    // Unknown is not unexposed: then what was last known of the provider key counts. Creations and adoptions say it.
    let last = known.iter().rev().find(|version| version.provider_key == described.id);
    let last = last.map_or(Exposure::NONE, |version| version.exposure);
    let mut new = Vec::new();
    let mut primary = None;
    let candidates = known
        .iter()
        .filter(|version| version.provider == through.provider && can_be(version));
    let mut unclaimed = Unclaimed::of(candidates.map(|row| ((&*row.provider_key, &*row.provider_version), row.number)));
    for (at, version) in taken(described) {
        let number = match unclaimed.take(names(&version.key)) {
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
                    exposure: version.exposure.unwrap_or(last),
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

/// Those of `known` that a provider describes through a connection, with that connection, and exposed as described.
pub(super) fn described_anew(known: &[KeyVersion], described: &KeyDescription, through: &Connection) -> Vec<KeyVersion> {
    let mut unclaimed = Unclaimed::of(taken(described).map(|(_, there)| (names(&there.key), there)));
    let of_provider = known.iter().filter(|version| version.provider == through.provider);
    let described = of_provider.filter_map(|version| {
        let there = unclaimed.take((&version.provider_key, &version.provider_version))?;
        Some(KeyVersion {
            connection: Some(through.into()),
            exposure: there.exposure.unwrap_or(version.exposure),
            ..version.clone()
        })
    });
    described.collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test stops where an expectation fails")]
mod tests;
