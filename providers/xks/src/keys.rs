//! External keys, and the ciphertexts that they make.

use aws_lc_rs::digest::{Context, SHA256};
use claviger_provider::{Error, ErrorKind, GcmParts, KeyDescription, KeySpec, KeyState, ProviderKeyRef, VersionDescription};

use crate::api::{Encrypted, Key, decoded};
use crate::errors::{CallError, fault};
use crate::names::KeyName;

const SPEC: &str = "AES_256";
const USES: [&str; 2] = ["ENCRYPT", "DECRYPT"];

impl Key {
    /// Checks that the key can serve a logical key.
    ///
    /// # Errors
    /// `InvalidInput`, with advice.
    pub(crate) fn usable(&self) -> Result<(), Error> {
        let unfit = |found: String, advice| {
            let error = fault(ErrorKind::InvalidInput, "an external key that does not fit").advice(advice);
            Err(error.found(found))
        };
        if self.key_spec != SPEC {
            return unfit(
                self.key_spec.clone(),
                "The external key is no AES-256 key. Make one in the key manager, and adopt it.",
            );
        }
        if !USES.iter().all(|wanted| self.key_usage.iter().any(|found| found == wanted)) {
            return unfit(
                format!("{SPEC} for {}", self.key_usage.join(", ")),
                "The external key may not be used for both ENCRYPT and DECRYPT: its owner can permit both in the key manager, or make \
                 another key.",
            );
        }
        Ok(())
    }

    pub(crate) fn state(&self) -> KeyState {
        match self.key_status.as_str() {
            "ENABLED" => KeyState::Enabled,
            "DISABLED" => KeyState::Disabled,
            _ => KeyState::Unknown,
        }
    }

    /// The key's description for the gateway. The API tells no versions, so there is one, without a name.
    pub(crate) fn describe(&self, name: &KeyName) -> KeyDescription {
        KeyDescription {
            id: name.as_str().to_owned(),
            spec: KeySpec::Aes256,
            state: self.state(),
            versions: vec![VersionDescription {
                key: key_ref(name),
                state: self.state(),
                created: None,
                exposure: None,
            }],
            primary: 0,
        }
    }
}

/// The provider's names of a key, as envelopes carry them.
pub(crate) fn key_ref(name: &KeyName) -> ProviderKeyRef {
    ProviderKeyRef {
        id: name.as_str().to_owned(),
        version: String::new(),
    }
}

/// The ciphertext of an encryption as envelopes carry it, if it is one of a plaintext of this length and the proxy
/// vouches for it.
///
/// # Errors
/// `MalformedResponse` with the part that is wrong.
pub(crate) fn checked(encrypted: &Encrypted, plaintext: usize, aad: &[u8]) -> Result<Vec<u8>, CallError> {
    let malformed = CallError::MalformedResponse;
    let part = |text: &str, name| decoded(text).ok_or(malformed(name));
    let ciphertext = part(&encrypted.ciphertext, "ciphertext")?;
    let iv = part(&encrypted.initialization_vector, "initializationVector")?;
    let tag = part(&encrypted.authentication_tag, "authenticationTag")?;
    let metadata = part(encrypted.ciphertext_metadata.as_deref().unwrap_or_default(), "ciphertextMetadata")?;
    let parts = GcmParts {
        iv: &iv,
        ciphertext: &ciphertext,
        tag: &tag,
        metadata: &metadata,
    };
    let encoded = parts
        .encode()
        .filter(|_| ciphertext.len() == plaintext)
        .ok_or(malformed("length"))?;
    let vouched = encrypted.ciphertext_data_integrity_value.as_deref().and_then(decoded);
    if vouched.as_deref() != Some(integrity(aad, &parts).as_slice()) {
        return Err(malformed("ciphertextDataIntegrityValue"));
    }
    Ok(encoded)
}

/// The integrity value of an encryption: SHA-256 over what the proxy decrypted to check itself.
fn integrity(aad: &[u8], parts: &GcmParts<'_>) -> [u8; 32] {
    let mut context = Context::new(&SHA256);
    for part in [aad, parts.metadata, parts.iv, parts.ciphertext, parts.tag] {
        context.update(part);
    }
    let mut value = [0; 32];
    value.copy_from_slice(context.finish().as_ref());
    value
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test stops where an expectation fails")]
mod tests {
    use claviger_provider::{ErrorKind, GcmParts, KeyState};

    use super::{Encrypted, Key, KeyName, checked, integrity};
    use crate::api::encoded;
    use crate::errors::CallError;

    fn key(spec: &str, usage: &[&str], status: &str) -> Key {
        Key {
            key_spec: spec.to_owned(),
            key_usage: usage.iter().map(ToString::to_string).collect(),
            key_status: status.to_owned(),
        }
    }

    #[test]
    fn a_key_is_for_both_operations_and_aes_256() {
        let both = ["ENCRYPT", "DECRYPT"];
        key("AES_256", &both, "ENABLED").usable().unwrap();
        key("AES_256", &["DECRYPT", "SIGN", "ENCRYPT"], "ENABLED").usable().unwrap();
        for (wrong, found) in [
            (key("AES_128", &both, "ENABLED"), "AES_128"),
            (key("AES_256", &["ENCRYPT"], "ENABLED"), "AES_256 for ENCRYPT"),
            (key("AES_256", &[], "ENABLED"), "AES_256 for "),
        ] {
            let error = wrong.usable().unwrap_err();
            assert!(error.kind == ErrorKind::InvalidInput && error.advice.is_some());
            assert_eq!(error.found.unwrap().to_string(), found);
        }
    }

    #[test]
    fn a_key_has_one_version_without_a_name() {
        let name = KeyName::parse("k").unwrap();
        for (status, state) in [
            ("ENABLED", KeyState::Enabled),
            ("DISABLED", KeyState::Disabled),
            ("ASLEEP", KeyState::Unknown),
        ] {
            let described = key("AES_256", &[], status).describe(&name);
            assert_eq!((described.state, described.versions[0].state), (state, state));
            assert_eq!((described.versions.len(), described.versions[0].key.version.as_str()), (1, ""));
        }
    }

    fn encrypted(iv: usize, ciphertext: usize, tag: usize, metadata: usize) -> Encrypted {
        let (iv, ciphertext, tag, metadata) = (vec![1; iv], vec![2; ciphertext], vec![3; tag], vec![4; metadata]);
        let parts = GcmParts {
            iv: &iv,
            ciphertext: &ciphertext,
            tag: &tag,
            metadata: &metadata,
        };
        Encrypted {
            ciphertext: encoded(&ciphertext),
            initialization_vector: encoded(&iv),
            authentication_tag: encoded(&tag),
            ciphertext_metadata: (!metadata.is_empty()).then(|| encoded(&metadata)),
            ciphertext_data_integrity_value: Some(encoded(&integrity(b"aad", &parts))),
        }
    }

    #[test]
    fn an_encryption_has_the_lengths_that_it_can_have() {
        for sound in [encrypted(12, 32, 16, 0), encrypted(16, 32, 16, 20)] {
            assert!(checked(&sound, 32, b"aad").is_ok());
        }
        for wrong in [
            encrypted(13, 32, 16, 0),
            encrypted(12, 31, 16, 0),
            encrypted(12, 33, 16, 0),
            encrypted(12, 32, 12, 0),
            encrypted(12, 32, 16, 21),
        ] {
            assert!(matches!(checked(&wrong, 32, b"aad"), Err(CallError::MalformedResponse("length"))));
        }
    }

    #[test]
    fn the_proxy_vouches_for_every_part() {
        let sound = || encrypted(12, 32, 16, 3);
        let other = |bytes: usize| encoded(&vec![9; bytes]);
        for wrong in [
            Encrypted {
                ciphertext: other(32),
                ..sound()
            },
            Encrypted {
                initialization_vector: other(12),
                ..sound()
            },
            Encrypted {
                authentication_tag: other(16),
                ..sound()
            },
            Encrypted {
                ciphertext_metadata: Some(other(3)),
                ..sound()
            },
            Encrypted {
                ciphertext_metadata: None,
                ..sound()
            },
            Encrypted {
                ciphertext_data_integrity_value: Some(other(32)),
                ..sound()
            },
            Encrypted {
                ciphertext_data_integrity_value: None,
                ..sound()
            },
        ] {
            let why = checked(&wrong, 32, b"aad");
            assert!(matches!(why, Err(CallError::MalformedResponse("ciphertextDataIntegrityValue"))));
        }
        assert!(checked(&sound(), 32, b"AAD").is_err());
    }
}
