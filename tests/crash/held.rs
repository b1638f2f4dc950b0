//! A gateway with a fake key service that keeps a rotate waiting.

use std::path::{Path, PathBuf};

use claviger_test_support::{Answer, Client, Gateway, Started, Tune};
use claviger_testkit::control::{Client as Control, Request};
use claviger_testkit::{Fault, Plan};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

/// The gateway, whose process may come and go. Tenant `acme` has a connection `there` to the fake and
/// a key `orders`.
pub struct Held {
    pub gateway: Gateway,
    file: PathBuf,
}

impl Held {
    /// Starts it, with the key on this connection.
    pub async fn start(connection: &str) -> (Self, Started, Client) {
        Self::start_in(&std::env::temp_dir(), connection).await
    }

    /// As [`Held::start`], in a folder made under this one.
    pub async fn start_in(parent: &Path, connection: &str) -> (Self, Started, Client) {
        let gateway = Gateway::empty_in(crate::BINARY, parent);
        let file = gateway.data().with_extension("control");
        let held = Self { gateway, file };
        let started = held.again();
        let client = started.with_tenant("acme").await;
        let there = json!({"name": "there", "provider": "vault", "settings": {}});
        client.post("/v1/connections", &there).await.expect_status(201);
        let key = json!({"name": "orders", "connection": connection});
        client.post("/v1/keys", &key).await.expect_status(201);
        (held, started, client)
    }

    /// Starts it again.
    pub fn again(&self) -> Started {
        self.gateway.dev(&Tune::default(), &self.file)
    }

    /// The fake's control port.
    pub async fn control(&self) -> Control {
        let address = std::fs::read_to_string(&self.file).expect("the control port's address");
        let address = address.parse().expect("an address");
        Control::connect(address).await.expect("the control port")
    }

    /// Rotates the key, and returns once the fake keeps the call `op` waiting: what the rotate is
    /// answered, if it is.
    pub async fn rotate(&self, client: &Client, op: &str, body: &Value) -> JoinHandle<Option<Answer>> {
        let mut fake = self.control().await;
        let plan = Plan {
            op: Some(op.to_owned()),
            fault: Fault::Slow,
            times: None,
        };
        fake.tell(&Request::Plan(plan)).await.expect("the fake does as told");
        let (client, body) = (client.clone(), body.to_string());
        let going = tokio::spawn(async move {
            let request = client.request(http::Method::POST, "/v1/keys/orders/rotate").body(body);
            client.try_send(request.header("content-type", "application/json")).await
        });
        while fake.journal().await.expect("the journal").at_gate == 0 {
            tokio::task::yield_now().await;
        }
        going
    }
}
