//! A key service that does its work and loses the answers: Vault's Transit and AWS KMS in as many calls as
//! a creation and a rotation make. It outlives the gateway's processes.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use claviger_test_support::Tune;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// 32 zero bytes.
const ZEROS: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
const ACCOUNT: &str = "arn:aws:kms:eu-central-1:111122223333:key";

/// How the answers to changes get lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// The connection is closed before the answer.
    Closed,
    /// Nothing is answered.
    Silent,
    /// Another server between answers 502.
    BadGateway,
    /// The service refuses, and does nothing.
    Refused,
    /// The connection is closed before the service has the request.
    Unarrived,
    /// The service has the request, and neither carries it out nor answers.
    Queued,
}

#[derive(Default)]
struct State {
    keys: BTreeMap<String, Key>,
    /// How many keys were deleted: no id is given twice.
    deleted: usize,
    loss: Option<Loss>,
    /// Whether it answers nothing at all.
    down: bool,
    /// Whether it never answers a call about a key.
    hangs: bool,
    /// How many such calls the gateway gave up.
    given_up: usize,
    /// The calls that changed something, or would have.
    changes: usize,
    /// All calls.
    calls: usize,
    /// How long the service takes for a change.
    slow: Duration,
    /// Whether Vault's keys wrap and unwrap.
    wraps: bool,
    /// For how many reads a new key is not found.
    hides: usize,
    /// The reads that did not find a new key.
    hidden: usize,
    /// The calls that enabled or disabled a key.
    switches: Vec<String>,
}

struct Key {
    versions: usize,
    /// How many of them the service shows.
    shown: usize,
    description: String,
    /// Unix seconds.
    created: u64,
    /// How many reads do not find it yet.
    hidden: usize,
}

/// The service, at an address on loopback.
#[derive(Clone)]
pub struct Service {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
}

impl Service {
    /// Starts it.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let service = Self {
            address: listener.local_addr().expect("its address"),
            state: Arc::default(),
        };
        let serving = service.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let service = serving.clone();
                tokio::spawn(async move { service.connection(stream).await });
            }
        });
        service
    }

    /// The gateway's variables: it may reach the service, which is AWS, too.
    pub fn tune(&self) -> Tune {
        let url = format!("http://{}", self.address);
        Tune::default()
            .set("CLAVIGER_EGRESS__ALLOW", "127.0.0.0/8")
            .set("CLAVIGER_EGRESS__ALLOW_PLAIN_HTTP", "true")
            .set("CLAVIGER_PROVIDERS__AWS__KMS_ENDPOINT", &url)
            .set("CLAVIGER_PROVIDERS__AWS__STS_ENDPOINT", url)
            // As long as an attempt.
            .set("CLAVIGER_PROVIDERS__CREATION_TIMEOUT", "3s")
    }

    /// The bodies of connections to it, by provider.
    pub fn connections(&self) -> [Value; 2] {
        let vault = json!({"address": format!("http://{}", self.address), "auth": {"token": "any"}});
        let key = json!({"access_key_id": "AKIAIOSFODNN7EXAMPLE", "secret_access_key": "secret"});
        let aws = json!({"region": "eu-central-1", "auth": {"static": key}});
        [
            json!({"name": "vault", "provider": "vault", "settings": vault}),
            json!({"name": "aws", "provider": "aws", "settings": aws}),
        ]
    }

    /// Makes a key of this name, as its owner may.
    pub fn make(&self, name: &str) {
        self.change(name, "", 0);
    }

    /// Deletes a key of this name, as its owner may.
    pub fn delete(&self, name: &str) {
        let mut state = self.state.lock();
        state.keys.remove(name);
        state.deleted += 1;
    }

    /// Carries out a rotation of a key of this name.
    pub fn rotate(&self, name: &str) {
        self.change(name, "", 1);
    }

    /// From now on, answers to changes get lost in this way, or none does.
    pub fn lose(&self, loss: Option<Loss>) {
        self.state.lock().loss = loss;
    }

    /// From now on it answers no call, or those that do not get lost.
    pub fn set_down(&self, down: bool) {
        self.state.lock().down = down;
    }

    /// From now on it answers no call about a key, and keeps each waiting.
    pub fn set_hanging(&self, hangs: bool) {
        self.state.lock().hangs = hangs;
    }

    /// How many calls that it kept waiting the gateway gave up.
    pub fn given_up(&self) -> usize {
        self.state.lock().given_up
    }

    /// From now on, changes are answered after so long.
    pub fn slow(&self, by: Duration) {
        self.state.lock().slow = by;
    }

    /// From now on, Vault's keys wrap and unwrap, as an adoption tries.
    pub fn wrap(&self) {
        self.state.lock().wraps = true;
    }

    /// From now on, the first `reads` of each new key do not find it.
    pub fn hide_new_keys(&self, reads: usize) {
        self.state.lock().hides = reads;
    }

    /// How many reads did not find a new key.
    pub fn hidden(&self) -> usize {
        self.state.lock().hidden
    }

    /// The calls that enabled or disabled a key, in their order.
    pub fn switches(&self) -> Vec<String> {
        self.state.lock().switches.clone()
    }

    /// How many keys it has.
    pub fn keys(&self) -> usize {
        self.state.lock().keys.len()
    }

    /// How many versions all keys have together.
    pub fn versions(&self) -> usize {
        self.state.lock().keys.values().map(|key| key.versions).sum()
    }

    /// How many changes were asked for.
    pub fn changes(&self) -> usize {
        self.state.lock().changes
    }

    /// How many calls there were.
    pub fn calls(&self) -> usize {
        self.state.lock().calls
    }

    /// The service's name of the key that was created under this id.
    pub fn name_of(&self, made_as: &str) -> Option<String> {
        let state = self.state.lock();
        let found = state
            .keys
            .iter()
            .find(|(name, key)| name.contains(made_as) || key.description.contains(made_as));
        found.map(|(name, _)| name.clone())
    }

    /// Shows all versions: AWS finishes a rotation after its answer.
    pub fn finish(&self) {
        for key in self.state.lock().keys.values_mut() {
            key.shown = key.versions;
        }
    }

    async fn connection(&self, stream: TcpStream) -> Option<()> {
        let (read, mut write) = stream.into_split();
        let mut read = BufReader::new(read);
        loop {
            let (mut line, mut length, mut target) = (String::new(), 0, String::new());
            read.read_line(&mut line).await.ok().filter(|read| *read > 0)?;
            loop {
                let mut header = String::new();
                read.read_line(&mut header).await.ok()?;
                let Some((name, value)) = header.trim().split_once(": ") else {
                    break;
                };
                match name.to_lowercase().as_str() {
                    "content-length" => length = value.parse().ok()?,
                    "x-amz-target" => value.rsplit('.').next()?.clone_into(&mut target),
                    _ => {}
                }
            }
            let mut body = vec![0; length];
            read.read_exact(&mut body).await.ok()?;
            self.state.lock().calls += 1;
            if self.state.lock().down {
                return None;
            }
            let (mut words, body) = (line.split(' '), serde_json::from_slice(&body).unwrap_or(Value::Null));
            let (method, path) = (words.next()?, words.next()?);
            if self.state.lock().hangs && (path.starts_with("/v1/transit/") || !target.is_empty()) {
                let _ended = read.read(&mut [0]).await;
                self.state.lock().given_up += 1;
                return None;
            }
            let (changes, status, body) = match target.as_str() {
                "" => self.vault(method, path, &body),
                target => self.aws(target, &body),
            };
            let slow = self.state.lock().slow;
            if changes && !slow.is_zero() {
                tokio::time::sleep(slow).await;
            }
            let loss = self.state.lock().loss.filter(|_| changes);
            let (status, body) = match loss {
                None => (status, body),
                Some(Loss::Closed | Loss::Unarrived) => return None,
                Some(Loss::Silent | Loss::Queued) => std::future::pending().await,
                Some(Loss::BadGateway) => (502, json!({})),
                Some(Loss::Refused) => (400, json!({"errors": ["no"], "__type": "ValidationException"})),
            };
            let body = body.to_string();
            let head = format!(
                "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
                body.len()
            );
            write.write_all((head + &body).as_bytes()).await.ok()?;
        }
    }

    /// Answers a call of Vault's, and whether it changes something.
    fn vault(&self, method: &str, path: &str, body: &Value) -> (bool, u16, Value) {
        let Some(name) = path.strip_prefix("/v1/transit/keys/") else {
            let of = |path: &str, member: &str| path.starts_with(member) && self.state.lock().wraps;
            return match path {
                // Its ciphertexts are the plaintexts.
                path if of(path, "/v1/transit/encrypt/") => {
                    let plaintext = body["plaintext"].as_str().unwrap_or_default();
                    (
                        false,
                        200,
                        json!({"data": {"ciphertext": format!("vault:v1:{plaintext}"), "key_version": 1}}),
                    )
                }
                path if of(path, "/v1/transit/decrypt/") => {
                    let ciphertext = body["ciphertext"].as_str().unwrap_or_default();
                    (
                        false,
                        200,
                        json!({"data": {"plaintext": ciphertext.trim_start_matches("vault:v1:")}}),
                    )
                }
                "/v1/auth/token/lookup-self" => (false, 200, json!({"data": {"ttl": 0, "renewable": false}})),
                _ => (false, 400, json!({"errors": ["wrapping token is not valid or does not exist"]})),
            };
        };
        if method == "GET" && self.hides_key(name) {
            return (false, 404, json!({"errors": []}));
        }
        match (method, name.strip_suffix("/rotate")) {
            ("GET", _) => match self.state.lock().keys.get(name) {
                Some(key) => (false, 200, json!({"data": transit(key.versions)})),
                None => (false, 404, json!({"errors": []})),
            },
            (_, Some(name)) => self.change(name, "", 1),
            (_, None) => self.change(name, "", 0),
        }
    }

    /// As [`Service::vault`], of AWS's. A rotation shows later.
    fn aws(&self, target: &str, body: &Value) -> (bool, u16, Value) {
        let id = body["KeyId"].as_str().and_then(|id| id.rsplit('/').next()).unwrap_or_default();
        if self.hides_key(id) {
            return (false, 400, json!({"__type": "NotFoundException", "message": "Key does not exist"}));
        }
        match target {
            "CreateKey" => {
                let made = self.keys() + self.state.lock().deleted;
                let id = format!("00000000-0000-4000-8000-{made:012}");
                let description = body["Description"].as_str().unwrap_or_default();
                let (changes, status, _) = self.change(&id, description, 0);
                (changes, status, self.metadata(&id))
            }
            "RotateKeyOnDemand" => self.change(id, "", 1),
            "DisableKey" | "EnableKey" => {
                self.state.lock().switches.push(target.to_owned());
                (true, 200, json!({}))
            }
            "DescribeKey" => (false, 200, self.metadata(id)),
            "GenerateDataKey" => {
                let body = json!({"KeyId": format!("{ACCOUNT}/{id}"), "CiphertextBlob": "QUFBQQ==", "Plaintext": ZEROS});
                (false, 200, body)
            }
            "ListKeys" => {
                let ids = self.listed();
                let keys: Vec<Value> = ids
                    .iter()
                    .map(|id| json!({"KeyId": id, "KeyArn": format!("{ACCOUNT}/{id}")}))
                    .collect();
                (false, 200, json!({"Keys": keys, "Truncated": false}))
            }
            "ListKeyRotations" => {
                let shown = self.state.lock().keys.get(id).map_or(1, |key| key.shown);
                let rotation = |number| json!({"KeyId": id, "RotationDate": 1_700_000_000 + number, "RotationType": "ON_DEMAND"});
                let rotations: Vec<Value> = (1..shown).map(rotation).collect();
                (false, 200, json!({"Rotations": rotations, "Truncated": false}))
            }
            _ => (false, 400, json!({"__type": "UnsupportedOperationException"})),
        }
    }

    fn metadata(&self, id: &str) -> Value {
        let key = self.state.lock().keys.get(id).map(|key| (key.description.clone(), key.created));
        let (description, created) = key.unwrap_or_default();
        json!({"KeyMetadata": {
            "KeyId": id, "Arn": format!("{ACCOUNT}/{id}"), "CreationDate": created, "Enabled": true, "Description": description,
            "KeyUsage": "ENCRYPT_DECRYPT", "KeyState": "Enabled", "KeyManager": "CUSTOMER", "KeySpec": "SYMMETRIC_DEFAULT",
            "EncryptionAlgorithms": ["SYMMETRIC_DEFAULT"],
        }})
    }

    /// The names of the keys that a list shows. It lacks a new key for all but the last read that does not find it.
    fn listed(&self) -> Vec<String> {
        let mut state = self.state.lock();
        let mut lacking = 0;
        let mut ids = Vec::new();
        for (name, key) in &mut state.keys {
            if key.hidden > 1 {
                key.hidden -= 1;
                lacking += 1;
            } else {
                ids.push(name.clone());
            }
        }
        state.hidden += lacking;
        ids
    }

    /// Whether a read does not find a new key yet. Counts it.
    fn hides_key(&self, name: &str) -> bool {
        let mut state = self.state.lock();
        let hides = state.keys.get_mut(name).is_some_and(|key| {
            let hides = key.hidden > 0;
            key.hidden = key.hidden.saturating_sub(1);
            hides
        });
        state.hidden += usize::from(hides);
        hides
    }

    /// Makes a key, or adds versions to it, unless it refuses.
    fn change(&self, name: &str, description: &str, more: usize) -> (bool, u16, Value) {
        let mut state = self.state.lock();
        state.changes += 1;
        if !matches!(state.loss, Some(Loss::Refused | Loss::Unarrived | Loss::Queued)) {
            let new = Key {
                versions: 1,
                shown: 1,
                description: description.to_owned(),
                created: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()),
                hidden: state.hides,
            };
            state.keys.entry(name.to_owned()).or_insert(new).versions += more;
        }
        (true, 200, json!({"KeyId": name, "data": {}}))
    }
}

fn transit(versions: usize) -> Value {
    json!({
        "type": "aes256-gcm96", "derived": false, "supports_encryption": true, "supports_decryption": true,
        "latest_version": versions, "min_available_version": 0, "min_decryption_version": 1, "keys": {},
    })
}
