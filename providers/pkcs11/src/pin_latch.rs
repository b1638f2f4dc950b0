//! Remembers refused PINs for good. A token locks itself after a few wrong ones, for all who use it, so a refused
//! PIN is never tried again, not even by a gateway that was restarted.
//!
//! What is stored is no hash of a PIN, which would be an oracle for short ones, but an HMAC under a random key that
//! is sealed in the store.
//!
//! A gateway may end while the token refuses a PIN. So each login is noted before it is sent, until it is answered: what is
//! still noted counts as a login without a clear answer. After a few of them the next one waits for a day, unless nothing
//! says that the token counted them: it took this PIN before, and its flags show no wrong PIN ([`Evidence`]).

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
/// The most logins without a clear answer that are stored, and how many of them are kept when there are more: at least those
/// after which there is a pause.
const MOST_SENT: usize = 64;
const KEPT_SENT: usize = 8;
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

    /// Stored once the token took the PIN, until it refuses it.
    fn taken(&self) -> SealedName {
        in_row(format!("pkcs11-taken/{}", self.0), "taken".to_owned())
    }

    /// The row of the logins that were sent and not answered. Its columns are their times.
    fn sent(&self) -> String {
        format!("pkcs11-sent/{}", self.0)
    }
}

/// What a token's flags say of wrong PINs: `CKF_USER_PIN_COUNT_LOW`, `CKF_USER_PIN_FINAL_TRY` and `CKF_USER_PIN_LOCKED`
/// (PKCS#11 3.1, section 3.2). A token with a policy may leave all of them clear, so they are proof of a PIN that it took
/// before only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Evidence {
    /// None is set: nobody gave a wrong one since the last that was right.
    NoWrongPin,
    /// One is set.
    WrongPin,
}

impl Evidence {
    /// By whether one of the flags is set.
    pub(crate) const fn of(has_wrong_pin: bool) -> Self {
        if has_wrong_pin { Self::WrongPin } else { Self::NoWrongPin }
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
        if !self.latch.took(self.mark).await? {
            self.latch.store_once(self.mark.taken()).await?;
        }
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
        self.latch.store.remove_row(TenantId::INSTALLATION, &self.mark.taken().row).await?;
        self.forget().await
    }

    /// The token's answer does not say whether the PIN was wrong. `evidence` was read after it, where the token let that be.
    ///
    /// # Errors
    /// As of [`Sent::accepted`].
    pub(crate) async fn unclear(self, evidence: Option<Evidence>) -> Result<(), Error> {
        let is_no_wrong_pin = evidence == Some(Evidence::NoWrongPin) && self.latch.took(self.mark).await?;
        match is_no_wrong_pin {
            true => self.not_tried().await,
            false => Ok(()),
        }
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
        self.store_once(mark.refused()).await
    }

    /// Stores a name, unless it is stored.
    async fn store_once(&self, name: SealedName) -> Result<(), Error> {
        match self.store.insert(vec![(name, Secret::copy_from(&[1]))]).await {
            Err(error) if error.kind == ErrorKind::Conflict => Ok(()),
            result => result,
        }
    }

    /// Whether the token took it, and has not refused it since.
    async fn took(&self, mark: &Mark) -> Result<bool, Error> {
        Ok(self.store.get(&mark.taken()).await?.is_some())
    }

    /// Whether so many logins with it got no clear answer, of this gateway or before its restart, that the pause after them
    /// has to be over first. `evidence` is that of now.
    ///
    /// # Errors
    /// The store's.
    pub(crate) async fn is_paused(&self, mark: &Mark, evidence: Evidence, lockout: Lockout) -> Result<bool, Error> {
        let sent = self.store.columns(TenantId::INSTALLATION, &mark.sent()).await?;
        if sent.len() < lockout.refusals as usize {
            return Ok(false);
        }
        let last = sent.last().and_then(|column| u64::from_str_radix(column, 16).ok());
        // A clock that is set back makes the pause longer.
        let since = since_epoch().saturating_sub(Duration::from_nanos(last.unwrap_or_default()));
        let pause = match evidence == Evidence::NoWrongPin && self.took(mark).await? {
            true => lockout.unclear_pause,
            false => lockout.pause,
        };
        Ok(since < pause)
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
            let now = in_row(mark.sent(), now);
            if sent.len() >= MOST_SENT {
                // The last one alone makes the pause, and those before it that there are enough.
                self.store.remove_row(TenantId::INSTALLATION, &mark.sent()).await?;
                let kept = sent.into_iter().rev().take(KEPT_SENT).map(|column| in_row(mark.sent(), column));
                self.store
                    .insert(kept.map(|name| (name, Secret::copy_from(&[1]))).collect())
                    .await?;
            }
            self.store.insert(vec![(now, Secret::copy_from(&[1]))]).await?;
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

    use super::{Evidence, MOST_SENT, PinLatch, ROW};

    const LOCKOUT: Lockout = Lockout {
        refusals: 2,
        pause: Duration::from_secs(24 * 3600),
        unclear_pause: Duration::ZERO,
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
                assert!(!latch().is_paused(&mark, Evidence::NoWrongPin, LOCKOUT).await.unwrap());
                drop(latch().send(&mark, &switch).await.unwrap());
            }
            assert!(latch().is_paused(&mark, Evidence::NoWrongPin, LOCKOUT).await.unwrap());
            let over = Lockout {
                pause: Duration::ZERO,
                ..LOCKOUT
            };
            assert!(!latch().is_paused(&mark, Evidence::NoWrongPin, over).await.unwrap());
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
        assert!(!latch.is_paused(&mark, Evidence::WrongPin, LOCKOUT).await.unwrap());
        // Those that the token does not answer count.
        drop(latch.send(&mark, &open).await.unwrap());
        assert!(!latch.is_paused(&mark, Evidence::WrongPin, LOCKOUT).await.unwrap());
        drop(latch.send(&mark, &open).await.unwrap());
        assert!(latch.is_paused(&mark, Evidence::WrongPin, LOCKOUT).await.unwrap());
    }

    /// A PIN that the token took before, and no flag that says that it counted a wrong one: a short pause, also after a
    /// restart. It ends with a refusal.
    #[tokio::test]
    async fn a_pin_that_the_token_took_waits_for_no_day() {
        let store = Arc::new(MemoryStore::default());
        let latch = || PinLatch::new(Arc::clone(&store) as Arc<dyn SealedStore>);
        let (pin, switch) = (Secret::copy_from(b"1234"), SeverSwitch::default());
        let mark = latch().mark("/m.so", "1", &pin).await.unwrap();
        for was_taken in [false, true] {
            for evidence in [None, Some(Evidence::WrongPin), Some(Evidence::NoWrongPin)] {
                let latch = latch();
                for _ in 0..LOCKOUT.refusals {
                    latch.send(&mark, &switch).await.unwrap().unclear(evidence).await.unwrap();
                }
                let is_paused = async |now| latch.is_paused(&mark, now, LOCKOUT).await.unwrap();
                // With the flags clear after each of them, none is left.
                let counts = !was_taken || evidence != Some(Evidence::NoWrongPin);
                assert_eq!(is_paused(Evidence::WrongPin).await, counts, "{was_taken} {evidence:?}");
                assert_eq!(is_paused(Evidence::NoWrongPin).await, !was_taken, "{was_taken} {evidence:?}");
                let sent = latch.send(&mark, &switch).await.unwrap();
                match was_taken {
                    true => sent.accepted().await.unwrap(),
                    false => sent.not_tried().await.unwrap(),
                }
            }
            latch().send(&mark, &switch).await.unwrap().accepted().await.unwrap();
        }
        latch().send(&mark, &switch).await.unwrap().refused().await.unwrap();
        assert!(!latch().took(&mark).await.unwrap());
    }

    #[tokio::test]
    async fn what_is_stored_of_logins_without_an_answer_is_bounded() {
        let store = Arc::new(MemoryStore::default());
        let latch = PinLatch::new(Arc::clone(&store) as Arc<dyn SealedStore>);
        let (pin, switch) = (Secret::copy_from(b"1234"), SeverSwitch::default());
        let mark = latch.mark("/m.so", "1", &pin).await.unwrap();
        for sent in 1..=3 * MOST_SENT {
            drop(latch.send(&mark, &switch).await.unwrap());
            let stored = store.columns(TenantId::INSTALLATION, &mark.sent()).await.unwrap().len();
            assert!(stored >= sent.min(2) && stored <= MOST_SENT, "{stored}");
            assert_eq!(latch.is_paused(&mark, Evidence::NoWrongPin, LOCKOUT).await.unwrap(), sent >= 2);
        }
    }
}
