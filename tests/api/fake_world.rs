//! Two tenants, each with connections to fake key services that the test controls.

use claviger_test_support::{Answer, Client, Gateway, Started, Tune};
use claviger_testkit::control::{Client as Control, Request};
use claviger_testkit::{Fault, Journal};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::support::PATIENCE;

pub struct FakeWorld {
    pub gateway: Gateway,
    started: Started,
    /// The operator acting for each tenant.
    pub bank: Client,
    pub evil: Client,
    control: std::net::SocketAddr,
}

impl FakeWorld {
    pub async fn start() -> Self {
        Self::tuned(&Tune::default()).await
    }

    /// Whose fakes imitate external key stores, of the kind `xks`, and Vault.
    pub async fn external() -> Self {
        Self::tuned(&Tune::default().set("CLAVIGER_TESTKIT_PLAYS", "external")).await
    }

    /// Whose fakes imitate a cloud, of the kind `aws`, whose new keys may show late.
    pub async fn cloud() -> Self {
        Self::tuned(&Tune::default().set("CLAVIGER_TESTKIT_PLAYS", "cloud")).await
    }

    /// Whose fakes have all capabilities, and rotate by making another key.
    pub async fn capable() -> Self {
        Self::tuned(&Tune::default().set("CLAVIGER_TESTKIT_PLAYS", "capable")).await
    }

    async fn tuned(tune: &Tune) -> Self {
        let gateway = Gateway::empty(crate::BINARY);
        let file = gateway.data().with_extension("control");
        let started = gateway.dev(tune, &file);
        let tenants = [started.with_tenant("bank").await, started.with_tenant("evil").await];
        Self::of(gateway, started, tenants)
    }

    fn of(gateway: Gateway, started: Started, [bank, evil]: [Client; 2]) -> Self {
        let control = std::fs::read_to_string(gateway.data().with_extension("control")).unwrap();
        Self {
            gateway,
            started,
            bank,
            evil,
            control: control.parse().unwrap(),
        }
    }

    /// Stops the gateway in good order and starts it again; answers bank's operator. The fakes are new then.
    pub fn restarted(self) -> (Gateway, Started, Client) {
        let Self { gateway, started, .. } = self;
        assert!(started.terminate(), "the gateway ends in good order");
        let started = gateway.dev(&Tune::default(), &gateway.data().with_extension("control"));
        let bank = started.tenant("bank");
        (gateway, started, bank)
    }

    /// Kills the gateway and starts it again. The fakes are new then.
    pub fn killed(self) -> Self {
        let Self { gateway, started, .. } = self;
        started.kill();
        let file = gateway.data().with_extension("control");
        std::fs::remove_file(&file).unwrap();
        let started = gateway.dev(&Tune::default(), &file);
        let tenants = [started.tenant("bank"), started.tenant("evil")];
        Self::of(gateway, started, tenants)
    }

    /// The gateway's process.
    pub fn started(&self) -> &Started {
        &self.started
    }

    async fn control(&self, server: &str) -> Control {
        let mut control = Control::connect(self.control).await.unwrap();
        let name = server.to_owned();
        control.tell(&Request::Server { name }).await.unwrap();
        control
    }

    /// Tells a named server of the fake's.
    pub async fn at(&self, server: &str, request: Request) {
        self.control(server).await.tell(&request).await.unwrap();
    }

    async fn journal(&self, server: &str) -> Journal {
        self.control(server).await.journal().await.unwrap()
    }

    /// How often a method of a server was called.
    pub async fn calls(&self, server: &str, op: &str) -> u64 {
        self.journal(server).await.of(op)
    }

    /// How often a server was called.
    pub async fn all_calls(&self, server: &str) -> u64 {
        self.journal(server).await.total()
    }

    /// Sends a request whose next call of `op` at a server waits at its gate. Returns once it waits there;
    /// [`FakeWorld::released`] lets it go on.
    pub async fn held_at(&self, server: &str, op: &str, client: &Client, path: &str, body: Value) -> JoinHandle<Answer> {
        self.fault(server, op, Fault::Slow, 1).await;
        let (client, path) = (client.clone(), path.to_owned());
        let request = tokio::spawn(async move { client.post(&path, &body).await });
        let waits = async {
            while self.journal(server).await.at_gate == 0 {
                tokio::time::sleep(std::time::Duration::from_millis(2)).await;
            }
        };
        tokio::time::timeout(PATIENCE, waits).await.expect("the call waits at the gate");
        request
    }

    /// Opens a server's gate and answers what the request got that waited there.
    pub async fn released(&self, server: &str, request: JoinHandle<Answer>) -> Answer {
        self.at(server, Request::OpenGate).await;
        request.await.unwrap()
    }

    /// Enables or disables a key at a server, as its owner may.
    pub async fn switched(&self, server: &str, id: &str, enabled: bool) {
        let id = id.to_owned();
        self.at(server, Request::ChangeState { id, enabled }).await;
    }

    /// Lets the gateway learn that a provider key is disabled: its owner rotates it, and disables it while the
    /// wrap that meets the new version asks for a description.
    pub async fn learns_disabled(&self, client: &Client, key: &str, server: &str, id: &str) {
        self.at(server, Request::RotateKey { id: id.to_owned() }).await;
        let path = format!("/v1/keys/{key}/data-keys");
        let wrapping = self.held_at(server, "describe", client, &path, json!({})).await;
        self.switched(server, id, false).await;
        self.released(server, wrapping).await.expect_status(200);
        let versions = client.list(&format!("/v1/keys/{key}/versions")).await;
        let of_key: Vec<&Value> = versions.iter().filter(|version| version["provider_key"] == id).collect();
        assert!(of_key.len() > 1 && of_key.iter().all(|version| version["provider_state"] == "disabled"));
    }

    /// Plans a fault for the next calls.
    pub async fn fault(&self, server: &str, op: &str, fault: Fault, times: u32) {
        let plan = serde_json::from_value(json!({"do": "plan", "op": op, "fault": fault, "times": times})).unwrap();
        self.at(server, plan).await;
    }

    /// Makes a key at a server.
    pub async fn made(&self, server: &str, id: &str) {
        self.at(server, Request::MakeKey { id: id.to_owned() }).await;
    }
}

/// Makes a connection to a server of the fake's; `shared` says that the identity is the operator's.
pub async fn connect(client: &Client, name: &str, server: &str, shared: bool) {
    let settings = json!({"server": server, "shared": shared});
    let body = json!({"name": name, "provider": "vault", "settings": settings});
    client.post("/v1/connections", &body).await.expect_status(201);
}

/// As [`connect`], to a fake of [`FakeWorld::cloud`]: a rotation of its keys is one call. Keys of Vault are described first.
pub async fn connect_cloud(client: &Client, name: &str, server: &str) {
    let body = json!({"name": name, "provider": "aws", "settings": {"server": server}});
    client.post("/v1/connections", &body).await.expect_status(201);
}

/// Adopts a provider key.
pub async fn adopt(client: &Client, name: &str, connection: &str, provider_key: &str) -> Answer {
    let body = json!({"name": name, "connection": connection, "provider_key": provider_key});
    client.post("/v1/keys", &body).await
}

/// A problem without what differs from request to request.
#[track_caller]
pub fn problem(answer: &Answer) -> Value {
    let mut problem = answer.body.clone();
    assert!(problem.as_object_mut().unwrap().remove("request_id").is_some(), "{problem}");
    problem
}
