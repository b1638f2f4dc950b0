//! Making and rewrapping.

use claviger_provider::{Algorithm, BoundContext, ProviderKind, Secret};

use super::{context, copy, direct, finish, is_sealed, origin, sealed, wrapped};
use crate::envelope::{BuildError, DataKeyLength, Draft, Envelope, LengthError, Pending, Role, SealKey, SealKeyError, SealStatus};

fn bound(envelope: &Envelope) -> BoundContext {
    context().bind(envelope.header())
}

#[test]
fn a_provider_sees_the_context_that_opening_binds() {
    let pending = Pending::new(origin(), DataKeyLength::B32, &context());
    let (seen, dek_id) = (pending.context().clone(), pending.dek_id());
    let draft = pending.commit(Secret::random(32)).unwrap();
    assert!(*draft.context() == seen);
    let envelope = finish(&draft, &SealKey::generate());
    assert!(bound(&envelope) == seen);
    assert_eq!(envelope.header().dek_id(), dek_id);
}

#[test]
fn a_data_key_of_another_length_is_refused() {
    for length in [0, 16, 31, 33, 64] {
        let pending = Pending::new(origin(), DataKeyLength::B32, &context());
        assert_eq!(pending.commit(Secret::random(length)).err(), Some(LengthError));
    }
    for length in [0, 4097] {
        let draft = Draft::sealed(origin(), &Secret::random(length), &context());
        assert_eq!(draft.err(), Some(LengthError));
    }
}

#[test]
fn ids_and_k_are_drawn_anew() {
    let (a, b) = (sealed(b"same"), sealed(b"same"));
    assert_ne!(a.dek_id(), b.dek_id());
    assert_ne!(a.data_key(), b.data_key());
    assert_eq!(a.data_key().len(), 32);
}

#[test]
fn a_provider_s_answer_outside_the_limits_is_refused() {
    let draft = direct(DataKeyLength::B32);
    let seal = SealKey::generate();
    let refused = |change: &dyn Fn(&mut claviger_provider::Wrapped)| {
        let mut answer = wrapped(32);
        change(&mut answer);
        draft.finish(ProviderKind::Local, &answer, &seal).err()
    };
    assert_eq!(refused(&|_| ()), None);
    assert_eq!(refused(&|answer| answer.key.id = "k".repeat(513)), Some(BuildError::Recipient));
    assert_eq!(refused(&|answer| answer.key.version = "v".repeat(129)), Some(BuildError::Recipient));
    assert_eq!(refused(&|answer| answer.ciphertext.truncate(71)), Some(BuildError::Recipient));
    let opaque = |len: usize| {
        refused(&|answer| {
            answer.algorithm = Algorithm::ProviderOpaque;
            answer.ciphertext = vec![1; len];
        })
    };
    assert_eq!(opaque(0), Some(BuildError::Recipient));
    assert_eq!(opaque(6144), None);
    assert_eq!(opaque(6145), Some(BuildError::Recipient));
}

#[test]
fn a_rewrap_changes_recipient_and_seal_only() {
    let (old, new) = (SealKey::generate(), SealKey::generate());
    for draft in [direct(DataKeyLength::B48), sealed(b"a password")] {
        let envelope = finish(&draft, &old);
        let opened = envelope.open(copy(draft.data_key()), draft.context()).unwrap();
        assert_eq!(opened.data_key(), draft.data_key());
        let mut answer = wrapped(draft.data_key().len());
        answer.key.version = "2".to_owned();
        let SealStatus::Sealed(attested) = envelope.seal_status([&old]) else {
            panic!("not sealed")
        };
        for again in [
            opened.rewrap(ProviderKind::Local, &answer, &new).unwrap(),
            attested.rewrap(ProviderKind::Local, &answer, &new).unwrap(),
        ] {
            assert_eq!(again.header_bytes(), envelope.header_bytes());
            assert_eq!(again.commitment, envelope.commitment);
            assert_eq!(again.payload(), envelope.payload());
            assert!(is_sealed(&again, &new));
            assert!(!is_sealed(&again, &old));
            let [recipient] = again.recipients() else { panic!("one recipient") };
            assert_eq!((recipient.role(), recipient.key()), (Role::Member, &answer.key));
            assert_eq!(recipient.ciphertext(), answer.ciphertext);
            let reopened = again.open(copy(draft.data_key()), &bound(&again)).unwrap();
            assert_eq!(reopened.plaintext(), opened.plaintext());
        }
        let mut short = answer.clone();
        short.ciphertext.pop();
        assert_eq!(opened.rewrap(ProviderKind::Local, &short, &new).err(), Some(BuildError::Recipient));
    }
}

#[test]
fn a_usable_recipient_gives_what_the_provider_gave() {
    let draft = direct(DataKeyLength::B16);
    let answer = wrapped(16);
    let envelope = draft.finish(ProviderKind::Local, &answer, &SealKey::generate()).unwrap();
    let (provider, mut given) = envelope.recipients()[0].wrapped().unwrap();
    assert_eq!(provider, ProviderKind::Local);
    given.upstream_request_id = answer.upstream_request_id.clone();
    assert_eq!(given, answer);
}

#[test]
fn a_seal_key_is_stored_and_read_again() {
    let key = SealKey::generate();
    let envelope = finish(&direct(DataKeyLength::B32), &key);
    let again = SealKey::from_secret(&key.to_secret()).unwrap();
    assert_eq!(again.name(), key.name());
    assert!(is_sealed(&envelope, &again));
    for length in [0, 8, 39, 41] {
        assert_eq!(SealKey::from_secret(&Secret::random(length)).err(), Some(SealKeyError));
    }
}

#[test]
fn debug_shows_neither_secret_nor_context() {
    let seal = SealKey::generate();
    let draft = sealed(b"hunter2hunter2");
    let envelope = finish(&draft, &seal);
    let opened = envelope.open(copy(draft.data_key()), draft.context()).unwrap();
    let shown = format!("{seal:?} {draft:?} {envelope:?} {opened:?} {:?}", envelope.seal_status([&seal]));
    for secret in [
        b"hunter2hunter2".as_slice(),
        draft.data_key().expose(),
        &seal.to_secret().expose()[8..],
    ] {
        assert!(!shown.contains(&hex::encode(secret)));
        assert!(!shown.contains(&format!("{secret:?}")));
        assert!(!shown.contains(&*String::from_utf8_lossy(secret)));
    }
    assert!(!shown.contains("orders"));
}
