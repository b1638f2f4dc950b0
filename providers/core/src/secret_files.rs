//! Secrets of a connection that are the contents of the operator's files.

use std::path::PathBuf;

use crate::Secret;

/// The files from which a connection's secrets come. The gateway implements it for connections that the
/// operator's configuration declares, and gives it to the adapter in [`crate::ConnectionParts`].
pub trait SecretFiles: Send + Sync + 'static {
    /// The absolute paths of the files.
    fn paths(&self) -> Vec<PathBuf>;

    /// Reads the files now; returns the secrets by the names that [`crate::Factory::parse`] gave them. Blocks.
    ///
    /// # Errors
    /// Why they cannot be used, for the log, without any of their content.
    fn read(&self) -> Result<Vec<(String, Secret)>, String>;
}
