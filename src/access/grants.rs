//! What a token may do: a set of operations and a set of keys.

use std::collections::BTreeSet;

use claviger_provider::KeyId;
use serde::{Deserialize, Serialize};

use crate::audit::Action;

/// Grants that cannot be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum GrantsError {
    /// No operation at all: such a token could do nothing.
    #[error("at least one operation is needed")]
    NoOperation,
    /// An empty set of keys, or more than [`Grants::MAX_KEYS`].
    #[error("1 to 256 keys, or none named for all")]
    KeyCount,
}

/// A set of actions, as one bit for each.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct ActionSet(u64);

impl ActionSet {
    /// Every action of the closed list.
    pub fn all() -> Self {
        Action::ALL.iter().copied().collect()
    }

    /// Whether the action is in it.
    pub const fn contains(self, action: Action) -> bool {
        self.0 & bit(action) != 0
    }

    /// Whether every action of `other` is in it.
    pub const fn covers(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether it is empty.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The actions, in the order of the closed list.
    pub fn iter(self) -> impl Iterator<Item = Action> {
        Action::ALL.iter().copied().filter(move |action| self.contains(*action))
    }
}

const fn bit(action: Action) -> u64 {
    1 << (action as u64)
}

impl FromIterator<Action> for ActionSet {
    fn from_iter<I: IntoIterator<Item = Action>>(actions: I) -> Self {
        Self(actions.into_iter().fold(0, |set, action| set | bit(action)))
    }
}

impl std::fmt::Debug for ActionSet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

impl Serialize for ActionSet {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_seq(self.iter())
    }
}

impl<'de> Deserialize<'de> for ActionSet {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        Ok(Vec::<Action>::deserialize(d)?.into_iter().collect())
    }
}

/// The keys that a token reaches.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeySet {
    /// Every key of the tenant, future ones included.
    All,
    /// These and no others.
    Only(BTreeSet<KeyId>),
}

impl KeySet {
    /// Whether every key is reached, future ones included.
    pub const fn is_all(&self) -> bool {
        matches!(self, Self::All)
    }

    /// Whether this key is reached.
    pub fn contains(&self, key: KeyId) -> bool {
        match self {
            Self::All => true,
            Self::Only(keys) => keys.contains(&key),
        }
    }

    /// Whether every key of `other` is reached.
    pub fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::All, _) => true,
            (Self::Only(_), Self::All) => false,
            (Self::Only(mine), Self::Only(theirs)) => theirs.is_subset(mine),
        }
    }
}

/// What a token may do. Kept as JSON in the token's row, and read back under the same rules
/// as [`Grants::new`] has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Written")]
pub struct Grants {
    operations: ActionSet,
    keys: KeySet,
}

/// Grants as they are written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    operations: ActionSet,
    keys: KeySet,
}

impl TryFrom<Written> for Grants {
    type Error = GrantsError;
    fn try_from(written: Written) -> Result<Self, GrantsError> {
        Self::new(written.operations, written.keys)
    }
}

impl Grants {
    /// The most keys that one token can name.
    pub const MAX_KEYS: usize = 256;

    /// Joins the two sets.
    ///
    /// # Errors
    /// When no operation is named, or the set of keys is empty or too large.
    pub fn new(operations: ActionSet, keys: KeySet) -> Result<Self, GrantsError> {
        if operations.is_empty() {
            return Err(GrantsError::NoOperation);
        }
        if let KeySet::Only(named) = &keys
            && (named.is_empty() || named.len() > Self::MAX_KEYS)
        {
            return Err(GrantsError::KeyCount);
        }
        Ok(Self { operations, keys })
    }

    /// Everything: the first administrator's.
    pub fn everything() -> Self {
        Self {
            operations: ActionSet::all(),
            keys: KeySet::All,
        }
    }

    /// The text that a token's row keeps.
    pub fn to_kept(&self) -> String {
        // Closed words and hex ids: writing them as JSON cannot fail.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Reads what [`Grants::to_kept`] wrote; `None` for anything else.
    pub fn from_kept(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }

    /// The operations.
    pub const fn operations(&self) -> ActionSet {
        self.operations
    }

    /// The keys.
    pub const fn keys(&self) -> &KeySet {
        &self.keys
    }

    /// Whether a holder of these may hand out `other`: nobody gives what they lack.
    pub fn covers(&self, other: &Self) -> bool {
        self.operations.covers(other.operations) && self.keys.covers(&other.keys)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn every_action_has_a_bit_of_its_own() {
        assert!(Action::ALL.len() <= 64);
        for (at, action) in Action::ALL.iter().enumerate() {
            let set: ActionSet = [*action].into_iter().collect();
            assert_eq!(set.iter().collect::<Vec<_>>(), [*action], "action {at}");
        }
    }

    #[test]
    fn nobody_covers_more_than_they_have() {
        let key = KeyId::random();
        let narrow = Grants::new([Action::Unwrap].into_iter().collect(), KeySet::Only([key].into())).unwrap();
        assert!(Grants::everything().covers(&narrow));
        assert!(!narrow.covers(&Grants::everything()));
        let other_key = Grants::new([Action::Unwrap].into_iter().collect(), KeySet::Only([KeyId::random()].into())).unwrap();
        assert!(!narrow.covers(&other_key));
        let all_keys = Grants::new([Action::Unwrap].into_iter().collect(), KeySet::All).unwrap();
        assert!(!narrow.covers(&all_keys));
        assert!(narrow.covers(&narrow.clone()));
    }

    #[test]
    fn kept_grants_read_back() {
        let grants = Grants::new(
            [Action::Wrap, Action::Unwrap].into_iter().collect(),
            KeySet::Only([KeyId::random()].into()),
        )
        .unwrap();
        let text = serde_json::to_string(&grants).unwrap();
        assert_eq!(serde_json::from_str::<Grants>(&text).unwrap(), grants);
        for empty in [
            r#"{"operations":[],"keys":"all"}"#,
            r#"{"operations":["Unwrap"],"keys":{"only":[]}}"#,
            r#"{"operations":["Unwrap"],"keys":"all","more":1}"#,
        ] {
            assert!(serde_json::from_str::<Grants>(empty).is_err(), "{empty}");
        }
        assert!(serde_json::from_str::<Grants>(r#"{"operations":["Unwrap"],"keys":"all"}"#).is_ok());
    }
}
