//! What a provider can do. It is declared so that a combination that cannot work is refused when a
//! connection or key is created, and not at the first call.

use serde::{Deserialize, Serialize};

/// Whether an operation is supported, and where the data key is in plaintext during it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum How {
    /// Inside the provider: the plaintext data key does not pass through this process.
    InsideProvider,
    /// In this process's memory.
    ThroughMemory,
    /// Not supported.
    No,
}

/// What the provider authenticates together with the wrapped key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ContextBinding {
    /// The name-value pairs themselves (AWS).
    Pairs,
    /// The deterministic CBOR encoding of the pairs as associated data.
    AssociatedData,
    /// Nothing: the envelope's commitment alone binds the context.
    CommitmentOnly,
}

/// How a key gets a new version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rotation {
    /// The provider's key gets a new version, and ciphertexts name their version.
    InPlace,
    /// The provider's key gets new material, and no ciphertext names its material (AWS). All
    /// versions have the same provider key, and the provider finds the material.
    InPlaceUnnamed,
    /// The new version is another key of the provider.
    NewKey,
}

/// The algorithm and size of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum KeySpec {
    /// AES, 256 bits.
    #[serde(rename = "aes-256")]
    Aes256,
    /// RSA, 3072 bits.
    #[serde(rename = "rsa-3072")]
    Rsa3072,
    /// RSA, 4096 bits.
    #[serde(rename = "rsa-4096")]
    Rsa4096,
}

impl KeySpec {
    /// All specifications.
    pub const ALL: [Self; 3] = [Self::Aes256, Self::Rsa3072, Self::Rsa4096];

    /// The name in the API and the store.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Aes256 => "aes-256",
            Self::Rsa3072 => "rsa-3072",
            Self::Rsa4096 => "rsa-4096",
        }
    }
}

impl std::str::FromStr for KeySpec {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|spec| spec.as_str() == text).ok_or(())
    }
}

/// The supported operations of keys of one specification.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct KeyCapabilities {
    /// The specification.
    pub spec: KeySpec,
    /// Support for wrapping and unwrapping.
    pub wrap: How,
    /// Support for generating data keys.
    pub generate_data_key: How,
    /// Support for rewrapping with the same key.
    pub rewrap: How,
    /// How the encryption context is bound to a wrapped data key.
    pub context: ContextBinding,
    /// How keys get new versions; `None` if they cannot be rotated.
    pub rotation: Option<Rotation>,
    /// Maximum length of a data key to wrap, in bytes.
    pub max_plaintext: usize,
    /// Whether each wrap takes a random nonce of 96 bits under the version's own key, as AES-GCM and
    /// ChaCha20-Poly1305 do. One version must not wrap more than 2^32 times then (NIST SP 800-38D, section
    /// 8.3), so the gateway counts.
    pub random_nonce_bound: bool,
    /// Whether the provider has a current version of each key, wraps with it where a call names no version, and
    /// says which one it was. The gateway then names none, so that a rotation at the provider applies to the next
    /// wrap.
    pub chooses_version: bool,
}

/// A provider's declaration. The capability guard refuses what is declared `No`; the provider battery
/// checks that the declaration is true.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Capabilities {
    /// The key specifications that can be created or adopted, each once.
    pub keys: Vec<KeyCapabilities>,
    /// Whether it can create keys; otherwise keys can only be adopted.
    pub create_key: bool,
    /// Whether keys can be enabled and disabled at the provider.
    pub set_state: bool,
    /// Whether deletion can be scheduled at the provider.
    pub schedule_deletion: bool,
    /// Whether key material can be imported.
    pub import: bool,
}

impl Capabilities {
    /// What can be done with keys of this specification; `None` if it is not supported.
    pub fn of(&self, spec: KeySpec) -> Option<&KeyCapabilities> {
        self.keys.iter().find(|keys| keys.spec == spec)
    }
}
