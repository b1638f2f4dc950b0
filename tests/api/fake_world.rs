//! Two tenants, each with connections to fake key services that the test controls.

use claviger_test_support::{Answer, Client, Gateway, Started, Tune};
use claviger_testkit::Fault;
use claviger_testkit::control::{Client as Control, Request};
use serde_json::{Value, json};

pub struct FakeWorld {
    pub gateway: Gateway,
    /// Ends with the value.
    _started: Started,
    /// The operator acting for each tenant.
    pub bank: Client,
    pub evil: Client,
    control: std::net::SocketAddr,
}

impl FakeWorld {
    pub async fn start() -> Self {
        let gateway = Gateway::empty(crate::BINARY);
        let file = gateway.data().with_extension("control");
        let started = gateway.dev(&Tune::default(), &file);
        let (bank, evil) = (started.with_tenant("bank").await, started.with_tenant("evil").await);
        let control = std::fs::read_to_string(&file).unwrap().parse().unwrap();
        Self {
            gateway,
            _started: started,
            bank,
            evil,
            control,
        }
    }

    /// Tells a named server of the fake's.
    pub async fn at(&self, server: &str, request: Request) {
        let mut control = Control::connect(self.control).await.unwrap();
        let name = server.to_owned();
        control.tell(&Request::Server { name }).await.unwrap();
        control.tell(&request).await.unwrap();
    }

    /// How often a method of a server was called.
    pub async fn calls(&self, server: &str, op: &str) -> u64 {
        let mut control = Control::connect(self.control).await.unwrap();
        let name = server.to_owned();
        control.tell(&Request::Server { name }).await.unwrap();
        let journal = control.journal().await.unwrap();
        journal.calls.get(op).copied().unwrap_or_default()
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
