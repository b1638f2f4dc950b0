//! From bytes to items.

use super::item::{HEADER, Item, MAX_DEPTH, MAX_ITEMS, Tag, TtlvError, Value, kind};

/// The length of a whole item, from its first [`HEADER`] bytes; `None` for a tag of another form, or if it is not a
/// structure: a message is one.
pub fn total_length(header: [u8; HEADER]) -> Option<(Tag, usize)> {
    let [a, b, c, kind, d, e, f, g] = header;
    let tag = Tag(u32::from_be_bytes([0, a, b, c]));
    let length = usize::try_from(u32::from_be_bytes([d, e, f, g])).ok()?;
    let is_message = tag.is_sound() && kind == kind::STRUCTURE && length.is_multiple_of(8);
    is_message.then_some((tag, HEADER.checked_add(length)?))
}

/// Parses exactly one item.
///
/// # Errors
/// Why the bytes are no such item.
pub fn parse(bytes: &[u8]) -> Result<Item<'_>, TtlvError> {
    let mut reader = Reader { rest: bytes, items: 0 };
    let item = reader.item(0)?;
    match reader.rest.is_empty() {
        true => Ok(item),
        false => Err(TtlvError::Trailing),
    }
}

struct Reader<'a> {
    rest: &'a [u8],
    /// The items so far.
    items: usize,
}

impl<'a> Reader<'a> {
    fn item(&mut self, depth: usize) -> Result<Item<'a>, TtlvError> {
        self.items += 1;
        if self.items > MAX_ITEMS {
            return Err(TtlvError::Items);
        }
        let [a, b, c, kind, d, e, f, g] = self.array::<HEADER>()?;
        let tag = Tag(u32::from_be_bytes([0, a, b, c]));
        if !tag.is_sound() {
            return Err(TtlvError::Tag);
        }
        let length = usize::try_from(u32::from_be_bytes([d, e, f, g])).map_err(|_| TtlvError::Truncated)?;
        let value = self.value(kind, length, depth)?;
        Ok(Item { tag, value })
    }

    fn value(&mut self, kind: u8, length: usize, depth: usize) -> Result<Value<'a>, TtlvError> {
        match kind {
            kind::STRUCTURE => self.structure(length, depth),
            kind::INTEGER => Ok(Value::Integer(i32::from_be_bytes(self.padded(length)?))),
            kind::LONG_INTEGER => Ok(Value::LongInteger(i64::from_be_bytes(self.eight(length)?))),
            kind::BIG_INTEGER if length == 0 || !length.is_multiple_of(8) => Err(TtlvError::Length),
            kind::BIG_INTEGER => Ok(Value::BigInteger(self.take(length)?)),
            kind::ENUMERATION => Ok(Value::Enumeration(u32::from_be_bytes(self.padded(length)?))),
            kind::BOOLEAN => match u64::from_be_bytes(self.eight(length)?) {
                0 => Ok(Value::Boolean(false)),
                1 => Ok(Value::Boolean(true)),
                _ => Err(TtlvError::Value),
            },
            kind::TEXT => {
                let text = std::str::from_utf8(self.string(length)?);
                text.map(Value::Text).map_err(|_| TtlvError::Value)
            }
            kind::BYTES => Ok(Value::Bytes(self.string(length)?)),
            kind::DATE_TIME => Ok(Value::DateTime(i64::from_be_bytes(self.eight(length)?))),
            kind::INTERVAL => Ok(Value::Interval(u32::from_be_bytes(self.padded(length)?))),
            kind::DATE_TIME_EXTENDED => Ok(Value::DateTimeExtended(i64::from_be_bytes(self.eight(length)?))),
            _ => Err(TtlvError::Type),
        }
    }

    fn structure(&mut self, length: usize, depth: usize) -> Result<Value<'a>, TtlvError> {
        if depth >= MAX_DEPTH {
            return Err(TtlvError::Depth);
        }
        let mut inner = Reader {
            rest: self.take(length)?,
            items: self.items,
        };
        let mut items = Vec::new();
        while !inner.rest.is_empty() {
            items.push(inner.item(depth + 1)?);
        }
        self.items = inner.items;
        Ok(Value::Structure(items))
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], TtlvError> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(TtlvError::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], TtlvError> {
        self.take(N)?.try_into().map_err(|_| TtlvError::Truncated)
    }

    /// A value of 4 bytes, which has 4 of padding.
    fn padded(&mut self, length: usize) -> Result<[u8; 4], TtlvError> {
        if length != 4 {
            return Err(TtlvError::Length);
        }
        let value = self.array()?;
        self.padding(4)?;
        Ok(value)
    }

    fn eight(&mut self, length: usize) -> Result<[u8; 8], TtlvError> {
        if length != 8 {
            return Err(TtlvError::Length);
        }
        self.array()
    }

    /// A value of any length, padded to a multiple of 8.
    fn string(&mut self, length: usize) -> Result<&'a [u8], TtlvError> {
        let value = self.take(length)?;
        self.padding((8 - length % 8) % 8)?;
        Ok(value)
    }

    fn padding(&mut self, length: usize) -> Result<(), TtlvError> {
        match self.take(length)?.iter().all(|byte| *byte == 0) {
            true => Ok(()),
            false => Err(TtlvError::Padding),
        }
    }
}
