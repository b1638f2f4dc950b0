//! Keys of a key manager: what they must be, and their description for the gateway.

use claviger_provider::{Error, ErrorKind, Exposure, KeyDescription, KeySpec, KeyState, ProviderKind, VersionDescription};

use crate::attributes::Known;
use crate::codes;
use crate::errors::fault;
use crate::names::key_ref;
use crate::tags::{AES, MAY_DECRYPT, MAY_ENCRYPT, SYMMETRIC_KEY};

/// The length of keys, in bits.
pub(crate) const BITS: i32 = 256;
/// The usage mask of keys.
pub(crate) const USAGE: i32 = MAY_ENCRYPT | MAY_DECRYPT;

const ACTIVE: u32 = 2;
const PRE_ACTIVE: u32 = 1;

/// A key as the server describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Key {
    /// The Unique Identifier.
    pub(crate) id: String,
    pub(crate) attributes: Known,
}

impl Key {
    /// Whether it was made and not activated yet.
    pub(crate) fn is_pre_active(&self) -> bool {
        self.attributes.state == Some(PRE_ACTIVE)
    }

    /// Checks that it is a key of this adapter's kind, whatever its state.
    ///
    /// # Errors
    /// `InvalidInput`, with what it is and what to do.
    pub(crate) fn fits(&self) -> Result<(), Error> {
        let unfit = |found: String, advice| {
            let error = fault(ErrorKind::InvalidInput, "a key that does not fit").advice(advice);
            Err(error.found(found))
        };
        let known = &self.attributes;
        if known.object_type.is_some_and(|kind| kind != SYMMETRIC_KEY) {
            return unfit(
                "no symmetric key".to_owned(),
                "The object at the key manager is not a symmetric key.",
            );
        }
        match (known.algorithm, known.length) {
            (Some(AES), Some(BITS)) => {}
            (Some(AES), Some(bits)) => return unfit(format!("AES-{bits}"), "The key must have 256 bits."),
            (_, _) => return unfit("no AES key".to_owned(), "The key must be an AES key of 256 bits."),
        }
        match known.usage_mask {
            Some(mask) if mask & USAGE == USAGE => Ok(()),
            Some(mask) => unfit(format!("usage mask {mask:#x}"), codes::usage_advice()),
            None => unfit("no usage mask".to_owned(), codes::usage_advice()),
        }
    }

    /// Checks that the key can be used.
    ///
    /// # Errors
    /// As [`Key::fits`]; `KeyState` for a key that is not active.
    pub(crate) fn usable(&self) -> Result<(), Error> {
        self.fits()?;
        match self.attributes.state {
            Some(ACTIVE) => Ok(()),
            Some(_) | None => Err(codes::not_active().into_error(ProviderKind::Kmip, "a key that is not active")),
        }
    }

    /// The state of the key.
    pub(crate) fn state(&self) -> KeyState {
        match self.attributes.state {
            // Nobody but its owner activates a key that was adopted.
            Some(PRE_ACTIVE) => KeyState::Disabled,
            Some(ACTIVE) => KeyState::Enabled,
            // Deactivated. The specification lets it decrypt; a server that does not refuses the call.
            Some(3) => KeyState::DecryptOnly,
            // Compromised.
            Some(4) => KeyState::Disabled,
            Some(5 | 6) => KeyState::Destroyed,
            Some(_) | None => KeyState::Unknown,
        }
    }

    /// How the key's material can leave the server; `None` if it does not say. A key is extractable unless the
    /// server says otherwise, and in plaintext unless it is sensitive (KMIP 2.0, sections 4.21 and 4.50).
    pub(crate) fn exposure(&self) -> Option<Exposure> {
        let exportable = match (self.attributes.extractable, self.attributes.sensitive) {
            (Some(extractable), _) => extractable,
            (None, Some(false)) => true,
            (None, Some(true) | None) => return None,
        };
        Some(Exposure {
            exportable,
            plaintext_backup: false,
        })
    }

    /// The description for the gateway: a key has one version, which has no name.
    pub(crate) fn describe(&self) -> KeyDescription {
        let state = self.state();
        let version = VersionDescription {
            key: key_ref(&self.id),
            state,
            created: self.attributes.initial_date,
            exposure: self.exposure(),
        };
        KeyDescription {
            id: self.id.clone(),
            spec: KeySpec::Aes256,
            state,
            versions: vec![version],
            primary: 0,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test stops where an expectation fails")]
mod tests {
    use claviger_provider::{ErrorKind, KeyState};

    use super::{Key, Known};

    fn key(change: impl FnOnce(&mut Known)) -> Key {
        let mut attributes = Known {
            state: Some(2),
            object_type: Some(2),
            algorithm: Some(3),
            length: Some(256),
            usage_mask: Some(12),
            initial_date: Some(7),
            ..Known::default()
        };
        change(&mut attributes);
        Key {
            id: "k-1".to_owned(),
            attributes,
        }
    }

    #[test]
    fn a_key_is_an_active_aes_key_of_256_bits_for_both_directions() {
        assert!(key(|_| ()).usable().is_ok());
        assert!(key(|key| key.object_type = None).usable().is_ok(), "a server may not say it");
        assert!(key(|key| key.usage_mask = Some(0xFF)).usable().is_ok());
        let changes: [fn(&mut Known); 8] = [
            |key| key.object_type = Some(4),
            |key| key.algorithm = Some(4),
            |key| key.algorithm = None,
            |key| key.length = Some(128),
            |key| key.length = None,
            |key| key.usage_mask = Some(4),
            |key| key.usage_mask = Some(8),
            |key| key.usage_mask = None,
        ];
        for change in changes {
            let error = key(change).usable().unwrap_err();
            assert!(error.kind == ErrorKind::InvalidInput && error.advice.is_some() && error.found.is_some());
        }
        for (state, described) in [
            (Some(1), KeyState::Disabled),
            (Some(3), KeyState::DecryptOnly),
            (Some(4), KeyState::Disabled),
            (Some(5), KeyState::Destroyed),
            (Some(6), KeyState::Destroyed),
            (Some(7), KeyState::Unknown),
            (None, KeyState::Unknown),
        ] {
            let key = key(|key| key.state = state);
            assert_eq!(key.usable().unwrap_err().kind, ErrorKind::KeyState);
            assert_eq!(key.describe().state, described);
        }
    }

    #[test]
    fn a_key_that_may_leave_the_server_is_told() {
        let exposure = |extractable, sensitive| {
            let key = key(|key| (key.extractable, key.sensitive) = (extractable, sensitive));
            key.exposure().map(|exposure| exposure.exportable)
        };
        assert_eq!(exposure(Some(false), Some(true)), Some(false));
        assert_eq!(exposure(Some(true), Some(true)), Some(true));
        assert_eq!(exposure(None, Some(false)), Some(true));
        assert_eq!(exposure(None, Some(true)), None);
        assert_eq!(exposure(None, None), None);
    }
}
