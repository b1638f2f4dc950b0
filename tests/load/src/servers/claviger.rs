//! The gateway as it is shipped: TLS, API tokens, metrics and the log on, a synced record for
//! every answer.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use claviger_test_support::{Gateway, Started, Tune};
use reqwest::{Client, Method};
use serde_json::{Value, json};

use super::{PLAINTEXT, base64, headers};
use crate::certs::Certs;
use crate::drive::{Ask, Target, each, once};

/// The context that everything is wrapped under.
/// Data keys that are unwrapped in turn where none is cached.
const MISSED: usize = 1000;
const CONTEXT: &str = r#"{"table":"orders"}"#;

/// A gateway at work.
pub struct Claviger {
    gateway: Gateway,
    started: Started,
    tune: Tune,
    admin: Client,
    certs: Arc<Certs>,
}

/// How many tenants, keys of each and wrapped keys of each.
#[derive(Debug, Clone, Copy)]
pub struct Keys {
    pub tenants: usize,
    pub keys: usize,
    pub blobs: usize,
}

impl Keys {
    /// One of each.
    pub const ONE: Self = Self {
        tenants: 1,
        keys: 1,
        blobs: 1,
    };
}

impl Claviger {
    /// Starts a new gateway with its data under `folder`.
    pub fn start(binary: &Path, folder: &Path, certs: &Arc<Certs>) -> Self {
        Self::start_with(binary, folder, certs, &[])
    }

    /// As [`Claviger::start`], with these variables of the configuration.
    pub fn start_with(binary: &Path, folder: &Path, certs: &Arc<Certs>, variables: &[(String, String)]) -> Self {
        let mut tune = Tune::default()
            .set("CLAVIGER_SERVER__TLS__CERTIFICATE", certs.server.display().to_string())
            .set("CLAVIGER_SERVER__TLS__KEY", certs.server_key.display().to_string())
            // All load comes from one address.
            .set("CLAVIGER_SERVER__LIMITS__MAX_CONNECTIONS_PER_SOURCE", "1024")
            .set("CLAVIGER_EGRESS__ALLOW", "127.0.0.0/8");
        for (name, value) in variables {
            tune = tune.set(name, value.clone());
        }
        let gateway = Gateway::new_in(binary.to_str().expect("a path in UTF-8"), folder, &tune);
        let started = gateway.serve(&tune);
        Self {
            gateway,
            started,
            tune,
            admin: certs.admin(),
            certs: Arc::clone(certs),
        }
    }

    /// Kills the process and starts another. Returns how long that one takes to be ready.
    pub async fn killed_and_started(self) -> (Self, Duration) {
        let Self {
            gateway, started, tune, ..
        } = self;
        started.kill();
        let begun = Instant::now();
        let started = gateway.serve(&tune);
        let next = Self {
            gateway,
            started,
            tune,
            ..self
        };
        let url = format!("https://{}/readyz", next.started.address());
        let ready = next.admin.get(url).send().await.expect("an answer");
        let took = begun.elapsed();
        assert_eq!(ready.status(), 200, "a gateway that serves is ready");
        (next, took)
    }

    /// Ends the process in order, and starts another one after `change` has changed its data folder.
    pub fn restarted_after(self, change: impl FnOnce(&Path)) -> Self {
        let Self {
            gateway, started, tune, ..
        } = self;
        assert!(started.terminate(), "an end in order");
        change(&gateway.data());
        let started = gateway.serve(&tune);
        Self {
            gateway,
            started,
            tune,
            ..self
        }
    }

    /// A target of an earlier process, at the one that serves now.
    pub fn at(&self, earlier: &Target) -> Target {
        Target {
            asks: Arc::clone(&earlier.asks),
            ..self.target(Vec::new())
        }
    }

    /// The data folder.
    pub fn log_bytes(&self) -> u64 {
        let files = claviger_test_support::log_files(&self.gateway.data());
        let (start, _) = files.last().expect("a file of the log");
        start + claviger_test_support::log_end(&self.gateway.data()).1
    }

    /// The gateway's database.
    pub fn database(&self) -> std::path::PathBuf {
        self.gateway.data().join("claviger.db")
    }

    /// How many lookups found their entry in this cache of `[memory]`, and how many did not.
    pub async fn lookups(&self, cache: &str) -> (f64, f64) {
        let text = self.metrics().await;
        let of = |result: &str| {
            let name = format!("claviger_memory_lookups_total{{cache=\"{cache}\",result=\"{result}\"}}");
            let value = text.lines().find_map(|line| line.strip_prefix(&name));
            value.map_or(0.0, |value| value.trim().parse().expect("a number"))
        };
        (of("hit"), of("miss"))
    }

    /// Unwraps of 32-byte data keys under keys of the embedded provider.
    pub async fn unwraps(&self, name: &str, how_many: Keys) -> Target {
        let mut asks = Vec::new();
        for tenant in 0..how_many.tenants {
            let tenant = format!("{name}-{tenant}");
            let settings = json!({"name": "embedded", "provider": "local", "settings": {}});
            let token = self.tenant(&tenant, &settings).await;
            for key in 0..how_many.keys {
                let key = format!("orders-{key}");
                self.call(&tenant, "/v1/keys", &json!({"name": key, "connection": "embedded"}))
                    .await;
                let item = Self::wrap_item(&key);
                let items: Vec<&Value> = std::iter::repeat_n(&item, how_many.blobs).collect();
                let made = self.call(&tenant, "/v1/batch/wrap", &json!({"items": items})).await;
                for item in made["items"].as_array().expect("items") {
                    asks.push(self.unwrap(&token, item));
                }
            }
        }
        self.checked(asks, true)
    }

    /// Unwraps of data keys through a connection to Transit, none of them cached. Each wrapped key
    /// is another one, because unwraps of the same one at the same time share a call.
    pub async fn misses(&self, name: &str, address: &str, provider_token: &str) -> Target {
        let ca = std::fs::read_to_string(&self.certs.ca).expect("a file");
        let settings = json!({"address": address, "auth": {"token": provider_token}, "ca": ca});
        let token = self
            .tenant(name, &json!({"name": "bao", "provider": "vault", "settings": settings}))
            .await;
        let key = json!({"name": "orders", "connection": "bao", "cache": {"enabled": false}});
        self.call(name, "/v1/keys", &key).await;
        let item = Self::wrap_item("orders");
        let items: Vec<&Value> = std::iter::repeat_n(&item, MISSED).collect();
        let made = self.call(name, "/v1/batch/wrap", &json!({"items": items})).await;
        let items = made["items"].as_array().expect("items");
        self.checked(items.iter().map(|item| self.unwrap(&token, item)).collect(), false)
    }

    /// The unwraps of a target as batches of so many, each of all of its wrapped keys.
    pub fn batched(&self, single: &Target) -> Target {
        let items: Vec<Value> = single
            .asks
            .iter()
            .map(|ask| serde_json::from_slice(&ask.body).expect("JSON"))
            .collect();
        let ask = Ask {
            uri: "/v1/batch/unwrap".parse().expect("a path"),
            headers: single.asks[0].headers.clone(),
            body: json!({"items": items}).to_string().into(),
            // Each item names its record.
            answer: None,
        };
        let answer = tokio::task::block_in_place(|| once(single, &ask));
        let answer: Value = serde_json::from_slice(&answer).expect("JSON");
        let items = answer["items"].as_array().expect("items");
        assert!(
            items
                .iter()
                .all(|item| item["plaintext"] == base64(&PLAINTEXT) && item["cached"] == true)
        );
        Target {
            asks: Arc::new([ask]),
            ..single.clone()
        }
    }

    /// Mean time of a sync in microseconds and mean number of records in one, since the start.
    pub async fn syncs(&self) -> Syncs {
        let text = self.metrics().await;
        let of = |name: &str| -> f64 {
            let value = text.lines().find_map(|line| line.strip_prefix(name)).expect("a metric");
            value.trim().parse().expect("a number")
        };
        Syncs {
            count: of("claviger_audit_sync_seconds_count"),
            seconds: of("claviger_audit_sync_seconds_sum"),
            records: of("claviger_audit_records_total"),
            bytes: of("claviger_audit_bytes_total"),
        }
    }

    async fn metrics(&self) -> String {
        let url = format!("https://{}/metrics", self.started.address());
        let request = self.admin.get(url).bearer_auth(self.started.token());
        request.send().await.expect("an answer").text().await.expect("a body")
    }

    /// An item of a batch that wraps under this key.
    pub fn wrap_item(key: &str) -> Value {
        json!({"key": key, "plaintext": base64(&PLAINTEXT), "context": context()})
    }

    /// Makes a tenant with a connection, and a token that may unwrap.
    pub async fn tenant(&self, name: &str, connection: &Value) -> String {
        self.call("", "/v1/tenants", &json!({"name": name})).await;
        self.call(name, "/v1/connections", connection).await;
        self.call(name, "/v1/principals", &json!({"name": "load"})).await;
        let body = json!({"operations": ["Unwrap"], "expires_in": "24h", "kind": "standing"});
        let made = self.call(name, "/v1/principals/load/tokens", &body).await;
        made["token"].as_str().expect("a token").to_owned()
    }

    /// The request that unwraps what was wrapped.
    pub fn unwrap(&self, token: &str, wrapped: &Value) -> Ask {
        let key = wrapped["key"].as_str().expect("a key's name");
        Ask {
            uri: format!("/v1/keys/{key}/unwrap").parse().expect("a path"),
            headers: headers(Some(("authorization", format!("Bearer {token}")))),
            body: json!({"wrapped": wrapped["wrapped"], "context": context()}).to_string().into(),
            answer: None,
        }
    }

    /// This gateway, asked these.
    pub fn target(&self, asks: Vec<Ask>) -> Target {
        Target {
            address: self.started.address(),
            pid: self.started.pid(),
            tls: self.certs.client_config(),
            asks: asks.into(),
        }
    }

    /// Asks for each twice, and remembers the second answer: the one of a warm gateway.
    fn checked(&self, asks: Vec<Ask>, cached: bool) -> Target {
        let target = self.target(Vec::new());
        let twice = asks.iter().flat_map(|ask| [ask.clone(), ask.clone()]);
        let answers = tokio::task::block_in_place(|| each(&target, twice));
        let checked = asks.into_iter().zip(answers.chunks(2)).map(|(ask, answers)| {
            let opened: Value = serde_json::from_slice(&answers[1]).expect("JSON");
            assert_eq!(opened["plaintext"], base64(&PLAINTEXT));
            assert_eq!(opened["cached"], cached);
            let answer = Some(answers[1].clone());
            Ask { answer, ..ask }
        });
        Target {
            asks: checked.collect(),
            ..target
        }
    }

    /// A call of the administrator's, which must succeed; in this tenant, if it is not empty.
    pub async fn call(&self, tenant: &str, path: &str, body: &Value) -> Value {
        let mut request = self
            .admin
            .request(Method::POST, format!("https://{}{path}", self.started.address()))
            .bearer_auth(self.started.token())
            .json(body);
        if !tenant.is_empty() {
            request = request.header("claviger-tenant", tenant);
        }
        let answer = request.send().await.expect("an answer");
        let (status, text) = (answer.status(), answer.text().await.expect("a body"));
        assert!(status.is_success(), "{path}: {status} {text}");
        serde_json::from_str(&text).expect("JSON")
    }
}

/// The syncs of a log.
#[derive(Debug, Clone, Copy)]
pub struct Syncs {
    pub count: f64,
    pub seconds: f64,
    pub records: f64,
    pub bytes: f64,
}

fn context() -> Value {
    serde_json::from_str(CONTEXT).expect("JSON")
}
