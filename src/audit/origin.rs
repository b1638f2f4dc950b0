//! Where a record is stored: the node's log, the tenant's sequence, the place in the file.

use std::fmt::Write;

use claviger_provider::{Id, InstallationId, Node, TenantId};

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
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
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
