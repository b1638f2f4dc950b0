//! Keys as they are in the sealed store: one row a key, one column a version or a change of
//! state. Values are only ever added.

use std::sync::Arc;

use claviger_provider::{Error, ErrorKind, KeyId, KeySpec, ProviderKind, SealedName, SealedStore, Secret, TenantId};

use crate::{fault, missing};

/// The version that a new key has.
pub(crate) const FIRST_VERSION: u32 = 1;

/// What the columns of a specification's material begin with.
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

/// What exists of a key; it has at least one version.
pub(crate) struct Row {
    pub(crate) spec: KeySpec,
    /// Oldest first.
    pub(crate) versions: Vec<u32>,
    /// The last change of state, if there was one.
    last_state: Option<u32>,
}

impl Row {
    /// The version that wraps where none is named.
    pub(crate) fn newest(&self) -> u32 {
        self.versions.last().copied().unwrap_or(FIRST_VERSION)
    }
}

/// The keys of one sealed store.
#[derive(Clone)]
pub(crate) struct Material {
    store: Arc<dyn SealedStore>,
}

impl Material {
    pub(crate) fn new(store: Arc<dyn SealedStore>) -> Self {
        Self { store }
    }

    /// What exists of a key; `KeyNotFound` if nothing does.
    pub(crate) async fn row(&self, tenant: TenantId, key: KeyId) -> Result<Row, Error> {
        let columns = self.store.columns(tenant, &key.to_string()).await.map_err(named)?;
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
            (Some((spec, versions)), true) => Ok(Row {
                spec,
                versions,
                last_state,
            }),
            (Some(_), false) => Err(fault("a stored key has two specifications")),
        }
    }

    pub(crate) async fn enabled(&self, tenant: TenantId, key: KeyId, row: &Row) -> Result<bool, Error> {
        let Some(last) = row.last_state else {
            return Ok(true);
        };
        let value = self.read(name(tenant, key, STATE, last)).await?;
        match value.expose() {
            [DISABLED] => Ok(false),
            [ENABLED] => Ok(true),
            _ => Err(fault("a stored state is neither enabled nor disabled")),
        }
    }

    pub(crate) async fn kek(&self, tenant: TenantId, key: KeyId, spec: KeySpec, version: u32) -> Result<Secret, Error> {
        self.read(name(tenant, key, material(spec), version)).await
    }

    /// Adds a version; `Conflict` when it exists.
    pub(crate) async fn add(&self, tenant: TenantId, key: KeyId, (spec, version): (KeySpec, u32), kek: Secret) -> Result<(), Error> {
        let value = (name(tenant, key, material(spec), version), kek);
        self.store.insert(vec![value]).await.map_err(named)
    }

    /// Adds a change of state, unless it would change nothing.
    pub(crate) async fn set_enabled(&self, tenant: TenantId, key: KeyId, enabled: bool) -> Result<(), Error> {
        let row = self.row(tenant, key).await?;
        if self.enabled(tenant, key, &row).await? == enabled {
            return Ok(());
        }
        let next = match row.last_state {
            None => 1,
            Some(last) => last.checked_add(1).ok_or_else(|| fault("the state changed too often"))?,
        };
        let state = Secret::copy_from(&[if enabled { ENABLED } else { DISABLED }]);
        let value = (name(tenant, key, STATE, next), state);
        match self.store.insert(vec![value]).await {
            Ok(()) => Ok(()),
            Err(error) if error.kind == ErrorKind::Conflict => {
                // Another call changed it first. If to the same, nothing is left to do.
                let row = self.row(tenant, key).await?;
                if self.enabled(tenant, key, &row).await? == enabled {
                    Ok(())
                } else {
                    Err(named(error))
                }
            }
            Err(error) => Err(named(error)),
        }
    }

    /// Reads the store without acting on a key.
    pub(crate) async fn reach(&self) -> Result<(), Error> {
        self.store.columns(TenantId::INSTALLATION, "probe").await.map(drop).map_err(named)
    }

    /// A value whose column was seen: nothing here removes one.
    async fn read(&self, name: SealedName) -> Result<Secret, Error> {
        self.store
            .get(&name)
            .await
            .map_err(named)?
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

fn named(error: Error) -> Error {
    error.provider(ProviderKind::Local)
}

/// The numbers of the columns of one sort, ascending. The store's order is that of bytes.
fn numbers(columns: &[String], prefix: &str) -> Result<Vec<u32>, Error> {
    let mut numbers = columns
        .iter()
        .filter_map(|column| column.strip_prefix(prefix))
        .map(|text| number(text).ok_or_else(|| fault("a stored column has no number")))
        .collect::<Result<Vec<_>, _>>()?;
    numbers.sort_unstable();
    Ok(numbers)
}

/// A decimal number from 1 in its only form: no sign, no leading zero.
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
