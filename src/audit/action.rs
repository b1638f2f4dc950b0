//! The closed list of actions, as grants, tokens and records name them.

use std::fmt;
use std::str::FromStr;

use super::string_enum::{UnknownWord, string_enum};

string_enum! {
    /// An action that a grant can permit. The names are part of the REST API: a name is never
    /// changed, and never reused for another action.
    Action {
        /// Create a connection.
        CreateConnection = "CreateConnection",
        /// Read or list connections and their capabilities.
        ReadConnection = "ReadConnection",
        /// Change a connection's secrets, timeouts, labels or network settings.
        UpdateConnection = "UpdateConnection",
        /// Delete a connection that no key uses.
        DeleteConnection = "DeleteConnection",
        /// Create a key at the provider, or adopt one.
        CreateKey = "CreateKey",
        /// Read or list keys and their versions.
        ReadKey = "ReadKey",
        /// Change a key's labels, cache settings or name.
        UpdateKey = "UpdateKey",
        /// Detach a key; the provider's key is not changed.
        DeleteKey = "DeleteKey",
        /// Check which of the needed rights a connection has at its provider.
        CheckConnection = "CheckConnection",
        /// Stop every use of a connection.
        Sever = "Sever",
        /// Restore a severed connection.
        Restore = "Restore",
        /// Make a new primary version of a key.
        Rotate = "Rotate",
        /// Enable a disabled key.
        Enable = "Enable",
        /// Stop every use of a key.
        Disable = "Disable",
        /// Generate a data key, returned in plaintext and wrapped.
        GenerateDataKey = "GenerateDataKey",
        /// Generate a data key, returned only wrapped.
        GenerateDataKeyWithoutPlaintext = "GenerateDataKeyWithoutPlaintext",
        /// Wrap a data key that the caller sends.
        Wrap = "Wrap",
        /// Unwrap a wrapped key.
        Unwrap = "Unwrap",
        /// Unwrap a wrapped key without a valid seal of this installation.
        UnwrapUnsealed = "UnwrapUnsealed",
        /// Rewrap under the primary version of the same key.
        Rewrap = "Rewrap",
        /// Rewrap from this key to another one.
        RewrapFrom = "RewrapFrom",
        /// Rewrap from another key to this one.
        RewrapTo = "RewrapTo",
        /// Show the contents of an envelope.
        Inspect = "Inspect",
        /// Bind a scope to a key.
        BindScope = "BindScope",
        /// Create, list, suspend and resume tenants.
        ManageTenants = "ManageTenants",
        /// Create, list, change and delete principals.
        ManagePrincipals = "ManagePrincipals",
        /// Create and revoke API tokens.
        ManageTokens = "ManageTokens",
        /// Manage OIDC issuers and client certificate authorities.
        ManageIssuers = "ManageIssuers",
        /// Manage policies and their versions.
        ManagePolicies = "ManagePolicies",
        /// Manage the limits of a tenant, principal or connection.
        ManageLimits = "ManageLimits",
        /// Show why a request is or is not permitted.
        Explain = "Explain",
        /// Read the audit log, its checkpoints and proofs.
        ReadAudit = "ReadAudit",
    }
}

string_enum! {
    /// An operation of the gateway itself. It is recorded, but no grant can permit it.
    Internal {
        /// Requests that failed before authentication.
        Authenticate = "Authenticate",
        /// Requests that the limiter refused.
        Limit = "Limit",
        /// The log resumed after an interruption.
        Start = "Start",
        /// Calls to a provider that serve no request: logins, renewals, polling, recovery.
        Background = "Background",
        /// The log's oldest files are removed.
        RemoveSegment = "RemoveSegment",
    }
}

/// The record's member `operation`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operation {
    /// An action that a grant can permit.
    Action(Action),
    /// An operation of the gateway itself.
    Internal(Internal),
}

impl Operation {
    /// The name in the record.
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
    fn every_name_is_unique_and_is_read_back() {
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
    fn other_names_are_refused() {
        for text in ["", "unwrap", "Unwrap ", "UNWRAP", "Everything"] {
            assert_eq!(text.parse::<Operation>(), Err(UnknownWord), "{text:?}");
        }
    }

    #[test]
    fn variant_and_name_are_equal() {
        for action in Action::ALL {
            assert_eq!(format!("{action:?}"), action.as_str());
        }
    }
}
