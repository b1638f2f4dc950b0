//! A sealed store in memory.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use claviger_provider::{Error, ErrorKind, SealedName, SealedStore, Secret, TenantId};
use parking_lot::Mutex;

/// A store that keeps values in memory, unsealed, with the transactions of the real one: an insert
/// writes all values or none. Share it in an `Arc` to keep its values when a provider ends, as a
/// disk does.
#[derive(Default)]
pub struct MemoryStore {
    values: Mutex<BTreeMap<(TenantId, String), BTreeMap<String, Secret>>>,
    reads: AtomicU64,
}

impl MemoryStore {
    /// The number of reads so far.
    pub fn reads(&self) -> u64 {
        self.reads.load(Ordering::SeqCst)
    }

    fn row_of(name: &SealedName) -> (TenantId, String) {
        (name.tenant, name.row.clone())
    }
}

#[async_trait]
impl SealedStore for MemoryStore {
    async fn get(&self, name: &SealedName) -> Result<Option<Secret>, Error> {
        self.reads.fetch_add(1, Ordering::SeqCst);
        let values = self.values.lock();
        let value = values.get(&Self::row_of(name)).and_then(|row| row.get(&name.column));
        Ok(value.map(|value| Secret::copy_from(value.expose())))
    }

    async fn columns(&self, tenant: TenantId, row: &str) -> Result<Vec<String>, Error> {
        self.reads.fetch_add(1, Ordering::SeqCst);
        let values = self.values.lock();
        Ok(values
            .get(&(tenant, row.to_owned()))
            .map(|row| row.keys().cloned().collect())
            .unwrap_or_default())
    }

    async fn insert(&self, values: Vec<(SealedName, Secret)>) -> Result<(), Error> {
        let mut stored = self.values.lock();
        let taken = |(name, _): &(SealedName, Secret)| stored.get(&Self::row_of(name)).is_some_and(|row| row.contains_key(&name.column));
        if values.iter().any(taken) {
            return Err(Error::new(ErrorKind::Conflict, "a sealed value with this name exists"));
        }
        for (name, value) in values {
            stored.entry(Self::row_of(&name)).or_default().insert(name.column, value);
        }
        Ok(())
    }

    async fn remove_row(&self, tenant: TenantId, row: &str) -> Result<(), Error> {
        self.values.lock().remove(&(tenant, row.to_owned()));
        Ok(())
    }
}
