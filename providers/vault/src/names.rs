//! Names of namespaces, mounts, keys, and the engine that they belong to.

use claviger_provider::KeyId;

/// The longest namespace or mount, in bytes: both together with the longest key name are below the
/// 512 bytes of a provider key id.
const MAX_PATH: usize = 128;
/// The prefix of keys that the gateway created.
const MADE: &str = "claviger-";
/// The longest name of a key, in bytes.
const MAX_KEY: usize = 128;

/// A path of one or more segments of `[A-Za-z0-9._-]`, at most 128 bytes: a namespace or a
/// mount. Without slashes at its ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Path(String);

impl Path {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        let segment = |segment: &str| !matches!(segment, "" | "." | "..") && segment.bytes().all(plain);
        (text.len() <= MAX_PATH && text.split('/').all(segment)).then(|| Self(text.to_owned()))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    pub(crate) fn segments(&self) -> impl Iterator<Item = &str> {
        self.0.split('/')
    }
}

/// The name of a key, by Transit's own rule: `\w(([\w-.]+)?\w)?`, at most 128 bytes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct KeyName(String);

impl KeyName {
    /// The name of the key that the gateway creates for a logical key.
    pub(crate) fn made(key: KeyId) -> Self {
        Self(format!("{MADE}{key}"))
    }

    /// Whether it has the form of [`KeyName::made`].
    pub(crate) fn is_made(&self) -> bool {
        self.0.starts_with(MADE)
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        let word = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
        let bytes = text.as_bytes();
        let ends = bytes.first().is_some_and(word) && bytes.last().is_some_and(word);
        let inside = bytes.iter().all(|byte| word(byte) || matches!(byte, b'.' | b'-'));
        (bytes.len() <= MAX_KEY && ends && inside).then(|| Self(text.to_owned()))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

/// A Transit engine on a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Engine {
    /// The namespace, absent for the root one.
    pub(crate) namespace: Option<Path>,
    /// The engine's mount in the namespace.
    pub(crate) mount: Path,
}

impl Engine {
    /// The provider key id: `namespace/mount/key`, as the server writes the full path.
    pub(crate) fn id(&self, key: &KeyName) -> String {
        format!("{}{}", self.prefix(), key.as_str())
    }

    /// The key of a provider key id; `None` for a key of another engine.
    pub(crate) fn key(&self, id: &str) -> Option<KeyName> {
        KeyName::parse(id.strip_prefix(&self.prefix())?)
    }

    /// The key to adopt, by its name or its id.
    pub(crate) fn adopted(&self, text: &str) -> Option<KeyName> {
        KeyName::parse(text).or_else(|| self.key(text))
    }

    fn prefix(&self) -> String {
        match &self.namespace {
            Some(namespace) => format!("{}/{}/", namespace.as_str(), self.mount.as_str()),
            None => format!("{}/", self.mount.as_str()),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test stops where an expectation fails")]
mod tests {
    use super::{Engine, KeyName, Path};

    #[test]
    fn a_path_has_plain_segments() {
        for text in ["transit", "team/a/transit", "a-b_c.d"] {
            assert!(Path::parse(text).is_some(), "{text}");
        }
        for text in [
            "",
            "/",
            "transit/",
            "/transit",
            "a//b",
            "a/../b",
            ".",
            "a b",
            "a%2Fb",
            "a?b",
            "tr\u{e4}nsit",
            &"a".repeat(129),
        ] {
            assert!(Path::parse(text).is_none(), "{text}");
        }
    }

    #[test]
    fn a_key_is_named_by_transits_rule() {
        for text in ["a", "my-key", "orders.v1", "_k_"] {
            assert!(KeyName::parse(text).is_some(), "{text}");
        }
        for text in ["", "-a", "a-", ".", "a/b", "a b", &"a".repeat(129)] {
            assert!(KeyName::parse(text).is_none(), "{text}");
        }
    }

    #[test]
    fn an_id_belongs_to_one_engine() {
        let engine = Engine {
            namespace: Path::parse("team/a"),
            mount: Path::parse("transit").unwrap(),
        };
        let key = KeyName::parse("orders").unwrap();
        assert_eq!(engine.id(&key), "team/a/transit/orders");
        assert_eq!(engine.key("team/a/transit/orders"), Some(key));
        for other in [
            "transit/orders",
            "team/b/transit/orders",
            "team/a/transit/",
            "team/a/transit/x/y",
            "orders",
        ] {
            assert_eq!(engine.key(other), None, "{other}");
        }
    }
}
