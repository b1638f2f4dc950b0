//! Remembers refused PINs for good. A token locks itself after a few wrong ones, for all who use it, so a refused
//! PIN is never tried again, not even by a gateway that was restarted.
//!
//! What is stored is no hash of a PIN, which would be an oracle for short ones, but an HMAC under a random key that
//! is sealed in the store.
//!
//! A gateway may end while the token refuses a PIN. So each login is noted before it is sent, until it is answered: what is
//! still noted counts as a login without an answer.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::hmac::{self, HMAC_SHA256};
use claviger_provider::kit::session::identity::Lockout;
use claviger_provider::{Error, ErrorKind, SealedName, SealedStore, Secret, SeverSwitch, TenantId};
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
    in_row(ROW.to_owned(), column)
}

const fn in_row(row: String, column: String) -> SealedName {
    SealedName {
        tenant: TenantId::INSTALLATION,
        row,
        column,
    }
}

fn since_epoch() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// The refused PINs of all tokens. Clones are the same.
#[derive(Clone)]
pub(crate) struct PinLatch {
    store: Arc<dyn SealedStore>,
    /// Marks that this process refused, also where the store could not take them.
    refused: Arc<Mutex<HashSet<String>>>,
    /// Marks whose last login the token accepted, to this process.
    accepted: Arc<Mutex<HashSet<String>>>,
    /// One login at a time for each token, by its serial number: it may have several names, and several connections.
    turns: Arc<Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>>,
}

/// The mark of one PIN at one token.
pub(crate) struct Mark(String);

impl Mark {
    fn refused(&self) -> SealedName {
        named(format!("refused/{}", self.0))
    }

    /// The row of the logins that were sent and not answered. Its columns are their times.
    fn sent(&self) -> String {
        format!("pkcs11-sent/{}", self.0)
    }
}

/// A login that was noted and is sent now. Dropped before its answer, it has none.
pub(crate) struct Sent<'a> {
    latch: &'a PinLatch,
    mark: &'a Mark,
    switch: &'a SeverSwitch,
    was_accepted: bool,
    is_accepted: bool,
}

impl Sent<'_> {
    /// The token took the PIN.
    ///
    /// # Errors
    /// The store's: a gateway that is restarted takes it for a login without an answer.
    pub(crate) async fn accepted(mut self) -> Result<(), Error> {
        self.is_accepted = true;
        self.forget().await
    }

    /// The token answered, and did not look at the PIN.
    ///
    /// # Errors
    /// As of [`Sent::accepted`].
    pub(crate) async fn not_tried(mut self) -> Result<(), Error> {
        self.is_accepted = self.was_accepted;
        self.forget().await
    }

    /// The token refused the PIN. That is on stable storage when this returns.
    ///
    /// # Errors
    /// The store's: this process remembers it all the same.
    pub(crate) async fn refused(mut self) -> Result<(), Error> {
        self.was_accepted = false;
        self.latch.refuse(self.mark).await?;
        self.forget().await
    }

    async fn forget(&self) -> Result<(), Error> {
        self.latch.store.remove_row(TenantId::INSTALLATION, &self.mark.sent()).await
    }
}

impl Drop for Sent<'_> {
    fn drop(&mut self) {
        // A tenant that severs and restores its connection time and again keeps nobody else from the token.
        if self.is_accepted || (self.was_accepted && self.switch.is_severed()) {
            self.latch.accepted.lock().insert(self.mark.0.clone());
        }
    }
}

impl PinLatch {
    pub(crate) fn new(store: Arc<dyn SealedStore>) -> Self {
        Self {
            store,
            refused: Arc::default(),
            accepted: Arc::default(),
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
        Ok(Mark(hex::encode(bytes)))
    }

    /// Whether the token refused it.
    ///
    /// # Errors
    /// The store's.
    pub(crate) async fn is_refused(&self, mark: &Mark) -> Result<bool, Error> {
        let is_known = self.refused.lock().contains(&mark.0);
        Ok(is_known || self.store.get(&mark.refused()).await?.is_some())
    }

    async fn refuse(&self, mark: &Mark) -> Result<(), Error> {
        self.refused.lock().insert(mark.0.clone());
        match self.store.insert(vec![(mark.refused(), Secret::copy_from(&[1]))]).await {
            Err(error) if error.kind == ErrorKind::Conflict => Ok(()),
            result => result,
        }
    }

    /// Whether so many logins with it got no answer, of this gateway or before its restart, that the pause after them has
    /// to be over first.
    ///
    /// # Errors
    /// The store's.
    pub(crate) async fn is_paused(&self, mark: &Mark, lockout: Lockout) -> Result<bool, Error> {
        let sent = self.store.columns(TenantId::INSTALLATION, &mark.sent()).await?;
        let last = sent.last().and_then(|column| u64::from_str_radix(column, 16).ok());
        // A clock that is set back makes the pause longer.
        let since = since_epoch().saturating_sub(Duration::from_nanos(last.unwrap_or_default()));
        Ok(sent.len() >= lockout.refusals as usize && since < lockout.pause)
    }

    /// Notes a login that is sent now, of a connection with this switch. It is on stable storage when this returns.
    ///
    /// # Errors
    /// The store's.
    pub(crate) async fn send<'a>(&'a self, mark: &'a Mark, switch: &'a SeverSwitch) -> Result<Sent<'a>, Error> {
        let was_accepted = self.accepted.lock().contains(&mark.0);
        let sent = self.store.columns(TenantId::INSTALLATION, &mark.sent()).await?;
        // Of a PIN that the token takes, one that was cut off by a sever is as good as many.
        if !was_accepted || sent.is_empty() {
            let now = format!("{:016x}", since_epoch().as_nanos());
            let sent = in_row(mark.sent(), now);
            self.store.insert(vec![(sent, Secret::copy_from(&[1]))]).await?;
        }
        self.accepted.lock().remove(&mark.0);
        Ok(Sent {
            latch: self,
            mark,
            switch,
            was_accepted,
            is_accepted: false,
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test stops where an expectation fails")]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use claviger_provider::kit::session::identity::Lockout;
    use claviger_provider::{SealedStore, Secret, SeverSwitch, TenantId};
    use claviger_testkit::MemoryStore;

    use super::{PinLatch, ROW};

    const LOCKOUT: Lockout = Lockout {
        refusals: 2,
        pause: Duration::from_secs(24 * 3600),
    };

    #[tokio::test]
    async fn a_refused_pin_is_remembered_for_its_module_and_token_alone() {
        let store = Arc::new(MemoryStore::default());
        let latch = PinLatch::new(Arc::clone(&store) as Arc<dyn SealedStore>);
        let wrong = Secret::copy_from(b"1234");
        let mark = latch.mark("/m.so", "1", &wrong).await.unwrap();
        assert!(!latch.is_refused(&mark).await.unwrap());
        let switch = SeverSwitch::default();
        for _ in 0..2 {
            latch.send(&mark, &switch).await.unwrap().refused().await.unwrap();
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
    #[tokio::test]
    async fn a_login_without_an_answer_is_remembered_until_one_is_answered() {
        let store = Arc::new(MemoryStore::default());
        // Each time another latch on the same store, as after a restart.
        let latch = || PinLatch::new(Arc::clone(&store) as Arc<dyn SealedStore>);
        let (pin, switch) = (Secret::copy_from(b"1234"), SeverSwitch::default());
        let mark = latch().mark("/m.so", "1", &pin).await.unwrap();
        for is_taken in [false, true] {
            for _ in 0..2 {
                assert!(!latch().is_paused(&mark, LOCKOUT).await.unwrap());
                drop(latch().send(&mark, &switch).await.unwrap());
            }
            assert!(latch().is_paused(&mark, LOCKOUT).await.unwrap());
            let over = Lockout {
                pause: Duration::ZERO,
                ..LOCKOUT
            };
            assert!(!latch().is_paused(&mark, over).await.unwrap());
            let latch = latch();
            let sent = latch.send(&mark, &switch).await.unwrap();
            match is_taken {
                true => sent.accepted().await.unwrap(),
                false => sent.not_tried().await.unwrap(),
            }
        }
    }

    #[tokio::test]
    async fn a_sever_leaves_one_login_of_a_pin_that_the_token_takes() {
        let latch = PinLatch::new(Arc::new(MemoryStore::default()));
        let (pin, severed, open) = (Secret::copy_from(b"1234"), SeverSwitch::default(), SeverSwitch::default());
        severed.sever();
        let mark = latch.mark("/m.so", "1", &pin).await.unwrap();
        latch.send(&mark, &open).await.unwrap().accepted().await.unwrap();
        for _ in 0..4 {
            drop(latch.send(&mark, &severed).await.unwrap());
        }
        assert!(!latch.is_paused(&mark, LOCKOUT).await.unwrap());
        // Those that the token does not answer count.
        drop(latch.send(&mark, &open).await.unwrap());
        assert!(!latch.is_paused(&mark, LOCKOUT).await.unwrap());
        drop(latch.send(&mark, &open).await.unwrap());
        assert!(latch.is_paused(&mark, LOCKOUT).await.unwrap());
    }
}
