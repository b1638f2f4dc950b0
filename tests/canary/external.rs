//! Calls to external key managers. Their data keys are not cached: once an unwrap is answered, the gateway has no reason
//! to have the data key any more.

use std::fs;

use claviger_fake_xks::{AccessKey, FakeXks, Transport};
use claviger_test_support::{Client, Gateway, Started};
use serde_json::{Value, json};

use crate::forms::{Canaries, Search, Sort};
use crate::kept;
use crate::memory::{AGE, CALLS, KEPT, Regions, callers, connections_closed, hits, is_clean, print, settled, sockets};
use crate::operations::{Blob, Caller};

/// A gateway whose connection to a key manager was used, and is open; so is the one of who unwrapped.
struct Used {
    started: Started,
    gateway: Gateway,
    search: Search,
    /// The credentials with which the key manager is called.
    credentials: Search,
    /// How many sockets there were before.
    before: usize,
}

impl Used {
    /// `credential` is the secret one of the settings, and `key` what a key is created with beside its name and
    /// connection.
    async fn new(provider: &str, settings: Value, credential: &str, key: Value) -> (Self, Client) {
        let gateway = Gateway::new(&crate::measured());
        let started = gateway.serve(&kept::tune().set("CLAVIGER_EGRESS__ALLOW", "127.0.0.0/8"));
        let before = sockets(&started);
        let client = started.with_tenant("acme").await;
        let connection = json!({"name": "theirs", "provider": provider, "settings": settings});
        client.post("/v1/connections", &connection).await.expect_status(201);
        let mut body = json!({"name": "held", "connection": "theirs"});
        let more = key.as_object().expect("an object").clone();
        body.as_object_mut().expect("an object").extend(more);
        client.post("/v1/keys", &body).await.expect_status(201);
        let mut canaries = Canaries::default();
        let mut blobs: Vec<Blob> = Vec::new();
        {
            let mut caller = Caller::new(&started, client, &mut canaries);
            for _ in 0..CALLS {
                blobs.extend([caller.wrap("held").await, caller.data_key("held").await]);
            }
        }
        // What was wrapped is in the requests, which a connection's buffer may hold until it is closed.
        let until = std::time::Instant::now() + AGE;
        while callers(&started) > 0 {
            assert!(std::time::Instant::now() < until, "connections stay open");
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        let unwraps = started.tenant("acme");
        {
            let caller = Caller::new(&started, unwraps.clone(), &mut canaries);
            for blob in &blobs {
                caller.opens(blob).await;
            }
        }
        let mut credentials = Canaries::default();
        credentials.add(Sort::Credential, credential.as_bytes());
        let used = Self {
            started,
            gateway,
            search: canaries.search(),
            credentials: credentials.search(),
            before,
        };
        (used, unwraps)
    }

    /// How many data keys are found while all connections are open.
    fn data_keys(&self, title: &str) -> usize {
        let callers = callers(&self.started);
        assert!(callers > 0, "who unwrapped is connected");
        assert!(sockets(&self.started) > self.before + callers, "the key manager is connected");
        let regions = settled(self.started.pid(), &self.search, |regions| data_keys(regions) == 0);
        print(title, &regions);
        data_keys(&regions)
    }

    /// Deletes the connection, and searches again when nobody is connected any more: while it exists, health checks keep it
    /// open for minutes.
    async fn closed(self, title: &str, client: Client) {
        for path in ["/v1/keys/held", "/v1/connections/theirs"] {
            client.delete(path).await.expect_status(204);
        }
        drop(client);
        connections_closed(&self.started, self.before, KEPT).await;
        let regions = settled(self.started.pid(), &self.search, is_clean);
        print(title, &regions);
        assert_eq!(hits(&regions), (0, 0), "in the locked arena and elsewhere");
        self.ended();
    }

    /// Ends the gateway, and searches what it kept: its log at the finest level, its database and its audit log.
    fn ended(self) {
        assert!(self.started.terminate());
        let folder = self.gateway.data();
        let folder = folder.parent().expect("the gateway's folder");
        for search in [&self.search, &self.credentials] {
            let names = kept::silent(folder, search);
            for name in ["claviger.db", "audit-00000000000000000000.log", "serve.log"] {
                assert!(names.iter().any(|there| there == name), "{name} was not searched: {names:?}");
            }
        }
    }
}

/// Contexts do not count: they are in the requests of who unwrapped.
fn data_keys(regions: &Regions) -> usize {
    let all = regions.values().flat_map(|region| &region.found);
    let keys = all.filter(|((sort, _), _)| matches!(sort, Sort::Wrapped | Sort::DataKey));
    keys.map(|(_, count)| count).sum()
}

pub async fn search_after_calls_to_xks() {
    let fake = FakeXks::start(Transport::Tls, "").await.expect("a fake XKS proxy");
    let key = AccessKey::first();
    let settings = json!({
        "address": fake.url(), "ca": fake.tls().expect("TLS").ca_pem(), "region": "eu-central-1", "budget_ms": 10_000,
        "auth": {"sigv4": {"access_key_id": key.id, "secret_access_key": key.secret}},
    });
    let (used, unwraps) = Used::new("xks", settings, &key.secret, json!({"provider_key": fake.keys().make_another()})).await;
    // The HTTP client's own buffers, of which docs/threat-model.md says so.
    used.data_keys("XKS, connections open");
    used.closed("XKS, connections closed", unwraps).await;
}

pub async fn search_after_unwraps_at_kmip(server: &str) {
    let folder = kmip(server, "FOLDER").expect("its folder");
    let file = |name: &str| fs::read_to_string(format!("{folder}/{name}")).expect("a file");
    let key = file("client.key");
    let certificate = json!({"certificate": file("client.pem"), "key": key});
    let settings = json!({
        "address": kmip(server, "ADDRESS"), "ca": file("ca.pem"), "auth": {"cert": certificate}, "budget_ms": 10_000,
    });
    let (used, _unwraps) = Used::new("kmip", settings, longest_line(&key), json!({})).await;
    let found = used.data_keys(&format!("{server}, connections open"));
    assert_eq!(found, 0, "data keys that were unwrapped");
    used.ended();
}

/// A line of a PEM file: its line breaks are others where it is kept.
fn longest_line(pem: &str) -> &str {
    pem.lines().max_by_key(|line| line.len()).expect("a PEM file")
}

/// What `tests/backends/kmip/start` tells of its server.
pub fn kmip(server: &str, variable: &str) -> Option<String> {
    std::env::var(format!("CLAVIGER_TEST_{server}_{variable}")).ok()
}
