//! Where a record is stored: the node's log, the tenant's sequence, the place in the file.

use std::borrow::Cow;
use std::fmt::Write;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, de};

use claviger_provider::{Id, InstallationId, TenantId};

/// The text is not a valid node name.
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

/// The owner of a log file: one node of one installation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// The installation.
    pub installation: InstallationId,
    /// The node that writes the log.
    pub node: Node,
}

/// The byte offset of a frame in the file. Offsets grow with every record of the node, so they
/// order the records of all its tenants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position(pub u64);

/// Proof that a record is durable, and where it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// The log.
    pub origin: Origin,
    /// The tenant whose sequence the record is part of.
    pub tenant: TenantId,
    /// The record's number in the tenant's log on this node, from 0.
    pub sequence: u64,
    /// The frame's offset in the file.
    pub position: Position,
}

impl Receipt {
    /// The value of `Claviger-Audit-Index`: `<installation>/<node>/<tenant id>#<n>`.
    pub fn index(&self) -> String {
        let Origin { installation, node } = &self.origin;
        let (installation, tenant) = (installation.text(), self.tenant.text());
        let digits = self.sequence.checked_ilog10().unwrap_or(0) as usize + 1;
        // Of its exact length, so that a header takes it over without a copy.
        let mut text = String::with_capacity(installation.len() + node.as_str().len() + tenant.len() + digits + 3);
        // Writing to a String cannot fail.
        let _ = write!(text, "{}/{}/{}#{}", &*installation, node.as_str(), &*tenant, self.sequence);
        text
    }
}
