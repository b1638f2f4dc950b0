//! What a token may do: a set of operations and a set of keys.

use std::collections::BTreeSet;

use claviger_provider::KeyId;
use serde::{Deserialize, Serialize};

use crate::audit::Action;

/// Why a pair of sets cannot be grants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum GrantsError {
    /// The set of operations is empty: the token could do nothing.
    #[error("at least one operation is needed")]
    NoOperation,
    /// The set of keys is empty or has more than [`Grants::MAX_KEYS`] members.
    #[error("1 to 256 keys, or none named for all")]
    KeyCount,
}

/// A set of actions, stored as one bit per action.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct ActionSet(u64);

impl ActionSet {
    /// The set of all actions.
    pub fn all() -> Self {
        Action::ALL.iter().copied().collect()
    }

    /// Whether the set contains this action.
    pub const fn contains(self, action: Action) -> bool {
        self.0 & bit(action) != 0
    }

    /// Whether the set contains every action of `other`.
    pub const fn covers(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether the set contains no action.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The actions, in the order of [`Action::ALL`].
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

/// The keys on which a token allows its operations.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeySet {
    /// Every key of the tenant, including keys created later.
    All,
    /// Only these keys.
    Only(BTreeSet<KeyId>),
}

impl KeySet {
    /// Whether this is [`KeySet::All`].
    pub const fn is_all(&self) -> bool {
        matches!(self, Self::All)
    }

    /// The keys of [`KeySet::Only`]; `None` for all.
    pub const fn only(&self) -> Option<&BTreeSet<KeyId>> {
        match self {
            Self::All => None,
            Self::Only(keys) => Some(keys),
        }
    }

    /// Whether the set contains this key.
    pub fn contains(&self, key: KeyId) -> bool {
        match self {
            Self::All => true,
            Self::Only(keys) => keys.contains(&key),
        }
    }

    /// Whether the set contains every key of `other`.
    pub fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::All, _) => true,
            (Self::Only(_), Self::All) => false,
            (Self::Only(mine), Self::Only(theirs)) => theirs.is_subset(mine),
        }
    }
}

/// The operations that a token allows, and the keys on which it allows them. Stored as JSON in the
/// token's row; reading it back applies the checks of [`Grants::new`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Written")]
pub struct Grants {
    operations: ActionSet,
    keys: KeySet,
}

/// The JSON form of [`Grants`], before its checks.
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
    /// The maximum number of keys that a token can list.
    pub const MAX_KEYS: usize = 256;

    /// Grants these operations on these keys.
    ///
    /// # Errors
    /// See [`GrantsError`].
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

    /// All operations on all keys, for the first administrator.
    pub fn everything() -> Self {
        Self {
            operations: ActionSet::all(),
            keys: KeySet::All,
        }
    }

    /// The JSON text to store in the token's row.
    pub fn to_kept(&self) -> String {
        // Only fixed names and hex ids, so serialising cannot fail.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Parses the text of [`Grants::to_kept`]. `None` for any other text.
    pub fn from_kept(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }

    /// The allowed operations.
    pub const fn operations(&self) -> ActionSet {
        self.operations
    }

    /// The keys on which they are allowed.
    pub const fn keys(&self) -> &KeySet {
        &self.keys
    }

    /// Whether `other` allows nothing that these grants do not allow. Then their holder may issue a
    /// token with `other`.
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
