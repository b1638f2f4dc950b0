//! The names of keys: `SERIAL/ID`, the token's serial number and the key's `CKA_ID` in lower-case hex.

use claviger_provider::{Id, KeyId, TenantId};

/// The longest `CKA_ID`, in bytes.
const MAX_ID: usize = 128;

/// A key of a token.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct KeyName {
    /// The token's serial number without trailing spaces.
    pub(crate) serial: String,
    /// `CKA_ID`, never empty.
    pub(crate) id: Vec<u8>,
}

/// Reads a `CKA_ID` in hex; `None` for an empty one, a long one, and capital letters: a key has one name.
pub(crate) fn cka_id(text: &str) -> Option<Vec<u8>> {
    if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return None;
    }
    hex::decode(text).ok().filter(|id| (1..=MAX_ID).contains(&id.len()))
}

impl KeyName {
    /// Reads a provider key id.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        // A serial number may have a slash in it.
        let (serial, id) = text.rsplit_once('/')?;
        Some(Self {
            serial: serial.to_owned(),
            id: cka_id(id)?,
        })
    }

    /// Reads the name of a key to adopt: a provider key id, or the `CKA_ID` alone, in any case and with the colons
    /// that tools print.
    pub(crate) fn to_adopt(text: &str, serial: &str) -> Option<Self> {
        let (serial, id) = text.rsplit_once('/').unwrap_or((serial, text));
        Some(Self {
            serial: serial.to_owned(),
            id: cka_id(&id.replace(':', "").to_ascii_lowercase())?,
        })
    }

    /// The key that is made as `made_as`.
    pub(crate) fn made(serial: &str, made_as: KeyId) -> Self {
        Self {
            serial: serial.to_owned(),
            id: made_as.bytes().to_vec(),
        }
    }
}

impl std::fmt::Display for KeyName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.serial, hex::encode(&self.id))
    }
}

/// How the label of each key begins that is the tenant's to adopt.
pub(crate) fn label_of(tenant: TenantId) -> String {
    format!("claviger-{tenant}")
}

#[cfg(test)]
mod tests {
    use claviger_provider::{KeyId, TenantId};

    use super::{KeyName, label_of};

    #[test]
    fn a_key_has_one_name() {
        let name = KeyName {
            serial: "a/b c".to_owned(),
            id: vec![0x0a, 0xff],
        };
        assert_eq!(name.to_string(), "a/b c/0aff");
        assert_eq!(KeyName::parse("a/b c/0aff"), Some(name.clone()));
        for adopted in ["0aff", "0A:FF", "a/b c/0AFF"] {
            assert_eq!(KeyName::to_adopt(adopted, "a/b c"), Some(name.clone()), "{adopted}");
        }
        for other in ["", "0aff", "a/", "a/0", "a/0AFF", "a/0g", &format!("a/{}", "00".repeat(129))] {
            assert_eq!(KeyName::parse(other), None, "{other}");
        }
        let id = KeyId::from_bytes([7; 16]);
        assert_eq!(KeyName::made("s", id).to_string(), format!("s/{id}"));
    }

    #[test]
    fn a_label_fits_on_every_token() {
        assert_eq!(label_of(TenantId::from_bytes([7; 16])).len(), 41);
    }
}
