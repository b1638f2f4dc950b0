//! TTLV, the encoding of KMIP messages (KMIP 1.4, section 9.1): tag, type, length, value.
//!
//! The reader is strict: each length must be exactly the one that the value has, padding must be zero, and depth
//! and number of items are bounded. So a text has one encoding, and what [`parse`] accepts, [`encode`] returns
//! byte for byte.

mod item;
mod reader;
#[cfg(test)]
mod tests;
mod writer;

pub use item::{HEADER, Item, MAX_DEPTH, MAX_ITEMS, Tag, TtlvError, Value};
pub use reader::{parse, total_length};
pub use writer::{Writer, encode};
