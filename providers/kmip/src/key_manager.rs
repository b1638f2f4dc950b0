//! The key manager of one connection.

use claviger_provider::kit::passed_canaries::PassedCanaries;
use claviger_provider::{Error, ErrorKind, ProviderKeyRef};

use crate::client::Client;
use crate::errors::fault;
use crate::names::is_sound;

/// The key manager, as one client sees it. The operations are in `wrapping`, `lifecycle`, `probe` and `health`.
pub(crate) struct KeyManager {
    pub(crate) client: Client,
    /// Whether the server makes the initialization vectors.
    pub(crate) server_iv: bool,
    pub(crate) passed: PassedCanaries,
}

/// The Unique Identifier of a key. No server has a key whose identifier has another form.
pub(crate) fn id(key: &ProviderKeyRef) -> Result<&str, Error> {
    match is_sound(&key.id) && key.version.is_empty() {
        true => Ok(&key.id),
        false => Err(fault(ErrorKind::KeyNotFound, "no such key")),
    }
}
