//! The encryption context in the forms that providers accept.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;

use crate::{DekId, Id, KeyId, TenantId};

/// The caller's pairs together with those that the gateway adds ([`AddedPairs`]), and their
/// deterministic CBOR encoding.
///
/// The provider's [`crate::ContextBinding`] says which of the two it binds: AWS the pairs; Google,
/// Transit, AES-GCM and XKS the bytes; RSA and AES key wrap neither. The envelope makes it
/// (`docs/format.md`, Context); adapters only read it.
#[derive(Clone, PartialEq, Eq)]
pub struct BoundContext {
    given: Arc<[(String, String)]>,
    added: Option<AddedPairs>,
    bytes: Vec<u8>,
}

/// The pairs that the gateway adds: the ids of the envelope that the context protects, and its
/// scope if it has one.
#[derive(Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "each is the value of the pair of that name")]
pub struct AddedPairs {
    pub tenant: TenantId,
    pub key: KeyId,
    pub dek: DekId,
    pub scope: Option<String>,
}

impl AddedPairs {
    /// The beginning of their names, which callers cannot use.
    pub const PREFIX: &str = "claviger:";

    /// How many there are.
    pub const fn count(&self) -> usize {
        if self.scope.is_some() { 4 } else { 3 }
    }

    /// Calls `take` with name and value of each, in the order of their encoding: shorter names first.
    ///
    /// # Errors
    /// The first error of `take`.
    pub fn each<E>(&self, mut take: impl FnMut(&'static str, &str) -> Result<(), E>) -> Result<(), E> {
        take("claviger:dek", &self.dek.text())?;
        take("claviger:key", &self.key.text())?;
        if let Some(scope) = &self.scope {
            take("claviger:scope", scope)?;
        }
        take("claviger:tenant", &self.tenant.text())
    }
}

impl BoundContext {
    /// Pairs and their encoding. The caller guarantees that they match.
    pub fn new(pairs: BTreeMap<String, String>, bytes: Vec<u8>) -> Self {
        Self {
            given: pairs.into_iter().collect(),
            added: None,
            bytes,
        }
    }

    /// A caller's pairs with those that the gateway adds, and the encoding of both. The caller
    /// guarantees that they match.
    pub const fn with_added(given: Arc<[(String, String)]>, added: AddedPairs, bytes: Vec<u8>) -> Self {
        Self {
            given,
            added: Some(added),
            bytes,
        }
    }

    /// The pairs that the gateway added; `None` in a context of no envelope, as of a check's canary.
    pub const fn added(&self) -> Option<&AddedPairs> {
        self.added.as_ref()
    }

    /// All pairs, in the byte order of their names. They are put together at each call, because
    /// most requests need the bytes alone.
    pub fn pairs(&self) -> BTreeMap<String, String> {
        let mut pairs: BTreeMap<String, String> = self.given.iter().cloned().collect();
        if let Some(added) = &self.added {
            let Ok(()) = added.each(|name, value| {
                pairs.insert(name.to_owned(), value.to_owned());
                Ok::<_, Infallible>(())
            });
        }
        pairs
    }

    /// The deterministic CBOR encoding, used as associated data.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

impl std::fmt::Debug for BoundContext {
    /// Shows the names only: values may contain customers' data.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.pairs().keys()).finish()
    }
}
