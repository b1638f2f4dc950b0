//! What can be done: the closed list of actions that permits, tokens and records name.

use std::fmt;
use std::str::FromStr;

use super::string_enum::{UnknownWord, string_enum};

string_enum! {
    /// Whatever a permit can allow. The list is closed and final (REST contract, Access): a
    /// word is never renamed and never used for anything else.
    Action {
        /// Make a connection.
        CreateConnection = "CreateConnection",
        /// Read or list connections and their capabilities.
        ReadConnection = "ReadConnection",
        /// Change a connection's secrets, timeouts or labels.
        UpdateConnection = "UpdateConnection",
        /// Remove a connection that no key uses.
        DeleteConnection = "DeleteConnection",
        /// Make a key at the provider, or adopt one.
        CreateKey = "CreateKey",
        /// Read or list keys and their versions.
        ReadKey = "ReadKey",
        /// Change a key's labels, cache settings or name.
        UpdateKey = "UpdateKey",
        /// Detach a key; nothing happens at the provider.
        DeleteKey = "DeleteKey",
        /// Try a connection's rights.
        CheckConnection = "CheckConnection",
        /// EmergencyRevocation a connection off.
        Sever = "Sever",
        /// Undo a sever.
        Restore = "Restore",
        /// Make a new primary version of a key.
        Rotate = "Rotate",
        /// Undo a disable.
        Enable = "Enable",
        /// Stop every use of a key.
        Disable = "Disable",
        /// Make a data key and hand out its plaintext.
        GenerateDataKey = "GenerateDataKey",
        /// Make a data key of which only the wrapped form is handed out.
        GenerateDataKeyWithoutPlaintext = "GenerateDataKeyWithoutPlaintext",
        /// Wrap a caller's bytes.
        Wrap = "Wrap",
        /// Open a wrapped key.
        Unwrap = "Unwrap",
        /// Open a wrapped key that carries no valid seal of this installation.
        UnwrapUnsealed = "UnwrapUnsealed",
        /// Wrap anew under the same key.
        Rewrap = "Rewrap",
        /// Take a wrapped key away from this key to another one.
        RewrapFrom = "RewrapFrom",
        /// Bring a wrapped key here from another key.
        RewrapTo = "RewrapTo",
        /// Show what an envelope says about itself.
        Inspect = "Inspect",
        /// Say which key a scope is bound to.
        BindScope = "BindScope",
        /// Tenants: make, list, suspend, resume.
        ManageTenants = "ManageTenants",
        /// Principals: make, list, change, remove.
        ManagePrincipals = "ManagePrincipals",
        /// API tokens: make, revoke.
        ManageTokens = "ManageTokens",
        /// OIDC issuers and client certificate authorities.
        ManageIssuers = "ManageIssuers",
        /// Policies and their versions.
        ManagePolicies = "ManagePolicies",
        /// Limits of a tenant, principal or connection.
        ManageLimits = "ManageLimits",
        /// Ask why something is or is not permitted.
        Explain = "Explain",
        /// Read the audit log, its checkpoints and proofs.
        ReadAudit = "ReadAudit",
    }
}

string_enum! {
    /// What is recorded although no permit can allow it: acts of the gateway itself.
    Internal {
        /// Requests that failed before anybody was authenticated.
        Authenticate = "Authenticate",
        /// Requests that the limiter turned away.
        Limit = "Limit",
        /// The log took up its work.
        Start = "Start",
    }
}

/// The record's member `operation`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operation {
    /// One of the actions that a permit allows.
    Action(Action),
    /// An act of the gateway itself.
    Internal(Internal),
}

impl Operation {
    /// The word that stands in the record.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Action(action) => action.as_str(),
            Self::Internal(internal) => internal.as_str(),
        }
    }
}

impl From<Action> for Operation {
    fn from(action: Action) -> Self {
        Self::Action(action)
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Operation {
    type Err = UnknownWord;
    fn from_str(text: &str) -> Result<Self, UnknownWord> {
        text.parse().map(Self::Action).or_else(|_| text.parse().map(Self::Internal))
    }
}

impl serde::Serialize for Operation {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(self.as_str())
    }
}

impl<'de> serde::Deserialize<'de> for Operation {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        <std::borrow::Cow<'de, str>>::deserialize(d)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test stops where an expectation fails")]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_word_stands_for_one_operation_and_is_read_back() {
        let mut seen = BTreeSet::new();
        let actions = Action::ALL.iter().copied().map(Operation::Action);
        for operation in actions.chain(Internal::ALL.iter().copied().map(Operation::Internal)) {
            assert!(seen.insert(operation.as_str()), "{operation} twice");
            assert_eq!(operation.as_str().parse::<Operation>(), Ok(operation));
            let json = serde_json::to_string(&operation).unwrap();
            assert_eq!(json, format!("\"{operation}\""));
            assert_eq!(serde_json::from_str::<Operation>(&json).unwrap(), operation);
        }
        assert_eq!(Action::ALL.len(), 32);
    }

    #[test]
    fn other_words_are_refused() {
        for text in ["", "unwrap", "Unwrap ", "UNWRAP", "Everything"] {
            assert_eq!(text.parse::<Operation>(), Err(UnknownWord), "{text:?}");
        }
    }

    #[test]
    fn variant_and_word_agree() {
        for action in Action::ALL {
            assert_eq!(format!("{action:?}"), action.as_str());
        }
    }
}
