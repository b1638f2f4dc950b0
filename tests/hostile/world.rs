//! What each attack begins with: a gateway, two honest tenants at work, and a hostile one.

use std::time::Duration;

use claviger_test_support::{Client, Gateway, Honest, Started, Tune, log_end};
use serde_json::Value;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, SqliteConnection};

pub use claviger_test_support::raw::PATIENCE;
pub use claviger_test_support::{HONEST, make_key, token};

/// The most memory that the gateway may take, in bytes.
pub const PEAK: u64 = 250_000_000;
/// The tenant that attacks.
pub const HOSTILE: &str = "evil";

/// Settings that allow a tenant's key service on this machine, over plain HTTP.
pub fn key_service_on_loopback() -> Tune {
    Tune::default()
        .set("CLAVIGER_EGRESS__ALLOW", "127.0.0.0/8")
        .set("CLAVIGER_EGRESS__ALLOW_PLAIN_HTTP", "true")
}

/// A gateway with its tenants; each has a connection `embedded` and a key `orders`.
pub struct World {
    pub gateway: Gateway,
    pub started: Started,
    /// The operator, acting for the hostile tenant: what the attack needs is set up with it.
    pub evil: Client,
}

impl World {
    pub async fn start() -> Self {
        Self::tuned(&Tune::default()).await
    }

    pub async fn tuned(tune: &Tune) -> Self {
        Self::with_binary(crate::BINARY, tune).await
    }

    /// With this build of the gateway.
    pub async fn with_binary(binary: &str, tune: &Tune) -> Self {
        let gateway = Gateway::new(binary);
        let started = gateway.serve(tune);
        Self::of(gateway, started).await
    }

    /// On a disk that [`World::fill_disk`] fills.
    pub async fn on_full_disk() -> Self {
        let gateway = Gateway::new(crate::BINARY);
        let started = gateway.serve(&Tune::default());
        Self::of(gateway, started).await
    }

    /// From now on nothing is written to any file at an offset behind the log's last record.
    pub fn fill_disk(&self) {
        let (_, length) = log_end(&self.gateway.data());
        self.started.limit_files(Some(length));
    }

    /// From now on the disk has room again: waits until the log records.
    pub async fn has_room(&self) {
        self.started.limit_files(None);
        let records = async {
            while self.evil.get("/v1/whoami").await.status != 200 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(PATIENCE, records).await.expect("the log records again");
    }

    /// As [`World::start`], on a gateway with fake key services, a Vault's and an external key manager's, whose control port
    /// is the second value.
    #[cfg(feature = "testkit")]
    pub async fn with_fake() -> (Self, std::net::SocketAddr) {
        let gateway = Gateway::empty(crate::BINARY);
        let file = gateway.data().with_extension("control");
        let started = gateway.dev(&Tune::default().set("CLAVIGER_TESTKIT_PLAYS", "external"), &file);
        let control = std::fs::read_to_string(&file).unwrap().parse().unwrap();
        (Self::of(gateway, started).await, control)
    }

    /// On a gateway that serves already.
    pub async fn of(gateway: Gateway, started: Started) -> Self {
        for name in HONEST {
            make_key(&started.with_tenant(name).await, "orders").await;
        }
        let evil = started.with_tenant(HOSTILE).await;
        make_key(&evil, "orders").await;
        Self { gateway, started, evil }
    }

    /// The honest tenants, at work until [`Honest::end`].
    pub async fn honest(&self) -> Honest {
        Honest::begin(&self.started).await
    }

    /// A token of the hostile tenant that allows these operations, for some keys or for all.
    pub async fn evil_token(&self, principal: &str, operations: &[&str], keys: Option<&[&str]>) -> Value {
        token(&self.evil, principal, operations, keys).await
    }

    /// Waits until so many requests are under way: what an attacker began has arrived.
    pub async fn under_way(&self, count: usize) {
        let watcher = self.started.operator();
        let arrived = async {
            loop {
                let page = watcher.get("/metrics").await.text;
                let line = page.lines().find_map(|line| line.strip_prefix("claviger_http_requests_in_flight "));
                if line.is_some_and(|now| now.parse::<f64>().unwrap() >= count as f64) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(PATIENCE, arrived).await.expect("the requests arrive");
    }

    /// Waits until the gateway has read all that was sent to it.
    pub async fn all_read(&self) {
        // The fields of proc_net_tcp(5): the local address and port, the state, and the bytes to be sent and to be read.
        let port = format!(":{:04X}", self.started.address().port());
        let is_unread = |line: &str| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            fields[1].ends_with(&port) && fields[3] != "0A" && !fields[4].ends_with(":00000000")
        };
        let read = async {
            while std::fs::read_to_string("/proc/net/tcp").unwrap().lines().any(is_unread) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, read).await.expect("all is read");
    }

    /// The gateway's database, to be read.
    pub async fn database(&self) -> SqliteConnection {
        let file = SqliteConnectOptions::new().filename(self.gateway.data().join("claviger.db"));
        file.read_only(true).connect().await.unwrap()
    }

    /// Checks that the gateway never took more memory than this, in bytes.
    pub fn holds(&self, most: u64) {
        let peak = self.started.memory().peak;
        assert!(peak < most, "the gateway took {peak} bytes");
    }
}
