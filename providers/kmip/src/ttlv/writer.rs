//! From items to bytes.

use zeroize::Zeroizing;

use super::item::{Item, Tag, Value, kind};

/// Writes items. Its buffer is zeroed; give it room for all that is written, so that it never grows and leaves a
/// copy behind.
pub struct Writer(Zeroizing<Vec<u8>>);

impl Writer {
    /// With room for this many bytes.
    pub fn with_room(bytes: usize) -> Self {
        Self(Zeroizing::new(Vec::with_capacity(bytes)))
    }

    /// The bytes.
    pub fn finish(self) -> Zeroizing<Vec<u8>> {
        self.0
    }

    /// A structure, whose members `write` writes.
    pub fn structure(&mut self, tag: Tag, write: impl FnOnce(&mut Self)) {
        self.header(tag, kind::STRUCTURE, 0);
        let begin = self.0.len();
        write(self);
        let length = length(self.0.len() - begin);
        if let Some(place) = self.0.get_mut(begin - 4..begin) {
            place.copy_from_slice(&length.to_be_bytes());
        }
    }

    /// An integer.
    pub fn integer(&mut self, tag: Tag, value: i32) {
        self.padded(tag, kind::INTEGER, value.to_be_bytes());
    }

    /// An enumeration.
    pub fn enumeration(&mut self, tag: Tag, value: u32) {
        self.padded(tag, kind::ENUMERATION, value.to_be_bytes());
    }

    /// A boolean.
    pub fn boolean(&mut self, tag: Tag, value: bool) {
        self.eight(tag, kind::BOOLEAN, u64::from(value).to_be_bytes());
    }

    /// A text.
    pub fn text(&mut self, tag: Tag, value: &str) {
        self.string(tag, kind::TEXT, value.as_bytes());
    }

    /// A byte string.
    pub fn bytes(&mut self, tag: Tag, value: &[u8]) {
        self.string(tag, kind::BYTES, value);
    }

    /// An item.
    pub fn item(&mut self, item: &Item<'_>) {
        let tag = item.tag;
        match &item.value {
            Value::Structure(items) => self.structure(tag, |writer| items.iter().for_each(|item| writer.item(item))),
            Value::Integer(value) => self.integer(tag, *value),
            Value::LongInteger(value) => self.eight(tag, kind::LONG_INTEGER, value.to_be_bytes()),
            Value::BigInteger(value) => self.string(tag, kind::BIG_INTEGER, value),
            Value::Enumeration(value) => self.enumeration(tag, *value),
            Value::Boolean(value) => self.boolean(tag, *value),
            Value::Text(value) => self.text(tag, value),
            Value::Bytes(value) => self.bytes(tag, value),
            Value::DateTime(value) => self.eight(tag, kind::DATE_TIME, value.to_be_bytes()),
            Value::Interval(value) => self.padded(tag, kind::INTERVAL, value.to_be_bytes()),
            Value::DateTimeExtended(value) => self.eight(tag, kind::DATE_TIME_EXTENDED, value.to_be_bytes()),
        }
    }

    fn header(&mut self, tag: Tag, kind: u8, length: u32) {
        let [_, a, b, c] = tag.0.to_be_bytes();
        self.0.extend([a, b, c, kind]);
        self.0.extend(length.to_be_bytes());
    }

    fn padded(&mut self, tag: Tag, kind: u8, value: [u8; 4]) {
        self.header(tag, kind, 4);
        self.0.extend(value);
        self.0.extend([0; 4]);
    }

    fn eight(&mut self, tag: Tag, kind: u8, value: [u8; 8]) {
        self.header(tag, kind, 8);
        self.0.extend(value);
    }

    fn string(&mut self, tag: Tag, kind: u8, value: &[u8]) {
        self.header(tag, kind, length(value.len()));
        self.0.extend_from_slice(value);
        let padded = self.0.len().next_multiple_of(8);
        self.0.resize(padded, 0);
    }
}

/// A length as it is written. No message comes near the limit.
fn length(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

/// The bytes of an item.
pub fn encode(item: &Item<'_>) -> Zeroizing<Vec<u8>> {
    let mut writer = Writer::with_room(256);
    writer.item(item);
    writer.finish()
}
