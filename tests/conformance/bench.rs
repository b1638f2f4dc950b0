//! What a case runs on: a tenant of its own on the gateway that the cases of an entry share.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use claviger::store::sealing::RootKey;
use claviger::store::sqlite::SqliteStore;
use claviger::store::{Reads, Store};
use claviger_provider::{SealedName, Secret};
use claviger_test_support::{Answer, Client, Gateway, Started, records_from};
use claviger_testkit::control::{Client as Control, Request};
use claviger_testkit::{Fault, Journal, Plan};
use serde_json::{Value, json};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection};
use tempfile::TempDir;
use tokio::sync::OnceCell;

use crate::BINARY;
use crate::entries::{Entry, Start};
use crate::wire::Wire;
use crate::xks::owners_key;

/// The connection to the provider, of each tenant.
pub const CONNECTION: &str = "kms";
/// How long a condition is waited for.
pub const PATIENCE: Duration = Duration::from_secs(20);
/// The most items of one batch.
const BATCH: usize = 1000;

/// An entry and its gateway, which is started for the first case and ends with the value.
pub struct Host {
    entry: &'static Entry,
    running: OnceLock<Running>,
}

/// A gateway process, and how to reach the testkit's fake inside it.
struct Running {
    gateway: Gateway,
    started: Started,
    control: Option<SocketAddr>,
    /// Of a token.
    _folder: Option<TempDir>,
    /// The end of the log when the latest case began.
    log_end: Mutex<u64>,
}

impl Host {
    /// Without a process yet.
    pub const fn new(entry: &'static Entry) -> Self {
        Self {
            entry,
            running: OnceLock::new(),
        }
    }

    fn running(&self) -> &Running {
        self.running.get_or_init(|| Running::start(self.entry))
    }
}

impl Running {
    fn start(entry: &Entry) -> Self {
        let mut folder = None;
        let (gateway, started, control) = match entry.start {
            Start::Token(module) => {
                let gateway = Gateway::new(BINARY);
                let token = folder.insert(tempfile::tempdir().expect("a folder"));
                let started = gateway.serve(&crate::pkcs11::tune(module, token.path()));
                (gateway, started, None)
            }
            Start::Serve | Start::Aws(_) | Start::Azure | Start::Google | Start::Xks => {
                let gateway = Gateway::new(BINARY);
                let started = gateway.serve(&entry.tune());
                (gateway, started, None)
            }
            Start::Fake(_) => {
                let gateway = Gateway::empty(BINARY);
                let file: PathBuf = gateway.data().with_extension("control");
                let started = gateway.dev(&entry.tune(), &file);
                let address = std::fs::read_to_string(&file).expect("the control port's address");
                (gateway, started, Some(address.parse().expect("an address")))
            }
        };
        Self {
            gateway,
            started,
            control,
            _folder: folder,
            log_end: Mutex::new(0),
        }
    }

    /// Where the log ends now. It is read from where it ended before, to find the end of a record.
    fn log_end(&self) -> u64 {
        let mut end = self.log_end.lock().unwrap_or_else(PoisonError::into_inner);
        *end = records_from(&self.gateway.data(), *end).1;
        *end
    }
}

/// What a case runs on. Cases of an entry run side by side on one gateway, and do not meet: each has
/// a tenant, connections with circuits of their own, and where the provider is the testkit's fake, a
/// fake server whose faults and journal are this case's alone.
pub struct Bench {
    /// The provider.
    pub entry: &'static Entry,
    /// The operator acting for the tenant: every operation is granted.
    pub client: Client,
    host: Arc<Host>,
    tenant: String,
    tenant_id: String,
    control: Option<tokio::sync::Mutex<Control>>,
    log: Mutex<Log>,
    seal_key: OnceCell<Secret>,
}

/// The records of the case's tenants since it began.
struct Log {
    end: u64,
    tenants: Vec<String>,
    records: Vec<Value>,
}

impl Bench {
    /// Makes tenant and connection for a case, `module::name`.
    pub async fn start(host: Arc<Host>, case: &str) -> Self {
        let running = host.running();
        let (entry, tenant) = (host.entry, case.replace("::", "."));
        let log_end = running.log_end();
        let control = match running.control {
            Some(address) => {
                let mut control = Control::connect(address).await.expect("the control port");
                let name = tenant.clone();
                control.tell(&Request::Server { name }).await.expect("a server of the fake's");
                Some(tokio::sync::Mutex::new(control))
            }
            None => None,
        };
        let (tenant_id, client) = make_tenant(entry, &running.started, &tenant).await;
        let log = Mutex::new(Log {
            end: log_end,
            tenants: vec![tenant_id.clone()],
            records: Vec::new(),
        });
        let bench = Self {
            entry,
            client,
            tenant,
            tenant_id,
            control,
            log,
            seal_key: OnceCell::new(),
            host,
        };
        bench.connection(CONNECTION).await;
        bench
    }

    /// Another tenant with a connection of its own, to the same server.
    pub async fn tenant(&self, name: &str) -> Client {
        let (id, client) = make_tenant(self.entry, &self.host.running().started, &format!("{}.{name}", self.tenant)).await;
        self.log().tenants.push(id);
        self.connection_of(&client, CONNECTION).await;
        client
    }

    /// One more connection of the tenant.
    pub async fn connection(&self, name: &str) {
        self.connection_of(&self.client, name).await;
    }

    async fn connection_of(&self, client: &Client, name: &str) {
        if self.entry.is_declared() {
            client.get(&format!("/v1/connections/{name}")).await.expect_status(200);
            return;
        }
        let mut settings = (self.entry.settings)();
        if self.control.is_some() {
            settings["server"] = json!(self.tenant);
        }
        let body = json!({"name": name, "provider": self.entry.provider, "settings": settings});
        client.post("/v1/connections", &body).await.expect_status(201);
    }

    /// A connection of the operator's, acting for the tenant.
    pub async fn wire(&self) -> Wire {
        let started = &self.host.running().started;
        Wire::connect(started.address(), started.token(), &self.tenant).await
    }

    /// What asks for a new key of the entry's specification. Where the provider creates none, its owner just made it.
    pub fn new_key(&self, name: &str) -> Value {
        let body = json!({"name": name, "connection": CONNECTION, "spec": self.entry.spec});
        self.owners(body)
    }

    /// The same with more members, or others.
    pub fn new_key_with(&self, name: &str, more: Value) -> Value {
        with(self.new_key(name), more)
    }

    /// The request with a key that its owner just made, where the provider creates none.
    fn owners(&self, body: Value) -> Value {
        match owners_key(self.entry) {
            Some(made) => with(body, json!({"provider_key": made})),
            None => body,
        }
    }

    /// Rotates a key. Where the provider creates none, it moves to another that its owner made.
    pub async fn rotate(&self, name: &str) -> Answer {
        self.rotate_with(name, json!({})).await
    }

    /// The same with more members.
    pub async fn rotate_with(&self, name: &str, more: Value) -> Answer {
        let path = format!("/v1/keys/{name}/rotate");
        self.client.post(&path, &self.owners(more)).await
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

    /// The tenant's seal key: 8 bytes of name, then the key. It is read once, from a copy of the
    /// database: SQLite writes a consistent one while the gateway goes on.
    pub async fn seal_key(&self) -> &Secret {
        self.seal_key.get_or_init(|| self.read_seal_key()).await
    }

    async fn read_seal_key(&self) -> Secret {
        let gateway = &self.host.running().gateway;
        let folder = tempfile::tempdir().expect("a folder");
        let copy = folder.path().join("claviger.db");
        let mut database = SqliteConnectOptions::new()
            .filename(gateway.data().join("claviger.db"))
            .read_only(true)
            .connect()
            .await
            .expect("the database");
        let vacuum = sqlx::query("VACUUM INTO ?1").bind(copy.to_str().expect("a path"));
        vacuum.execute(&mut database).await.expect("a copy");
        database.close().await.expect("the database is closed");
        let root = RootKey::from_file(&gateway.root_key()).expect("the root key");
        let name = std::fs::read_to_string(gateway.data().join("node")).expect("the node's name");
        let node = name.trim_end().parse().expect("the node's name");
        let store = SqliteStore::open(&copy, root, &node).await.expect("the store");
        let tenant = store.tenant_by_name(&self.tenant).await.expect("the tenant").id;
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

    /// The tenant's records so far.
    pub fn records(&self) -> Vec<Value> {
        self.records_where("tenant", &self.tenant_id)
    }

    /// The records of one answer's request.
    pub fn records_of(&self, answer: &Answer) -> Vec<Value> {
        self.records_where("request_id", answer.header("x-request-id"))
    }

    fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn records_where(&self, member: &str, value: &str) -> Vec<Value> {
        let mut log = self.log();
        let (mut new, end) = records_from(&self.host.running().gateway.data(), log.end);
        new.retain(|record| log.tenants.iter().any(|tenant| record["tenant"] == **tenant));
        log.records.extend(new);
        log.end = end;
        log.records.iter().filter(|record| record[member] == value).cloned().collect()
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

/// An object with more members, or others.
pub fn with(mut body: Value, more: Value) -> Value {
    let Value::Object(more) = more else { panic!("an object") };
    body.as_object_mut().expect("an object").extend(more);
    body
}

/// Waits for a condition.
pub async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !holds().await {
        assert!(Instant::now() < end, "{what}: not within {PATIENCE:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A new tenant's id, and the operator's client acting for it.
async fn make_tenant(entry: &Entry, started: &Started, name: &str) -> (String, Client) {
    let operator = started.operator();
    let made = match entry.is_declared() {
        true => operator.get(&format!("/v1/tenants/{name}")).await.expect_status(200),
        false => operator.post("/v1/tenants", &json!({"name": name})).await.expect_status(201),
    };
    (made["id"].as_str().expect("an id").to_owned(), started.tenant(name))
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
