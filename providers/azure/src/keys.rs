//! Keys as a vault describes them, and what the gateway reads from that.

use std::collections::HashMap;
use std::time::{SystemTime, UNIX_EPOCH};

use azure_security_keyvault_keys::models::{Key as AzureKey, KeyAttributes, KeyOperation, KeyProperties, KeyType};
use claviger_provider::{Error, ErrorKind, Exposure, KeyDescription, KeySpec, KeyState, ProviderKeyRef, VersionDescription, oaep};

use crate::errors::{CallError, fault};
use crate::names::{KeyName, Vault, Version};
use crate::wrap_algorithm::{AesAlgorithm, key_operations};

/// A version of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KeyVersion {
    pub(crate) version: Version,
    pub(crate) enabled: bool,
    /// Creation time in Unix seconds.
    pub(crate) created: Option<i64>,
    pub(crate) tags: HashMap<String, String>,
    /// Whether the vault releases the version to an environment that its policy names; `None` if it does not say.
    exportable: Option<bool>,
}

impl KeyVersion {
    const fn state(&self) -> KeyState {
        match self.enabled {
            true => KeyState::Enabled,
            false => KeyState::Disabled,
        }
    }

    fn of(version: Version, attributes: Option<&KeyAttributes>, tags: Option<HashMap<String, String>>) -> Self {
        Self {
            version,
            // Azure's default.
            enabled: attributes.and_then(|attributes| attributes.enabled).unwrap_or(true),
            created: attributes.and_then(|attributes| attributes.created).map(|at| at.unix_timestamp()),
            tags: tags.unwrap_or_default(),
            exportable: attributes.and_then(|attributes| attributes.exportable),
        }
    }

    /// How the version's material can leave the vault; `None` if the vault does not say. A backup is encrypted, and
    /// restored in the same region alone.
    fn exposure(&self) -> Option<Exposure> {
        self.exportable.map(|exportable| Exposure {
            exportable,
            plaintext_backup: false,
        })
    }

    /// An entry of the list of versions; `None` for a version of another key. Lists do not have to say how the material
    /// can leave.
    pub(crate) fn listed(entry: KeyProperties, vault: &Vault, name: &KeyName) -> Option<Self> {
        let (key, version) = vault.kid(entry.kid.as_deref()?)?;
        key.same(name).then(|| Self::of(version, entry.attributes.as_ref(), entry.tags))
    }
}

/// A key with its current version.
#[derive(Debug)]
pub(crate) struct Key {
    /// The name, with the vault's own upper and lower case.
    pub(crate) name: KeyName,
    pub(crate) spec: KeySpec,
    pub(crate) current: KeyVersion,
    /// Whether the dates of the current version permit wrapping.
    validity: Validity,
}

/// The validity of a version by its dates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Validity {
    Valid,
    NotYet,
    Expired,
}

impl Validity {
    fn of(attributes: Option<&KeyAttributes>) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let now = i64::try_from(now).unwrap_or(i64::MAX);
        let at = |of: fn(&KeyAttributes) -> Option<azure_core::time::OffsetDateTime>| attributes.and_then(of).map(|at| at.unix_timestamp());
        match (at(|attributes| attributes.not_before), at(|attributes| attributes.expires)) {
            (Some(begins), _) if begins > now => Self::NotYet,
            (_, Some(ends)) if ends <= now => Self::Expired,
            (_, _) => Self::Valid,
        }
    }
}

/// The specification of a key by its type and modulus.
///
/// # Errors
/// What a key is that no logical key can use, and what to do about it.
fn specification(kind: &KeyType, modulus: Option<&[u8]>) -> Result<KeySpec, (String, &'static str)> {
    let named = kind.as_ref().to_owned();
    match kind {
        KeyType::OctHsm => Ok(KeySpec::Aes256),
        KeyType::Rsa | KeyType::RsaHsm => {
            let bits = modulus.map(|modulus| modulus.iter().skip_while(|byte| **byte == 0).count() * 8);
            let found = bits.map_or_else(|| named.clone(), |bits| format!("{named} of {bits} bits"));
            KeySpec::ALL
                .into_iter()
                .find(|spec| bits.is_some() && oaep::bits(*spec) == bits)
                .ok_or((
                    found,
                    "The RSA key has an unsupported size. Adopt one of 3072 or 4096 bits with the specification rsa-3072 or rsa-4096.",
                ))
        }
        KeyType::Ec | KeyType::EcHsm => Err((
            named,
            "The key is on an elliptic curve and can only sign. Adopt an RSA key, or an AES key of a Managed HSM.",
        )),
        KeyType::Oct | KeyType::UnknownValue(_) => Err((
            named,
            "The key has an unknown type. Adopt an RSA key, or an AES key of a Managed HSM.",
        )),
    }
}

impl Key {
    /// Reads the description of the key `requested`.
    ///
    /// # Errors
    /// `UpstreamProtocol` for a malformed description or another key; `InvalidInput`, with advice,
    /// for a key that no logical key can use.
    pub(crate) fn of(described: AzureKey, vault: &Vault, requested: &KeyName, aes: AesAlgorithm) -> Result<Self, Error> {
        let operation = "describe a key";
        let malformed = |part| CallError::MalformedResponse(part).into_error(operation);
        let unusable = |advice| fault(ErrorKind::InvalidInput, "a key that cannot be used").advice(advice);
        let key = described.key.ok_or_else(|| malformed("key"))?;
        let (name, version) = key.kid.as_deref().and_then(|kid| vault.kid(kid)).ok_or_else(|| malformed("kid"))?;
        if !name.same(requested) {
            return Err(malformed("kid"));
        }
        if described.managed == Some(true) {
            return Err(unusable(
                "The key belongs to a certificate and is replaced when that is renewed. Adopt a key that was created as a key.",
            ));
        }
        let kind = key.kty.ok_or_else(|| malformed("key type"))?;
        let spec = specification(&kind, key.n.as_deref()).map_err(|(found, advice)| unusable(advice).found(found))?;
        let operations = key.key_ops.unwrap_or_default();
        let lacks = |needed: &KeyOperation| !operations.iter().any(|permitted| permitted == needed.as_ref());
        if key_operations(spec, aes).iter().any(lacks) {
            return Err(unusable(match (spec, aes) {
                (KeySpec::Aes256, AesAlgorithm::Gcm) => {
                    "The key's permitted operations lack encrypt or decrypt, which A256GCM needs: its owner can set them (`az keyvault key \
                     set-attributes --ops encrypt decrypt`)."
                }
                (KeySpec::Aes256, AesAlgorithm::KeyWrap) | (KeySpec::Rsa3072 | KeySpec::Rsa4096, _) => {
                    "The key's permitted operations lack wrapKey or unwrapKey: its owner can set them (`az keyvault key set-attributes --ops \
                     wrapKey unwrapKey`)."
                }
            }));
        }
        let current = KeyVersion::of(version, described.attributes.as_ref(), described.tags);
        Ok(Self {
            name,
            spec,
            validity: Validity::of(described.attributes.as_ref()),
            current: KeyVersion {
                // Without the attribute it is not exportable.
                exportable: current.exportable.or(Some(false)),
                ..current
            },
        })
    }

    /// Fails unless the current version can be used now.
    ///
    /// # Errors
    /// `KeyState`, with advice.
    pub(crate) fn usable(&self) -> Result<(), Error> {
        let refused = |advice| Err(fault(ErrorKind::KeyState, "a key that cannot be used now").advice(advice));
        match (self.current.enabled, self.validity) {
            (false, _) => refused(
                "The key's current version is disabled; its owner can enable it (`az keyvault key set-attributes --enabled true`). If it \
                 was disabled through the gateway: `claviger keys enable --at-provider`.",
            ),
            (true, Validity::NotYet) => refused(
                "The key's current version is not valid yet; its owner can move its activation date (`az keyvault key set-attributes \
                 --not-before`).",
            ),
            (true, Validity::Expired) => refused(
                "The key's current version has expired; its owner can rotate the key or move the date (`az keyvault key set-attributes \
                 --expires`).",
            ),
            (true, Validity::Valid) => Ok(()),
        }
    }

    /// The gateway's description of it, with all versions.
    pub(crate) fn describe(&self, vault: &Vault, versions: Vec<KeyVersion>) -> KeyDescription {
        describe(vault, &self.name, self.spec, &self.current, versions)
    }

    /// How the material of any of these versions, or of the current one, can leave the vault.
    pub(crate) fn exposure(&self, versions: &[KeyVersion]) -> Exposure {
        let exposed = versions.iter().chain([&self.current]).filter_map(KeyVersion::exposure);
        exposed.fold(Exposure::NONE, |all, one| Exposure {
            exportable: all.exportable || one.exportable,
            plaintext_backup: all.plaintext_backup || one.plaintext_backup,
        })
    }
}

/// The versions that the vault made in the newest second, of these: the current one is among them, and Azure's times
/// are whole seconds.
pub(crate) fn newest(versions: &[KeyVersion]) -> Vec<&KeyVersion> {
    let last = versions.iter().map(|version| version.created).max();
    versions.iter().filter(|version| Some(version.created) == last).collect()
}

/// The description of a key that the vault does not describe, because its current version, `current`, is disabled.
pub(crate) fn describe_disabled(
    vault: &Vault,
    name: &KeyName,
    spec: KeySpec,
    mut current: KeyVersion,
    mut versions: Vec<KeyVersion>,
) -> KeyDescription {
    current.enabled = false;
    for version in versions.iter_mut().filter(|version| version.version == current.version) {
        version.enabled = false;
    }
    describe(vault, name, spec, &current, versions)
}

fn describe(vault: &Vault, name: &KeyName, spec: KeySpec, current: &KeyVersion, mut versions: Vec<KeyVersion>) -> KeyDescription {
    let id = vault.id(name);
    let is_current = |version: &KeyVersion| version.version == current.version;
    // The list is eventually consistent.
    if !versions.iter().any(is_current) {
        versions.push(current.clone());
    }
    // Azure's list has no order, and its times are whole seconds.
    versions.sort_by(|one, other| {
        let rank = |version: &KeyVersion| (version.created, is_current(version));
        rank(one)
            .cmp(&rank(other))
            .then_with(|| one.version.as_str().cmp(other.version.as_str()))
    });
    let primary = versions.iter().position(is_current).unwrap_or_default();
    let version = |version: &KeyVersion| VersionDescription {
        key: ProviderKeyRef {
            id: id.clone(),
            version: version.version.as_str().to_owned(),
        },
        state: version.state(),
        created: version.created,
        exposure: if is_current(version) { current } else { version }.exposure(),
    };
    KeyDescription {
        id: id.clone(),
        spec,
        state: current.state(),
        versions: versions.iter().map(version).collect(),
        primary,
    }
}
