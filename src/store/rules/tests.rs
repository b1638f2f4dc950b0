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
fn a_state_that_is_there_already_changes_nothing_but_the_number_of_lifts() {
    let (mut key, _) = key();
    let before = key.clone();
    assert!(set_disabled(&mut key, false, 9));
    assert_eq!(key, Key { lifts: 1, ..before });
    assert!(set_disabled(&mut key, true, 9));
    assert_eq!((key.state, key.epoch, key.revision, key.updated), (KeyState::Disabled, 2, 2, 9));
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
        cache: CacheSettings {
            max_age_s: Some(9),
            ..CacheSettings::default()
        },
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
    assert_eq!(adopted.cache.max_age_s, Some(9), "cache rules outlive the detach");
    let mut with_rules = key.clone();
    with_rules.cache.max_age_s = Some(3);
    adopt(&mut with_rules, &before, std::slice::from_ref(&version)).unwrap();
    assert_eq!(with_rules.cache.max_age_s, Some(3), "unless the new key has its own");
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
            cache: CacheSettings::default(),
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
fn only_versions_of_a_provider_key_that_comes_back_follow_to_another_connection() {
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
    assert_eq!(following.iter().map(|version| version.number).collect::<Vec<_>>(), [2]);
    assert!(following.iter().all(|version| version.connection == here.connection));
    assert_eq!(following[0].exposure, old[1].exposure);
    // As exposed as what is given says of it, and not as another version.
    let mut exposed = at(2, &here.provider_key, None);
    exposed.exposure.exportable = true;
    let following = follow(&key, &old, &[here.clone(), exposed.clone()]);
    assert_eq!(following[0].exposure, exposed.exposure);
    assert_ne!(following[0].exposure, here.exposure);
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
    let mut token = standing();
    revoke(&mut token, 3);
    revoke(&mut token, 4);
    assert_eq!(token.revoked, Some(3));
}

fn standing() -> Token {
    Token {
        id: claviger_provider::TokenId::random(),
        tenant: TenantId::random(),
        principal: claviger_provider::PrincipalId::random(),
        public_id: "abcdefghijkl".to_owned(),
        secret_sha256: [0; 32],
        grants: String::new(),
        kind: TokenKind::Standing,
        parent: None,
        depth: 0,
        lifts: 0,
        created: 1,
        expires: 9,
        revoked: None,
    }
}

/// A token that this one issued, with a shorter life.
fn below(parent: &Token) -> Token {
    Token {
        id: claviger_provider::TokenId::random(),
        kind: TokenKind::Delegated,
        parent: Some(parent.id),
        depth: parent.depth + 1,
        expires: parent.expires - 1,
        ..parent.clone()
    }
}

#[test]
fn a_token_is_in_force_with_its_whole_line_or_not_at_all() {
    let root = standing();
    let child = below(&root);
    let grandchild = below(&child);
    assert_eq!(token_ends(&root, &[]), Some(9));
    assert_eq!(token_ends(&child, std::slice::from_ref(&root)), Some(8));
    let line = [child.clone(), root.clone()];
    assert_eq!(token_ends(&grandchild, &line), Some(7));
    // A row that is missing, at either end of the line or at both.
    for part in [&[][..], &line[..1], &line[1..]] {
        assert_eq!(token_ends(&grandchild, part), None);
    }
    let changes: [fn(&mut Token); 7] = [
        |token| token.revoked = Some(5),
        |token| token.expires = 1,
        |token| token.id = claviger_provider::TokenId::random(),
        |token| token.depth += 1,
        |token| token.parent = Some(claviger_provider::TokenId::random()),
        |token| token.kind = TokenKind::Delegated,
        |token| token.depth = u8::MAX,
    ];
    for (number, change) in changes.into_iter().enumerate() {
        for at in 0..2 {
            let mut line = line.clone();
            let before = line[at].clone();
            change(&mut line[at]);
            if line[at] != before {
                assert_eq!(token_ends(&grandchild, &line), None, "change {number} of ancestor {at}");
            }
        }
    }
    let revoked = Token {
        revoked: Some(5),
        ..grandchild
    };
    assert_eq!(token_ends(&revoked, &line), None);
}

#[test]
fn a_new_token_fits_its_parent() {
    let root = standing();
    assert!(check_new_token(&root, None).is_ok());
    let child = below(&root);
    assert!(check_new_token(&child, Some(&root)).is_ok());
    for (token, parent) in [
        (child.clone(), None),
        (root.clone(), Some(&child)),
        (
            Token {
                kind: TokenKind::Standing,
                ..child.clone()
            },
            Some(&root),
        ),
        (Token { depth: 2, ..child.clone() }, Some(&root)),
        (
            Token {
                expires: 10,
                ..child.clone()
            },
            Some(&root),
        ),
        (
            Token {
                parent: Some(child.id),
                ..child.clone()
            },
            Some(&root),
        ),
        (
            below(&child),
            Some(&Token {
                revoked: Some(1),
                ..child.clone()
            }),
        ),
        (
            Token {
                depth: MAX_DEPTH + 1,
                ..child.clone()
            },
            Some(&Token {
                depth: MAX_DEPTH,
                ..root.clone()
            }),
        ),
    ] {
        assert!(matches!(check_new_token(&token, parent), Err(StoreError::NotFound)), "{token:?}");
    }
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
                        detached, state: key.state, compromised_since: None, needs_restore: key.needs_restore, cache: key.cache, severed: flag,
                        epoch: key.epoch, lifts: key.lifts, revision: key.revision,
                    };
                    let disabled = key.state == KeyState::Disabled || key.needs_restore || flag;
                    key.state = KeyState::Enabled;
                    key.needs_restore = false;
                    key.epoch = 1;
                    key.lifts = 0;
                    key.revision = 1;
                    adopt(&mut key, &holder, std::slice::from_ref(&version)).unwrap();
                    prop_assert_eq!(key.state.is_disabled(), disabled);
                    prop_assert_eq!(key.needs_restore, holder.needs_restore || flag);
                    detached = false;
                    true
                }
                0 => {
                    let moves = key.state.is_disabled() != flag;
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
                _ => { detach(&mut key, flag, at); detached = true; true }
            };
            prop_assert_eq!(key.epoch > before.epoch, moves);
            prop_assert!(key.revision >= before.revision);
            prop_assert!(key.lifts >= before.lifts);
            let lifted = Key { lifts: key.lifts, ..before.clone() };
            prop_assert!(key.revision > before.revision || key == lifted);
        }
    }
}
