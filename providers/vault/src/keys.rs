//! Transit's requests, keys and ciphertexts.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::DateTime;
use claviger_provider::{Error, ErrorKind, Exposure, KeyDescription, KeyState, ProviderKeyRef, VersionDescription};
use serde::{Deserialize, Serialize};

use crate::codes::SOFT_DELETED;
use crate::errors::fault;
use crate::key_type::KeyType;
use crate::names::{Engine, KeyName};

/// The most versions of one key, as many as the gateway takes in one description.
const MAX_VERSIONS: u64 = 10_000;
/// The longest ciphertext that an envelope takes, in bytes.
pub(crate) const MAX_CIPHERTEXT: usize = 6144;

/// The body of `POST encrypt/NAME`.
#[derive(Serialize)]
pub(crate) struct Encrypt<'a> {
    pub(crate) plaintext: &'a str,
    /// Absent for key types that bind none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) associated_data: Option<&'a str>,
    /// Absent for the newest version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) key_version: Option<u64>,
    #[serde(rename = "type")]
    pub(crate) key_type: &'static str,
}

#[derive(Deserialize)]
pub(crate) struct Encrypted {
    pub(crate) ciphertext: String,
}

/// The body of `POST decrypt/NAME`.
#[derive(Serialize)]
pub(crate) struct Decrypt<'a> {
    pub(crate) ciphertext: &'a str,
    /// Absent for key types that bind none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) associated_data: Option<&'a str>,
}

#[derive(Deserialize)]
pub(crate) struct Decrypted {
    pub(crate) plaintext: String,
}

/// The body of `POST keys/NAME`.
#[derive(Serialize)]
pub(crate) struct Create {
    #[serde(rename = "type")]
    pub(crate) key_type: &'static str,
    pub(crate) derived: bool,
    pub(crate) exportable: bool,
    pub(crate) allow_plaintext_backup: bool,
}

/// The response of `GET keys/NAME`. Older servers omit some members.
#[derive(Deserialize)]
pub(crate) struct Key {
    #[serde(rename = "type")]
    key_type: String,
    #[serde(default)]
    derived: bool,
    #[serde(default)]
    convergent_encryption: bool,
    #[serde(default)]
    supports_encryption: bool,
    #[serde(default)]
    supports_decryption: bool,
    latest_version: u64,
    #[serde(default)]
    min_available_version: u64,
    #[serde(default)]
    min_decryption_version: u64,
    #[serde(default)]
    soft_deleted: bool,
    #[serde(default)]
    exportable: bool,
    #[serde(default)]
    allow_plaintext_backup: bool,
    #[serde(default)]
    imported_key: bool,
    #[serde(default)]
    imported_key_allow_rotation: bool,
    /// The versions that can decrypt now.
    #[serde(default)]
    keys: BTreeMap<String, Version>,
}

/// A version in the response. Unknown forms are accepted, because only the version's date is used.
#[derive(Deserialize)]
#[serde(untagged)]
enum Version {
    /// Of a symmetric key: its creation, in Unix seconds.
    Symmetric(i64),
    /// Of an RSA key, together with the public key.
    Rsa {
        creation_time: String,
    },
    Other(serde::de::IgnoredAny),
}

impl Version {
    /// The version's creation, in Unix seconds.
    fn created(&self) -> Option<i64> {
        match self {
            Self::Symmetric(seconds) => Some(*seconds),
            Self::Rsa { creation_time } => Some(DateTime::parse_from_rfc3339(creation_time).ok()?.timestamp()),
            Self::Other(_) => None,
        }
    }
}

impl Key {
    /// Checks that the key can serve a logical key of this type.
    ///
    /// # Errors
    /// `InvalidInput`, with advice.
    pub(crate) fn usable(&self, wanted: KeyType) -> Result<(), Error> {
        let unfit = |more: &str, advice| {
            let error = fault(ErrorKind::InvalidInput, "a Transit key that does not fit").advice(advice);
            Err(error.found(format!("{}{more}", self.key_type)))
        };
        if self.derived || self.convergent_encryption {
            return unfit(
                ", derived",
                "The Transit key is derived or convergent: derived keys need a derivation context that Claviger does not send, and \
                 convergent ones reveal which data keys are equal. Make a key with derived=false.",
            );
        }
        if !(self.supports_encryption && self.supports_decryption) {
            return unfit(
                "",
                "The Transit key is not for encryption. Adopt a key of type aes256-gcm96, rsa-3072 or rsa-4096.",
            );
        }
        if self.key_type != wanted.as_str() {
            return unfit("", wanted.advice());
        }
        Ok(())
    }

    /// Checks that the key is not soft-deleted.
    ///
    /// # Errors
    /// `KeyState`, with advice.
    pub(crate) fn available(&self) -> Result<(), Error> {
        if self.soft_deleted {
            return Err(fault(ErrorKind::KeyState, "a key that cannot be used now").advice(SOFT_DELETED));
        }
        Ok(())
    }

    /// Checks that the key can get a new version. The server responds 500 where it cannot.
    ///
    /// # Errors
    /// `KeyState`, with advice.
    pub(crate) fn rotatable(&self) -> Result<(), Error> {
        self.available()?;
        let state = |advice| Err(fault(ErrorKind::KeyState, "the key cannot be rotated").advice(advice));
        if self.imported_key && !self.imported_key_allow_rotation {
            return state("The Transit key was imported without allow_rotation: import a new version of it (keys/NAME/import_version).");
        }
        if self.latest_version >= MAX_VERSIONS {
            return state("The Transit key has the maximum number of versions that Claviger supports. Create another key.");
        }
        Ok(())
    }

    /// The key's description for the gateway.
    ///
    /// # Errors
    /// `UpstreamProtocol` for a key without versions, or with too many.
    pub(crate) fn describe(&self, engine: &Engine, name: &KeyName, kind: KeyType) -> Result<KeyDescription, Error> {
        if !(1..=MAX_VERSIONS).contains(&self.latest_version) {
            return Err(fault(ErrorKind::UpstreamProtocol, "a key without versions, or with too many"));
        }
        let id = engine.id(name);
        let versions = (1..=self.latest_version)
            .map(|version| {
                let number = version.to_string();
                VersionDescription {
                    state: self.state(version),
                    created: self.keys.get(&number).and_then(Version::created),
                    // Of the key as a whole.
                    exposure: Some(self.exposure()),
                    key: ProviderKeyRef {
                        id: id.clone(),
                        version: number,
                    },
                }
            })
            .collect::<Vec<_>>();
        Ok(KeyDescription {
            id,
            spec: kind.spec(),
            state: if self.soft_deleted { KeyState::Disabled } else { KeyState::Enabled },
            primary: versions.len() - 1,
            versions,
        })
    }

    /// How the key's material can leave the server. Neither setting can be taken back.
    pub(crate) const fn exposure(&self) -> Exposure {
        Exposure {
            exportable: self.exportable,
            plaintext_backup: self.allow_plaintext_backup,
        }
    }

    fn state(&self, version: u64) -> KeyState {
        if version < self.min_available_version {
            // Trimmed: the material is gone.
            KeyState::Destroyed
        } else if version < self.min_decryption_version || self.soft_deleted {
            KeyState::Disabled
        } else {
            KeyState::Enabled
        }
    }

    /// Whether the key has, or had, this version.
    pub(crate) fn knows(&self, version: u64) -> bool {
        (1..=self.latest_version).contains(&version)
    }
}

/// A ciphertext of Transit: `vault:vN:` and base64, in canonical form.
pub(crate) struct Ciphertext {
    pub(crate) version: u64,
    /// The length in bytes of what follows the version.
    pub(crate) length: usize,
}

impl Ciphertext {
    /// `None` for a text that Transit would not write.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (number, sealed) = text.strip_prefix("vault:v")?.split_once(':')?;
        let length = STANDARD.decode(sealed).ok()?.len();
        (text.len() <= MAX_CIPHERTEXT && length > 0).then_some(Self {
            version: version(number)?,
            length,
        })
    }
}

/// Parses a version's number; `None` for one in another form than Transit's.
pub(crate) fn version(text: &str) -> Option<u64> {
    let plain = !text.starts_with('0') && (1..=9).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| text.parse().ok())?
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test stops where an expectation fails")]
mod tests {
    use claviger_provider::{ErrorKind, Exposure, KeyState};
    use serde_json::{Value, json};

    use super::{Ciphertext, Engine, Key, KeyName};
    use crate::key_type::{KeyType, Symmetric};
    use crate::names::Path;

    const AES: KeyType = KeyType::Symmetric(Symmetric::Aes256Gcm96);
    const CHACHA: KeyType = KeyType::Symmetric(Symmetric::ChaCha20Poly1305);

    fn key(changes: &Value) -> Key {
        let mut key = json!({
            "type": "aes256-gcm96", "derived": false, "supports_encryption": true, "supports_decryption": true,
            "latest_version": 4, "min_available_version": 0, "min_decryption_version": 1, "min_encryption_version": 0,
            "soft_deleted": false, "imported_key": false, "keys": {"1": 1_700_000_000, "2": 1, "3": 2, "4": 3}, "later": [],
        });
        for (name, value) in changes.as_object().unwrap() {
            key[name] = value.clone();
        }
        serde_json::from_value(key).unwrap()
    }

    #[test]
    fn versions_are_told_with_their_states() {
        let engine = Engine {
            namespace: None,
            mount: Path::parse("transit").unwrap(),
        };
        let key = key(&json!({"min_available_version": 2, "min_decryption_version": 3, "keys": {"3": 20, "4": 30}}));
        let described = key.describe(&engine, &KeyName::parse("k").unwrap(), AES).unwrap();
        let states: Vec<_> = described.versions.iter().map(|version| (version.state, version.created)).collect();
        assert_eq!(
            states,
            [
                (KeyState::Destroyed, None),
                (KeyState::Disabled, None),
                (KeyState::Enabled, Some(20)),
                (KeyState::Enabled, Some(30))
            ]
        );
        assert_eq!((described.id.as_str(), described.primary), ("transit/k", 3));
        assert!(described.versions.iter().all(|version| version.exposure == Some(Exposure::NONE)));
    }

    #[test]
    fn a_key_stands_behind_its_own_specification_alone() {
        for wanted in [AES, CHACHA, KeyType::Rsa3072, KeyType::Rsa4096] {
            for found in [
                "aes256-gcm96",
                "chacha20-poly1305",
                "rsa-3072",
                "rsa-4096",
                "aes128-gcm96",
                "rsa-2048",
            ] {
                match key(&json!({"type": found})).usable(wanted) {
                    Ok(()) => assert_eq!(found, wanted.as_str()),
                    Err(error) => {
                        assert!(found != wanted.as_str() && error.kind == ErrorKind::InvalidInput && error.advice.is_some());
                        assert_eq!(error.found.unwrap().to_string(), found);
                    }
                }
            }
        }
        for wrong in [
            json!({"derived": true}),
            json!({"convergent_encryption": true}),
            json!({"type": "ed25519", "supports_encryption": false, "supports_decryption": false}),
        ] {
            let error = key(&wrong).usable(AES).unwrap_err();
            assert!(error.kind == ErrorKind::InvalidInput && error.advice.is_some(), "{wrong}");
        }
    }

    #[test]
    fn versions_are_dated_in_either_form() {
        let keys =
            json!({"1": 7, "2": {"creation_time": "2025-11-25T21:00:00.5Z", "public_key": ""}, "3": {"creation_time": "soon"}, "4": []});
        let key = key(&json!({"type": "rsa-3072", "keys": keys}));
        let engine = Engine {
            namespace: None,
            mount: Path::parse("transit").unwrap(),
        };
        let described = key.describe(&engine, &KeyName::parse("k").unwrap(), KeyType::Rsa3072).unwrap();
        let created: Vec<_> = described.versions.iter().map(|version| version.created).collect();
        assert_eq!(created, [Some(7), Some(1_764_104_400), None, None]);
    }

    #[test]
    fn what_the_server_would_answer_with_500_is_seen_before() {
        assert!(key(&json!({})).rotatable().is_ok());
        assert!(
            key(&json!({"imported_key": true, "imported_key_allow_rotation": true}))
                .rotatable()
                .is_ok()
        );
        for wrong in [
            json!({"soft_deleted": true}),
            json!({"imported_key": true}),
            json!({"latest_version": 10_000}),
        ] {
            assert_eq!(key(&wrong).rotatable().unwrap_err().kind, ErrorKind::KeyState, "{wrong}");
        }
    }

    #[test]
    fn a_ciphertext_has_one_spelling() {
        let parsed = Ciphertext::parse("vault:v12:AAAA").unwrap();
        assert_eq!((parsed.version, parsed.length), (12, 3));
        for text in [
            "",
            "vault:v1:",
            "vault:v0:AAAA",
            "vault:v01:AAAA",
            "vault:v:AAAA",
            "vault:v-1:AAAA",
            "vault:v1:AAA",
            "vault:v1:AAB=",
            "Vault:v1:AAAA",
            "vault:v1:AA AA",
            "vault:v9999999999:AAAA",
            "vault:v1:AAAA:AAAA",
            "vault:v1:AAAA\n",
        ] {
            assert!(Ciphertext::parse(text).is_none(), "{text:?}");
        }
        assert!(Ciphertext::parse(&format!("vault:v1:{}", "A".repeat(6144))).is_none());
    }
}
