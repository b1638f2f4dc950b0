//! The types of a record's members: each can only hold what `docs/audit-format.md` allows.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;

use chrono::{DateTime, Datelike, Timelike, Utc};
use ipnet::IpNet;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use claviger_provider::{DekId, InstallationId, KeyId, TenantId};

use super::string_enum::string_enum;

/// An integer that every JSON reader holds exactly: below 2^53 (RFC 8785, 3.2.2.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize)]
#[serde(transparent)]
pub struct Number(u64);

impl Number {
    /// The greatest one.
    pub const MAX: Self = Self((1 << 53) - 1);

    /// Takes the value, or [`Number::MAX`] where it is greater.
    pub const fn saturating(value: u64) -> Self {
        if value > Self::MAX.0 { Self::MAX } else { Self(value) }
    }

    /// The value.
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl From<u32> for Number {
    fn from(value: u32) -> Self {
        Self(u64::from(value))
    }
}

impl From<std::time::Duration> for Number {
    /// Whole microseconds.
    fn from(duration: std::time::Duration) -> Self {
        Self::saturating(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX))
    }
}

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let value = u64::deserialize(d)?;
        if value > Self::MAX.0 {
            return Err(de::Error::custom("an integer below 2^53 was expected"));
        }
        Ok(Self(value))
    }
}

/// A short text: at most 256 bytes, cut at a character's boundary where it was longer, so
/// that what others send us cannot make a record too large to be written.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct Text(Cow<'static, str>);

impl Text {
    /// The greatest length, in bytes.
    pub const MAX: usize = 256;

    /// Takes a text, cutting what is beyond [`Text::MAX`].
    pub fn new(text: impl Into<Cow<'static, str>>) -> Self {
        let mut text = text.into();
        if text.len() > Self::MAX {
            let end = text.floor_char_boundary(Self::MAX);
            text.to_mut().truncate(end);
        }
        Self(text)
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d).map(Self::new)
    }
}

/// 32 bytes (a SHA-256 or HMAC-SHA-256), written as 64 lower-case hex digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Digest(pub [u8; 32]);

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let mut text = [0; 64];
        hex::encode_to_slice(self.0, &mut text).map_err(serde::ser::Error::custom)?;
        s.serialize_str(std::str::from_utf8(&text).map_err(serde::ser::Error::custom)?)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = <Cow<'de, str>>::deserialize(d)?;
        let mut bytes = [0; 32];
        hex::decode_to_slice(text.as_bytes(), &mut bytes).map_err(|_| de::Error::custom("64 hex digits were expected"))?;
        Ok(Self(bytes))
    }
}

/// A moment in UTC, in microseconds, written as `2026-01-02T03:04:05.000006Z`: always six
/// digits and `Z`, so that equal moments are equal bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp(DateTime<Utc>);

impl Timestamp {
    /// This moment, by the system's clock. The clock may step back: order is told by the
    /// sequence and never by the time.
    pub fn now() -> Self {
        Self::from_micros(Utc::now().timestamp_micros())
    }

    /// Microseconds since 1970-01-01T00:00:00Z; a value outside of chrono's years becomes 1970.
    pub fn from_micros(micros: i64) -> Self {
        Self(DateTime::from_timestamp_micros(micros).unwrap_or(DateTime::UNIX_EPOCH))
    }

    /// Microseconds since 1970-01-01T00:00:00Z.
    pub fn micros(self) -> i64 {
        self.0.timestamp_micros()
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let t = &self.0;
        // chrono counts a leap second as nanoseconds beyond one second.
        let micros = t.nanosecond().min(999_999_999) / 1_000;
        write!(
            f,
            "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{micros:06}Z",
            t.year(),
            t.month(),
            t.day(),
            t.hour(),
            t.minute(),
            t.second()
        )
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = <Cow<'de, str>>::deserialize(d)?;
        let time = DateTime::parse_from_rfc3339(&text).map_err(|_| de::Error::custom("an RFC 3339 time was expected"))?;
        Ok(Self(time.with_timezone(&Utc)))
    }
}

/// Why a text is not a node's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a node's name is 1 to 63 of a-z, 0-9, '.', '_', '-' and begins with a letter or digit")]
pub struct NodeError;

/// The name of one node of an installation: `[a-z0-9][a-z0-9._-]{0,62}`. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Node(Arc<str>);

impl Node {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
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

/// Whose log it is: the installation and the node that writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// The installation.
    pub installation: InstallationId,
    /// The node.
    pub node: Node,
}

/// Where a request came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Source {
    /// One address (in outcomes and intents).
    Address(IpAddr),
    /// A network (in aggregates): /24 for IPv4, /64 for IPv6.
    Network(IpNet),
}

impl Source {
    /// The caller's address; an IPv4 address that came in IPv6 clothes is taken out of them.
    pub fn address(address: IpAddr) -> Self {
        Self::Address(address.to_canonical())
    }

    /// The network under which failures of this address are summed.
    pub fn network_of(address: IpAddr) -> Self {
        let address = address.to_canonical();
        let length = match address {
            IpAddr::V4(_) => 24,
            IpAddr::V6(_) => 64,
        };
        // 24 is at most 32, and 64 at most 128, so the assertion holds.
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

/// `"v":1`, the only version of the record so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Version1;

impl Serialize for Version1 {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_u8(1)
    }
}

impl<'de> Deserialize<'de> for Version1 {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        match u64::deserialize(d)? {
            1 => Ok(Self),
            _ => Err(de::Error::custom("a record of version 1 was expected")),
        }
    }
}

string_enum! {
    /// What a record is. Each is a leaf of the tenant's log.
    Kind {
        /// An effect is about to be caused; durable before it.
        Intent = "intent",
        /// What became of a request; durable before the answer's first byte.
        Outcome = "outcome",
        /// An answer was recorded and then not handed over.
        Withheld = "withheld",
        /// A sum of requests that are not recorded one by one.
        Aggregate = "aggregate",
        /// The log took up its work after an interruption.
        Restarted = "restarted",
    }
}

string_enum! {
    /// How the caller proved who it is.
    Authn {
        /// An API token.
        ApiToken = "api_token",
        /// A JWT of a known issuer.
        Jwt = "jwt",
        /// A client certificate.
        ClientCertificate = "client_certificate",
        /// None: it stands in the operator's configuration, and a start did it.
        Configuration = "configuration",
    }
}

string_enum! {
    /// What access decided.
    Decision {
        /// Permitted.
        Allow = "allow",
        /// Not permitted.
        Deny = "deny",
    }
}

string_enum! {
    /// How a request ended.
    Ending {
        /// It did what was asked.
        Success = "success",
        /// Access refused it.
        Denied = "denied",
        /// It failed, and nothing was changed.
        Failed = "failed",
        /// Its end is unknown: it stopped between intent and outcome.
        Interrupted = "interrupted",
    }
}

string_enum! {
    /// What interrupted the log.
    Cause {
        /// The process ended without closing the log.
        UncleanStop = "unclean_stop",
        /// The disk was full.
        DiskFull = "disk_full",
        /// A write or a sync failed.
        WriteFailed = "write_failed",
        /// The log was too slow for the callers' deadlines.
        Overload = "overload",
    }
}

/// How a request ended, with the error code of the REST contract where it did not succeed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It did what was asked.
    Success,
    /// Access refused it, answering with this code.
    Denied(&'static str),
    /// It failed with this code, and nothing was changed.
    Failed(&'static str),
    /// Its end is unknown.
    Interrupted,
}

impl Outcome {
    pub(super) const fn ending(self) -> Ending {
        match self {
            Self::Success => Ending::Success,
            Self::Denied(_) => Ending::Denied,
            Self::Failed(_) => Ending::Failed,
            Self::Interrupted => Ending::Interrupted,
        }
    }

    pub(super) fn code(self) -> Option<Text> {
        match self {
            Self::Denied(code) | Self::Failed(code) => Some(Text::new(code)),
            Self::Success | Self::Interrupted => None,
        }
    }
}

/// The policy that decided.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// Its id.
    pub id: Text,
    /// Its version.
    pub version: Number,
}

/// The context as a keyed hash, so that a record can be matched without telling the values.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContextHash {
    /// HMAC-SHA-256 over the context's bytes.
    pub hash: Digest,
    /// The id of the key; the tenant's auditor can fetch the key.
    pub key_id: Text,
}

/// The context pairs that the tenant chose to show, in canonical order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Shown(Vec<(String, String)>);

impl FromIterator<(String, String)> for Shown {
    /// A name that comes twice keeps its last value.
    fn from_iter<I: IntoIterator<Item = (String, String)>>(pairs: I) -> Self {
        let mut pairs: Vec<_> = pairs.into_iter().collect::<BTreeMap<_, _>>().into_iter().collect();
        // RFC 8785 orders names by UTF-16 code units, which is not the order of UTF-8.
        pairs.sort_by(|(a, _), (b, _)| a.encode_utf16().cmp(b.encode_utf16()));
        Self(pairs)
    }
}

impl Serialize for Shown {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_map(self.0.iter().map(|(name, value)| (name, value)))
    }
}

impl<'de> Deserialize<'de> for Shown {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        <BTreeMap<String, String>>::deserialize(d).map(|pairs| pairs.into_iter().collect())
    }
}

/// One end of a rewrap.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RewrapEnd {
    /// The data key's id in that envelope.
    pub dek_id: DekId,
    /// The key.
    pub key: KeyId,
    /// Its version.
    pub key_version: Number,
    /// SHA-256 of the wrapped key.
    pub wrapped_sha256: Digest,
}

/// From which wrapped key to which.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rewrap {
    /// What came in.
    pub source: RewrapEnd,
    /// What went out; absent where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<RewrapEnd>,
}

/// A span of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// Its begin.
    pub from: Timestamp,
    /// Its end.
    pub to: Timestamp,
}

/// The place of a frame in the file: the byte offset of its first byte. Positions grow
/// with every record of the node, so they order all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position(pub u64);

/// What an append is answered with: the record is durable, and this is its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// Whose log it is.
    pub origin: Origin,
    /// Whose record it is.
    pub tenant: TenantId,
    /// The record's number in the tenant's log on this node, from 0.
    pub sequence: u64,
    /// The frame's place in the file.
    pub position: Position,
}

impl fmt::Display for Receipt {
    /// The value of `Claviger-Audit-Index`: `<installation>/<node>/<tenant id>#<n>`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Origin { installation, node } = &self.origin;
        write!(f, "{installation}/{}/{}#{}", node.as_str(), self.tenant, self.sequence)
    }
}
