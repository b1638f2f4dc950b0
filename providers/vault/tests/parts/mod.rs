//! What a factory makes a provider of.

use claviger_provider::{ConnectionId, ConnectionParts, Secret, TenantId};

/// The parts of a connection with these settings.
pub fn parts(settings: &str, secrets: Vec<(String, Secret)>) -> ConnectionParts<'_> {
    ConnectionParts {
        tenant: TenantId::from_bytes([7; 16]),
        connection: ConnectionId::from_bytes([9; 16]),
        external_id: "",
        settings,
        secrets,
        background: None,
    }
}
