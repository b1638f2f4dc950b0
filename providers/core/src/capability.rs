//! What a provider can do, declared so that an impossible pairing is refused when a
//! connection or a key is made and not at the first call.

use serde::{Deserialize, Serialize};

/// Where an operation takes place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum How {
    /// Inside the provider: the plaintext key does not pass through this process for it.
    InsideProvider,
    /// Through this process's memory.
    ThroughMemory,
    /// Not at all.
    No,
}

/// What the provider authenticates together with the wrapped key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ContextBinding {
    /// The name-value pairs themselves (AWS).
    Pairs,
    /// Their deterministic CBOR bytes as associated data.
    AssociatedData,
    /// Nothing: the envelope's commitment alone binds the context.
    CommitmentOnly,
}

/// How a new key version comes to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rotation {
    /// The provider's key gets a new version, which ciphertexts name.
    InPlace,
    /// The provider's key gets new material, which no ciphertext names (AWS): every version
    /// of ours stands for the same key, and the provider finds the material by itself.
    InPlaceUnnamed,
    /// A new provider key becomes the version.
    NewKey,
}

/// What a logical key is made of.
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
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Aes256, Self::Rsa3072, Self::Rsa4096];

    /// The word used in the API and the store.
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

/// What can be done with keys of one specification.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct KeyCapabilities {
    /// The specification.
    pub spec: KeySpec,
    /// Wrap and unwrap of data keys.
    pub wrap: How,
    /// Where data keys are generated.
    pub generate_data_key: How,
    /// Rewrap of the same key.
    pub rewrap: How,
    /// What is authenticated beside the key.
    pub context: ContextBinding,
    /// How rotation works; `None` when keys cannot be rotated at all.
    pub rotation: Option<Rotation>,
    /// The most bytes one wrap takes.
    pub max_plaintext: usize,
}

/// A provider's declaration. The guard layer refuses what is declared `No`; the
/// conformance battery shows that what is declared is what happens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Capabilities {
    /// Key specifications that can be made or adopted, each once.
    pub keys: Vec<KeyCapabilities>,
    /// Whether it can make keys (otherwise they are adopted only).
    pub create_key: bool,
    /// Whether enable and disable can be done at the provider.
    pub set_state: bool,
    /// Whether deletion can be scheduled at the provider.
    pub schedule_deletion: bool,
    /// Whether key material can be imported.
    pub import: bool,
}

impl Capabilities {
    /// What can be done with keys of this specification; `None` when there are none.
    pub fn of(&self, spec: KeySpec) -> Option<&KeyCapabilities> {
        self.keys.iter().find(|keys| keys.spec == spec)
    }
}
