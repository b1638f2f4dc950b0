//! The types of a record's members beyond the scalars: each can only hold what
//! `docs/audit-format.md` allows.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use claviger_provider::{DekId, KeyId};

use super::scalar::{Digest, Number, Text, Timestamp};
use super::string_enum::string_enum;

/// The network origin of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Source {
    /// A single address, in outcomes and intents.
    Address(IpAddr),
    /// A network, in aggregates: /24 for IPv4, /64 for IPv6.
    Network(IpNet),
}

impl Source {
    /// The caller's address. An IPv4-mapped IPv6 address is converted to IPv4.
    pub fn address(address: IpAddr) -> Self {
        Self::Address(address.to_canonical())
    }

    /// The network under which failures from this address are counted.
    pub fn network_of(address: IpAddr) -> Self {
        let address = address.to_canonical();
        let length = match address {
            IpAddr::V4(_) => 24,
            IpAddr::V6(_) => 64,
        };
        // 24 is at most 32, and 64 at most 128, so the assertion cannot fail.
        Self::Network(IpNet::new_assert(address, length).trunc())
    }
}

impl Serialize for Source {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Address(address) => s.collect_str(address),
            Self::Network(network) => s.collect_str(network),
        }
    }
}

impl<'de> Deserialize<'de> for Source {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = <Cow<'de, str>>::deserialize(d)?;
        let source = match text.parse() {
            Ok(network) => Self::Network(network),
            Err(_) => Self::Address(
                text.parse()
                    .map_err(|_| de::Error::custom("an address or a network was expected"))?,
            ),
        };
        Ok(source)
    }
}

string_enum! {
    /// The kind of a record. Records of every kind are entries of the tenant's log.
    Kind {
        /// An effect that is about to be caused. Durable before the effect.
        Intent = "intent",
        /// The result of a request. Durable before the first byte of its response.
        Outcome = "outcome",
        /// The response of an outcome was not sent.
        Withheld = "withheld",
        /// Counts of requests that have no record each.
        Aggregate = "aggregate",
        /// The log resumed after an interruption.
        Restarted = "restarted",
    }
}

string_enum! {
    /// How the caller was authenticated.
    Authn {
        /// An API token.
        ApiToken = "api_token",
        /// A JWT of a known issuer.
        Jwt = "jwt",
        /// A client certificate.
        ClientCertificate = "client_certificate",
        /// No caller. The gateway applied the operator's configuration file.
        Configuration = "configuration",
        /// No caller. The gateway acted by itself: a provider call without a request, or a key's
        /// state at the provider that it stored.
        Gateway = "gateway",
    }
}

string_enum! {
    /// The decision of access control.
    Decision {
        /// Permitted.
        Allow = "allow",
        /// Permission denied.
        Deny = "deny",
    }
}

string_enum! {
    /// The result of a request.
    Ending {
        /// The request succeeded.
        Success = "success",
        /// Access control denied it.
        Denied = "denied",
        /// The operation failed and changed nothing.
        Failed = "failed",
        /// The result is unknown: the request stopped between intent and outcome.
        Interrupted = "interrupted",
        /// At a start, the gateway found a revocation whose object was enabled, restored or resumed
        /// since. It changed nothing.
        Superseded = "superseded",
    }
}

string_enum! {
    /// The cause of an interruption of the log.
    Cause {
        /// The process ended without closing the log.
        UncleanStop = "unclean_stop",
        /// The disk was full.
        DiskFull = "disk_full",
        /// A write or a sync failed.
        WriteFailed = "write_failed",
        /// The log was too slow for the callers' deadlines.
        Overload = "overload",
        /// Durable records were removed from the log by something else than the gateway.
        LogLost = "log_lost",
    }
}

/// A part of the log's file that was durable and is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lost {
    /// The offset of its first byte.
    pub from: Number,
    /// The offset of the byte after its last one.
    pub to: Number,
}

impl Lost {
    pub(super) const fn new(from: u64, to: u64) -> Self {
        Self {
            from: Number::saturating(from),
            to: Number::saturating(to),
        }
    }

    /// Whether that byte is part of it.
    pub(super) const fn contains(self, offset: u64) -> bool {
        self.from.get() <= offset && offset < self.to.get()
    }
}

/// The result of a request, with the REST API's error code unless it succeeded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The request succeeded.
    Success,
    /// Access control denied it; the response carries this code.
    Denied(&'static str),
    /// It failed with this code and changed nothing.
    Failed(&'static str),
    /// The result is unknown.
    Interrupted,
    /// A revocation that was lifted since; nothing was changed.
    Superseded,
}

impl Outcome {
    pub(super) const fn ending(self) -> Ending {
        match self {
            Self::Success => Ending::Success,
            Self::Denied(_) => Ending::Denied,
            Self::Failed(_) => Ending::Failed,
            Self::Interrupted => Ending::Interrupted,
            Self::Superseded => Ending::Superseded,
        }
    }

    pub(super) fn code(self) -> Option<Text> {
        match self {
            Self::Denied(code) | Self::Failed(code) => Some(Text::new(code)),
            Self::Success | Self::Interrupted | Self::Superseded => None,
        }
    }
}

/// A call to a provider, in the order of RFC 8785.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProviderCall {
    /// Name of the operation at the provider, such as `Decrypt`.
    pub operation: Text,
    /// The provider's request id, if its response had one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<Text>,
    /// `ok`, `abandoned`, or the kind of error.
    pub result: Text,
}

impl From<claviger_provider::ProviderCall> for ProviderCall {
    fn from(call: claviger_provider::ProviderCall) -> Self {
        Self {
            operation: Text::new(call.operation),
            request_id: call.request_id.map(Text::new),
            result: Text::new(call.result.as_str()),
        }
    }
}

/// The policy that decided.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// The policy's id.
    pub id: Text,
    /// The policy's version.
    pub version: Number,
}

/// A keyed hash of the context: records of the same context can be matched without its values.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContextHash {
    /// HMAC-SHA-256 over the context's bytes.
    pub hash: Digest,
    /// The id of the HMAC key, which the tenant's auditor can fetch.
    pub key_id: Text,
}

/// The context pairs that the tenant chose to have in the record, in canonical order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct VisibleContext(Vec<(String, String)>);

impl FromIterator<(String, String)> for VisibleContext {
    /// Of pairs with the same name the last one is kept.
    fn from_iter<I: IntoIterator<Item = (String, String)>>(pairs: I) -> Self {
        let mut pairs: Vec<_> = pairs.into_iter().collect::<BTreeMap<_, _>>().into_iter().collect();
        // RFC 8785 orders names by UTF-16 code units, which differs from the order of UTF-8.
        pairs.sort_by(|(a, _), (b, _)| a.encode_utf16().cmp(b.encode_utf16()));
        Self(pairs)
    }
}

impl VisibleContext {
    /// The pairs, in canonical order.
    pub(super) fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

impl Serialize for VisibleContext {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_map(self.pairs())
    }
}

impl<'de> Deserialize<'de> for VisibleContext {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        <BTreeMap<String, String>>::deserialize(d).map(|pairs| pairs.into_iter().collect())
    }
}

/// The source or the target of a rewrap.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RewrapEnd {
    /// The data key's id in the envelope.
    pub dek_id: DekId,
    /// Id of the key.
    pub key: KeyId,
    /// The key's version.
    pub key_version: Number,
    /// SHA-256 of the wrapped key.
    pub wrapped_sha256: Digest,
}

/// The wrapped keys of a rewrap.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rewrap {
    /// The wrapped key that the caller sent.
    pub source: RewrapEnd,
    /// The wrapped key of the response; absent if the rewrap failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<RewrapEnd>,
}

/// What a change of a connection's network settings replaces: SHA-256 of these settings as canonical JSON,
/// before and after.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkChange {
    /// Those that were asked for.
    pub after: Digest,
    /// Those of before.
    pub before: Digest,
}

/// A span of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// The beginning.
    pub from: Timestamp,
    /// The end.
    pub to: Timestamp,
}
