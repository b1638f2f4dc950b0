//! How much of the gateway everybody has: bytes of requests and answers, and places for requests that
//! are under way.
//!
//! A request's bytes are counted for its connection, its credential, its tenant and the gateway, from
//! their arrival until the answer is written or dropped ([`Held`]). All counters are atomic: nobody
//! waits, and whoever asks for too much is refused.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::byte_rate::ByteRate;

/// Why nothing more is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Full {
    /// The connection, the credential or the tenant has all that it may have.
    Own,
    /// The gateway has given away nearly all that it has, and this tenant has more of it than is left.
    Gateway,
}

/// A limit, and how much of it is taken.
#[derive(Debug)]
pub struct Share {
    taken: AtomicUsize,
    most: usize,
}

impl Share {
    /// With this limit.
    pub const fn new(most: usize) -> Self {
        Self {
            taken: AtomicUsize::new(0),
            most,
        }
    }

    /// How much is taken.
    pub fn taken(&self) -> usize {
        self.taken.load(Ordering::Relaxed)
    }

    /// Takes so much more; the sum, or `None` over the limit.
    fn take(&self, count: usize) -> Option<usize> {
        let sum = self.force(count);
        if sum > self.most {
            self.give_back(count);
            return None;
        }
        Some(sum)
    }

    /// Takes so much more, whatever the limit.
    fn force(&self, count: usize) -> usize {
        self.taken.fetch_add(count, Ordering::Relaxed).saturating_add(count)
    }

    fn give_back(&self, count: usize) {
        self.taken.fetch_sub(count, Ordering::Relaxed);
    }
}

/// How those who want a [`Pool`] share it. By all but the first, the one that has the most is refused
/// first, and nobody who has less than the least is refused while anything is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sharing {
    /// Whoever comes first may have all.
    FirstCome,
    /// One may have twice as much as is left: one alone gets two thirds.
    TwiceTheRest {
        /// What everyone may have.
        least: usize,
    },
    /// One may have an eighth of what is left: one alone gets a ninth, and dozens who want all of it leave
    /// something for the next.
    EighthOfTheRest {
        /// What everyone may have.
        least: usize,
    },
}

impl Sharing {
    /// How much one may have while so much is left.
    fn limit(self, left: usize) -> usize {
        match self {
            Self::FirstCome => usize::MAX,
            Self::TwiceTheRest { least } => least.max(left.saturating_mul(2)),
            Self::EighthOfTheRest { least } => least.max(left / 8),
        }
    }

    const fn least(self) -> usize {
        match self {
            Self::FirstCome => 0,
            Self::TwiceTheRest { least } | Self::EighthOfTheRest { least } => least,
        }
    }
}

/// What many have together: the tenants all of the gateway, the credentials that of their tenant.
#[derive(Debug)]
pub struct Pool {
    share: Share,
    sharing: Sharing,
    /// How fast more arrives, if that is bounded.
    rate: Option<ByteRate>,
}

impl Pool {
    /// With so much in all.
    pub const fn new(most: usize, sharing: Sharing) -> Self {
        Self {
            share: Share::new(most),
            sharing,
            rate: None,
        }
    }

    /// Whose bytes arrive at this rate.
    #[must_use]
    pub fn at_rate(mut self, rate: ByteRate) -> Self {
        self.rate = Some(rate);
        self
    }

    /// Takes so much more for one who has `own` with it; the sum of all, or `None` if it is refused.
    fn take(&self, count: usize, own: usize) -> Option<usize> {
        let sum = self.share.take(count)?;
        if own > self.sharing.limit(self.share.most - sum) {
            self.share.give_back(count);
            return None;
        }
        Some(sum)
    }
}

/// One thing for bytes, and one for places.
#[derive(Debug)]
pub struct Each<T> {
    /// For bytes.
    pub bytes: T,
    /// For requests that are under way.
    pub places: T,
}

/// The shares of one credential, in those of its tenant, in all that there is.
#[derive(Debug)]
pub struct Account {
    own: Each<Share>,
    tenant: Arc<Each<Pool>>,
    all: Arc<Each<Pool>>,
}

impl Account {
    /// With these shares.
    pub const fn new(own: Each<Share>, tenant: Arc<Each<Pool>>, all: Arc<Each<Pool>>) -> Self {
        Self { own, tenant, all }
    }

    /// Takes a place for a request, until it is dropped.
    ///
    /// # Errors
    /// [`Full`].
    pub fn place(self: &Arc<Self>) -> Result<Place, Full> {
        take(&self.own.places, &self.tenant.places, &self.all.places, 1)?;
        Ok(Place(Arc::clone(self)))
    }
}

fn take(own: &Share, tenant: &Pool, all: &Pool, count: usize) -> Result<(), Full> {
    let owned = own.take(count).ok_or(Full::Own)?;
    let refused = match tenant.take(count, owned) {
        None => Full::Own,
        // A credential's least is its own, although others of its tenant have as much as the tenant may.
        Some(sum) if all.take(count, if owned <= tenant.sharing.least() { 0 } else { sum }).is_some() => return Ok(()),
        Some(_) => {
            tenant.share.give_back(count);
            Full::Gateway
        }
    };
    own.give_back(count);
    Err(refused)
}

/// A place among the requests that are under way.
#[derive(Debug)]
pub struct Place(Arc<Account>);

impl Drop for Place {
    fn drop(&mut self) {
        let account = &*self.0;
        account.own.places.give_back(1);
        account.tenant.places.share.give_back(1);
        account.all.places.share.give_back(1);
    }
}

/// Bytes that a request or its answer takes, until it is dropped.
#[derive(Debug)]
pub struct Held {
    account: Arc<Account>,
    connection: Arc<Share>,
    bytes: usize,
}

impl Held {
    /// Takes bytes for a request on this connection.
    ///
    /// # Errors
    /// [`Full`].
    pub fn take(account: &Arc<Account>, connection: &Arc<Share>, bytes: usize) -> Result<Self, Full> {
        let mut held = Self {
            account: Arc::clone(account),
            connection: Arc::clone(connection),
            bytes: 0,
        };
        held.grow(bytes)?;
        Ok(held)
    }

    /// Takes more.
    ///
    /// # Errors
    /// [`Full`]; what it has stays taken.
    pub fn grow(&mut self, bytes: usize) -> Result<(), Full> {
        let account = &*self.account;
        self.connection.take(bytes).ok_or(Full::Own)?;
        if let Err(full) = take(&account.own.bytes, &account.tenant.bytes, &account.all.bytes, bytes) {
            self.connection.give_back(bytes);
            return Err(full);
        }
        self.bytes += bytes;
        Ok(())
    }

    /// Gives back what [`Held::grow`] took.
    pub fn shrink(&mut self, bytes: usize) {
        self.resize(self.bytes.saturating_sub(bytes));
    }

    /// How long to wait before more of the body is read, now that so many bytes of it have arrived.
    pub fn pause_after(&self, arrived: usize) -> Duration {
        let rate = &self.account.tenant.bytes.rate;
        rate.as_ref().map_or(Duration::ZERO, |rate| rate.take(arrived as u64))
    }

    /// Has so many bytes from now on, whatever the limits: for an answer, which exists already.
    pub fn resize(&mut self, bytes: usize) {
        let account = &*self.account;
        let shares = [
            &*self.connection,
            &account.own.bytes,
            &account.tenant.bytes.share,
            &account.all.bytes.share,
        ];
        if let Some(more) = bytes.checked_sub(self.bytes) {
            for share in shares {
                share.force(more);
            }
        } else {
            for share in shares {
                share.give_back(self.bytes - bytes);
            }
        }
        self.bytes = bytes;
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.resize(0);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test stops where an expectation fails")]
mod tests {
    use super::Sharing::*;
    use super::*;

    fn pools(most: usize, sharing: Sharing) -> Arc<Each<Pool>> {
        Arc::new(Each {
            bytes: Pool::new(most, sharing),
            places: Pool::new(most, sharing),
        })
    }

    fn shares(most: usize) -> Each<Share> {
        Each {
            bytes: Share::new(most),
            places: Share::new(most),
        }
    }

    /// A tenant with one credential, whose shares are as large as all that there is.
    fn tenant(all: &Arc<Each<Pool>>) -> Arc<Account> {
        let most = all.bytes.share.most;
        Arc::new(Account::new(shares(most), pools(most, FirstCome), Arc::clone(all)))
    }

    #[test]
    fn what_is_dropped_can_be_taken_again_at_every_level() {
        let all = pools(1000, TwiceTheRest { least: 10 });
        let account = tenant(&all);
        let connection = Arc::new(Share::new(100));
        let mut held = Held::take(&account, &connection, 60).unwrap();
        assert_eq!(held.grow(41), Err(Full::Own), "the connection's");
        held.grow(40).unwrap();
        held.resize(30);
        assert_eq!(
            (connection.taken(), account.own.bytes.taken(), all.bytes.share.taken()),
            (30, 30, 30)
        );
        held.resize(300);
        assert_eq!(connection.taken(), 300, "an answer exists already");
        drop(held);
        let place = account.place().unwrap();
        assert_eq!(all.places.share.taken(), 1);
        drop(place);
        let left = [&connection, &account.own.bytes, &account.tenant.bytes.share, &all.bytes.share].map(Share::taken);
        assert_eq!((left, all.places.share.taken()), ([0; 4], 0));
    }

    #[test]
    fn a_tenant_is_refused_over_its_own_share_before_the_gateway_is_full() {
        let all = pools(1000, TwiceTheRest { least: 10 });
        let both = pools(100, FirstCome);
        let one = || Arc::new(Account::new(shares(80), Arc::clone(&both), Arc::clone(&all)));
        let (first, second) = (one(), one());
        let connection = Arc::new(Share::new(1000));
        let mut held = Held::take(&first, &connection, 80).unwrap();
        assert_eq!(held.grow(1), Err(Full::Own), "the credential's");
        assert_eq!(Held::take(&second, &connection, 21).err(), Some(Full::Own), "the tenant's");
        assert_eq!((connection.taken(), second.own.bytes.taken()), (80, 0), "a refusal takes nothing");
        Held::take(&second, &connection, 20).unwrap();
    }

    #[test]
    fn credentials_that_want_all_of_their_tenants_share_leave_something_for_another() {
        let all = pools(150, EighthOfTheRest { least: 2 });
        let tenants = [(); 3].map(|()| pools(100, EighthOfTheRest { least: 2 }));
        let credential = |tenant| Arc::new(Account::new(shares(80), Arc::clone(tenant), Arc::clone(&all)));
        let mut places = Vec::new();
        for tenant in &tenants {
            for _ in 0..8 {
                let greedy = credential(tenant);
                while let Ok(place) = greedy.place() {
                    places.push(place);
                }
            }
        }
        for tenant in &tenants {
            let modest = credential(tenant);
            places.extend([modest.place().unwrap(), modest.place().unwrap()]);
        }
    }

    #[test]
    fn the_largest_holder_is_refused_and_nobody_under_the_minimum() {
        let all = pools(900, TwiceTheRest { least: 10 });
        let connection = Arc::new(Share::new(usize::MAX));
        let take = |account: &Arc<Account>, bytes| Held::take(account, &connection, bytes);
        let (large, second, third, small) = (tenant(&all), tenant(&all), tenant(&all), tenant(&all));
        let mut first = take(&large, 600).unwrap();
        assert_eq!(first.grow(1), Err(Full::Gateway), "two thirds for one alone");
        let _second = take(&second, 200).unwrap();
        let mut last = take(&third, 66).unwrap();
        assert_eq!(last.grow(8), Err(Full::Gateway), "more than twice of what would be left");
        assert_eq!(first.grow(1), Err(Full::Gateway));
        for _ in 0..3 {
            std::mem::forget(take(&tenant(&all), 10).unwrap());
        }
        let _rest = take(&small, 4).unwrap();
        assert_eq!(take(&small, 1).err(), Some(Full::Gateway), "nothing is left");
        drop(first);
        take(&small, 1).unwrap();
    }
}
