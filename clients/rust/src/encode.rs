//! JSON of requests. Written by hand rather than by serde, since serde would let callers serialize secrets, too, and its
//! buffers leave copies behind when they grow.

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::Value;
use zeroize::Zeroizing;

use crate::secret::{Secret, SecretText};
use crate::values::{Change, SecretJson};

/// A buffer that is overwritten when it grows and when it is dropped.
#[derive(Default)]
pub struct Writer(Zeroizing<Vec<u8>>);

impl Writer {
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        let needed = self.0.len() + bytes.len();
        if needed > self.0.capacity() {
            let mut larger = Zeroizing::new(Vec::with_capacity(needed.max(self.0.capacity() * 2).max(256)));
            larger.extend_from_slice(&self.0);
            self.0 = larger;
        }
        self.0.extend_from_slice(bytes);
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }

    fn json(&mut self, value: &impl serde::Serialize) {
        // Neither the buffer nor text, numbers and JSON values have an error.
        drop(serde_json::to_writer(self, value));
    }

    /// The bytes, which are overwritten when the last copy of the handle is dropped.
    pub(crate) fn finish(self) -> Bytes {
        Bytes::from_owner(self.0)
    }
}

impl io::Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.push(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What a request contains.
pub trait Encode {
    fn encode(&self, to: &mut Writer);

    /// The JSON text of it.
    fn to_body(&self) -> Bytes {
        let mut text = Writer::default();
        self.encode(&mut text);
        text.finish()
    }
}

/// An object that is being written.
pub struct Object<'a> {
    to: &'a mut Writer,
    is_empty: bool,
}

impl<'a> Object<'a> {
    pub(crate) fn begin(to: &'a mut Writer) -> Self {
        to.push(b"{");
        Self { to, is_empty: true }
    }

    pub(crate) fn member(&mut self, name: &str, value: &(impl Encode + ?Sized)) -> &mut Self {
        if !self.is_empty {
            self.to.push(b",");
        }
        self.is_empty = false;
        self.to.json(&name);
        self.to.push(b":");
        value.encode(self.to);
        self
    }

    /// Leaves out what is not there.
    pub(crate) fn optional(&mut self, name: &str, value: Option<&(impl Encode + ?Sized)>) -> &mut Self {
        match value {
            Some(value) => self.member(name, value),
            None => self,
        }
    }

    pub(crate) fn end(&mut self) {
        self.to.push(b"}");
    }
}

macro_rules! encode_as_json {
    ($($kind:ty),*) => {
        $(impl Encode for $kind {
            fn encode(&self, to: &mut Writer) {
                to.json(&self);
            }
        })*
    };
}

encode_as_json!(bool, u32, u64, str, String, Value);

impl Encode for Secret {
    fn encode(&self, to: &mut Writer) {
        let mut text = Zeroizing::new(vec![0; self.len().div_ceil(3) * 4]);
        // The buffer has the length of the encoding, so all of it fits.
        let length = STANDARD.encode_slice(self.expose(), &mut text).unwrap_or_default();
        to.push(b"\"");
        to.push(&text[..length]);
        to.push(b"\"");
    }
}

impl Encode for SecretText {
    fn encode(&self, to: &mut Writer) {
        self.expose().encode(to);
    }
}

impl Encode for SecretJson {
    fn encode(&self, to: &mut Writer) {
        self.expose().encode(to);
    }
}

impl Encode for Duration {
    fn encode(&self, to: &mut Writer) {
        to.push(format!("\"{}ms\"", self.as_millis()).as_bytes());
    }
}

impl Encode for Change {
    fn encode(&self, to: &mut Writer) {
        match self {
            Self::To(value) => value.encode(to),
            Self::Remove => to.push(b"null"),
        }
    }
}

impl<T: Encode> Encode for Vec<T> {
    fn encode(&self, to: &mut Writer) {
        to.push(b"[");
        for (index, item) in self.iter().enumerate() {
            if index > 0 {
                to.push(b",");
            }
            item.encode(to);
        }
        to.push(b"]");
    }
}

impl<T: Encode> Encode for BTreeMap<String, T> {
    fn encode(&self, to: &mut Writer) {
        let mut object = Object::begin(to);
        for (name, value) in self {
            object.member(name, value);
        }
        object.end();
    }
}
