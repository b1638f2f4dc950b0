//! The rules alone: what moves, what only grows, and what is refused.
#![allow(clippy::unwrap_used, reason = "a test stops where an expectation fails")]

use claviger_provider::{ProviderKind, TenantId};
use proptest::prelude::*;

use super::*;
use crate::keys::fixture::{connection, row};
use crate::store::model::CacheSettings;

fn key() -> (Key, KeyVersion) {
    row(&connection(TenantId::random(), "c"), "k")
}

#[test]
fn a_state_that_is_there_already_changes_nothing_but_the_number_of_lifts() {
    let (mut key, _) = key();
    let before = key.clone();
    assert!(set_disabled(&mut key, false, 9));
    assert_eq!(key, Key { lifts: 1, ..before });
    assert!(set_disabled(&mut key, true, 9));
    assert_eq!((key.disabled, key.epoch, key.revision, key.updated), (true, 2, 2, 9));
    let before = key.clone();
    assert!(!set_disabled(&mut key, true, 10));
    assert_eq!(key, before);
    assert!(set_disabled(&mut key, false, 11));
    assert_eq!((key.lifts, key.epoch), (2, 3));

    let mut there = connection(TenantId::random(), "c");
    let before = there.clone();
    assert!(set_severed(&mut there, false, 9));
    assert_eq!(there, Connection { lifts: 1, ..before });
    assert!(set_severed(&mut there, true, 9));
    assert_eq!((there.severed, there.epoch, there.revision, there.updated), (true, 2, 2, 9));
    let before = there.clone();
    assert!(!set_severed(&mut there, true, 10));
    assert_eq!(there, before);
    assert!(set_severed(&mut there, false, 11));
    assert_eq!((there.lifts, there.epoch), (2, 3));
}

#[test]
fn the_journal_s_number_is_never_given_again() {
    let mut lifts = 2;
    assert!(!raise_lifts(&mut lifts, 1) && !raise_lifts(&mut lifts, 2));
    assert_eq!(lifts, 2);
    assert!(raise_lifts(&mut lifts, 5));
    assert_eq!(lifts, 5);
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
            key.primary_version,
            key.provider_key.as_str(),
            key.epoch,
            key.revision
        ),
        (None, 2, "next", 1, 3)
    );
}

#[test]
fn a_row_is_taken_over_from_a_detached_key_of_the_same_provider_alone() {
    let (key, _) = key();
    let before = Holder {
        detached: true,
        provider: key.provider,
        epoch: 7,
        lifts: 3,
        revision: 9,
    };
    let mut adopted = key.clone();
    adopt(&mut adopted, &before).unwrap();
    assert_eq!((adopted.epoch, adopted.lifts, adopted.revision), (8, 3, 10));
    for refused in [
        Holder { detached: false, ..before },
        Holder {
            provider: ProviderKind::Gcp,
            ..before
        },
    ] {
        assert!(matches!(adopt(&mut key.clone(), &refused), Err(StoreError::AlreadyExists)));
    }
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
                    let holder = Holder { detached, provider: key.provider, epoch: key.epoch, lifts: key.lifts, revision: key.revision };
                    key.epoch = 1;
                    key.lifts = 0;
                    key.revision = 1;
                    adopt(&mut key, &holder).unwrap();
                    detached = false;
                    true
                }
                0 => {
                    let moves = key.disabled != flag;
                    prop_assert_eq!(set_disabled(&mut key, flag, at), moves || !flag);
                    moves
                }
                1 => {
                    let cache = CacheSettings { enabled: Some(flag), ..CacheSettings::default() };
                    let moves = cache != key.cache;
                    patch_key(&mut key, &KeyPatch { expected_revision: before.revision, cache: Some(cache), at, ..KeyPatch::default() }).unwrap();
                    moves
                }
                2 => { set_rotating(&mut key, flag.then_some(at), at); false }
                3 => { set_primary(&mut key, std::slice::from_ref(&version), 1, flag, at).unwrap(); false }
                _ => { detach(&mut key, at); detached = true; true }
            };
            prop_assert_eq!(key.epoch > before.epoch, moves);
            prop_assert!(key.revision >= before.revision);
            prop_assert!(key.lifts >= before.lifts);
            let lifted = Key { lifts: key.lifts, ..before.clone() };
            prop_assert!(key.revision > before.revision || key == lifted);
        }
    }
}
