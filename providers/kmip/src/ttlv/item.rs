//! Items: tags with their values.

/// The length of an item's tag, type and length, in bytes.
pub const HEADER: usize = 8;
/// How deep structures may be nested. A message of the protocol needs less than half of it.
pub const MAX_DEPTH: usize = 16;
/// The most items of one message, structures included.
pub const MAX_ITEMS: usize = 4096;

/// A tag: three bytes, of which the first is `0x42`, or `0x54` for extensions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tag(pub u32);

impl Tag {
    /// Whether it has one of the two forms of a tag.
    pub const fn is_sound(self) -> bool {
        matches!(self.0 >> 16, 0x42 | 0x54)
    }
}

/// A tag with its value.
#[derive(Clone, PartialEq, Eq)]
pub struct Item<'a> {
    /// The tag.
    pub tag: Tag,
    /// The value.
    pub value: Value<'a>,
}

/// The value of an item. There is no `Debug`, because it may be a secret.
#[derive(Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "each is a type of the specification")]
pub enum Value<'a> {
    Structure(Vec<Item<'a>>),
    Integer(i32),
    LongInteger(i64),
    /// Two's complement, a multiple of 8 bytes.
    BigInteger(&'a [u8]),
    Enumeration(u32),
    Boolean(bool),
    Text(&'a str),
    Bytes(&'a [u8]),
    /// Seconds since 1970.
    DateTime(i64),
    /// Seconds.
    Interval(u32),
    /// Microseconds since 1970 (KMIP 2.0).
    DateTimeExtended(i64),
}

impl<'a> Value<'a> {
    /// The members of a structure.
    pub fn structure(&self) -> Option<&[Item<'a>]> {
        match self {
            Self::Structure(items) => Some(items),
            _ => None,
        }
    }

    /// An integer.
    pub const fn integer(&self) -> Option<i32> {
        match self {
            Self::Integer(value) => Some(*value),
            _ => None,
        }
    }

    /// An enumeration's number.
    pub const fn enumeration(&self) -> Option<u32> {
        match self {
            Self::Enumeration(value) => Some(*value),
            _ => None,
        }
    }

    /// A boolean.
    pub const fn boolean(&self) -> Option<bool> {
        match self {
            Self::Boolean(value) => Some(*value),
            _ => None,
        }
    }

    /// A text.
    pub const fn text(&self) -> Option<&'a str> {
        match self {
            Self::Text(value) => Some(value),
            _ => None,
        }
    }

    /// A byte string.
    pub const fn bytes(&self) -> Option<&'a [u8]> {
        match self {
            Self::Bytes(value) => Some(value),
            _ => None,
        }
    }

    /// A date in seconds since 1970.
    pub const fn date(&self) -> Option<i64> {
        match self {
            Self::DateTime(value) => Some(*value),
            _ => None,
        }
    }
}

/// The number of a type.
pub(super) mod kind {
    pub(crate) const STRUCTURE: u8 = 1;
    pub(crate) const INTEGER: u8 = 2;
    pub(crate) const LONG_INTEGER: u8 = 3;
    pub(crate) const BIG_INTEGER: u8 = 4;
    pub(crate) const ENUMERATION: u8 = 5;
    pub(crate) const BOOLEAN: u8 = 6;
    pub(crate) const TEXT: u8 = 7;
    pub(crate) const BYTES: u8 = 8;
    pub(crate) const DATE_TIME: u8 = 9;
    pub(crate) const INTERVAL: u8 = 10;
    pub(crate) const DATE_TIME_EXTENDED: u8 = 11;
}

/// Why bytes are no TTLV. It contains nothing of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TtlvError {
    /// An item is longer than what it is in.
    #[error("an item ends after its structure")]
    Truncated,
    /// Bytes after the item.
    #[error("bytes after the end")]
    Trailing,
    /// A tag of another form.
    #[error("a tag of another form")]
    Tag,
    /// A type that the specification does not have.
    #[error("an unknown type")]
    Type,
    /// A length that the type cannot have.
    #[error("a length that the type cannot have")]
    Length,
    /// A padding that is not zero.
    #[error("a padding that is not zero")]
    Padding,
    /// A boolean that is neither 0 nor 1, or a text that is not UTF-8.
    #[error("a value that the type cannot have")]
    Value,
    /// Structures nested deeper than [`MAX_DEPTH`].
    #[error("structures that are nested too deep")]
    Depth,
    /// More than [`MAX_ITEMS`].
    #[error("too many items")]
    Items,
}
