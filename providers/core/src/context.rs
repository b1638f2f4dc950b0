//! The encryption context in the form that providers see.

use std::collections::BTreeMap;

/// The caller's pairs together with the ones the gateway adds (`claviger:tenant`,
/// `claviger:key`, `claviger:dek`, `claviger:scope`), and their deterministic CBOR bytes.
///
/// Which of the two a provider takes is its [`crate::ContextBinding`]: AWS the pairs,
/// Google, Transit, AES-GCM and XKS the bytes, RSA and key-wrap nothing. Made by the
/// envelope (`docs/format.md`, Context); adapters only read it.
#[derive(Clone, PartialEq, Eq)]
pub struct BoundContext {
    pairs: BTreeMap<String, String>,
    bytes: Vec<u8>,
}

impl BoundContext {
    /// Joins pairs and their encoding; the envelope guarantees that they belong together.
    pub fn new(pairs: BTreeMap<String, String>, bytes: Vec<u8>) -> Self {
        Self { pairs, bytes }
    }

    /// Every pair, names in byte order.
    pub fn pairs(&self) -> &BTreeMap<String, String> {
        &self.pairs
    }

    /// The deterministic CBOR encoding: what is used as associated data.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

impl std::fmt::Debug for BoundContext {
    /// Values may name customers' data, so only the names are shown.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.pairs.keys()).finish()
    }
}
