//! Keys in the sealed store: a row per key, a column per version and per change of state. Values are
//! only ever added.

use std::sync::Arc;

use claviger_provider::{Error, ErrorKind, KeyId, KeySpec, ProviderKind, SealedName, SealedStore, Secret, TenantId};

use crate::errors::{fault, missing};

/// The first version of a key.
pub(crate) const FIRST_VERSION: u32 = 1;

/// The prefix of the columns with a specification's material.
const fn material(spec: KeySpec) -> &'static str {
    match spec {
        KeySpec::Aes256 => "material/",
        KeySpec::Rsa3072 => "rsa-3072/",
        KeySpec::Rsa4096 => "rsa-4096/",
    }
}

const STATE: &str = "state/";
const DISABLED: u8 = 0;
const ENABLED: u8 = 1;

/// A key in the store. It has at least one version.
pub(crate) struct StoredKey {
    pub(crate) spec: KeySpec,
    /// Oldest first.
    pub(crate) versions: Vec<u32>,
    /// The number of the last change of state, if there was one.
    last_state: Option<u32>,
}

impl StoredKey {
    /// The newest version, which wraps by default.
    pub(crate) fn newest(&self) -> u32 {
        self.versions.last().copied().unwrap_or(FIRST_VERSION)
    }
}

/// The keys of one sealed store.
#[derive(Clone)]
pub(crate) struct StoredKeys {
    store: Arc<dyn SealedStore>,
}

impl StoredKeys {
    pub(crate) fn new(store: Arc<dyn SealedStore>) -> Self {
        Self { store }
    }

    /// A key; `KeyNotFound` if there is none.
    pub(crate) async fn key(&self, tenant: TenantId, key: KeyId) -> Result<StoredKey, Error> {
        let columns = self.store.columns(tenant, &key.to_string()).await.map_err(of_local)?;
        let mut found = Vec::with_capacity(1);
        for spec in KeySpec::ALL {
            let versions = numbers(&columns, material(spec))?;
            if !versions.is_empty() {
                found.push((spec, versions));
            }
        }
        let last_state = numbers(&columns, STATE)?.last().copied();
        match (found.pop(), found.is_empty()) {
            (None, _) => Err(missing()),
            (Some((spec, versions)), true) => Ok(StoredKey {
                spec,
                versions,
                last_state,
            }),
            (Some(_), false) => Err(fault("a stored key has two specifications")),
        }
    }

    pub(crate) async fn enabled(&self, tenant: TenantId, key: KeyId, stored: &StoredKey) -> Result<bool, Error> {
        let Some(last) = stored.last_state else {
            return Ok(true);
        };
        let value = self.read(name(tenant, key, STATE, last)).await?;
        match value.expose() {
            [DISABLED] => Ok(false),
            [ENABLED] => Ok(true),
            _ => Err(fault("a stored state is neither enabled nor disabled")),
        }
    }

    /// The material of a version.
    pub(crate) async fn material(&self, tenant: TenantId, key: KeyId, spec: KeySpec, version: u32) -> Result<Secret, Error> {
        self.read(name(tenant, key, material(spec), version)).await
    }

    /// Adds a version. Fails with `Conflict` if it exists.
    pub(crate) async fn add(&self, tenant: TenantId, key: KeyId, (spec, version): (KeySpec, u32), kek: Secret) -> Result<(), Error> {
        let value = (name(tenant, key, material(spec), version), kek);
        self.store.insert(vec![value]).await.map_err(of_local)
    }

    /// Adds a change of state, unless the key is in that state.
    pub(crate) async fn set_enabled(&self, tenant: TenantId, key: KeyId, enabled: bool) -> Result<(), Error> {
        let stored = self.key(tenant, key).await?;
        if self.enabled(tenant, key, &stored).await? == enabled {
            return Ok(());
        }
        let next = match stored.last_state {
            None => 1,
            Some(last) => last.checked_add(1).ok_or_else(|| fault("the state changed too often"))?,
        };
        let state = Secret::copy_from(&[if enabled { ENABLED } else { DISABLED }]);
        let value = (name(tenant, key, STATE, next), state);
        match self.store.insert(vec![value]).await {
            Ok(()) => Ok(()),
            Err(error) if error.kind == ErrorKind::Conflict => {
                // Another call changed it first; if to the same state, all is done.
                let stored = self.key(tenant, key).await?;
                if self.enabled(tenant, key, &stored).await? == enabled {
                    Ok(())
                } else {
                    Err(of_local(error))
                }
            }
            Err(error) => Err(of_local(error)),
        }
    }

    /// Checks that the store can be read.
    pub(crate) async fn check(&self) -> Result<(), Error> {
        self.store
            .columns(TenantId::INSTALLATION, "probe")
            .await
            .map(drop)
            .map_err(of_local)
    }

    /// Reads a value that a listing named. Values are never removed, so a missing one is an internal error.
    async fn read(&self, name: SealedName) -> Result<Secret, Error> {
        self.store
            .get(&name)
            .await
            .map_err(of_local)?
            .ok_or_else(|| fault("a stored value disappeared"))
    }
}

fn name(tenant: TenantId, key: KeyId, column: &str, number: u32) -> SealedName {
    SealedName {
        tenant,
        row: key.to_string(),
        column: format!("{column}{number}"),
    }
}

fn of_local(error: Error) -> Error {
    error.provider(ProviderKind::Local)
}

/// The numbers of the columns with this prefix, ascending; the store sorts them by bytes.
fn numbers(columns: &[String], prefix: &str) -> Result<Vec<u32>, Error> {
    let mut numbers = columns
        .iter()
        .filter_map(|column| column.strip_prefix(prefix))
        .map(|text| number(text).ok_or_else(|| fault("a stored column has no number")))
        .collect::<Result<Vec<_>, _>>()?;
    numbers.sort_unstable();
    Ok(numbers)
}

/// Parses a decimal number from 1 in canonical form: no sign, no leading zero.
pub(crate) fn number(text: &str) -> Option<u32> {
    if text.starts_with('0') || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::number;

    #[test]
    fn a_number_has_one_form() {
        for (text, expected) in [
            ("1", Some(1)),
            ("10", Some(10)),
            ("4294967295", Some(u32::MAX)),
            ("4294967296", None),
            ("0", None),
            ("01", None),
            ("+1", None),
            ("-1", None),
            (" 1", None),
            ("", None),
            ("1a", None),
        ] {
            assert_eq!(number(text), expected, "{text:?}");
        }
    }
}
