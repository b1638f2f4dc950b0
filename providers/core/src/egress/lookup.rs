//! Looks names up: few at once of each tenant and in all, each name once at a time.
//!
//! A lookup cannot be stopped. The system waits up to half a minute for a name server that is silent, and a tenant
//! chooses names, and so the servers that are asked. So a lookup runs on a thread of its own, not among the threads
//! for all blocking work, and its places are taken until it ends, also when its caller gave up long before.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::sync::{Semaphore, oneshot, watch};
use tokio::time::timeout;

use crate::share::{Share, wait};

/// The most lookups at once.
const LOOKUPS: usize = 64;

/// Looks up the addresses of a name.
#[async_trait]
pub trait Lookup: Send + Sync + 'static {
    /// All addresses of the name, in the order in which they are to be tried.
    ///
    /// # Errors
    /// When there are none, or no name server answers.
    async fn lookup(&self, name: &str) -> io::Result<Vec<IpAddr>>;
}

/// The system's resolver.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemLookup;

#[async_trait]
impl Lookup for SystemLookup {
    async fn lookup(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        let (found, finding) = oneshot::channel();
        let name = name.to_owned();
        std::thread::Builder::new().name("lookup".to_owned()).spawn(move || {
            let addresses = (name.as_str(), 0).to_socket_addrs();
            // Without a receiver nobody wants them any more.
            let _ = found.send(addresses.map(|all| all.map(|address| address.ip()).collect()));
        })?;
        finding.await.map_err(io::Error::other)?
    }
}

type Found = Result<Vec<IpAddr>, Arc<io::Error>>;

/// The lookups under way.
pub(super) struct Lookups {
    lookup: Arc<dyn Lookup>,
    places: Arc<Semaphore>,
    under_way: Mutex<HashMap<String, watch::Receiver<Option<Found>>>>,
}

impl Lookups {
    pub(super) fn new(lookup: Arc<dyn Lookup>) -> Self {
        Self {
            lookup,
            places: Arc::new(Semaphore::new(LOOKUPS)),
            under_way: Mutex::default(),
        }
    }

    /// The addresses of a name: of the lookup under way if there is one, which may be another tenant's. `None` if no place
    /// for one becomes free, for a connection that has this time to open.
    pub(super) async fn find(self: &Arc<Self>, name: &str, share: &Share, connect_timeout: Duration) -> Option<Found> {
        let joined = self.under_way.lock().get(name).cloned();
        let finding = match joined {
            Some(finding) => finding,
            None => {
                // Whoever waits here and gives up leaves nothing behind.
                let places = async { (share.lookup().await, Arc::clone(&self.places).acquire_owned().await) };
                self.begin(name, timeout(wait(connect_timeout), places).await.ok()?)
            }
        };
        Some(result(finding).await)
    }

    fn begin<P: Send + 'static>(self: &Arc<Self>, name: &str, places: P) -> watch::Receiver<Option<Found>> {
        let mut under_way = self.under_way.lock();
        if let Some(begun) = under_way.get(name) {
            return begun.clone();
        }
        let (found, finding) = watch::channel(None);
        under_way.insert(name.to_owned(), finding.clone());
        drop(under_way);
        let (this, name) = (Arc::clone(self), name.to_owned());
        // On its own, so that it ends with the lookup and not with its caller.
        tokio::spawn(async move {
            let _until_the_end = places;
            let addresses = this.lookup.lookup(&name).await.map_err(Arc::new);
            this.under_way.lock().remove(&name);
            found.send_replace(Some(addresses));
        });
        finding
    }
}

async fn result(mut finding: watch::Receiver<Option<Found>>) -> Found {
    let found = finding
        .wait_for(Option::is_some)
        .await
        .map_err(|ended| Arc::new(io::Error::other(ended)))?;
    found.clone().unwrap_or_else(|| Ok(Vec::new()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test stops where an expectation fails")]
mod tests {
    use std::io;
    use std::net::IpAddr;
    use std::sync::Arc;
    use std::time::Duration;

    use async_trait::async_trait;
    use parking_lot::Mutex;
    use tokio::sync::watch;
    use tokio::time::timeout;

    use super::{Lookup, Lookups};
    use crate::TenantId;
    use crate::share::{Share, Shares};

    /// A name server that is silent about names with "silent" in them, for as long as it is said to be.
    struct Silent {
        asked: Mutex<Vec<String>>,
        speaks: watch::Sender<bool>,
    }

    #[async_trait]
    impl Lookup for Silent {
        async fn lookup(&self, name: &str) -> io::Result<Vec<IpAddr>> {
            self.asked.lock().push(name.to_owned());
            if name.contains("silent") {
                self.speaks.subscribe().wait_for(|speaks| *speaks).await.unwrap();
            }
            Ok(vec!["192.0.2.1".parse().unwrap()])
        }
    }

    fn silent() -> (Arc<Silent>, Arc<Lookups>) {
        let server = Arc::new(Silent {
            asked: Mutex::default(),
            speaks: watch::channel(false).0,
        });
        let lookups = Lookups::new(Arc::clone(&server) as Arc<dyn Lookup>);
        (server, Arc::new(lookups))
    }

    /// A caller that gives up soon.
    async fn gives_up(lookups: &Arc<Lookups>, name: &str, share: &Share) {
        assert!(timeout(Duration::from_millis(10), find(lookups, name, share)).await.is_err());
    }

    async fn find(lookups: &Arc<Lookups>, name: &str, share: &Share) -> Option<bool> {
        let found = lookups.find(name, share, Duration::from_secs(5)).await;
        found.map(|found| found.is_ok())
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_name_server_takes_its_tenants_lookups_alone() {
        let ((server, lookups), shares) = (silent(), Shares::new(64, 64));
        let (hostile, other) = (shares.of(TenantId::random()), shares.of(TenantId::random()));
        for number in 0..100 {
            gives_up(&lookups, &format!("{number}.silent.test"), &hostile).await;
        }
        assert_eq!(server.asked.lock().len(), 4, "those given up go on");
        assert_eq!(find(&lookups, "other.test", &other).await, Some(true));
        assert_eq!(
            find(&lookups, "hostile.test", &hostile).await,
            None,
            "it waits for no silent server"
        );
        server.speaks.send_replace(true);
        assert_eq!(find(&lookups, "hostile.test", &hostile).await, Some(true));
    }

    #[tokio::test(start_paused = true)]
    async fn a_tenants_lookups_count_after_its_connections_left_memory() {
        let ((server, lookups), shares) = (silent(), Shares::new(64, 64));
        let tenant = TenantId::random();
        for number in 0..100 {
            // The only share of the tenant in memory.
            gives_up(&lookups, &format!("{number}.silent.test"), &shares.of(tenant)).await;
        }
        assert_eq!(server.asked.lock().len(), 4);
        server.speaks.send_replace(true);
        assert_eq!(find(&lookups, "later.test", &shares.of(tenant)).await, Some(true));
    }

    #[tokio::test(start_paused = true)]
    async fn a_name_is_looked_up_once_at_a_time_and_each_time_anew() {
        let (server, lookups) = silent();
        let unbounded = Share::default();
        let callers = (0..100).map(|_| {
            let lookups = Arc::clone(&lookups);
            tokio::spawn(async move { find(&lookups, "a.silent.test", &Share::default()).await == Some(true) })
        });
        let callers: Vec<_> = callers.collect();
        gives_up(&lookups, "a.silent.test", &unbounded).await;
        assert_eq!(server.asked.lock().len(), 1);
        server.speaks.send_replace(true);
        for caller in callers {
            assert!(caller.await.unwrap());
        }
        assert_eq!(find(&lookups, "a.silent.test", &unbounded).await, Some(true));
        assert_eq!(server.asked.lock().len(), 2);
    }
}
