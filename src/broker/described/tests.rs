//! Descriptions of keys, and what is new in them.

use claviger_provider::{Exposure, KeySpec, KeyState as AtProvider, TenantId};

use super::*;
use crate::keys::fixture::{connection, row};

fn described(numbers: impl Iterator<Item = u32>, id: &str, primary: usize, state: AtProvider) -> KeyDescription {
    let version = |number: u32| VersionDescription {
        key: ProviderKeyRef {
            id: id.to_owned(),
            version: number.to_string(),
        },
        state,
        created: None,
        exposure: Some(Exposure::NONE),
    };
    KeyDescription {
        id: id.to_owned(),
        spec: KeySpec::Aes256,
        state,
        versions: numbers.map(version).collect(),
        primary,
    }
}

/// A version of whose key the provider says that its material stays.
fn seen(number: u32, state: ProviderState) -> SeenVersion {
    SeenVersion {
        exposure: Some(Exposure::NONE),
        ..SeenVersion::in_state(number, state)
    }
}

/// A connection, and versions of a key through it, as the provider numbers them.
fn known(numbers: &[u32]) -> (Connection, Vec<KeyVersion>) {
    let connection = connection(TenantId::random(), "c");
    let (_, first) = row(&connection, "k");
    let version = |number: &u32| KeyVersion {
        number: *number,
        provider_version: number.to_string(),
        ..first.clone()
    };
    (connection, numbers.iter().map(version).collect())
}

#[test]
fn the_primary_version_and_the_newest_others_are_taken() {
    let (connection, _) = known(&[]);
    for (primary, oldest) in [(2999, 2001), (0, 1), (2000, 2001)] {
        let description = described(1..=3000, "k", primary, AtProvider::Enabled);
        let (new, number) = number_versions(&[], |_| true, &description, &connection, 0).unwrap();
        assert_eq!(
            (new.len(), new[0].provider_version.as_str()),
            (MAX_TAKEN, oldest.to_string().as_str())
        );
        let taken = new.iter().find(|version| version.number == number).unwrap();
        assert_eq!(taken.provider_version, (primary + 1).to_string());
        assert_eq!(new[MAX_TAKEN - 1].provider_version, "3000");
    }
    let few = described(1..=3, "k", 2, AtProvider::Enabled);
    assert_eq!(number_versions(&[], |_| true, &few, &connection, 0).unwrap().0.len(), 3);
}

#[test]
fn states_are_told_and_a_missing_version_is_unknown() {
    let (through, known) = known(&[1, 2, 3]);
    let id = known[0].provider_key.clone();
    let same = described(1..=3, &id, 2, AtProvider::Enabled);
    assert_eq!(known_states(&known, &same, &Identities::default(), &through), []);
    let without_first = described(2..=3, &id, 1, AtProvider::Destroyed);
    assert_eq!(
        known_states(&known, &without_first, &Identities::default(), &through),
        [
            SeenVersion::in_state(1, ProviderState::Unknown),
            seen(2, ProviderState::Destroyed),
            seen(3, ProviderState::Destroyed)
        ]
    );
    // A description that is cut, another provider key's and another connection's say nothing of it.
    let long = described(2..=3000, &id, 2998, AtProvider::Enabled);
    assert_eq!(known_states(&known, &long, &Identities::default(), &through), []);
    assert_eq!(
        known_states(
            &known,
            &described(9..=9, "other", 0, AtProvider::Disabled),
            &Identities::default(),
            &through
        ),
        []
    );
    let apart = connection(TenantId::random(), "apart");
    assert_eq!(known_states(&known, &without_first, &Identities::default(), &apart), []);
}

#[test]
fn how_material_can_leave_is_told_and_unknown_changes_nothing() {
    let (through, mut known) = known(&[1, 2]);
    let id = known[0].provider_key.clone();
    let exposed = Exposure {
        exportable: true,
        plaintext_backup: false,
    };
    let exposing = |exposure| {
        let mut exposing = described(1..=3, &id, 2, AtProvider::Enabled);
        exposing.versions.iter_mut().for_each(|version| version.exposure = exposure);
        exposing
    };
    let told = known_states(&known, &exposing(Some(exposed)), &Identities::default(), &through);
    assert_eq!(told.iter().map(|seen| seen.exposure).collect::<Vec<_>>(), [Some(exposed); 2]);
    assert_eq!(known_states(&known, &exposing(None), &Identities::default(), &through), []);
    for version in &mut known {
        version.exposure = exposed;
    }
    assert_eq!(known_states(&known, &exposing(None), &Identities::default(), &through), []);
    // A new version of a key of which the provider does not say it is as exposed as the others.
    for (said, expected) in [(None, exposed), (Some(Exposure::NONE), Exposure::NONE)] {
        let (new, _) = number_versions(&known, |_| true, &exposing(said), &through, 0).unwrap();
        assert_eq!(new.iter().map(|version| version.exposure).collect::<Vec<_>>(), [expected]);
    }
}

/// Each version is as exposed as its provider says of that one.
#[test]
fn a_version_is_not_exposed_because_another_one_is() {
    let (through, known) = known(&[1, 2]);
    let id = known[0].provider_key.clone();
    let exposed = Exposure {
        exportable: true,
        plaintext_backup: false,
    };
    let mut first_exposed = described(1..=3, &id, 2, AtProvider::Enabled);
    first_exposed.versions[0].exposure = Some(exposed);
    let told = known_states(&known, &first_exposed, &Identities::default(), &through);
    assert_eq!(
        told,
        [SeenVersion {
            exposure: Some(exposed),
            ..seen(1, ProviderState::Enabled)
        }]
    );
    let (new, _) = number_versions(&known, |_| true, &first_exposed, &through, 0).unwrap();
    assert_eq!(new.iter().map(|version| version.exposure).collect::<Vec<_>>(), [Exposure::NONE]);
    let anew = described_anew(&known, &first_exposed, &through);
    let exposures: Vec<_> = anew.iter().map(|version| (version.number, version.exposure)).collect();
    assert_eq!(exposures, [(1, exposed), (2, Exposure::NONE)]);
}
