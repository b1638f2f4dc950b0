//! `[memory]` full of entries that requests in flight hold: what is refused, and what is not.
//!
//! The gateway runs in this process, with room for fewer entries than a configuration may set.

use std::net::SocketAddr;
use std::time::Duration;

use claviger::boot::{Serving, StartOptions, init, start};
use claviger::config::Config;
use claviger_fake::{Act, Fault};
use claviger_fake_azure::{DIRECTORY, FakeAzure};
use claviger_fake_google::FakeGoogle;
use claviger_test_support::Client;
use serde_json::{Value, json};

use crate::support::{PATIENCE, wraps_reserved};

const RING: &str = "projects/acme/locations/europe-west3/keyRings/main";
/// How many keys and how many connections stay in memory.
const ROOM: u32 = 2;

struct Gateway {
    serving: Serving,
    token: String,
    google: FakeGoogle,
    azure: FakeAzure,
    folder: tempfile::TempDir,
}

impl Gateway {
    async fn start() -> Self {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let google = FakeGoogle::start().await.unwrap();
        google.make_ring(RING).unwrap();
        let azure = FakeAzure::start().await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
        let variables = [
            ("SERVER__LISTEN", "127.0.0.1:0".to_owned()),
            ("STORAGE__DATA_DIR", path("data")),
            ("STORAGE__ROOT_KEY__FILE", path("root.key")),
            ("EGRESS__ALLOW", "127.0.0.0/8".to_owned()),
            ("PROVIDERS__AZURE__MANAGED_HSMS", azure.hsm_url()),
            ("PROVIDERS__AZURE__AUTHORITY", azure.url()),
            ("PROVIDERS__GCP__KMS_ENDPOINT", google.url()),
            ("PROVIDERS__GCP__STS_ENDPOINT", google.url()),
            ("PROVIDERS__GCP__IAM_ENDPOINT", google.url()),
        ];
        let variables = variables.into_iter().map(|(name, value)| (format!("CLAVIGER_{name}"), value));
        let mut config = Config::load(None, variables).unwrap();
        config.memory.keys = ROOM;
        config.memory.connections = ROOM;
        let token = init(&config, StartOptions::default(), false).await.unwrap();
        Self {
            serving: start(&config, StartOptions::default()).await.unwrap(),
            token: String::from_utf8(token.expose().to_vec()).unwrap(),
            google,
            azure,
            folder,
        }
    }

    /// The operator, acting for a new tenant.
    async fn tenant(&self, name: &str) -> Client {
        let address: SocketAddr = self.serving.local_addr();
        let operator = Client::new(address, &self.token, None);
        operator.post("/v1/tenants", &json!({"name": name})).await.expect_status(201);
        Client::new(address, &self.token, Some(name))
    }
}

/// Creates a connection and a key of the same name that uses it.
async fn create(client: &Client, name: &str, provider: &str, settings: &Value) {
    let connection = json!({"name": name, "provider": provider, "settings": settings});
    client.post("/v1/connections", &connection).await.expect_status(201);
    let key = json!({"name": name, "connection": name});
    client.post("/v1/keys", &key).await.expect_status(201);
}

#[tokio::test]
async fn a_revocation_that_the_store_could_not_take_outlives_its_entry_in_memory() {
    let gateway = Gateway::start().await;
    let acme = gateway.tenant("acme").await;
    for name in ["first", "second", "third", "fourth", "fifth"] {
        create(&acme, name, "local", &json!({})).await;
    }
    // Another process writes to the store for longer than the gateway waits.
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(gateway.folder.path().join("data/claviger.db"));
    let mut store = sqlx::ConnectOptions::connect(&options).await.unwrap();
    sqlx::query("BEGIN IMMEDIATE").execute(&mut store).await.unwrap();
    acme.post_empty("/v1/keys/first/disable").await.expect_status(200);
    acme.post_empty("/v1/connections/second/sever").await.expect_status(200);
    let wrap = async |name: &str| acme.post(&format!("/v1/keys/{name}/wrap"), &json!({"plaintext": "AAAA"})).await;
    let revoked = async || {
        for name in ["third", "fourth", "fifth"] {
            wrap(name).await.expect_status(200);
        }
        wrap("first").await.expect_problem(409, "key_disabled");
        wrap("second").await.expect_problem(409, "connection_severed");
    };
    revoked().await;
    sqlx::Connection::close(store).await.unwrap();
    let until_stored = async {
        loop {
            let ready = acme.get("/readyz").await.expect_status(200);
            let parts = ready["parts"].as_array().unwrap();
            if parts.iter().any(|part| part["name"] == "revocations" && part["state"] == "ok") {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, until_stored).await.expect("the store has them");
    revoked().await;
    acme.post_empty("/v1/keys/first/enable").await.expect_status(200);
    acme.post_empty("/v1/connections/second/restore").await.expect_status(200);
    wrap("first").await.expect_status(200);
    wrap("second").await.expect_status(200);
    gateway.serving.stop().await;
}

#[tokio::test]
async fn a_revocation_finds_a_place_when_requests_of_another_tenant_hold_all_of_memory() {
    let gateway = Gateway::start().await;
    let bravo = gateway.tenant("bravo").await;
    for name in ["first", "second", "third"] {
        create(&bravo, name, "local", &json!({})).await;
    }
    let acme = gateway.tenant("acme").await;
    let settings = json!({"key_ring": RING, "auth": {"token": "ya29.of-nobody"}});
    for number in 0..ROOM {
        create(&acme, &format!("slow-{number}"), "gcp", &settings).await;
    }
    // Google answers none of acme's requests, so each of them holds its key and its connection.
    let switches = gateway.google.switches();
    switches.faults.set(vec![Fault::always("ncrypt", Act::Hang)]);
    let hanging: Vec<_> = (0..ROOM)
        .map(|number| {
            let client = acme.clone();
            tokio::spawn(async move {
                let path = format!("/v1/keys/slow-{number}/wrap");
                client.post(&path, &json!({"plaintext": "AAAA"})).await.status
            })
        })
        .collect();
    let all_hang = async {
        while switches.journal.count("POST", "ncrypt") < ROOM as usize {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(PATIENCE, all_hang)
        .await
        .expect("acme's requests reach Google");

    let refused = bravo.post("/v1/keys/first/wrap", &json!({"plaintext": "AAAA"})).await;
    refused.expect_problem(503, "not_ready");
    let disabled = bravo.post("/v1/keys/first/disable", &json!({})).await.expect_status(200);
    assert_eq!(disabled["state"], "disabled");
    let severed = bravo.post_empty("/v1/connections/second/sever").await.expect_status(200);
    assert_eq!(severed["state"], "severed");
    // What a revocation took is no room for other requests.
    let refused = bravo.post("/v1/keys/third/wrap", &json!({"plaintext": "AAAA"})).await;
    refused.expect_problem(503, "not_ready");
    assert!(
        hanging.iter().all(|request| !request.is_finished()),
        "acme's requests held all of memory"
    );

    switches.faults.set(Vec::new());
    for request in hanging {
        request.await.unwrap();
    }
    let wrap = async |name: &str| bravo.post(&format!("/v1/keys/{name}/wrap"), &json!({"plaintext": "AAAA"})).await;
    wrap("third").await.expect_status(200);
    wrap("first").await.expect_problem(409, "key_disabled");
    wrap("second").await.expect_problem(409, "connection_severed");
    gateway.serving.stop().await;
}

/// A key that is evicted after each of its wraps loses what it has reserved each time. That must not
/// bring it to its limit early, because another tenant's load evicts it.
#[tokio::test]
async fn evictions_do_not_use_up_the_wraps_of_a_version() {
    const ROUNDS: u64 = 20;
    let gateway = Gateway::start().await;
    let acme = gateway.tenant("acme").await;
    let application = json!({"directory": DIRECTORY, "client_id": "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee", "secret": "any"});
    let settings = json!({
        "vault": gateway.azure.hsm_url(), "ca": gateway.azure.ca_pem(), "auth": {"client_secret": application},
        "aes_algorithm": "A256GCM",
    });
    let connection = json!({"name": "hsm", "provider": "azure", "settings": settings});
    acme.post("/v1/connections", &connection).await.expect_status(201);
    let names = ["a", "b", "c", "d"];
    for name in names {
        let key = json!({"name": name, "connection": "hsm"});
        acme.post("/v1/keys", &key).await.expect_status(201);
    }
    for _ in 0..ROUNDS {
        for name in names {
            acme.post(&format!("/v1/keys/{name}/data-keys"), &json!({}))
                .await
                .expect_status(200);
        }
    }
    let data = gateway.folder.path().join("data");
    for name in names {
        let reserved = wraps_reserved(&data, name, 1).await;
        assert!((ROUNDS..2 * ROUNDS).contains(&reserved), "{reserved}");
    }
    gateway.serving.stop().await;
}
