//! What the tests begin with: a gateway with tenant `acme`, and looks at its log.

use std::path::Path;
use std::time::Duration;

use claviger_test_support::{Answer, Client, Gateway, Started, Tune, records, records_of};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Longer than anything here takes; a test that reaches it fails.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// How many wraps the store has reserved of a version of the key with this name.
pub async fn wraps_reserved(data: &Path, key: &str, version: u32) -> u64 {
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(data.join("claviger.db"));
    let mut store = sqlx::ConnectOptions::connect(&options).await.unwrap();
    let sql = "SELECT wraps_reserved FROM key_versions v JOIN keys k ON k.tenant = v.tenant AND k.id = v.key \
               WHERE k.name = ?1 AND v.number = ?2";
    let reserved: i64 = sqlx::query_scalar(sql).bind(key).bind(version).fetch_one(&mut store).await.unwrap();
    sqlx::Connection::close(store).await.unwrap();
    u64::try_from(reserved).unwrap()
}

/// A gateway that serves tenant `acme`, which has a connection `embedded`.
pub struct Api {
    pub gateway: Gateway,
    pub started: Started,
    /// The platform operator, acting for `acme`.
    pub client: Client,
}

impl Api {
    pub async fn start() -> Self {
        Self::tuned(&Tune::default()).await
    }

    pub async fn tuned(tune: &Tune) -> Self {
        let gateway = Gateway::new(crate::BINARY);
        let started = gateway.serve(tune);
        let client = started.with_tenant("acme").await;
        Self { gateway, started, client }
    }

    /// As [`Api::start`], with a key `orders`.
    pub async fn with_key() -> Self {
        let api = Self::start().await;
        api.key("orders").await;
        api
    }

    /// Makes a key of `acme`.
    pub async fn key(&self, name: &str) -> Value {
        let body = json!({"name": name, "connection": "embedded"});
        self.client.post("/v1/keys", &body).await.expect_status(201)
    }

    /// A data key under a key of `acme`.
    pub async fn data_key(&self, key: &str) -> Value {
        let path = format!("/v1/keys/{key}/data-keys");
        self.client.post(&path, &json!({})).await.expect_status(200)
    }

    /// Issues a token of `acme` to a principal that is made if it is missing; answers the
    /// issued token and a client with it.
    pub async fn token(&self, principal: &str, operations: &[&str], keys: Option<&[&str]>) -> (Value, Client) {
        let made = self.client.post("/v1/principals", &json!({"name": principal})).await;
        assert!(made.status == 201 || made.body["code"] == "already_exists", "{}", made.text);
        let mut body = json!({"operations": operations, "expires_in": "1h"});
        if let Some(keys) = keys {
            body["keys"] = json!(keys);
        }
        let path = format!("/v1/principals/{principal}/tokens");
        let issued = self.client.post(&path, &body).await.expect_status(201);
        let client = self.client.with_token(issued["token"].as_str().unwrap());
        (issued, client)
    }

    /// The one outcome of a request, which its answer's headers must name.
    #[track_caller]
    pub fn outcome(&self, answer: &Answer) -> Value {
        let all = records_of(&self.gateway.data(), answer.header("x-request-id"));
        let mut outcomes: Vec<Value> = all.into_iter().filter(|record| record["kind"] == "outcome").collect();
        assert_eq!(outcomes.len(), 1, "one outcome for one answer: {outcomes:#?}");
        let outcome = outcomes.remove(0);
        assert_eq!(answer.header("claviger-audit-index"), place(&outcome));
        outcome
    }

    /// Stops the test unless the request was recorded as this operation with this result.
    #[track_caller]
    pub fn recorded(&self, answer: &Answer, operation: &str, result: &str) -> Value {
        let outcome = self.outcome(answer);
        assert_eq!(
            (&outcome["operation"], &outcome["result"]),
            (&json!(operation), &json!(result)),
            "{outcome:#}"
        );
        outcome
    }

    /// Every record of the log so far.
    pub fn log(&self) -> Vec<Value> {
        records(&self.gateway.data())
    }

    /// The state that a refused request must leave as it was.
    pub async fn state(&self) -> Value {
        let mut state = json!({});
        for path in ["/v1/keys", "/v1/connections", "/v1/principals", "/v1/tenants"] {
            state[path] = self.client.get(path).await.expect_status(200);
        }
        state
    }

    /// Stops the test unless the gateway still does its work.
    pub async fn serves(&self) {
        self.client.get("/v1/keys").await.expect_status(200);
    }

    /// Sends bytes as they are and reads until the server closes.
    pub async fn exchange(&self, bytes: &[u8]) -> String {
        let mut stream = TcpStream::connect(self.started.address()).await.unwrap();
        // The server may answer and close before it has read everything.
        let _ = stream.write_all(bytes).await;
        read_to_close(&mut stream).await
    }

    /// A request's head with the operator's credential for `acme`; the body follows it.
    pub fn head(&self, line: &str, more: &str) -> String {
        format!(
            "{line} HTTP/1.1\r\nhost: gateway\r\nauthorization: Bearer {}\r\nclaviger-tenant: acme\r\n{more}connection: close\r\n\r\n",
            self.started.token()
        )
    }
}

/// The place of a record as `Claviger-Audit-Index` has it.
pub fn place(record: &Value) -> String {
    let text = |member: &str| record[member].as_str().unwrap_or_default().to_owned();
    format!(
        "{}/{}/{}#{}",
        text("installation"),
        text("node"),
        text("tenant"),
        record["sequence"]
    )
}

/// Reads until the other side closes.
pub async fn read_to_close(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    let mut chunk = [0; 4096];
    let reading = async {
        // A reset after the answer is a close, too.
        while let Ok(length @ 1..) = stream.read(&mut chunk).await {
            answer.extend_from_slice(&chunk[..length]);
        }
    };
    tokio::time::timeout(PATIENCE, reading)
        .await
        .expect("the server closes the connection");
    String::from_utf8_lossy(&answer).into_owned()
}

/// The status and the body of an answer that came as text.
#[track_caller]
pub fn parts(answer: &str) -> (u16, Value) {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((answer, ""));
    let status = head.split(' ').nth(1).and_then(|word| word.parse().ok()).unwrap_or_default();
    (status, serde_json::from_str(body).unwrap_or(Value::Null))
}
