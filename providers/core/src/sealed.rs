//! Where the embedded provider keeps its key material.

use async_trait::async_trait;

use crate::{Error, Secret, TenantId};

/// Names one sealed value. Every part is bound into the sealing as associated data, so a
/// value moved to another place of the database does not open there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedName {
    /// The tenant that owns the value.
    pub tenant: TenantId,
    /// The row: an object's id in hex, at most 128 bytes.
    pub row: String,
    /// The column: what the value is, for instance `material/3`; at most 64 bytes.
    pub column: String,
}

/// Values sealed under the installation's root key, kept in the gateway's store.
///
/// Defined here for the embedded provider, implemented by the store, handed in at boot.
#[async_trait]
pub trait SealedStore: Send + Sync {
    /// Reads and opens one value.
    ///
    /// # Errors
    /// `Internal` when the stored value does not open under the root key or its name.
    async fn get(&self, name: &SealedName) -> Result<Option<Secret>, Error>;

    /// The columns that exist under a row, in byte order.
    ///
    /// # Errors
    /// `Internal` when the store cannot be read.
    async fn columns(&self, tenant: TenantId, row: &str) -> Result<Vec<String>, Error>;

    /// Writes all values in one transaction; none of the names may exist yet.
    /// When this returns, they are on stable storage.
    ///
    /// # Errors
    /// `Conflict` when a name exists, `Internal` when the store cannot be written.
    async fn insert(&self, values: Vec<(SealedName, Secret)>) -> Result<(), Error>;

    /// Removes every value of a row in one transaction.
    ///
    /// # Errors
    /// `Internal` when the store cannot be written.
    async fn remove_row(&self, tenant: TenantId, row: &str) -> Result<(), Error>;
}
