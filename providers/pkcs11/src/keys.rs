//! Keys as a token describes them, and what the gateway reads from that.

use claviger_pkcs11_host::messages::{KeyKind, KeyObject, code};
use claviger_provider::{Error, ErrorKind, Exposure, KeyDescription, KeySpec, KeyState, ProviderKeyRef, VersionDescription, oaep};

use crate::errors::{CallError, Refusal, fault};
use crate::names::KeyName;

/// A key that the gateway can use.
#[derive(Debug)]
pub(crate) struct Key {
    pub(crate) spec: KeySpec,
    /// `CKA_LABEL` of the secret or private key.
    pub(crate) label: String,
    exposure: Exposure,
    /// Whether it wraps and unwraps; a token that does not say counts as one that permits it.
    wraps: bool,
    unwraps: bool,
}

/// A key of the token that is refused, with what to do.
fn unusable(found: String, advice: &'static str) -> Error {
    fault(ErrorKind::InvalidInput, "a key that cannot be used")
        .found(found)
        .advice(advice)
}

/// The only object of a kind; `None` if there is none.
fn only(objects: &[KeyObject], kind: KeyKind) -> Result<Option<&KeyObject>, CallError> {
    let mut of_kind = objects.iter().filter(|object| object.kind == kind);
    let first = of_kind.next();
    match of_kind.next() {
        None => Ok(first),
        Some(_) => Err(CallError::Refused(Refusal::own(code::SEVERAL_KEYS))),
    }
}

/// The specification of an RSA key pair.
fn of_pair(private: &KeyObject, public: Option<&KeyObject>) -> Result<KeySpec, Error> {
    let bits = usize::try_from(private.bits).unwrap_or(0);
    let spec = KeySpec::ALL.into_iter().find(|spec| oaep::bits(*spec) == Some(bits));
    let spec = spec.ok_or_else(|| {
        unusable(
            format!("RSA of {bits} bits"),
            "The RSA key has an unsupported size. Adopt one of 3072 or 4096 bits with the specification rsa-3072 or rsa-4096.",
        )
    })?;
    let Some(public) = public else {
        return Err(unusable(
            "a private key alone".to_owned(),
            "The token has the private key, and no public key object with its CKA_ID, which wraps: its owner can import it (`pkcs11-tool \
             --write-object --type pubkey`).",
        ));
    };
    if public.bits != private.bits {
        return Err(unusable(
            "public and private keys of two pairs".to_owned(),
            "The public and the private key with this CKA_ID are of two pairs: give each pair its own CKA_ID.",
        ));
    }
    Ok(spec)
}

impl Key {
    /// Reads the objects with one `CKA_ID`.
    ///
    /// # Errors
    /// `KeyNotFound` if none is a key that decrypts; `KeyState` if several are; `InvalidInput` with advice for one that no
    /// logical key can use.
    pub(crate) fn of(objects: &[KeyObject]) -> Result<Self, Error> {
        let operation = "describe a key";
        let of_kind = |kind| only(objects, kind).map_err(|error| error.into_error(operation));
        let (secret, private, public) = (of_kind(KeyKind::Aes)?, of_kind(KeyKind::RsaPrivate)?, of_kind(KeyKind::RsaPublic)?);
        let (key, spec, encrypt) = match (secret, private) {
            (None, None) => return Err(CallError::Refused(Refusal::own(code::NO_KEY)).into_error(operation)),
            (Some(_), Some(_)) => return Err(CallError::Refused(Refusal::own(code::SEVERAL_KEYS)).into_error(operation)),
            (Some(secret), None) => {
                // Some tokens do not tell the length of a key that is sensitive.
                if secret.bits != 256 && secret.bits != 0 {
                    return Err(unusable(
                        format!("AES of {} bits", secret.bits),
                        "The AES key has an unsupported size. Adopt one of 256 bits.",
                    ));
                }
                (secret, KeySpec::Aes256, secret.encrypt)
            }
            (None, Some(private)) => (private, of_pair(private, public)?, public.and_then(|public| public.encrypt)),
        };
        if key.always_authenticate == Some(true) {
            return Err(unusable(
                "a key that wants the PIN for each use".to_owned(),
                "The key's CKA_ALWAYS_AUTHENTICATE is true: its token asks for the PIN before each use, which the gateway does not give. Adopt \
                 another key.",
            ));
        }
        Ok(Self {
            spec,
            label: key.label.clone(),
            exposure: Exposure {
                // Whoever is logged in can wrap an extractable key with another one, or read one that is not sensitive.
                exportable: key.extractable != Some(false) || key.sensitive != Some(true),
                plaintext_backup: false,
            },
            wraps: encrypt != Some(false),
            unwraps: key.decrypt != Some(false),
        })
    }

    /// Checks that the key wraps and unwraps.
    ///
    /// # Errors
    /// `InvalidInput` with what to do.
    pub(crate) fn usable(&self) -> Result<(), Error> {
        if self.wraps && self.unwraps {
            return Ok(());
        }
        Err(unusable(
            "a key that may not encrypt or decrypt".to_owned(),
            "The key's CKA_ENCRYPT or CKA_DECRYPT is false: its owner can set both, if the token permits it, or adopt another key.",
        ))
    }

    const fn state(&self) -> KeyState {
        match (self.wraps, self.unwraps) {
            (true, true) => KeyState::Enabled,
            (false, true) => KeyState::DecryptOnly,
            (true | false, false) => KeyState::Disabled,
        }
    }

    /// The ways in which its material can leave the token.
    pub(crate) const fn exposure(&self) -> Exposure {
        self.exposure
    }

    /// The description. A token knows no versions; what a key may do is its state.
    pub(crate) fn description(&self, name: &KeyName) -> KeyDescription {
        let (id, state) = (name.to_string(), self.state());
        KeyDescription {
            id: id.clone(),
            spec: self.spec,
            state,
            versions: vec![VersionDescription {
                key: ProviderKeyRef {
                    id,
                    version: String::new(),
                },
                state,
                created: None,
                exposure: Some(self.exposure),
            }],
            primary: 0,
        }
    }
}
