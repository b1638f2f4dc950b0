//! A gateway with tenant `acme`, and programs that are run beside it.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use claviger_test_support::{Client, Gateway, Started, Tune};
use serde_json::{Value, json};

use crate::BINARY;

/// The tenant of a case.
pub const TENANT: &str = "acme";
/// Its connection.
pub const CONNECTION: &str = "kms";

/// What a case runs on.
pub struct World {
    pub gateway: Gateway,
    pub started: Started,
    /// The operator acting for the tenant.
    pub client: Client,
    folder: tempfile::TempDir,
    tune: Tune,
}

impl World {
    /// With the tenant, and no connection yet.
    pub async fn new(tune: Tune) -> Self {
        let world = Self::of(tune);
        world
            .started
            .operator()
            .post("/v1/tenants", &json!({"name": TENANT}))
            .await
            .expect_status(201);
        world
    }

    /// With a configuration that declares the tenant.
    pub fn of(tune: Tune) -> Self {
        let gateway = Gateway::new(BINARY);
        // The servers that the tests start are on loopback.
        let tune = tune
            .set("CLAVIGER_EGRESS__ALLOW", "127.0.0.0/8")
            .set("CLAVIGER_EGRESS__ALLOW_PLAIN_HTTP", "true");
        let started = gateway.serve(&tune);
        let client = started.tenant(TENANT);
        Self {
            gateway,
            started,
            client,
            folder: tempfile::tempdir().unwrap(),
            tune,
        }
    }

    /// The same after a restart of the gateway.
    pub fn restarted(self) -> Self {
        assert!(self.started.terminate());
        let started = self.gateway.serve(&self.tune);
        let client = started.tenant(TENANT);
        Self { started, client, ..self }
    }

    /// Makes the connection.
    pub async fn connect(&self, provider: &str, settings: &Value) {
        let body = json!({"name": CONNECTION, "provider": provider, "settings": settings});
        self.client.post("/v1/connections", &body).await.expect_status(201);
    }

    /// Makes a key.
    pub async fn key(&self, name: &str, more: Value) -> Value {
        let mut body = json!({"name": name, "connection": CONNECTION});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        self.client.post("/v1/keys", &body).await.expect_status(201)
    }

    /// One of the tenant's own, who may do these.
    pub async fn owner(&self, operations: &[&str]) -> Client {
        self.client
            .post("/v1/principals", &json!({"name": "owner"}))
            .await
            .expect_status(201);
        let body = json!({"operations": operations, "expires_in": "1h"});
        let issued = self.client.post("/v1/principals/owner/tokens", &body).await.expect_status(201);
        self.client.with_token(issued["token"].as_str().unwrap())
    }

    /// A folder for files.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// What a command of ours writes.
    pub fn claviger(&self, arguments: &[&str]) -> String {
        good(self.command(arguments), "")
    }

    /// A command of ours.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(BINARY);
        command
            .env_clear()
            .env("CLAVIGER_ADDRESS", format!("http://{}", self.started.address()))
            .env("CLAVIGER_TOKEN_FILE", self.gateway.token_file())
            .env("CLAVIGER_TENANT", TENANT)
            .args(arguments);
        command
    }
}

/// What a program writes that must succeed, with this on its standard input.
#[track_caller]
pub fn good(mut command: Command, input: &str) -> String {
    let named = format!("{command:?}");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{named}: {error}"));
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{named}: {}\n{out}\n{err}", output.status);
    out.into_owned()
}

/// A variable that the case needs.
pub fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set"))
}

/// The folder of the program whose path a variable tells.
pub fn folder_of(name: &str) -> PathBuf {
    Path::new(&variable(name)).parent().unwrap().to_owned()
}
