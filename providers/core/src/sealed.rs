//! The store of the embedded provider's key material.

use async_trait::async_trait;

use crate::{Error, Secret, TenantId};

/// The name of one sealed value. The sealing binds every part of it as associated data, so a value
/// that is moved to another place in the database does not open there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedName {
    /// The value's owner.
    pub tenant: TenantId,
    /// The row: an object's id in hex, at most 128 bytes.
    pub row: String,
    /// The column: the kind of value, for instance `material/3`; at most 64 bytes.
    pub column: String,
}

/// Values sealed under the installation's root key in the gateway's store.
///
/// The embedded provider uses it; the gateway's store implements it.
#[async_trait]
pub trait SealedStore: Send + Sync {
    /// Reads and unseals one value.
    ///
    /// # Errors
    /// `Internal` when the stored value does not open under the root key or its name.
    async fn get(&self, name: &SealedName) -> Result<Option<Secret>, Error>;

    /// The columns of a row, in byte order.
    ///
    /// # Errors
    /// `Internal` when the store cannot be read.
    async fn columns(&self, tenant: TenantId, row: &str) -> Result<Vec<String>, Error>;

    /// Writes values in one transaction; none of their names may exist. They are on stable storage when
    /// this returns.
    ///
    /// # Errors
    /// `Conflict` when a name exists, `Internal` when the store cannot be written.
    async fn insert(&self, values: Vec<(SealedName, Secret)>) -> Result<(), Error>;

    /// Removes all values of a row in one transaction.
    ///
    /// # Errors
    /// `Internal` when the store cannot be written.
    async fn remove_row(&self, tenant: TenantId, row: &str) -> Result<(), Error>;
}
