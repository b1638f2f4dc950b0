//! Remembers refused PINs for good. A token locks itself after a few wrong ones, for all who use it, so a refused
//! PIN is never tried again, not even by a gateway that was restarted.
//!
//! What is stored is no hash of a PIN, which would be an oracle for short ones, but an HMAC under a random key that
//! is sealed in the store.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use aws_lc_rs::hmac::{self, HMAC_SHA256};
use claviger_provider::{Error, ErrorKind, SealedName, SealedStore, Secret, TenantId};
use parking_lot::Mutex;
use tokio::sync::OwnedMutexGuard;

/// The row of the store, which belongs to the installation: a token may have several connections.
const ROW: &str = "pkcs11-pins";
/// The column of the key.
const KEY: &str = "key";
/// The length of the key, in bytes.
const KEY_LENGTH: usize = 32;
/// The bytes of an HMAC that name a column, which has at most 64 characters.
const MARK_LENGTH: usize = 24;

fn named(column: String) -> SealedName {
    SealedName {
        tenant: TenantId::INSTALLATION,
        row: ROW.to_owned(),
        column,
    }
}

/// The refused PINs of all tokens. Clones are the same.
#[derive(Clone)]
pub(crate) struct PinLatch {
    store: Arc<dyn SealedStore>,
    /// Marks that this process refused, also where the store could not take them.
    refused: Arc<Mutex<HashSet<String>>>,
    /// One login at a time for each token, by its serial number: it may have several names, and several connections.
    turns: Arc<Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>>,
}

/// The mark of one PIN at one token.
pub(crate) struct Mark(String);

impl PinLatch {
    pub(crate) fn new(store: Arc<dyn SealedStore>) -> Self {
        Self {
            store,
            refused: Arc::default(),
            turns: Arc::default(),
        }
    }

    /// Waits until no other login at the token is under way, so that what became of it is known to the next one.
    pub(crate) async fn turn(&self, serial: &str) -> OwnedMutexGuard<()> {
        let turn = Arc::clone(self.turns.lock().entry(serial.to_owned()).or_default());
        turn.lock_owned().await
    }

    /// The key, drawn when it is first needed.
    async fn key(&self) -> Result<hmac::Key, Error> {
        let stored = match self.store.get(&named(KEY.to_owned())).await? {
            Some(stored) => stored,
            None => {
                let drawn = self.store.insert(vec![(named(KEY.to_owned()), Secret::random(KEY_LENGTH))]).await;
                match drawn {
                    Ok(()) => {}
                    // Another connection drew one.
                    Err(error) if error.kind == ErrorKind::Conflict => {}
                    Err(error) => return Err(error),
                }
                let read = self.store.get(&named(KEY.to_owned())).await?;
                read.ok_or_else(|| Error::new(ErrorKind::Internal, "the key of refused PINs disappeared"))?
            }
        };
        Ok(hmac::Key::new(HMAC_SHA256, stored.expose()))
    }

    /// The mark of a PIN: of the module's path and the token's serial number, too.
    ///
    /// # Errors
    /// The store's.
    pub(crate) async fn mark(&self, module: &str, serial: &str, pin: &Secret) -> Result<Mark, Error> {
        let mut context = hmac::Context::with_key(&self.key().await?);
        for part in [module.as_bytes(), serial.as_bytes(), pin.expose()] {
            context.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
            context.update(part);
        }
        let tag = context.sign();
        let bytes = tag.as_ref().get(..MARK_LENGTH).unwrap_or_default();
        Ok(Mark(format!("refused/{}", hex::encode(bytes))))
    }

    /// Whether the token refused it.
    ///
    /// # Errors
    /// The store's.
    pub(crate) async fn is_refused(&self, mark: &Mark) -> Result<bool, Error> {
        let is_known = self.refused.lock().contains(&mark.0);
        Ok(is_known || self.store.get(&named(mark.0.clone())).await?.is_some())
    }

    /// Remembers that the token refused it. On stable storage when this returns.
    ///
    /// # Errors
    /// The store's: this process remembers it all the same.
    pub(crate) async fn refuse(&self, mark: &Mark) -> Result<(), Error> {
        self.refused.lock().insert(mark.0.clone());
        match self.store.insert(vec![(named(mark.0.clone()), Secret::copy_from(&[1]))]).await {
            Err(error) if error.kind == ErrorKind::Conflict => Ok(()),
            result => result,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test stops where an expectation fails")]
mod tests {
    use std::sync::Arc;

    use claviger_provider::{SealedStore, Secret, TenantId};
    use claviger_testkit::MemoryStore;

    use super::{PinLatch, ROW};

    #[tokio::test]
    async fn a_refused_pin_is_remembered_for_its_module_and_token_alone() {
        let store = Arc::new(MemoryStore::default());
        let latch = PinLatch::new(Arc::clone(&store) as Arc<dyn SealedStore>);
        let wrong = Secret::copy_from(b"1234");
        let mark = latch.mark("/m.so", "1", &wrong).await.unwrap();
        assert!(!latch.is_refused(&mark).await.unwrap());
        for _ in 0..2 {
            latch.refuse(&mark).await.unwrap();
        }
        // Another latch on the same store, as after a restart.
        let latch = PinLatch::new(Arc::clone(&store) as Arc<dyn SealedStore>);
        for (module, serial, pin, refused) in [
            ("/m.so", "1", "1234", true),
            ("/m.so", "1", "1235", false),
            ("/m.so", "2", "1234", false),
            ("/n.so", "1", "1234", false),
            ("/m.so", "11", "234", false),
        ] {
            let mark = latch.mark(module, serial, &Secret::copy_from(pin.as_bytes())).await.unwrap();
            assert_eq!(latch.is_refused(&mark).await.unwrap(), refused, "{module} {serial} {pin}");
        }
        let columns = store.columns(TenantId::INSTALLATION, ROW).await.unwrap();
        assert!(columns.len() == 2 && columns.iter().all(|column| column.len() <= 64), "{columns:?}");
    }
}
