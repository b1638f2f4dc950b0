//! What the connections of one tenant may take of the process: sockets, lookups of names, and memory for responses.
//!
//! A tenant names servers, and a server decides how long a call, the opening of a socket and the lookup of its
//! name take. So each tenant has a share of them, and the connections of all tenants have a bound together, below
//! what the listeners, the store and the audit log need.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::ids::TenantId;

/// The most names of one tenant that are looked up at once.
const LOOKUPS: usize = 4;
/// The longest response, in bytes, that takes no place among the long ones.
pub const SHORT_RESPONSE: usize = 64 * 1024;
/// The most long responses of one tenant that are read at once.
const LONG_RESPONSES: usize = 4;
/// The same of all tenants.
const LONG_RESPONSES_OF_ALL: usize = 32;

/// The longest wait for a place of a connection that has this time to open. The waits for a lookup, for a socket and for
/// a long response are no fault of the provider's, so they end, together, before an attempt does.
pub(crate) fn wait(connect_timeout: Duration) -> Duration {
    connect_timeout / 5
}

/// The shares of all tenants.
#[derive(Debug)]
pub struct Shares {
    all: Arc<Bounds>,
    /// The most sockets of one tenant.
    of_tenant: usize,
    tenants: Mutex<HashMap<TenantId, Weak<Places>>>,
    /// Locked after `tenants`.
    suspended: Mutex<HashSet<TenantId>>,
}

/// Sockets by what they are for: a socket that waits for a place must not take that of the call that it is for. And the
/// responses that are longer than [`SHORT_RESPONSE`].
#[derive(Debug)]
struct Bounds {
    calls: Arc<Semaphore>,
    dials: Arc<Semaphore>,
    idle: Arc<Semaphore>,
    long: Arc<Semaphore>,
}

impl Bounds {
    fn of(sockets: usize, long: usize) -> Self {
        let part = |part: usize| Arc::new(Semaphore::new(part.clamp(1, Semaphore::MAX_PERMITS)));
        Self {
            calls: part(sockets / 2),
            dials: part(sockets / 4),
            idle: part(sockets / 4),
            long: part(long),
        }
    }
}

#[derive(Debug)]
struct Places {
    own: Bounds,
    all: Arc<Bounds>,
    lookups: Arc<Semaphore>,
    suspended: AtomicBool,
}

/// One tenant's share. Clones are the same share. The default one has no bounds: it is for what serves no tenant.
#[derive(Debug, Clone, Default)]
pub struct Share(Option<Arc<Places>>);

/// A place within a share, until it is dropped.
#[derive(Debug, Default)]
pub struct Place {
    _held: Option<Held>,
}

#[derive(Debug)]
struct Held {
    _permits: [OwnedSemaphorePermit; 2],
    /// The share lasts as long as a place of it is taken.
    _of: Arc<Places>,
}

/// A place among a tenant's lookups, until it is dropped. The share lasts as long: a lookup goes on when the tenant's
/// last connection has left memory, and must count for the share that the next one gets.
#[derive(Debug, Default)]
pub(crate) struct LookupPlace {
    _held: Option<(OwnedSemaphorePermit, Arc<Places>)>,
}

impl Shares {
    /// With at most this many sockets of one tenant, and of all.
    pub fn new(all: usize, of_tenant: usize) -> Self {
        Self {
            all: Arc::new(Bounds::of(all, LONG_RESPONSES_OF_ALL)),
            of_tenant,
            tenants: Mutex::default(),
            suspended: Mutex::default(),
        }
    }

    /// Notes whether a tenant is suspended, for [`Share::is_suspended`].
    pub fn note_suspended(&self, tenant: TenantId, suspended: bool) {
        let tenants = self.tenants.lock();
        let mut all = self.suspended.lock();
        match suspended {
            true => all.insert(tenant),
            false => all.remove(&tenant),
        };
        if let Some(places) = tenants.get(&tenant).and_then(Weak::upgrade) {
            places.suspended.store(suspended, Ordering::Relaxed);
        }
    }

    /// The tenant's share.
    pub fn of(&self, tenant: TenantId) -> Share {
        let mut tenants = self.tenants.lock();
        if let Some(known) = tenants.get(&tenant).and_then(Weak::upgrade) {
            return Share(Some(known));
        }
        if tenants.len() == tenants.capacity() {
            tenants.retain(|_, places| places.strong_count() > 0);
        }
        let made = Arc::new(Places {
            own: Bounds::of(self.of_tenant, LONG_RESPONSES),
            all: Arc::clone(&self.all),
            lookups: Arc::new(Semaphore::new(LOOKUPS)),
            suspended: AtomicBool::new(self.suspended.lock().contains(&tenant)),
        });
        tenants.insert(tenant, Arc::downgrade(&made));
        Share(Some(made))
    }
}

impl Share {
    /// Whether the tenant is suspended: its connections begin no call that serves no request.
    pub fn is_suspended(&self) -> bool {
        self.0.as_ref().is_some_and(|places| places.suspended.load(Ordering::Relaxed))
    }

    /// Whether it has bounds.
    pub(crate) const fn is_bounded(&self) -> bool {
        self.0.is_some()
    }

    /// A place for a call, which has at most one socket; `None` if the tenant or all together have too many.
    pub fn call(&self) -> Option<Place> {
        self.now(|bounds| &bounds.calls, 1)
    }

    /// Places for this many idle sockets; `None` if the tenant or all together have too many.
    pub fn idle(&self, sockets: u32) -> Option<Place> {
        self.now(|bounds| &bounds.idle, sockets)
    }

    fn now(&self, part: impl Fn(&Bounds) -> &Arc<Semaphore>, sockets: u32) -> Option<Place> {
        let Some(places) = &self.0 else { return Some(Place::default()) };
        let take = |bounds| Arc::clone(part(bounds)).try_acquire_many_owned(sockets).ok();
        let permits = [take(&places.own)?, take(&places.all)?];
        Some(Place::of(places, permits))
    }

    /// A place for a socket that is being opened within this time; `None` if none becomes free in [`wait`].
    pub(crate) async fn dial(&self, connect_timeout: Duration) -> Option<Place> {
        self.waiting(|bounds| &bounds.dials, connect_timeout).await
    }

    /// A place for a response that is longer than [`SHORT_RESPONSE`], while it is read, of a connection that had this time
    /// to open; `None` if none becomes free in [`wait`].
    pub async fn long_response(&self, connect_timeout: Duration) -> Option<Place> {
        self.waiting(|bounds| &bounds.long, connect_timeout).await
    }

    async fn waiting(&self, part: impl Fn(&Bounds) -> &Arc<Semaphore> + Send, connect_timeout: Duration) -> Option<Place> {
        let Some(places) = &self.0 else { return Some(Place::default()) };
        let (own, all) = (Arc::clone(part(&places.own)), Arc::clone(part(&places.all)));
        let taking = async { Some([own.acquire_owned().await.ok()?, all.acquire_owned().await.ok()?]) };
        let permits = timeout(wait(connect_timeout), taking).await.ok()??;
        Some(Place::of(places, permits))
    }

    /// A place among the tenant's lookups of names. Waits for one.
    pub(crate) async fn lookup(&self) -> LookupPlace {
        let Some(places) = &self.0 else { return LookupPlace::default() };
        let permit = Arc::clone(&places.lookups).acquire_owned().await.ok();
        LookupPlace {
            _held: permit.map(|permit| (permit, Arc::clone(places))),
        }
    }
}

impl Place {
    fn of(places: &Arc<Places>, permits: [OwnedSemaphorePermit; 2]) -> Self {
        let held = Held {
            _permits: permits,
            _of: Arc::clone(places),
        };
        Self { _held: Some(held) }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test stops where an expectation fails")]
mod tests {
    use super::Shares;
    use crate::TenantId;

    #[test]
    fn a_tenant_has_its_share_and_all_have_a_bound() {
        let shares = Shares::new(12, 8);
        let (one, other) = (TenantId::random(), TenantId::random());
        let held: Vec<_> = (0..4).map(|_| shares.of(one).call().unwrap()).collect();
        assert!(shares.of(one).call().is_none(), "half of its sockets are for calls");
        assert!(shares.of(one).idle(2).is_some() && shares.of(one).idle(3).is_none());
        let others = [shares.of(other).call().unwrap(), shares.of(other).call().unwrap()];
        assert!(shares.of(other).call().is_none(), "all together have six");
        drop((others, held));
        assert!(shares.of(other).call().is_some());
    }
}
