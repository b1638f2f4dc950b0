//! How much of the gateway everybody has: bytes of requests and answers, and places for requests that
//! are under way.
//!
//! A request's bytes are counted for its connection, its credential, its tenant and the gateway, from
//! their arrival until the answer is written or dropped ([`Held`]). All counters are atomic: nobody
//! waits, and whoever asks for too much is refused.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

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

/// All that the gateway has. A tenant may have twice as much as is left: one alone gets two thirds,
/// and however many want all of it, something is left for the next. So the tenant that has the most
/// is refused first. Nobody who has less than `least` is refused while anything is left.
#[derive(Debug)]
pub struct Pool {
    share: Share,
    least: usize,
}

impl Pool {
    /// With so much in all, and so much that every tenant may have.
    pub const fn new(most: usize, least: usize) -> Self {
        Self {
            share: Share::new(most),
            least,
        }
    }

    /// Takes so much more for a tenant that has `tenant` with it.
    fn take(&self, count: usize, tenant: usize) -> bool {
        let Some(sum) = self.share.take(count) else { return false };
        let left = self.share.most - sum;
        let fair = tenant <= self.least.max(left.saturating_mul(2));
        if !fair {
            self.share.give_back(count);
        }
        fair
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
    tenant: Arc<Each<Share>>,
    all: Arc<Each<Pool>>,
}

impl Account {
    /// With these shares.
    pub const fn new(own: Each<Share>, tenant: Arc<Each<Share>>, all: Arc<Each<Pool>>) -> Self {
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

fn take(own: &Share, tenant: &Share, all: &Pool, count: usize) -> Result<(), Full> {
    own.take(count).ok_or(Full::Own)?;
    let refused = match tenant.take(count) {
        None => Full::Own,
        Some(sum) if all.take(count, sum) => return Ok(()),
        Some(_) => {
            tenant.give_back(count);
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
        account.tenant.places.give_back(1);
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

    /// Has so many bytes from now on, whatever the limits: for an answer, which exists already.
    pub fn resize(&mut self, bytes: usize) {
        let account = &*self.account;
        let shares = [
            &*self.connection,
            &account.own.bytes,
            &account.tenant.bytes,
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
    use super::*;

    fn pools(most: usize, least: usize) -> Arc<Each<Pool>> {
        Arc::new(Each {
            bytes: Pool::new(most, least),
            places: Pool::new(most, least),
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
        Arc::new(Account::new(shares(most), Arc::new(shares(most)), Arc::clone(all)))
    }

    #[test]
    fn what_is_dropped_can_be_taken_again_at_every_level() {
        let all = pools(1000, 10);
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
        let left = [&connection, &account.own.bytes, &account.tenant.bytes, &all.bytes.share].map(Share::taken);
        assert_eq!((left, all.places.share.taken()), ([0; 4], 0));
    }

    #[test]
    fn a_tenant_is_refused_over_its_own_share_before_the_gateway_is_full() {
        let all = pools(1000, 10);
        let both = Arc::new(shares(100));
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
    fn the_largest_holder_is_refused_and_nobody_under_the_minimum() {
        let all = pools(900, 10);
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
