//! A recipient: the data key, wrapped by one provider key (`docs/format.md`, Recipients).

use claviger_provider::{Algorithm, GcmParts, ProviderKeyRef, ProviderKind, Wrapped};
use minicbor::encode::Write;
use minicbor::{Decoder, Encoder, encode};

use super::cbor;
use super::errors::{BuildError, ParseError};

/// Maximum number of recipients of one envelope.
pub const MAX_RECIPIENTS: usize = 8;

const MAX_KEY_ID: usize = 512;
const MAX_VERSION: usize = 128;
const MAX_CIPHERTEXT: usize = 6144;

/// The role of a recipient.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Role {
    /// Used by every unwrap.
    Member = 0,
    /// For recovery when no member can be used. Reserved: read, but not yet written.
    Recovery = 1,
}

impl Role {
    /// The number in an envelope.
    pub const fn code(self) -> u64 {
        self as u64
    }

    const fn from_code(code: u64) -> Option<Self> {
        match code {
            0 => Some(Self::Member),
            1 => Some(Self::Recovery),
            _ => None,
        }
    }
}

/// One recipient of an envelope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recipient {
    role: Role,
    provider: u64,
    key: ProviderKeyRef,
    algorithm: u64,
    ciphertext: Vec<u8>,
    /// Provider and algorithm, if this release knows both and the ciphertext has the algorithm's shape.
    usable: Option<(ProviderKind, Algorithm)>,
}

impl Recipient {
    /// A member recipient from a provider's wrapping. `data_key_len` is the length of the data key in bytes.
    ///
    /// # Errors
    /// [`BuildError::Recipient`] when the ciphertext does not have the algorithm's shape.
    pub(super) fn member(provider: ProviderKind, wrapped: &Wrapped, data_key_len: usize) -> Result<Self, BuildError> {
        let (key, algorithm, ciphertext) = (wrapped.key.clone(), wrapped.algorithm.code(), wrapped.ciphertext.clone());
        let recipient = Self::new(Role::Member, provider.code(), key, algorithm, ciphertext, data_key_len);
        if recipient.is_usable() {
            Ok(recipient)
        } else {
            Err(BuildError::Recipient)
        }
    }

    fn new(role: Role, provider: u64, key: ProviderKeyRef, algorithm: u64, ciphertext: Vec<u8>, data_key_len: usize) -> Self {
        let usable = ProviderKind::from_code(provider)
            .zip(Algorithm::from_code(algorithm))
            .filter(|(_, algorithm)| has_shape(*algorithm, &ciphertext, data_key_len));
        Self {
            role,
            provider,
            key,
            algorithm,
            ciphertext,
            usable,
        }
    }

    /// Member or recovery.
    pub fn role(&self) -> Role {
        self.role
    }

    /// The provider's number, also of one that this release does not know.
    pub fn provider_code(&self) -> u64 {
        self.provider
    }

    /// The provider, if this release knows it.
    pub fn provider(&self) -> Option<ProviderKind> {
        ProviderKind::from_code(self.provider)
    }

    /// The provider's key id and version. A name to compare with our own rows, never an
    /// address to call.
    pub fn key(&self) -> &ProviderKeyRef {
        &self.key
    }

    /// The algorithm's number, also of one that this release does not know.
    pub fn algorithm_code(&self) -> u64 {
        self.algorithm
    }

    /// The algorithm, if this release knows it.
    pub fn algorithm(&self) -> Option<Algorithm> {
        Algorithm::from_code(self.algorithm)
    }

    /// The wrapped data key, at most 6,144 bytes.
    pub fn ciphertext(&self) -> &[u8] {
        &self.ciphertext
    }

    /// Whether a provider can unwrap it: provider and algorithm are known, and the ciphertext has
    /// the algorithm's shape. Recipients that are not usable are skipped.
    pub fn is_usable(&self) -> bool {
        self.usable.is_some()
    }

    /// The input of a provider's unwrap; `None` when the recipient is not usable.
    pub fn wrapped(&self) -> Option<(ProviderKind, Wrapped)> {
        self.usable.map(|(provider, algorithm)| {
            let wrapped = Wrapped {
                key: self.key.clone(),
                algorithm,
                ciphertext: self.ciphertext.clone(),
                key_material: None,
                upstream_request_id: None,
            };
            (provider, wrapped)
        })
    }

    /// Whether both name the same provider key and version.
    fn same_key(&self, other: &Self) -> bool {
        self.provider == other.provider && self.key == other.key
    }

    fn decode(d: &mut Decoder<'_>, data_key_len: usize) -> Result<Self, ParseError> {
        if d.map()? != Some(6) {
            return Err(ParseError::Invalid);
        }
        cbor::expect_key(d, 1)?;
        let role = Role::from_code(d.u64()?).ok_or(ParseError::Invalid)?;
        cbor::expect_key(d, 2)?;
        let provider = d.u64()?;
        cbor::expect_key(d, 3)?;
        let id = cbor::text(d, MAX_KEY_ID)?.to_owned();
        cbor::expect_key(d, 4)?;
        let version = cbor::text(d, MAX_VERSION)?.to_owned();
        cbor::expect_key(d, 5)?;
        let algorithm = d.u64()?;
        cbor::expect_key(d, 6)?;
        let ciphertext = d.bytes()?;
        if ciphertext.len() > MAX_CIPHERTEXT {
            return Err(ParseError::Invalid);
        }
        let key = ProviderKeyRef { id, version };
        Ok(Self::new(role, provider, key, algorithm, ciphertext.to_vec(), data_key_len))
    }

    fn encode<W: Write>(&self, e: &mut Encoder<W>) -> Result<(), encode::Error<W::Error>> {
        e.map(6)?;
        e.u8(1)?.u64(self.role.code())?;
        e.u8(2)?.u64(self.provider)?;
        e.u8(3)?.str(&self.key.id)?;
        e.u8(4)?.str(&self.key.version)?;
        e.u8(5)?.u64(self.algorithm)?;
        e.u8(6)?.bytes(&self.ciphertext)?;
        Ok(())
    }
}

/// Decodes the array of recipients: 1 to 8, none twice.
pub(super) fn decode_all(d: &mut Decoder<'_>, data_key_len: usize) -> Result<Vec<Recipient>, ParseError> {
    let count = d
        .array()?
        .and_then(|count| usize::try_from(count).ok())
        .ok_or(ParseError::Invalid)?;
    if !(1..=MAX_RECIPIENTS).contains(&count) {
        return Err(ParseError::Invalid);
    }
    let mut recipients: Vec<Recipient> = Vec::with_capacity(count);
    for _ in 0..count {
        let recipient = Recipient::decode(d, data_key_len)?;
        if recipients.iter().any(|earlier| earlier.same_key(&recipient)) {
            return Err(ParseError::Invalid);
        }
        recipients.push(recipient);
    }
    Ok(recipients)
}

/// Encodes the array of recipients.
pub(super) fn encode_all<W: Write>(recipients: &[Recipient], e: &mut Encoder<W>) -> Result<(), encode::Error<W::Error>> {
    e.array(recipients.len() as u64)?;
    recipients.iter().try_for_each(|recipient| recipient.encode(e))
}

/// Whether a ciphertext has the length that the algorithm gives it (`docs/format.md`, Recipients).
fn has_shape(algorithm: Algorithm, ciphertext: &[u8], data_key_len: usize) -> bool {
    let len = ciphertext.len();
    match algorithm {
        Algorithm::ProviderOpaque => len > 0,
        // One modulus of 2048 to 8192 bits.
        Algorithm::RsaOaep256 | Algorithm::RsaOaep1 => (256..=1024).contains(&len),
        // Every length of a data key is a multiple of 8, so there is no padding.
        Algorithm::A256Kw | Algorithm::A256Kwp => len == data_key_len + 8,
        Algorithm::Aes256Gcm => len == 12 + data_key_len + 16,
        Algorithm::Xaes256Gcm => len == 24 + data_key_len + 16,
        Algorithm::CborGcm => GcmParts::parse(ciphertext).is_some_and(|parts| parts.ciphertext.len() == data_key_len),
    }
}
