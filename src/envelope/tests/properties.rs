//! Properties over everything that can be drawn, and a smoke test of the decoder on the
//! stable toolchain (the long run is `fuzz/`).

use claviger_provider::{ProviderKind, Secret};
use proptest::prelude::*;
use proptest::sample::Index;

use super::vectors::load;
use super::{copy, is_sealed, origin, wrapped};
use crate::envelope::{Context, DataKeyLength, Draft, Envelope, MAX_BINARY, MAX_TEXT, Origin, ParseError, Pending, Scope, SealKey};

fn contexts() -> impl Strategy<Value = Vec<(String, String)>> {
    proptest::collection::btree_map("\\PC{1,12}", "\\PC{1,24}", 0..8).prop_map(|pairs| pairs.into_iter().collect())
}

fn origins() -> impl Strategy<Value = Origin> {
    (proptest::option::of("\\PC{1,32}"), 0..=253_402_300_799u64).prop_map(|(scope, created)| Origin {
        scope: scope.map(|scope| Scope::try_from(scope).unwrap()),
        created,
        ..origin()
    })
}

/// Finishes, reads back, and opens with the right context and with another.
fn round_trip(draft: &Draft, pairs: Vec<(String, String)>, plaintext: &Secret) -> Result<(), TestCaseError> {
    let seal = SealKey::generate();
    let made = draft.finish(ProviderKind::Local, &wrapped(draft.data_key().len()), &seal).unwrap();
    let read = Envelope::parse(made.as_text()).unwrap();
    prop_assert_eq!(read.as_text(), made.as_text());
    prop_assert_eq!(read.as_binary(), made.as_binary());
    prop_assert_eq!(read.header(), made.header());
    prop_assert_eq!(read.recipients(), made.recipients());
    prop_assert!(is_sealed(&read, &seal));
    prop_assert_eq!(read.header().plaintext_len(), plaintext.len());

    let context = Context::from_pairs(pairs.clone()).unwrap().bind(read.header());
    let opened = read.open(copy(draft.data_key()), &context).unwrap();
    prop_assert_eq!(opened.into_plaintext(), copy(plaintext));

    let mut another = pairs;
    match another.pop() {
        Some((name, value)) => another.push((name, value + "x")),
        None => another.push(("x".to_owned(), "x".to_owned())),
    }
    let another = Context::from_pairs(another).unwrap().bind(read.header());
    prop_assert!(read.open(copy(draft.data_key()), &another).is_err());
    prop_assert!(read.open(Secret::random(draft.data_key().len()), &context).is_err());
    Ok(())
}

proptest! {
    #[test]
    fn direct_round_trip(origin in origins(), pairs in contexts(), length in proptest::sample::select(&DataKeyLength::ALL)) {
        let context = Context::from_pairs(pairs.clone()).unwrap();
        let k = Secret::random(length.bytes());
        let draft = Pending::new(origin, length, &context).commit(copy(&k)).unwrap();
        round_trip(&draft, pairs, &k)?;
    }

    #[test]
    fn sealed_round_trip(origin in origins(), pairs in contexts(), plaintext in proptest::collection::vec(any::<u8>(), 1..=4096)) {
        let plaintext = Secret::new(plaintext);
        let draft = Draft::sealed(origin, &plaintext, &Context::from_pairs(pairs.clone()).unwrap()).unwrap();
        round_trip(&draft, pairs, &plaintext)?;
    }

    #[test]
    fn any_text_is_read_or_refused(text in "\\PC{0,200}|clv1\\.[A-Za-z0-9_-]{0,400}") {
        if let Ok(envelope) = Envelope::parse(&text) {
            prop_assert_eq!(envelope.as_text(), text);
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused(tail in proptest::collection::vec(any::<u8>(), 0..400)) {
        for prefix in [&b""[..], b"CLV\x01", b"CLV\x01\x85", b"CLV\x01\x85\x58\x3c\xa6\x01\x01\x02\x50"] {
            let binary = [prefix, &tail].concat();
            if let Ok(envelope) = Envelope::parse_binary(&binary) {
                prop_assert_eq!(envelope.as_binary(), binary.as_slice());
            }
        }
    }

    #[test]
    fn what_is_too_long_is_refused_as_such(over in 1usize..9000) {
        let binary = [b"CLV\x01".to_vec(), vec![0; MAX_BINARY - 4 + over]].concat();
        prop_assert_eq!(Envelope::parse_binary(&binary).err(), Some(ParseError::TooLarge));
        let text = format!("clv1.{}", "A".repeat(MAX_TEXT - 5 + over));
        prop_assert_eq!(Envelope::parse(&text).err(), Some(ParseError::TooLarge));
    }
}

/// One change to bytes; positions are relative, so that they fit whatever is changed.
#[derive(Debug, Clone)]
enum Mutation {
    Set(Index, u8),
    Insert(Index, u8),
    Remove(Index, usize),
    Repeat(Index, usize),
    Cut(Index),
}

fn mutations() -> impl Strategy<Value = Mutation> {
    prop_oneof![
        (any::<Index>(), any::<u8>()).prop_map(|(at, byte)| Mutation::Set(at, byte)),
        (any::<Index>(), any::<u8>()).prop_map(|(at, byte)| Mutation::Insert(at, byte)),
        (any::<Index>(), 1usize..40).prop_map(|(at, count)| Mutation::Remove(at, count)),
        (any::<Index>(), 1usize..40).prop_map(|(at, count)| Mutation::Repeat(at, count)),
        any::<Index>().prop_map(Mutation::Cut),
    ]
}

fn mutate(bytes: &mut Vec<u8>, mutation: &Mutation) {
    if bytes.is_empty() {
        return;
    }
    let len = bytes.len();
    match mutation {
        Mutation::Set(at, byte) => bytes[at.index(len)] = *byte,
        Mutation::Insert(at, byte) => bytes.insert(at.index(len), *byte),
        Mutation::Remove(at, count) => drop(bytes.drain(at.index(len)..len.min(at.index(len) + count))),
        Mutation::Repeat(at, count) => {
            let from = at.index(len);
            let copied = bytes[from..len.min(from + count)].to_vec();
            bytes.splice(from..from, copied);
        }
        Mutation::Cut(at) => bytes.truncate(at.index(len)),
    }
}

/// The decoder on changed vectors: it never panics, and what it takes it gives back unchanged.
#[test]
fn changed_vectors_are_read_or_refused() {
    let binaries: Vec<Vec<u8>> = load("good")
        .iter()
        .map(|vector| Envelope::parse(&vector.blob).unwrap().as_binary().to_vec())
        .collect();
    let changes = (0..binaries.len(), proptest::collection::vec(mutations(), 1..6));
    let config = ProptestConfig::with_cases(4096);
    proptest!(config, |((which, mutations) in changes)| {
        let mut binary = binaries[which].clone();
        for mutation in &mutations {
            mutate(&mut binary, mutation);
        }
        if let Ok(envelope) = Envelope::parse_binary(&binary) {
            prop_assert_eq!(envelope.as_binary(), binary.as_slice());
            let again = Envelope::parse(envelope.as_text()).unwrap();
            prop_assert_eq!(again.as_binary(), binary.as_slice());
            let context = Context::default().bind(envelope.header());
            prop_assert!(envelope.open(Secret::copy_from(b"not K"), &context).is_err());
        }
    });
}
