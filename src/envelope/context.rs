//! The encryption context: the caller's pairs, and the gateway's own pairs.

use std::fmt;
use std::sync::Arc;

use claviger_provider::{AddedPairs, BoundContext};

use super::cbor;
use super::header::Header;

/// The most pairs of a caller.
pub const MAX_PAIRS: usize = 16;
/// The most bytes of a name.
pub const MAX_NAME: usize = 128;
/// The most bytes of a value.
pub const MAX_VALUE: usize = 1024;
/// The most bytes of a caller's names and values together.
pub const MAX_TOTAL: usize = 2048;

/// Which limit a caller's pairs break. A position counts the pairs from 0, in the order in
/// which they were given; no name or value is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ContextError {
    /// More than 16 pairs.
    #[error("at most 16 pairs")]
    TooManyPairs,
    /// All names and values together are longer than 2 KiB.
    #[error("names and values together at most 2048 bytes")]
    TooLong,
    /// The name at this position is empty or too long.
    #[error("a name of 1 to 128 bytes")]
    NameLength(usize),
    /// The value at this position is empty or too long.
    #[error("a value of 1 to 1024 bytes")]
    ValueLength(usize),
    /// The name at this position is reserved for the gateway.
    #[error("a name that does not begin with `claviger:`")]
    NameReserved(usize),
    /// The name at this position was given before.
    #[error("each name once")]
    NameTwice(usize),
}

impl ContextError {
    /// The position of the wrong pair; `None` when the limit is on all pairs together.
    pub fn position(self) -> Option<usize> {
        match self {
            Self::TooManyPairs | Self::TooLong => None,
            Self::NameLength(at) | Self::ValueLength(at) | Self::NameReserved(at) | Self::NameTwice(at) => Some(at),
        }
    }
}

/// A caller's pairs within the limits: at most 16 and 2 KiB in all, names of 1 to 128 bytes,
/// values of 1 to 1024. They are taken as they are, without Unicode normalisation.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Context {
    /// In the order of their encoding.
    pairs: Arc<[(String, String)]>,
}

impl Context {
    /// Checks a caller's pairs. It reads 17 of them at most.
    ///
    /// # Errors
    /// The first limit that is broken.
    pub fn from_pairs(given: impl IntoIterator<Item = (String, String)>) -> Result<Self, ContextError> {
        let mut pairs: Vec<(String, String)> = given.into_iter().take(MAX_PAIRS + 1).collect();
        let mut total = 0;
        for (position, (name, value)) in pairs.iter().enumerate() {
            if position == MAX_PAIRS {
                return Err(ContextError::TooManyPairs);
            }
            if name.is_empty() || name.len() > MAX_NAME {
                return Err(ContextError::NameLength(position));
            }
            if value.is_empty() || value.len() > MAX_VALUE {
                return Err(ContextError::ValueLength(position));
            }
            if name.starts_with(AddedPairs::PREFIX) {
                return Err(ContextError::NameReserved(position));
            }
            total += name.len() + value.len();
            if pairs[..position].iter().any(|(before, _)| before == name) {
                return Err(ContextError::NameTwice(position));
            }
        }
        if total > MAX_TOTAL {
            return Err(ContextError::TooLong);
        }
        pairs.sort_unstable_by(|(a, _), (b, _)| order(a).cmp(&order(b)));
        Ok(Self { pairs: pairs.into() })
    }

    /// Joins the pairs with the ids and the scope of the envelope that they protect.
    pub fn bind(&self, header: &Header) -> BoundContext {
        let added = AddedPairs {
            tenant: header.tenant(),
            key: header.key(),
            dek: header.dek_id(),
            scope: header.scope().map(|scope| scope.as_str().to_owned()),
        };
        let bytes = encode(&self.pairs, &added);
        BoundContext::with_added(Arc::clone(&self.pairs), added, bytes)
    }
}

impl fmt::Debug for Context {
    /// Values may name customers' data, so only the names are shown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.pairs.iter().map(|(name, _)| name)).finish()
    }
}

/// The place of a name in the encoding. RFC 8949 (4.2.1) orders a map by its encoded keys. An encoded text
/// begins with its length, so texts are ordered by length, then by bytes.
fn order(name: &str) -> (usize, &[u8]) {
    (name.len(), name.as_bytes())
}

/// Deterministic CBOR. Both the given and the added pairs are in order, so they are merged.
fn encode(given: &[(String, String)], added: &AddedPairs) -> Vec<u8> {
    cbor::to_vec(|e| {
        e.map((given.len() + added.count()) as u64)?;
        let mut given = given.iter().peekable();
        added.each(|name, value| {
            while let Some((before, value)) = given.next_if(|(given, _)| order(given) < order(name)) {
                e.str(before)?.str(value)?;
            }
            e.str(name)?.str(value)?;
            Ok(())
        })?;
        for (name, value) in given {
            e.str(name)?.str(value)?;
        }
        Ok(())
    })
}
