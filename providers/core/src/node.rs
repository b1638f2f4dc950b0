//! The name of one node of an installation.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, de};

/// The text is not a valid node name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a node's name is 1 to 63 of a-z, 0-9, '.', '_', '-' and begins with a letter or digit")]
pub struct NodeError;

/// The name of one node of an installation: `[a-z0-9][a-z0-9._-]{0,62}`. The node writes the audit
/// log with this name in its first line, and the store keeps its position in that log under this
/// name. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Node(Arc<str>);

impl Node {
    /// Draws a new name of 32 random hex digits, so that no two nodes get the same one.
    pub fn random() -> Self {
        let mut bytes = [0; 16];
        crate::secret::fill_random(&mut bytes);
        Self(hex::encode(bytes).into())
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Node {
    type Err = NodeError;
    fn from_str(text: &str) -> Result<Self, NodeError> {
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        let starts_well = text.bytes().next().is_some_and(plain);
        if !starts_well || text.len() > 63 || !text.bytes().all(|b| plain(b) || matches!(b, b'.' | b'_' | b'-')) {
            return Err(NodeError);
        }
        Ok(Self(text.into()))
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        <Cow<'de, str>>::deserialize(d)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test stops where an expectation fails")]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_that_paths_and_urls_can_hold() {
        for good in ["a", "0", "node-1.example_x", &"a".repeat(63)] {
            assert_eq!(good.parse::<Node>().unwrap().as_str(), good);
        }
        for bad in ["", "-a", ".a", "A", "a b", "a/b", "a\n", "\u{e9}", &"a".repeat(64)] {
            assert_eq!(bad.parse::<Node>(), Err(NodeError), "{bad:?}");
        }
    }

    #[test]
    fn a_drawn_name_is_valid_and_new() {
        let [one, two] = [Node::random(), Node::random()];
        assert_eq!(one.as_str().parse::<Node>().unwrap(), one);
        assert_ne!(one, two);
    }
}
