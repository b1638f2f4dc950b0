//! Where a record is stored: the node's log, the tenant's sequence, the place in the file.

use std::fmt;

use claviger_provider::{InstallationId, Node, TenantId};

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

impl fmt::Display for Receipt {
    /// The value of `Claviger-Audit-Index`: `<installation>/<node>/<tenant id>#<n>`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Origin { installation, node } = &self.origin;
        write!(f, "{installation}/{node}/{}#{}", self.tenant, self.sequence)
    }
}
