//! The encryption context in the forms that providers accept.

use std::collections::BTreeMap;

/// The caller's pairs together with those that the gateway adds (`claviger:tenant`,
/// `claviger:key`, `claviger:dek`, `claviger:scope`), and their deterministic CBOR encoding.
///
/// The provider's [`crate::ContextBinding`] says which of the two it binds: AWS the pairs; Google,
/// Transit, AES-GCM and XKS the bytes; RSA and AES key wrap neither. The envelope makes it
/// (`docs/format.md`, Context); adapters only read it.
#[derive(Clone, PartialEq, Eq)]
pub struct BoundContext {
    pairs: BTreeMap<String, String>,
    bytes: Vec<u8>,
}

impl BoundContext {
    /// Pairs and their encoding. The caller guarantees that they match.
    pub fn new(pairs: BTreeMap<String, String>, bytes: Vec<u8>) -> Self {
        Self { pairs, bytes }
    }

    /// All pairs, in the byte order of their names.
    pub fn pairs(&self) -> &BTreeMap<String, String> {
        &self.pairs
    }

    /// The deterministic CBOR encoding, used as associated data.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

impl std::fmt::Debug for BoundContext {
    /// Shows the names only: values may contain customers' data.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.pairs.keys()).finish()
    }
}
