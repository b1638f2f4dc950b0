//! A gateway of its own for each case, with a tenant, a connection to the provider, and
//! what a case asks of them.

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use claviger::store::sealing::RootKey;
use claviger::store::sqlite::SqliteStore;
use claviger::store::{Reads, Store};
use claviger_provider::{SealedName, Secret};
use claviger_test_support::{Answer, Client, Gateway, Started, records, records_of};
use claviger_testkit::control::{Client as Control, Request};
use claviger_testkit::{Fault, Journal, Plan};
use serde_json::{Value, json};
use tokio::sync::Mutex;

use crate::BINARY;
use crate::entries::{Entry, Start};

/// The tenant of a case.
pub const TENANT: &str = "acme";
/// The connection to the provider, of each tenant.
pub const CONNECTION: &str = "kms";
/// How long a condition is waited for.
pub const PATIENCE: Duration = Duration::from_secs(20);
/// The most items of one batch.
const BATCH: usize = 1000;

/// What a case runs on.
pub struct Bench {
    /// The provider.
    pub entry: &'static Entry,
    /// The operator acting for the tenant: every operation is granted.
    pub client: Client,
    /// The process.
    pub started: Started,
    control: Option<Mutex<Control>>,
    gateway: Gateway,
}

impl Bench {
    /// Starts a gateway and makes tenant and connection.
    pub async fn start(entry: &'static Entry) -> Self {
        let (gateway, started, control) = match entry.start {
            Start::Serve | Start::Aws(_) | Start::Azure | Start::Google => {
                let gateway = Gateway::new(BINARY);
                let started = gateway.serve(&entry.tune());
                (gateway, started, None)
            }
            Start::Fake(_) => {
                let gateway = Gateway::empty(BINARY);
                let file: PathBuf = gateway.data().with_extension("control");
                let started = gateway.dev(&entry.tune(), &file);
                let address = std::fs::read_to_string(&file).expect("the control port's address");
                let control = Control::connect(address.parse().expect("an address"))
                    .await
                    .expect("the control port");
                (gateway, started, Some(Mutex::new(control)))
            }
        };
        let client = make_tenant(entry, &started, TENANT).await;
        Self {
            entry,
            client,
            started,
            control,
            gateway,
        }
    }

    /// Another tenant with a connection of its own.
    pub async fn tenant(&self, name: &str) -> Client {
        make_tenant(self.entry, &self.started, name).await
    }

    /// A second connection of the tenant.
    pub async fn connection(&self, name: &str) {
        let body = json!({"name": name, "provider": self.entry.provider, "settings": (self.entry.settings)()});
        self.client.post("/v1/connections", &body).await.expect_status(201);
    }

    /// What asks for a new key of the entry's specification.
    pub fn new_key(&self, name: &str) -> Value {
        json!({"name": name, "connection": CONNECTION, "spec": self.entry.spec})
    }

    /// The same with more members, or others.
    pub fn new_key_with(&self, name: &str, more: Value) -> Value {
        let mut body = self.new_key(name);
        let Value::Object(more) = more else { panic!("an object") };
        body.as_object_mut().expect("an object").extend(more);
        body
    }

    /// Makes a key.
    pub async fn key(&self, name: &str) -> Value {
        self.key_of(&self.client, name).await
    }

    /// Makes a key of a tenant.
    pub async fn key_of(&self, client: &Client, name: &str) -> Value {
        client.post("/v1/keys", &self.new_key(name)).await.expect_status(201)
    }

    /// What the connection says that can be done with keys of the entry's specification.
    pub async fn capabilities(&self) -> Value {
        let path = format!("/v1/connections/{CONNECTION}/capabilities");
        let can = self.client.get(&path).await.expect_status(200);
        let keys = can["keys"].as_array().expect("a list").iter();
        let own = keys.clone().find(|keys| keys["spec"] == self.entry.spec);
        own.unwrap_or_else(|| panic!("no {} in {can}", self.entry.spec)).clone()
    }

    /// A client of the tenant with a token of these operations.
    pub async fn limited(&self, operations: &[&str]) -> Client {
        let name = operations.join("-").to_lowercase();
        let principal = json!({"name": name});
        self.client.post("/v1/principals", &principal).await.expect_status(201);
        let token = self
            .client
            .post(&format!("/v1/principals/{name}/tokens"), &json!({"operations": operations}))
            .await
            .expect_status(201);
        self.client.with_token(token["token"].as_str().expect("a token"))
    }

    /// The tenant's seal key: 8 bytes of name, then the key. It is read from a copy of the
    /// database, since the gateway goes on running.
    pub async fn seal_key(&self) -> Secret {
        let copy = tempfile::tempdir().expect("a folder");
        for name in ["claviger.db", "claviger.db-wal"] {
            let from = self.gateway.data().join(name);
            if from.exists() {
                std::fs::copy(from, copy.path().join(name)).expect("a copy");
            }
        }
        let root = RootKey::from_file(&self.gateway.root_key()).expect("the root key");
        let store = SqliteStore::open(&copy.path().join("claviger.db"), root).await.expect("the store");
        let tenant = store.tenant_by_name(TENANT).await.expect("the tenant").id;
        let name = SealedName {
            tenant,
            row: "tenant".to_owned(),
            column: "seal/0001".to_owned(),
        };
        let key = claviger_provider::SealedStore::get(&store, &name)
            .await
            .expect("the store")
            .expect("a seal key");
        store.close().await;
        key
    }

    /// Every record so far.
    pub fn records(&self) -> Vec<Value> {
        records(&self.gateway.data())
    }

    /// The records of one answer's request.
    pub fn records_of(&self, answer: &Answer) -> Vec<Value> {
        records_of(&self.gateway.data(), answer.header("x-request-id"))
    }

    async fn tell(&self, request: &Request) {
        let control = self.control.as_ref().expect("a case that needs faults");
        control.lock().await.tell(request).await.expect("the fake does as told");
    }

    /// Plans a fault for the next `times` calls of an operation; 0: until cleared.
    pub async fn plan(&self, op: &str, fault: Fault, times: u32) {
        self.tell(&Request::Plan(Plan {
            op: Some(op.to_owned()),
            fault,
            times: NonZeroU32::new(times),
        }))
        .await;
    }

    /// Forgets the faults and opens the gate.
    pub async fn clear(&self) {
        self.tell(&Request::Clear).await;
    }

    /// Tells the fake something about its keys.
    pub async fn at_provider(&self, request: &Request) {
        self.tell(request).await;
    }

    /// The calls since the last look; the journal begins anew.
    pub async fn calls(&self) -> Journal {
        let journal = self.journal().await;
        self.tell(&Request::ResetJournal).await;
        journal
    }

    /// The calls so far.
    pub async fn journal(&self) -> Journal {
        let control = self.control.as_ref().expect("a case that needs faults");
        control.lock().await.journal().await.expect("the journal")
    }

    /// Whether the provider tells what it was called for.
    pub const fn has_journal(&self) -> bool {
        self.control.is_some()
    }

    /// Waits until so many calls are at the gate.
    pub async fn at_gate(&self, calls: u64) {
        until("calls at the gate", async || self.journal().await.at_gate == calls).await;
    }

    /// The gauge of requests in hand.
    pub async fn in_hand(&self) -> u64 {
        let metrics = self.client.get("/metrics").await;
        metrics
            .text
            .lines()
            .find_map(|line| line.strip_prefix("claviger_http_requests_in_flight ")?.parse().ok())
            .unwrap_or_else(|| panic!("no gauge of requests in hand in\n{}", metrics.text))
    }
}

/// Waits for a condition.
pub async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !holds().await {
        assert!(Instant::now() < end, "{what}: not within {PATIENCE:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn make_tenant(entry: &Entry, started: &Started, name: &str) -> Client {
    started
        .operator()
        .post("/v1/tenants", &json!({"name": name}))
        .await
        .expect_status(201);
    let client = started.tenant(name);
    let body = json!({"name": CONNECTION, "provider": entry.provider, "settings": (entry.settings)()});
    client.post("/v1/connections", &body).await.expect_status(201);
    client
}

/// Generates a data key of 32 bytes without context.
pub async fn data_key(client: &Client, key: &str) -> Value {
    client
        .post(&format!("/v1/keys/{key}/data-keys"), &json!({}))
        .await
        .expect_status(200)
}

/// Wraps bytes without context.
pub async fn wrap(client: &Client, key: &str, bytes: &[u8]) -> String {
    let body = json!({"plaintext": base64(bytes)});
    let answer = client.post(&format!("/v1/keys/{key}/wrap"), &body).await.expect_status(200);
    answer["wrapped"].as_str().expect("a wrapped key").to_owned()
}

/// Unwraps what has no context.
pub async fn unwrap(client: &Client, wrapped: &Value) -> Answer {
    client.post("/v1/unwrap", &json!({"wrapped": wrapped})).await
}

/// Unwraps many, as batches; the items' answers in order.
pub async fn unwrap_many(client: &Client, wrapped: &[String]) -> Vec<Value> {
    let mut answers = Vec::with_capacity(wrapped.len());
    for some in wrapped.chunks(BATCH) {
        let items: Vec<Value> = some.iter().map(|wrapped| json!({"wrapped": wrapped})).collect();
        let mut answer = client.post("/v1/batch/unwrap", &json!({"items": items})).await.expect_status(200);
        let Value::Array(items) = answer["items"].take() else {
            panic!("no items: {answer}");
        };
        assert_eq!(items.len(), some.len());
        answers.extend(items);
    }
    answers
}

/// Standard base64.
pub fn base64(bytes: &[u8]) -> String {
    use ::base64::Engine;
    ::base64::engine::general_purpose::STANDARD.encode(bytes)
}

/// Standard base64 read.
pub fn bytes(text: &Value) -> Vec<u8> {
    use ::base64::Engine;
    let text = text.as_str().expect("base64");
    ::base64::engine::general_purpose::STANDARD.decode(text).expect("base64")
}
