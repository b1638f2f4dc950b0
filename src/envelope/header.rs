//! The header of an envelope (`docs/format.md`, Header).

use std::fmt;

use claviger_provider::{DekId, Id, KeyId, TenantId};
use minicbor::encode::Write;
use minicbor::{Decoder, Encoder, encode};

use super::cbor;
use super::errors::ParseError;

/// The longest plaintext of suite 2, in bytes.
const MAX_SEALED_PLAINTEXT: usize = 4096;
/// Length of the data key in suite 2, in bytes.
pub(super) const SEALED_KEY_LEN: usize = 32;
/// The length of an AES-GCM tag, in bytes.
const TAG_LEN: usize = 16;
/// The last second of the year 9999, the last that RFC 3339 can write.
const MAX_CREATED: u64 = 253_402_300_799;
const MAX_SCOPE: usize = 1024;

/// What the data key, which the recipients wrap, is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Suite {
    /// Suite 1: the data key is the caller's plaintext.
    Direct = 1,
    /// Suite 2: the data key encrypts the payload, which contains the caller's bytes.
    Sealed = 2,
}

impl Suite {
    /// The number in a header.
    pub const fn code(self) -> u64 {
        self as u64
    }

    const fn from_code(code: u64) -> Option<Self> {
        match code {
            1 => Some(Self::Direct),
            2 => Some(Self::Sealed),
            _ => None,
        }
    }
}

/// A length that a data key can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DataKeyLength {
    /// 16 bytes.
    B16 = 16,
    /// 24 bytes.
    B24 = 24,
    /// 32 bytes.
    B32 = 32,
    /// 48 bytes.
    B48 = 48,
    /// 64 bytes.
    B64 = 64,
}

impl DataKeyLength {
    /// All of them, shortest first.
    pub const ALL: [Self; 5] = [Self::B16, Self::B24, Self::B32, Self::B48, Self::B64];

    /// The length in bytes.
    pub const fn bytes(self) -> usize {
        self as usize
    }

    /// The length with that many bytes, if a data key can have it.
    pub fn from_bytes(bytes: usize) -> Option<Self> {
        Self::ALL.into_iter().find(|length| length.bytes() == bytes)
    }
}

/// The name of a scope: 1 to 1024 bytes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Scope(String);

/// Why a text is not a scope.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a scope is 1 to 1024 bytes")]
pub struct ScopeError;

impl Scope {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Scope {
    type Error = ScopeError;

    fn try_from(text: String) -> Result<Self, ScopeError> {
        if text.is_empty() || text.len() > MAX_SCOPE {
            return Err(ScopeError);
        }
        Ok(Self(text))
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The header's members. Their bytes are authenticated as they were received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    pub(super) suite: Suite,
    pub(super) dek_id: DekId,
    pub(super) tenant: TenantId,
    pub(super) key: KeyId,
    pub(super) plaintext_len: usize,
    pub(super) created: u64,
    pub(super) scope: Option<Scope>,
}

/// Tenant, key and time of a new envelope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// The tenant of the key that wraps.
    pub tenant: TenantId,
    /// The key that wraps.
    pub key: KeyId,
    /// The scope, if the caller names one.
    pub scope: Option<Scope>,
    /// The current time, in Unix seconds.
    pub created: u64,
}

impl Header {
    /// What the data key is used for.
    pub fn suite(&self) -> Suite {
        self.suite
    }

    /// The id of this wrapped key, drawn when it was made.
    pub fn dek_id(&self) -> DekId {
        self.dek_id
    }

    /// The tenant of the key that wrapped it.
    pub fn tenant(&self) -> TenantId {
        self.tenant
    }

    /// The logical key that wrapped it.
    pub fn key(&self) -> KeyId {
        self.key
    }

    /// The length in bytes of what opening gives.
    pub fn plaintext_len(&self) -> usize {
        self.plaintext_len
    }

    /// When it was made, in Unix seconds; never after the year 9999.
    pub fn created(&self) -> u64 {
        self.created
    }

    /// The scope that the caller named.
    pub fn scope(&self) -> Option<&Scope> {
        self.scope.as_ref()
    }

    /// Length of the data key, in bytes.
    pub(super) fn data_key_len(&self) -> usize {
        match self.suite {
            Suite::Direct => self.plaintext_len,
            Suite::Sealed => SEALED_KEY_LEN,
        }
    }

    /// The length that the payload must have, in bytes.
    pub(super) fn payload_len(&self) -> Option<usize> {
        match self.suite {
            Suite::Direct => None,
            Suite::Sealed => Some(self.plaintext_len + TAG_LEN),
        }
    }

    /// A new header. A clock beyond the year 9999 is written as its last second.
    pub(super) fn new(suite: Suite, dek_id: DekId, plaintext_len: usize, origin: Origin) -> Self {
        Self {
            suite,
            dek_id,
            tenant: origin.tenant,
            key: origin.key,
            plaintext_len,
            created: origin.created.min(MAX_CREATED),
            scope: origin.scope,
        }
    }

    pub(super) fn plaintext_len_allowed(suite: Suite, len: usize) -> bool {
        match suite {
            Suite::Direct => DataKeyLength::from_bytes(len).is_some(),
            Suite::Sealed => (1..=MAX_SEALED_PLAINTEXT).contains(&len),
        }
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, ParseError> {
        let mut d = Decoder::new(bytes);
        let members = d.map()?;
        // Check the suite first, because the rest of the header may have another form in an unknown
        // suite.
        cbor::expect_key(&mut d, 1)?;
        let suite = Suite::from_code(d.u64()?).ok_or(ParseError::VersionUnsupported)?;
        let has_scope = match members {
            Some(6) => false,
            Some(7) => true,
            Some(_) | None => return Err(ParseError::Invalid),
        };
        cbor::expect_key(&mut d, 2)?;
        let dek_id = DekId::from_bytes(*cbor::fixed(d.bytes()?)?);
        cbor::expect_key(&mut d, 3)?;
        let tenant = TenantId::from_bytes(*cbor::fixed(d.bytes()?)?);
        cbor::expect_key(&mut d, 4)?;
        let key = KeyId::from_bytes(*cbor::fixed(d.bytes()?)?);
        cbor::expect_key(&mut d, 5)?;
        let plaintext_len = usize::from(d.u16()?);
        cbor::expect_key(&mut d, 6)?;
        let created = d.u64()?;
        let scope = if has_scope {
            cbor::expect_key(&mut d, 7)?;
            let text = cbor::text(&mut d, MAX_SCOPE)?.to_owned();
            Some(Scope::try_from(text).map_err(|ScopeError| ParseError::Invalid)?)
        } else {
            None
        };
        let header = Self {
            suite,
            dek_id,
            tenant,
            key,
            plaintext_len,
            created,
            scope,
        };
        if created > MAX_CREATED || !Self::plaintext_len_allowed(suite, plaintext_len) || !cbor::is_exactly(bytes, |e| header.encode(e)) {
            return Err(ParseError::Invalid);
        }
        Ok(header)
    }

    pub(super) fn encode<W: Write>(&self, e: &mut Encoder<W>) -> Result<(), encode::Error<W::Error>> {
        e.map(if self.scope.is_some() { 7 } else { 6 })?;
        e.u8(1)?.u64(self.suite.code())?;
        e.u8(2)?.bytes(self.dek_id.bytes())?;
        e.u8(3)?.bytes(self.tenant.bytes())?;
        e.u8(4)?.bytes(self.key.bytes())?;
        e.u8(5)?.u64(self.plaintext_len as u64)?;
        e.u8(6)?.u64(self.created)?;
        if let Some(scope) = &self.scope {
            e.u8(7)?.str(scope.as_str())?;
        }
        Ok(())
    }
}
