//! The context: its limits and its one encoding.

use std::collections::BTreeMap;

use claviger_provider::DekId;
use minicbor::{Decoder, Encoder};
use proptest::prelude::*;

use super::origin;
use crate::envelope::{Context, ContextError, Header, Suite};

fn pairs(pairs: &[(&str, &str)]) -> Result<Context, ContextError> {
    Context::from_pairs(pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())))
}

#[test]
fn each_limit_is_told_apart() {
    let long = "x".repeat(1025);
    assert_eq!(pairs(&[("a", "1"), ("", "2")]), Err(ContextError::NameLength(1)));
    assert_eq!(pairs(&[(&long[..129], "1")]), Err(ContextError::NameLength(0)));
    assert_eq!(pairs(&[("a", "")]), Err(ContextError::ValueLength(0)));
    assert_eq!(pairs(&[("a", &long)]), Err(ContextError::ValueLength(0)));
    assert_eq!(pairs(&[("a", "1"), ("claviger:x", "2")]), Err(ContextError::NameReserved(1)));
    assert_eq!(pairs(&[("a", "1"), ("b", "2"), ("a", "1")]), Err(ContextError::NameTwice(2)));
    assert_eq!(pairs(&[("a", &long[..1024]), ("b", &long[..1023])]), Err(ContextError::TooLong));
    assert!(pairs(&[("a", &long[..1024]), ("b", &long[..1022])]).is_ok());
    assert!(pairs(&[(&long[..128], &long[..1024])]).is_ok());
}

#[test]
fn a_seventeenth_pair_ends_the_reading() {
    let many = |count: usize| Context::from_pairs((0..count).map(|at| (at.to_string(), "v".to_owned())));
    assert!(many(16).is_ok());
    assert_eq!(many(17), Err(ContextError::TooManyPairs));
    let endless = (0u64..).map(|at| (at.to_string(), "v".to_owned()));
    assert_eq!(Context::from_pairs(endless), Err(ContextError::TooManyPairs));
}

#[test]
fn positions_and_messages_hold_no_value() {
    let error = pairs(&[("name", "a value"), ("claviger:dek", "another")]).unwrap_err();
    assert_eq!(error.position(), Some(1));
    assert_eq!(error.to_string(), "a name that does not begin with `claviger:`");
    let context = pairs(&[("name", "a value")]).unwrap();
    assert_eq!(format!("{context:?}"), r#"{"name"}"#);
}

#[test]
fn the_ids_and_the_scope_are_bound() {
    let header = Header::new(Suite::Direct, DekId::random(), 32, origin());
    let bound = pairs(&[("a", "1")]).unwrap().bind(&header);
    let pairs = bound.pairs();
    let names: Vec<&str> = pairs.keys().map(String::as_str).collect();
    assert_eq!(names, ["a", "claviger:dek", "claviger:key", "claviger:scope", "claviger:tenant"]);
    assert_eq!(pairs["claviger:dek"], header.dek_id().to_string());
    assert_eq!(pairs["claviger:tenant"], header.tenant().to_string());
    assert_eq!(pairs["claviger:key"], header.key().to_string());
    assert_eq!(pairs["claviger:scope"], "orders");
}

proptest! {
    /// RFC 8949, section 4.2.1, taken literally: encode each key, then sort what came out.
    #[test]
    fn keys_stand_in_the_order_of_their_encoding(given in proptest::collection::btree_map("[a-zA-Zé鍵]{1,40}", "\\PC{1,20}", 0..10)) {
        let header = Header::new(Suite::Direct, DekId::random(), 32, origin());
        let bound = Context::from_pairs(given).unwrap().bind(&header);

        let mut encoded = BTreeMap::new();
        for (name, value) in bound.pairs() {
            let text = |text: &str| {
                let mut e = Encoder::new(Vec::new());
                e.str(text).unwrap();
                e.into_writer()
            };
            encoded.insert(text(&name), text(&value));
        }
        let mut expected = Encoder::new(Vec::new());
        expected.map(encoded.len() as u64).unwrap();
        let mut expected = expected.into_writer();
        for (name, value) in encoded {
            expected.extend(name);
            expected.extend(value);
        }
        prop_assert_eq!(bound.bytes(), expected.as_slice());

        let mut d = Decoder::new(bound.bytes());
        let read: BTreeMap<String, String> = d.map_iter::<String, String>().unwrap().map(Result::unwrap).collect();
        prop_assert_eq!(read, bound.pairs());
    }
}
