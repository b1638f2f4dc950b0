//! Identifiers: 16 random bytes, written as 32 lower-case hex digits in text (JSON, encryption
//! context, file names).

use std::fmt;
use std::ops::Deref;
use std::str::FromStr;

/// A text that is no identifier. The error contains nothing of the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an id is 32 lower-case hex digits")]
pub struct IdError;

/// What all identifiers have in common. Only the types below implement it.
pub trait Id: Copy + Eq + fmt::Display {
    /// The 16 bytes.
    fn bytes(&self) -> &[u8; 16];

    /// The text, without an allocation.
    fn text(&self) -> IdText {
        let mut digits = [0; 32];
        // 32 is exactly twice 16, so encoding cannot fail.
        let _ = hex::encode_to_slice(self.bytes(), &mut digits);
        IdText(digits)
    }
}

/// The text of an identifier: 32 lower-case hex digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdText([u8; 32]);

impl Deref for IdText {
    type Target = str;

    fn deref(&self) -> &str {
        // Hex digits are always UTF-8.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name([u8; 16]);

        impl $name {
            /// Draws a new identifier from the cryptographic generator.
            pub fn random() -> Self {
                let mut bytes = [0; 16];
                crate::secret::fill_random(&mut bytes);
                Self(bytes)
            }

            /// An identifier from its bytes, as stored in a row or an envelope.
            pub const fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(bytes)
            }
        }

        impl Id for $name {
            fn bytes(&self) -> &[u8; 16] {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.text())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({self})", stringify!($name))
            }
        }

        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                if text.bytes().any(|b| b.is_ascii_uppercase()) {
                    return Err(IdError);
                }
                let mut bytes = [0; 16];
                hex::decode_to_slice(text, &mut bytes).map_err(|_| IdError)?;
                Ok(Self(bytes))
            }
        }

        impl TryFrom<&[u8]> for $name {
            type Error = IdError;
            fn try_from(bytes: &[u8]) -> Result<Self, IdError> {
                bytes.try_into().map(Self).map_err(|_| IdError)
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                // Without a formatter: every audit record has seven ids.
                s.serialize_str(&self.text())
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str>>::deserialize(d)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    )*};
}

ids! {
    /// An installation of the gateway: one store and its audit log.
    InstallationId;
    /// A customer. All zero bytes stand for the installation itself, for the operator's own acts.
    TenantId;
    /// A caller: a service account, a workload or a person.
    PrincipalId;
    /// A connection: one set of credentials and settings to reach a provider.
    ConnectionId;
    /// A logical key (KEK). It stays the same when the key's name or its provider keys change.
    KeyId;
    /// A wrapped data key; chosen when its envelope is made.
    DekId;
    /// An API token in the store; not the id that is part of the token's text.
    TokenId;
}

impl TenantId {
    /// The owner of the installation's own log and objects.
    pub const INSTALLATION: Self = Self([0; 16]);
}

/// The kinds of providers, with their numbers in envelopes (`docs/format.md`, Recipient, member 2).
/// A number is never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub enum ProviderKind {
    /// The embedded provider.
    Local = 1,
    /// AWS KMS.
    Aws = 2,
    /// Google Cloud KMS.
    Gcp = 3,
    /// Azure Key Vault and Managed HSM.
    Azure = 4,
    /// Vault and OpenBao Transit.
    Vault = 5,
    /// An AWS external key store proxy.
    Xks = 6,
    /// A KMIP server.
    Kmip = 7,
    /// A PKCS#11 token.
    Pkcs11 = 8,
}

impl ProviderKind {
    /// All kinds, in the order of their numbers.
    pub const ALL: [Self; 8] = [
        Self::Local,
        Self::Aws,
        Self::Gcp,
        Self::Azure,
        Self::Vault,
        Self::Xks,
        Self::Kmip,
        Self::Pkcs11,
    ];

    /// The number in an envelope.
    pub const fn code(self) -> u64 {
        self as u64
    }

    /// The provider with that number, if this release knows it.
    pub fn from_code(code: u64) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.code() == code)
    }

    /// The name in the API, the configuration and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Aws => "aws",
            Self::Gcp => "gcp",
            Self::Azure => "azure",
            Self::Vault => "vault",
            Self::Xks => "xks",
            Self::Kmip => "kmip",
            Self::Pkcs11 => "pkcs11",
        }
    }

    /// Whether a key that its owner deletes and makes again under the same name has the provider key id and the version
    /// ids of the old one. Then only the creation of a version shows which of them it is of.
    pub const fn reuses_names(self) -> bool {
        match self {
            Self::Vault => true,
            Self::Local | Self::Aws | Self::Gcp | Self::Azure | Self::Xks | Self::Kmip | Self::Pkcs11 => false,
        }
    }

    /// Whether an external key manager outside any cloud holds the key material. Data keys of such
    /// keys are cached only if the key's owner turns the cache on, and requests for them never
    /// share a provider call.
    pub const fn external_custody(self) -> bool {
        match self {
            Self::Xks | Self::Kmip | Self::Pkcs11 => true,
            Self::Local | Self::Aws | Self::Gcp | Self::Azure | Self::Vault => false,
        }
    }
}

impl fmt::Display for ProviderKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for ProviderKind {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text).ok_or(())
    }
}
