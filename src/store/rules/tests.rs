//! The rules alone: what moves, what only grows, and what is refused.
#![allow(clippy::unwrap_used, reason = "a test stops where an expectation fails")]

use claviger_provider::{ProviderKind, TenantId};
use proptest::prelude::*;

use super::*;
use crate::keys::fixture::{connection, row};
use crate::store::model::{CacheSettings, KeyState};

fn key() -> (Key, KeyVersion) {
    row(&connection(TenantId::random(), "c"), "k")
}

#[test]
fn a_state_that_is_there_already_changes_nothing() {
    let (mut key, _) = key();
    let before = key.clone();
    assert!(!set_disabled(&mut key, false, 9));
    assert_eq!(key, before);
    assert!(set_disabled(&mut key, true, 9));
    assert_eq!(
        (key.state, key.epoch, key.lifts, key.revision, key.updated),
        (KeyState::Disabled, 2, 0, 2, 9)
    );

    let mut there = connection(TenantId::random(), "c");
    let before = there.clone();
    assert!(!set_severed(&mut there, false, 9));
    assert_eq!(there, before);
    assert!(set_severed(&mut there, true, 9));
    assert_eq!((there.severed, there.epoch, there.revision, there.updated), (true, 2, 2, 9));
}

#[test]
fn a_patch_for_another_revision_is_refused_and_changes_nothing() {
    let (mut key, _) = key();
    let before = key.clone();
    let patch = KeyPatch {
        expected_revision: 2,
        name: Some("other".to_owned()),
        ..KeyPatch::default()
    };
    assert!(matches!(patch_key(&mut key, &patch), Err(StoreError::Precondition)));
    assert_eq!(key, before);
    let mut there = connection(TenantId::random(), "c");
    let patch = ConnectionPatch {
        expected_revision: 2,
        ..ConnectionPatch::default()
    };
    assert!(matches!(patch_connection(&mut there, &patch), Err(StoreError::Precondition)));
}

#[test]
fn only_other_cache_rules_move_the_epoch_of_a_patched_key() {
    let (mut key, _) = key();
    let rules = CacheSettings {
        max_age_s: Some(5),
        ..CacheSettings::default()
    };
    let mut patch = KeyPatch {
        expected_revision: 1,
        cache: Some(rules),
        ..KeyPatch::default()
    };
    patch_key(&mut key, &patch).unwrap();
    assert_eq!((key.epoch, key.revision), (2, 2));
    patch.expected_revision = 2;
    patch.allow_export = Some(true);
    patch_key(&mut key, &patch).unwrap();
    assert_eq!((key.epoch, key.revision, key.allow_export), (2, 3, true));
}

#[test]
fn versions_are_new_the_same_or_refused() {
    let (_, first) = key();
    let next = KeyVersion {
        number: 2,
        provider_version: "2".to_owned(),
        ..first.clone()
    };
    let given = [first.clone(), next.clone(), next.clone()];
    assert_eq!(new_versions(std::slice::from_ref(&first), &given).unwrap(), [&next]);
    let renumbered = KeyVersion { number: 3, ..next.clone() };
    let given = [next.clone(), renumbered];
    assert!(matches!(new_versions(&[], &given), Err(StoreError::AlreadyExists)));
    let other = KeyVersion {
        provider_version: "9".to_owned(),
        ..first.clone()
    };
    assert!(matches!(
        new_versions(std::slice::from_ref(&first), &[other]),
        Err(StoreError::AlreadyExists)
    ));
    // The same by the provider's ids through another connection would divert old envelopes.
    let diverted = KeyVersion {
        number: 2,
        connection: Some((&connection(TenantId::random(), "other")).into()),
        ..first.clone()
    };
    assert!(matches!(
        new_versions(std::slice::from_ref(&first), &[diverted]),
        Err(StoreError::ProviderKeyTaken)
    ));
    // A provider that names no versions may have several on one provider key.
    let unnamed = |number| KeyVersion {
        number,
        provider_version: String::new(),
        ..first.clone()
    };
    assert_eq!(new_versions(&[unnamed(1)], &[unnamed(2)]).unwrap().len(), 1);
}

#[test]
fn a_new_primary_version_ends_the_rotation() {
    let (mut key, first) = key();
    set_rotating(&mut key, Some(7), 8);
    assert_eq!((key.rotating, key.revision), (Some(7), 2));
    assert!(!set_primary(&mut key, std::slice::from_ref(&first), 1, false, 9).unwrap());
    assert_eq!(key.rotating, Some(7));
    assert!(matches!(
        set_primary(&mut key, std::slice::from_ref(&first), 2, false, 9),
        Err(StoreError::NotFound)
    ));
    let next = KeyVersion {
        number: 2,
        provider_key: "next".to_owned(),
        ..first.clone()
    };
    assert!(set_primary(&mut key, &[first, next], 2, true, 9).unwrap());
    assert_eq!(
        (
            key.rotating,
            key.primary.number,
            key.primary.provider_key.as_str(),
            key.epoch,
            key.revision
        ),
        (None, 2, "next", 1, 3)
    );
}

#[test]
fn a_row_is_taken_over_from_a_detached_key_with_a_version_at_the_same_provider_alone() {
    let (key, version) = key();
    let before = Holder {
        detached: true,
        state: KeyState::Enabled,
        compromised_since: None,
        needs_restore: false,
        severed: false,
        epoch: 7,
        lifts: 5,
        revision: 9,
    };
    let elsewhere = KeyVersion {
        provider: ProviderKind::Gcp,
        ..version.clone()
    };
    let mut adopted = key.clone();
    adopt(&mut adopted, &before, &[elsewhere.clone(), version.clone()]).unwrap();
    assert_eq!((adopted.epoch, adopted.lifts, adopted.revision), (8, 5, 10));
    let attached = Holder { detached: false, ..before };
    for (holder, old) in [(attached, version), (before, elsewhere)] {
        assert!(matches!(adopt(&mut key.clone(), &holder, &[old]), Err(StoreError::AlreadyExists)));
    }
}

#[test]
fn what_restricted_a_detached_key_restricts_it_when_it_comes_back() {
    let (there, version) = key();
    for (state, needs_restore, severed, comes_back) in [
        ("enabled", false, false, ("enabled", false)),
        ("disabled", false, false, ("disabled", false)),
        ("disabled", true, false, ("disabled", true)),
        ("enabled", false, true, ("disabled", true)),
        ("decrypt_only", false, true, ("disabled", true)),
        ("archived", false, true, ("archived", true)),
        ("of a newer release", false, false, ("unrecognized", false)),
    ] {
        let before = Holder {
            detached: true,
            state: KeyState::parse(state),
            compromised_since: Some(4),
            needs_restore,
            severed,
            epoch: 1,
            lifts: 0,
            revision: 1,
        };
        let mut adopted = there.clone();
        adopt(&mut adopted, &before, std::slice::from_ref(&version)).unwrap();
        assert_eq!((adopted.state.as_str(), adopted.needs_restore), comes_back);
        assert_eq!(adopted.compromised_since, Some(4));
        // The sever may also have come with the detach, or after it.
        let mut detached = there.clone();
        (detached.state, detached.needs_restore) = (before.state, needs_restore);
        let mut later = detached.clone();
        detach(&mut detached, severed, 9);
        assert_eq!((detached.state.as_str(), detached.needs_restore), comes_back);
        if severed {
            assert!(sever_detached(&mut later) && later.revision == 2);
            assert!(!sever_detached(&mut later) && later.revision == 2);
            assert_eq!((later.state.as_str(), later.needs_restore), comes_back);
        }
    }
    let mut enabled = there;
    (enabled.state, enabled.needs_restore) = (KeyState::Disabled, true);
    assert!(set_disabled(&mut enabled, false, 9) && !enabled.needs_restore);
}

#[test]
fn old_versions_follow_a_key_that_comes_back_through_another_connection() {
    let (key, here) = key();
    let at = |number, provider_key: &str, connection: Option<&Connection>| KeyVersion {
        number,
        provider_key: provider_key.to_owned(),
        connection: connection.map(Into::into),
        ..here.clone()
    };
    let (before, apart) = (connection(key.tenant, "before"), connection(key.tenant, "apart"));
    let elsewhere = KeyVersion {
        provider: ProviderKind::Gcp,
        ..at(5, "a", None)
    };
    let old = [
        at(1, "predecessor", Some(&before)),
        at(2, &here.provider_key, Some(&before)),
        at(3, "another", Some(&apart)),
        at(4, "lost", None),
        elsewhere,
    ];
    let following = follow(&key, &old, std::slice::from_ref(&here));
    assert_eq!(following.iter().map(|version| version.number).collect::<Vec<_>>(), [1, 2, 4]);
    assert!(following.iter().all(|version| version.connection == here.connection));
}

#[test]
fn enabling_and_restoring_are_counted() {
    let (mut key, _) = key();
    let mut there = connection(TenantId::random(), "c");
    for lifts in 1..4 {
        set_disabled(&mut key, true, 1);
        set_severed(&mut there, true, 1);
        assert_eq!((key.lifts, there.lifts), (lifts - 1, lifts - 1));
        assert!(set_disabled(&mut key, false, 2) && set_severed(&mut there, false, 2));
        assert!(!set_disabled(&mut key, false, 2) && !set_severed(&mut there, false, 2));
        assert_eq!((key.lifts, there.lifts), (lifts, lifts));
    }
}

#[test]
fn a_state_that_has_an_operation_of_its_own_is_neither_disabled_nor_enabled() {
    for state in ["archived", "pending_deletion", "destroying", "destroyed", "of a newer release"] {
        let (mut key, _) = key();
        key.state = KeyState::parse(state);
        let before = key.clone();
        assert!(!set_disabled(&mut key, true, 9) && !set_disabled(&mut key, false, 9), "{state}");
        assert_eq!(key, before);
        assert!(!key.state.wraps() && !key.state.unwraps(), "{state}");
    }
    let (mut key, _) = key();
    key.state = KeyState::DecryptOnly;
    assert!(set_disabled(&mut key, true, 9));
    assert_eq!(key.state, KeyState::Disabled);
}

#[test]
fn a_repeated_revocation_keeps_the_first_time() {
    let mut token = Token {
        id: claviger_provider::TokenId::random(),
        tenant: TenantId::random(),
        principal: claviger_provider::PrincipalId::random(),
        public_id: "abcdefghijkl".to_owned(),
        secret_sha256: [0; 32],
        grants: String::new(),
        created: 1,
        expires: 9,
        revoked: None,
    };
    assert!(revoke(&mut token, 3));
    assert!(!revoke(&mut token, 4));
    assert_eq!(token.revoked, Some(3));
}

proptest! {
    /// Whatever happens to a key, epoch and revision never fall, and no state is reached twice
    /// under one epoch.
    #[test]
    fn numbers_only_grow(acts in prop::collection::vec((0..5u8, any::<bool>()), 1..40)) {
        let (mut key, version) = key();
        let mut detached = false;
        for (at, (act, flag)) in acts.into_iter().enumerate() {
            let (before, at) = (key.clone(), i64::try_from(at).unwrap());
            let moves = match act {
                _ if detached => {
                    let holder = Holder {
                        detached, state: key.state, compromised_since: None, needs_restore: key.needs_restore, severed: flag,
                        epoch: key.epoch, lifts: key.lifts, revision: key.revision,
                    };
                    let disabled = key.state == KeyState::Disabled || key.needs_restore || flag;
                    key.state = KeyState::Enabled;
                    key.needs_restore = false;
                    key.epoch = 1;
                    key.revision = 1;
                    adopt(&mut key, &holder, std::slice::from_ref(&version)).unwrap();
                    prop_assert_eq!(key.state.is_disabled(), disabled);
                    prop_assert_eq!(key.needs_restore, holder.needs_restore || flag);
                    detached = false;
                    true
                }
                0 => set_disabled(&mut key, flag, at),
                1 => {
                    let cache = CacheSettings { enabled: Some(flag), ..CacheSettings::default() };
                    let moves = cache != key.cache;
                    patch_key(&mut key, &KeyPatch { expected_revision: before.revision, cache: Some(cache), at, ..KeyPatch::default() }).unwrap();
                    moves
                }
                2 => { set_rotating(&mut key, flag.then_some(at), at); false }
                3 => { set_primary(&mut key, std::slice::from_ref(&version), 1, flag, at).unwrap(); false }
                _ => { detach(&mut key, flag, at); detached = true; true }
            };
            prop_assert_eq!(key.epoch > before.epoch, moves);
            prop_assert!(key.revision >= before.revision);
            prop_assert!(key.revision > before.revision || key == before);
        }
    }
}
