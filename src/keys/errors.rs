//! The error of a load.

use crate::loading_cache::Full;
use crate::store::StoreError;

/// Why an entry could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The connection's settings or secrets cannot be used.
    #[error(transparent)]
    Provider(#[from] claviger_provider::Error),
    /// Requests hold every entry that memory has room for.
    #[error("requests hold every entry that memory has room for")]
    Full,
}

impl From<Full> for LoadError {
    fn from(Full: Full) -> Self {
        Self::Full
    }
}
