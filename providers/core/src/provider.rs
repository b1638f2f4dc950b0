//! The trait that an adapter implements, and the values that pass through it.

use std::time::Duration;

use async_trait::async_trait;

use crate::{BoundContext, Capabilities, Error, ErrorKind, KeyId, KeySpec, OpContext, Probe, ProviderKind, Secret};

/// The algorithm of a recipient's ciphertext, with its number in envelopes (`docs/format.md`,
/// Recipient, member 5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Algorithm {
    /// The provider's own format: a ciphertext of AWS, Google or Transit.
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

/// The provider's names of a key and a version, in the form that envelopes carry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProviderKeyRef {
    /// The provider key id, at most 512 bytes.
    pub id: String,
    /// The version, at most 128 bytes. Empty if the provider's ciphertexts name none. Then only the
    /// key id is compared.
    pub version: String,
}

/// The key-encryption key of an operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kek {
    /// The provider's key and version. With an empty version the provider chooses.
    pub key: ProviderKeyRef,
    /// The key's specification.
    pub spec: KeySpec,
    /// The logical key whose version this is.
    pub id: KeyId,
}

/// A data key wrapped by a provider: the content of an envelope's recipient.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wrapped {
    /// The key and version that the provider used, as its response names them.
    pub key: ProviderKeyRef,
    /// The algorithm of the ciphertext.
    pub algorithm: Algorithm,
    /// The ciphertext, at most 6,144 bytes.
    pub ciphertext: Vec<u8>,
    /// The id of the key material that the provider used, where the response names it and the
    /// ciphertext does not. For the record; at most 128 bytes.
    pub key_material: Option<String>,
    /// The provider's own id of this call, for the record.
    pub upstream_request_id: Option<String>,
}

/// A data key that the provider generated.
#[derive(Debug)]
pub struct Generated {
    /// The data key.
    pub plaintext: Secret,
    /// The same data key, wrapped.
    pub wrapped: Wrapped,
}

/// A rewrapped data key.
#[derive(Debug)]
pub struct Rewrapped {
    /// The data key under its new version.
    pub wrapped: Wrapped,
}

/// A request to create a key at the provider, or to adopt one that exists there.
#[derive(Debug, Clone)]
pub struct KeyRequest {
    /// The logical key that will use the provider key.
    pub key_id: KeyId,
    /// The id from which the name of a created key is made. It is `key_id` for the first provider
    /// key of a logical key. When a key moves, it is a new random id, because the provider may
    /// still have a key with the first name.
    pub made_as: KeyId,
    /// Whether an earlier attempt may have created a key with the name that is made from `made_as`. Then
    /// that key is returned; otherwise a key that has the name already is a `Conflict`.
    pub repeated: bool,
    /// The specification to create, or that the adopted key must have.
    pub spec: KeySpec,
    /// The provider's name of the key to adopt; `None` to create one.
    pub adopt: Option<String>,
    /// Whether another tenant has the key to adopt, where claims span the installation: the key is read, as any other, and
    /// instead of being tried, which takes one of the other tenant's nonces, it is refused as one that the provider denies
    /// ([`crate::Factory::unproven`]).
    pub taken: bool,
}

/// The state of a key or version at the provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyState {
    /// Usable.
    Enabled,
    /// It unwraps, and wraps nothing more.
    DecryptOnly,
    /// Disabled; it can be enabled again.
    Disabled,
    /// The key's material is not imported yet.
    PendingImport,
    /// Scheduled for deletion.
    PendingDeletion,
    /// The key's material is destroyed.
    Destroyed,
    /// The provider could not make or import its key material.
    Failed,
    /// The provider reports a state that the adapter does not know. Only a call can tell whether it
    /// is usable.
    Unknown,
}

/// The ways in which a provider would give a key's material to whoever has the right there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Exposure {
    /// The material can be exported.
    pub exportable: bool,
    /// A backup contains the material in plaintext.
    pub plaintext_backup: bool,
}

impl Exposure {
    /// The material stays inside the provider, as far as the provider says.
    pub const NONE: Self = Self {
        exportable: false,
        plaintext_backup: false,
    };
}

/// One version of a provider's key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VersionDescription {
    /// The provider's key and version, as in an envelope.
    pub key: ProviderKeyRef,
    /// The version's state at the provider.
    pub state: KeyState,
    /// The version's creation in Unix seconds, if the provider returns it.
    pub created: Option<i64>,
    /// How the version's material can leave the provider; `None` if the provider does not say.
    pub exposure: Option<Exposure>,
}

/// The provider's description of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyDescription {
    /// The provider key id, as in an envelope.
    pub id: String,
    /// The key's specification.
    pub spec: KeySpec,
    /// The state of the key as a whole.
    pub state: KeyState,
    /// Every version, oldest first.
    pub versions: Vec<VersionDescription>,
    /// The index in `versions` of the primary version, the one that wraps.
    pub primary: usize,
}

impl KeyDescription {
    /// The primary version as the KEK of the logical key `id`; `None` while the key has no version.
    pub fn kek(&self, id: KeyId) -> Option<Kek> {
        let version = self.versions.get(self.primary)?;
        Some(Kek {
            key: version.key.clone(),
            spec: self.spec,
            id,
        })
    }
}

/// One provider with one connection's credentials.
///
/// An adapter implements what it declares in [`Provider::capabilities`]; every other method returns
/// `Unsupported`. It makes one attempt per call: time limits, retries and the circuit breaker
/// belong to the pipeline. It reports each attempt to [`OpContext::trace`]. It never logs a secret,
/// and never connects to an address from an envelope or a response.
#[async_trait]
pub trait Provider: Send + Sync + 'static {
    /// The kind of provider.
    fn kind(&self) -> ProviderKind;

    /// The supported operations and kinds of keys. Never changes for one provider.
    fn capabilities(&self) -> Capabilities;

    /// Wraps a data key (1 to `max_plaintext` bytes) under the version that `kek` names, or under the
    /// primary version where it names none or the provider accepts none.
    async fn wrap_key(&self, _cx: &OpContext, _kek: &Kek, _dek: &Secret, _context: &BoundContext) -> Result<Wrapped, Error> {
        Err(unsupported("wrap_key"))
    }

    /// Unwraps a data key. The caller has checked that `wrapped.key` is a version in the store.
    async fn unwrap_key(&self, _cx: &OpContext, _wrapped: &Wrapped, _context: &BoundContext) -> Result<Secret, Error> {
        Err(unsupported("unwrap_key"))
    }

    /// The longest time of one call by the connection's own settings; `None` where the gateway's timeouts alone bound
    /// it. A timeout says something about the provider if the caller granted this time.
    fn budget(&self) -> Option<Duration> {
        None
    }

    /// Generates a data key of `bytes` bytes inside the provider and wraps it.
    async fn generate_data_key(&self, _cx: &OpContext, _kek: &Kek, _bytes: usize, _context: &BoundContext) -> Result<Generated, Error> {
        Err(unsupported("generate_data_key"))
    }

    /// Wraps a data key again under the primary version, inside the provider.
    async fn rewrap_key(&self, _cx: &OpContext, _wrapped: &Wrapped, _to: &Kek, _context: &BoundContext) -> Result<Rewrapped, Error> {
        Err(unsupported("rewrap_key"))
    }

    /// Creates or adopts a key; returns it with all its versions.
    async fn create_key(&self, _cx: &OpContext, _request: &KeyRequest) -> Result<KeyDescription, Error> {
        Err(unsupported("create_key"))
    }

    /// Looks for the key that an earlier [`Provider::create_key`] may have created for this request, makes it usable
    /// if that is left to do, and creates none; `None` if there is none. Of every provider that declares `create_key`.
    async fn find_made(&self, _cx: &OpContext, _request: &KeyRequest) -> Result<Option<KeyDescription>, Error> {
        Err(unsupported("find_made"))
    }

    /// Makes a new primary version; returns the key with all its versions.
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

    /// Finds out what the connection may do. It creates, changes and deletes nothing; at most it wraps
    /// and unwraps random bytes. `keks` are some of the connection's keys, for rights that are granted
    /// key by key; it may be empty.
    async fn probe(&self, _cx: &OpContext, _keks: &[Kek]) -> Result<Probe, Error> {
        Err(unsupported("probe"))
    }
}

fn unsupported(operation: &'static str) -> Error {
    Error::new(ErrorKind::Unsupported, operation)
}
