//! The trait that an adapter implements, and the values that pass through it.

use async_trait::async_trait;

use crate::{BoundContext, Capabilities, Error, ErrorKind, KeyId, KeySpec, OpContext, Probe, ProviderKind, Secret};

/// The algorithm that made a recipient's ciphertext, with the number it has in envelopes
/// (`docs/format.md`, Recipient, member 5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Algorithm {
    /// The provider's own format: AWS blob, Google ciphertext, Transit.
    ProviderOpaque = 1,
    /// RSA-OAEP with SHA-256 and MGF1-SHA-256.
    RsaOaep256 = 2,
    /// AES key wrap (RFC 3394) with a 256-bit key.
    A256Kw = 3,
    /// AES key wrap with padding (RFC 5649) with a 256-bit key.
    A256Kwp = 4,
    /// AES-256-GCM, `iv(12) ct tag(16)`.
    Aes256Gcm = 5,
    /// XAES-256-GCM (C2SP), `nonce(24) ct tag(16)`.
    Xaes256Gcm = 6,
    /// CBOR `[iv, ct, tag, metadata]` of an external key store.
    CborGcm = 7,
    /// RSA-OAEP with SHA-1.
    RsaOaep1 = 8,
}

impl Algorithm {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 8] = [
        Self::ProviderOpaque,
        Self::RsaOaep256,
        Self::A256Kw,
        Self::A256Kwp,
        Self::Aes256Gcm,
        Self::Xaes256Gcm,
        Self::CborGcm,
        Self::RsaOaep1,
    ];

    /// The number in an envelope.
    pub const fn code(self) -> u64 {
        self as u64
    }

    /// The algorithm with that number, if this release knows it.
    pub fn from_code(code: u64) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.code() == code)
    }
}

/// A key as its provider names it, in the form that envelopes carry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProviderKeyRef {
    /// The provider key id, at most 512 bytes.
    pub id: String,
    /// The version, at most 128 bytes; empty where the provider names none, which
    /// then matches on the key id alone.
    pub version: String,
}

/// A key-encryption key as an operation names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kek {
    /// The provider's key and version; an empty version leaves the choice to the provider.
    pub key: ProviderKeyRef,
    /// What it is made of.
    pub spec: KeySpec,
    /// The logical key that it stands behind.
    pub id: KeyId,
}

/// A data key wrapped by a provider: what a recipient of the envelope is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wrapped {
    /// The key and version that the provider used, as it told.
    pub key: ProviderKeyRef,
    /// How the ciphertext was made.
    pub algorithm: Algorithm,
    /// At most 6,144 bytes.
    pub ciphertext: Vec<u8>,
    /// Which of its key's materials the provider used, where it tells and the ciphertext does
    /// not; for the record, at most 128 bytes.
    pub key_material: Option<String>,
    /// The provider's own id of this call, for the record.
    pub upstream_request_id: Option<String>,
}

/// A data key that the provider generated.
#[derive(Debug)]
pub struct Generated {
    /// The key itself.
    pub plaintext: Secret,
    /// The same key wrapped.
    pub wrapped: Wrapped,
}

/// A rewrapped data key.
#[derive(Debug)]
pub struct Rewrapped {
    /// The new wrapping.
    pub wrapped: Wrapped,
}

/// A request to make a key at the provider or to adopt one that exists there.
#[derive(Debug, Clone)]
pub struct KeyRequest {
    /// The logical key it will stand behind.
    pub key_id: KeyId,
    /// What to make, or what the adopted key must be.
    pub spec: KeySpec,
    /// The provider's name of an existing key to adopt; `None` makes a new one.
    pub adopt: Option<String>,
}

/// A key's or a version's state at the provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyState {
    /// Usable.
    Enabled,
    /// Switched off, can be switched on again.
    Disabled,
    /// Waits for its material.
    PendingImport,
    /// Will be destroyed.
    PendingDeletion,
    /// Gone.
    Destroyed,
}

/// One version of a provider's key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VersionDescription {
    /// The provider's key and version, as envelopes carry them.
    pub key: ProviderKeyRef,
    /// Its state there.
    pub state: KeyState,
    /// When it was made, in Unix seconds, if the provider tells.
    pub created: Option<i64>,
}

/// A key as the provider describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyDescription {
    /// The provider key id, as envelopes carry it.
    pub id: String,
    /// What it is made of.
    pub spec: KeySpec,
    /// The state of the key as a whole.
    pub state: KeyState,
    /// Every version, oldest first; the last enabled one is the primary unless `primary` says otherwise.
    pub versions: Vec<VersionDescription>,
    /// The index in `versions` of the one that wraps.
    pub primary: usize,
}

impl KeyDescription {
    /// The version that wraps, as the KEK of the logical key `id`; `None` while the key has
    /// no version.
    pub fn kek(&self, id: KeyId) -> Option<Kek> {
        let version = self.versions.get(self.primary)?;
        Some(Kek {
            key: version.key.clone(),
            spec: self.spec,
            id,
        })
    }
}

/// One provider reached with one connection's credentials.
///
/// An adapter implements what it declares in [`Provider::capabilities`]; everything else
/// answers `Unsupported`. It makes one attempt per call: time limits, retries and the
/// circuit breaker are the pipeline's. It never logs a secret and never follows an
/// address that a blob or an answer names.
#[async_trait]
pub trait Provider: Send + Sync + 'static {
    /// Which family this is.
    fn kind(&self) -> ProviderKind;

    /// What it can do; constant for the life of the value.
    fn capabilities(&self) -> Capabilities;

    /// Wraps a data key (1 to `max_plaintext` bytes) under the version that `kek` names, or
    /// under the primary one where it names none or the provider takes none.
    async fn wrap_key(&self, _cx: &OpContext, _kek: &Kek, _dek: &Secret, _context: &BoundContext) -> Result<Wrapped, Error> {
        Err(unsupported("wrap_key"))
    }

    /// Unwraps a data key. `wrapped.key` was matched against a version row of ours before.
    async fn unwrap_key(&self, _cx: &OpContext, _wrapped: &Wrapped, _context: &BoundContext) -> Result<Secret, Error> {
        Err(unsupported("unwrap_key"))
    }

    /// Generates a data key of `bytes` bytes inside the provider and wraps it.
    async fn generate_data_key(&self, _cx: &OpContext, _kek: &Kek, _bytes: usize, _context: &BoundContext) -> Result<Generated, Error> {
        Err(unsupported("generate_data_key"))
    }

    /// Wraps anew under the primary version inside the provider.
    async fn rewrap_key(&self, _cx: &OpContext, _wrapped: &Wrapped, _to: &Kek, _context: &BoundContext) -> Result<Rewrapped, Error> {
        Err(unsupported("rewrap_key"))
    }

    /// Makes a key or adopts one, and lists all its versions.
    async fn create_key(&self, _cx: &OpContext, _request: &KeyRequest) -> Result<KeyDescription, Error> {
        Err(unsupported("create_key"))
    }

    /// Makes a new primary version and describes the key as it is then.
    async fn rotate(&self, _cx: &OpContext, _kek: &Kek) -> Result<KeyDescription, Error> {
        Err(unsupported("rotate"))
    }

    /// Describes a key by its provider key id; the version of `kek` is ignored.
    async fn describe(&self, _cx: &OpContext, _kek: &Kek) -> Result<KeyDescription, Error> {
        Err(unsupported("describe"))
    }

    /// Enables or disables a key at the provider. Repeating it changes nothing.
    async fn set_state(&self, _cx: &OpContext, _kek: &Kek, _enabled: bool) -> Result<(), Error> {
        Err(unsupported("set_state"))
    }

    /// Schedules the key's deletion after `days`.
    async fn schedule_deletion(&self, _cx: &OpContext, _kek: &Kek, _days: u16) -> Result<(), Error> {
        Err(unsupported("schedule_deletion"))
    }

    /// Imports key material.
    async fn import(&self, _cx: &OpContext, _kek: &Kek, _material: &Secret) -> Result<KeyDescription, Error> {
        Err(unsupported("import"))
    }

    /// Finds out what the connection may do, without making, changing or deleting anything:
    /// at most a data key is wrapped and unwrapped again. `keks` are some of the connection's
    /// own keys, for rights that are given key by key; there may be none.
    async fn probe(&self, _cx: &OpContext, _keks: &[Kek]) -> Result<Probe, Error> {
        Err(unsupported("probe"))
    }
}

fn unsupported(operation: &'static str) -> Error {
    Error::new(ErrorKind::Unsupported, operation)
}
