#![allow(clippy::unwrap_used, reason = "a test stops where an expectation fails")]

use proptest::prelude::*;

use super::{Item, MAX_DEPTH, MAX_ITEMS, Tag, TtlvError, Value, encode, parse, total_length};

/// Bytes from hexadecimal digits with spaces.
fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    let pair = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(pair).collect()
}

const TAG: Tag = Tag(0x42_0020);

fn value(text: &str) -> Result<Item<'static>, TtlvError> {
    parse(hex(text).leak())
}

/// The examples of the specification (KMIP 1.4, section 9.1.2).
#[test]
fn the_examples_of_the_specification() {
    let date = 0x47DA_67F8;
    for (text, expected) in [
        ("42 00 20 | 02 | 00 00 00 04 | 00 00 00 08 00 00 00 00", Value::Integer(8)),
        (
            "42 00 20 | 03 | 00 00 00 08 | 01 B6 9B 4B A5 74 92 00",
            Value::LongInteger(123_456_789_000_000_000),
        ),
        (
            "42 00 20 | 04 | 00 00 00 10 | 00 00 00 00 03 FD 35 EB 6B C2 DF 46 18 08 00 00",
            Value::BigInteger(&[0, 0, 0, 0, 0x03, 0xFD, 0x35, 0xEB, 0x6B, 0xC2, 0xDF, 0x46, 0x18, 0x08, 0, 0]),
        ),
        ("42 00 20 | 05 | 00 00 00 04 | 00 00 00 FF 00 00 00 00", Value::Enumeration(255)),
        ("42 00 20 | 06 | 00 00 00 08 | 00 00 00 00 00 00 00 01", Value::Boolean(true)),
        (
            "42 00 20 | 07 | 00 00 00 0B | 48 65 6C 6C 6F 20 57 6F 72 6C 64 00 00 00 00 00",
            Value::Text("Hello World"),
        ),
        ("42 00 20 | 08 | 00 00 00 03 | 01 02 03 00 00 00 00 00", Value::Bytes(&[1, 2, 3])),
        ("42 00 20 | 09 | 00 00 00 08 | 00 00 00 00 47 DA 67 F8", Value::DateTime(date)),
        ("42 00 20 | 0A | 00 00 00 04 | 00 0D 2F 00 00 00 00 00", Value::Interval(864_000)),
        (
            "42 00 20 | 01 | 00 00 00 20 | 42 00 04 | 05 | 00 00 00 04 | 00 00 00 FE 00 00 00 00 | 42 00 05 | 02 | 00 00 00 04 | 00 00 \
             00 FF 00 00 00 00",
            Value::Structure(vec![
                Item {
                    tag: Tag(0x42_0004),
                    value: Value::Enumeration(254),
                },
                Item {
                    tag: Tag(0x42_0005),
                    value: Value::Integer(255),
                },
            ]),
        ),
    ] {
        let item = Item { tag: TAG, value: expected };
        assert!(value(text).ok() == Some(item.clone()), "{text}");
        assert_eq!(*encode(&item), hex(text), "{text}");
    }
}

#[test]
fn what_has_another_form_is_refused() {
    for (text, why) in [
        ("", TtlvError::Truncated),
        ("42 00 20 02 00 00 00", TtlvError::Truncated),
        ("42 00 20 02 00 00 00 04 00 00 00 08 00 00 00", TtlvError::Truncated),
        ("42 00 20 02 00 00 00 04 00 00 00 08 00 00 00 00 00", TtlvError::Trailing),
        ("43 00 20 02 00 00 00 04 00 00 00 08 00 00 00 00", TtlvError::Tag),
        ("42 00 20 00 00 00 00 04 00 00 00 08 00 00 00 00", TtlvError::Type),
        ("42 00 20 0C 00 00 00 04 00 00 00 08 00 00 00 00", TtlvError::Type),
        ("42 00 20 02 00 00 00 08 00 00 00 08 00 00 00 00", TtlvError::Length),
        ("42 00 20 03 00 00 00 04 00 00 00 08 00 00 00 00", TtlvError::Length),
        ("42 00 20 04 00 00 00 00", TtlvError::Length),
        ("42 00 20 04 00 00 00 04 00 00 00 08 00 00 00 00", TtlvError::Length),
        ("42 00 20 02 00 00 00 04 00 00 00 08 00 00 00 01", TtlvError::Padding),
        ("42 00 20 08 00 00 00 01 08 00 00 00 00 00 00 01", TtlvError::Padding),
        ("42 00 20 06 00 00 00 08 00 00 00 00 00 00 00 02", TtlvError::Value),
        ("42 00 20 07 00 00 00 01 FF 00 00 00 00 00 00 00", TtlvError::Value),
        // Lengths that overflow.
        ("42 00 20 08 FF FF FF FF 08 00 00 00 00 00 00 00", TtlvError::Truncated),
        ("42 00 20 01 FF FF FF FF 42 00 20 01 00 00 00 00", TtlvError::Truncated),
        ("42 00 20 01 7F FF FF F8", TtlvError::Truncated),
        // A member that is longer than its structure, although there are more bytes.
        (
            "42 00 20 01 00 00 00 10 | 42 00 20 08 00 00 00 09 01 01 01 01 01 01 01 01 | 01 00 00 00 00 00 00 00",
            TtlvError::Truncated,
        ),
        // A structure that ends in the middle of a member's header.
        ("42 00 20 01 00 00 00 04 42 00 20 01 00 00 00 00", TtlvError::Truncated),
    ] {
        assert!(value(text).err() == Some(why), "{text}");
    }
}

fn nested(depth: usize) -> Vec<u8> {
    let mut bytes = hex("42 00 20 01 00 00 00 00");
    for _ in 1..depth {
        let length = u32::try_from(bytes.len()).unwrap().to_be_bytes();
        bytes = [&hex("42 00 20 01")[..], &length, &bytes].concat();
    }
    bytes
}

#[test]
fn depth_and_number_are_bounded() {
    assert!(parse(&nested(MAX_DEPTH)).is_ok());
    assert!(parse(&nested(MAX_DEPTH + 1)).err() == Some(TtlvError::Depth));
    assert!(parse(&nested(10_000)).err() == Some(TtlvError::Depth));
    for (items, fits) in [(MAX_ITEMS, true), (MAX_ITEMS + 1, false)] {
        // One is the structure itself.
        let inner = hex("42 00 20 01 00 00 00 00").repeat(items - 1);
        let length = u32::try_from(inner.len()).unwrap().to_be_bytes();
        let bytes = [&hex("42 00 20 01")[..], &length, &inner].concat();
        assert_eq!(parse(&bytes).is_ok(), fits);
    }
}

#[test]
fn the_length_of_a_message_is_in_its_header() {
    let length = |text: &str| total_length(hex(text).try_into().unwrap()).map(|(_, length)| length);
    assert_eq!(length("42 00 7B 01 00 00 00 10"), Some(24));
    assert_eq!(length("42 00 7B 01 FF FF FF F8"), Some(0xFFFF_FFF8 + 8));
    assert_eq!(length("42 00 7B 01 00 00 00 11"), None);
    assert_eq!(length("42 00 7B 02 00 00 00 10"), None);
    // `HTTP/1.1`
    assert_eq!(length("48 54 54 50 2F 31 2E 31"), None);
}

/// What a test keeps, for items that borrow.
#[derive(Debug, Clone)]
enum Made {
    Structure(Vec<(u32, Made)>),
    Integer(i32),
    LongInteger(i64),
    Enumeration(u32),
    Boolean(bool),
    Text(String),
    Bytes(Vec<u8>),
    DateTime(i64),
    Interval(u32),
    DateTimeExtended(i64),
}

impl Made {
    fn item(&self, tag: u32) -> Item<'_> {
        let value = match self {
            Self::Structure(items) => Value::Structure(items.iter().map(|(tag, made)| made.item(*tag)).collect()),
            Self::Integer(value) => Value::Integer(*value),
            Self::LongInteger(value) => Value::LongInteger(*value),
            Self::Enumeration(value) => Value::Enumeration(*value),
            Self::Boolean(value) => Value::Boolean(*value),
            Self::Text(value) => Value::Text(value),
            Self::Bytes(value) => Value::Bytes(value),
            Self::DateTime(value) => Value::DateTime(*value),
            Self::Interval(value) => Value::Interval(*value),
            Self::DateTimeExtended(value) => Value::DateTimeExtended(*value),
        };
        Item { tag: Tag(tag), value }
    }
}

fn made() -> impl Strategy<Value = Made> {
    let leaf = prop_oneof![
        any::<i32>().prop_map(Made::Integer),
        any::<i64>().prop_map(Made::LongInteger),
        any::<u32>().prop_map(Made::Enumeration),
        any::<bool>().prop_map(Made::Boolean),
        ".{0,20}".prop_map(Made::Text),
        prop::collection::vec(any::<u8>(), 0..40).prop_map(Made::Bytes),
        any::<i64>().prop_map(Made::DateTime),
        any::<u32>().prop_map(Made::Interval),
        any::<i64>().prop_map(Made::DateTimeExtended),
    ];
    let tag = (0x42_0000_u32..0x43_0000).boxed();
    leaf.prop_recursive(5, 40, 6, move |inner| {
        prop::collection::vec((tag.clone(), inner), 0..6).prop_map(Made::Structure)
    })
}

proptest! {
    #[test]
    fn what_is_written_is_read(made in made()) {
        let item = made.item(0x42_007B);
        let bytes = encode(&item);
        prop_assert!(parse(&bytes).ok() == Some(item));
    }

    /// The property of the fuzz target, on messages with a few changed bytes.
    #[test]
    fn what_is_read_is_written_byte_for_byte(made in made(), changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4)) {
        let mut bytes = encode(&made.item(0x42_007B)).to_vec();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Ok(item) = parse(&bytes) {
            prop_assert_eq!(&*encode(&item), &bytes);
        }
    }
}
