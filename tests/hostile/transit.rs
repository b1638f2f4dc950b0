//! A key service in a tenant's hands: a Transit engine of Vault that works, hangs or lies as the test says.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use claviger_test_support::{Client, listen_on};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::world::PATIENCE;

/// How the service behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mood {
    /// As a Vault does.
    Works,
    /// Takes every call about a key, and answers none until it works again.
    Hangs,
    /// Wraps and unwraps other bytes than it should: what it wrapped it does not open either.
    OtherBytes,
    /// Wraps under a version that no key has, and describes keys with other versions each time.
    OtherVersions,
    /// Names the version that wrapped in a form that no Vault writes.
    OddVersions,
    /// Answers with far more than anyone takes.
    Huge,
    /// Sends an answer one byte after the other, without end.
    Drips,
}

/// What an answer of [`Mood::Huge`] sends at most, in bytes: more than the gateway may take in memory.
const HUGE: usize = 512 << 20;
/// A part of it.
static BLANKS: [u8; 1 << 16] = [b' '; 1 << 16];
/// Time between two bytes of an answer of [`Mood::Drips`].
const DRIP: Duration = Duration::from_millis(50);
/// Bytes before and after the plaintext in a ciphertext.
const AROUND: (usize, usize) = (12, 16);

struct Service {
    mood: watch::Sender<Mood>,
    /// The number of versions of each key.
    keys: Mutex<BTreeMap<String, u64>>,
    /// The keys that were asked for since the last [`Transit::forget`].
    asked: Mutex<BTreeSet<String>>,
    /// All requests since then, also those about no key.
    requests: AtomicUsize,
    waiting: AtomicUsize,
    /// The life of a given token, in seconds; 0 for one that does not end.
    life: AtomicU64,
    renewals: AtomicUsize,
}

/// The service, which ends with its value. The gateway needs [`crate::world::key_service_on_loopback`].
pub struct Transit {
    address: SocketAddr,
    service: Arc<Service>,
    serving: [JoinHandle<()>; 2],
}

/// Where the service is, too, on the same port.
const OTHER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

impl Transit {
    pub async fn start() -> Self {
        let listeners = listen_on([Ipv4Addr::LOCALHOST, OTHER].map(IpAddr::V4));
        let address = listeners[0].local_addr().unwrap();
        let service = Arc::new(Service {
            mood: watch::Sender::new(Mood::Works),
            keys: Mutex::default(),
            asked: Mutex::default(),
            requests: AtomicUsize::new(0),
            waiting: AtomicUsize::new(0),
            life: AtomicU64::new(0),
            renewals: AtomicUsize::new(0),
        });
        let app = Router::new().fallback(answer).with_state(Arc::clone(&service));
        let serving = listeners.map(|listener| {
            listener.set_nonblocking(true).unwrap();
            let listener = TcpListener::from_std(listener).unwrap();
            let app = app.clone();
            tokio::spawn(async move { drop(axum::serve(listener, app).await) })
        });
        Self { address, service, serving }
    }

    /// Where it is.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Where it is as well.
    pub fn other_url(&self) -> String {
        format!("http://{OTHER}:{}", self.address.port())
    }

    /// The settings of a connection to it.
    pub fn settings(&self) -> Value {
        json!({"address": self.url(), "auth": {"token": "hvs.of-the-tenant"}})
    }

    /// A connection to it, but for its name.
    pub fn connection(&self) -> Value {
        json!({"provider": "vault", "settings": self.settings()})
    }

    /// Makes a connection to it and a key through that, both with this name.
    pub async fn connected(&self, client: &Client, name: &str) {
        let mut connection = self.connection();
        connection["name"] = json!(name);
        client.post("/v1/connections", &connection).await.expect_status(201);
        let key = json!({"name": name, "connection": name});
        client.post("/v1/keys", &key).await.expect_status(201);
    }

    /// Makes a key outside of the gateway.
    pub fn make_key(&self, name: &str) {
        self.service.keys.lock().insert(name.to_owned(), 1);
    }

    /// A change of such a connection: it leads to the other address.
    pub fn patch(&self) -> Value {
        json!({"settings": {"address": self.other_url()}, "secrets": {"token": "hvs.of-the-tenant"}})
    }

    /// Behaves so from now on.
    pub fn is(&self, mood: Mood) {
        self.service.mood.send_replace(mood);
    }

    /// From now on given tokens live this many seconds, and may be renewed.
    pub fn lends(&self, seconds: u64) {
        self.service.life.store(seconds, Ordering::SeqCst);
    }

    /// How often a given token was renewed.
    pub fn renewals(&self) -> usize {
        self.service.renewals.load(Ordering::SeqCst)
    }

    /// The keys that were asked for, by their names at the service, since the last [`Transit::forget`].
    pub fn asked(&self) -> BTreeSet<String> {
        self.service.asked.lock().clone()
    }

    /// How many requests came since the last [`Transit::forget`], also those about no key.
    pub fn requests(&self) -> usize {
        self.service.requests.load(Ordering::SeqCst)
    }

    /// Forgets which keys were asked for, and counts requests anew.
    pub fn forget(&self) {
        self.service.asked.lock().clear();
        self.service.requests.store(0, Ordering::SeqCst);
    }

    /// Waits until so many calls wait for their answers.
    pub async fn until_waiting(&self, count: usize) {
        let waiting = async {
            while self.service.waiting.load(Ordering::SeqCst) < count {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, waiting).await.expect("the calls arrive");
    }
}

impl Drop for Transit {
    fn drop(&mut self) {
        self.serving.iter().for_each(JoinHandle::abort);
    }
}

/// A call that waits for its answer, until it is dropped: the gateway may give it up.
struct Waiting<'s>(&'s Service);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::SeqCst);
    }
}

fn data(data: Value) -> Response {
    let body = json!({"request_id": "0a-1", "data": data}).to_string();
    ([(header::CONTENT_TYPE, "application/json")], body).into_response()
}

fn refused(status: StatusCode) -> Response {
    (status, [(header::CONTENT_TYPE, "application/json")], r#"{"errors": []}"#).into_response()
}

async fn answer(State(service): State<Arc<Service>>, method: Method, uri: Uri, body: Bytes) -> Response {
    service.requests.fetch_add(1, Ordering::SeqCst);
    let path: Vec<&str> = uri.path().trim_start_matches("/v1/").split('/').collect();
    let name = match path.as_slice() {
        ["auth", "token", "lookup-self"] => {
            let life = service.life.load(Ordering::SeqCst);
            return data(json!({"ttl": life, "renewable": life > 0}));
        }
        ["auth", "token", "renew-self"] => {
            service.renewals.fetch_add(1, Ordering::SeqCst);
            let life = service.life.load(Ordering::SeqCst);
            let renewed = json!({"client_token": "hvs.of-the-tenant", "lease_duration": life, "renewable": true});
            return axum::Json(json!({"request_id": "0a-1", "auth": renewed})).into_response();
        }
        ["sys", "health"] => return axum::Json(json!({"initialized": true, "sealed": false, "version": "2.4.0"})).into_response(),
        ["sys", "internal", "ui", "mounts", "transit"] => return data(json!({"type": "transit"})),
        ["sys", "capabilities-self"] => {
            let asked: Value = serde_json::from_slice(&body).unwrap_or_default();
            let paths = asked["paths"].as_array().into_iter().flatten().filter_map(Value::as_str);
            return data(paths.map(|path| (path.to_owned(), json!(["read", "update"]))).collect());
        }
        ["transit", _, name] | ["transit", "keys", name, "rotate"] => (*name).to_owned(),
        _ => return refused(StatusCode::NOT_FOUND),
    };
    service.asked.lock().insert(name.clone());
    let mut mood = *service.mood.borrow();
    if mood == Mood::Hangs {
        service.waiting.fetch_add(1, Ordering::SeqCst);
        let _waiting = Waiting(&service);
        let mut moods = service.mood.subscribe();
        mood = *moods.wait_for(|mood| *mood != Mood::Hangs).await.unwrap();
    }
    match mood {
        Mood::Works | Mood::Hangs | Mood::OtherBytes | Mood::OtherVersions | Mood::OddVersions => {}
        Mood::Huge => {
            let chunks = (0..HUGE / BLANKS.len()).map(|_| Ok::<_, std::io::Error>(Bytes::from_static(&BLANKS)));
            return Body::from_stream(futures::stream::iter(chunks)).into_response();
        }
        Mood::Drips => {
            return Body::from_stream(futures::stream::unfold((), |()| drip())).into_response();
        }
    }
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    service.transit(mood, &method, &path[1..], &name, &body)
}

/// The next byte of an answer that never ends.
async fn drip() -> Option<(Result<Bytes, std::io::Error>, ())> {
    tokio::time::sleep(DRIP).await;
    Some((Ok(Bytes::from_static(b" ")), ()))
}

impl Service {
    fn transit(&self, mood: Mood, method: &Method, path: &[&str], name: &str, body: &Value) -> Response {
        let mut keys = self.keys.lock();
        let get = method == Method::GET;
        if path == ["keys", name] && !get {
            keys.entry(name.to_owned()).or_insert(1);
        }
        let Some(versions) = keys.get_mut(name) else {
            return refused(StatusCode::NOT_FOUND);
        };
        match path[0] {
            "keys" if path.len() == 3 => {
                *versions += 1;
                data(json!({}))
            }
            "keys" => {
                if mood == Mood::OtherVersions {
                    *versions = if *versions == 1 { 9 } else { 1 };
                }
                data(described(*versions))
            }
            "encrypt" => {
                let Ok(mut plaintext) = STANDARD.decode(body["plaintext"].as_str().unwrap_or_default()) else {
                    return refused(StatusCode::BAD_REQUEST);
                };
                let mut version = body["key_version"].as_u64().unwrap_or(*versions);
                match mood {
                    Mood::OtherBytes => plaintext.iter_mut().for_each(|byte| *byte ^= 0xff),
                    Mood::OtherVersions => version += 70,
                    _ => {}
                }
                let mut sealed = vec![0; AROUND.0];
                sealed.append(&mut plaintext);
                sealed.extend([0; AROUND.1]);
                // Parsed as a number it is the right one: nothing but its form gives it away.
                let odd = if mood == Mood::OddVersions { "0" } else { "" };
                data(json!({"ciphertext": format!("vault:v{odd}{version}:{}", STANDARD.encode(sealed))}))
            }
            "decrypt" => {
                let text = body["ciphertext"].as_str().unwrap_or_default();
                let sealed = text.rsplit(':').next().and_then(|sealed| STANDARD.decode(sealed).ok());
                let Some(sealed) = sealed.filter(|sealed| sealed.len() > AROUND.0 + AROUND.1) else {
                    return refused(StatusCode::BAD_REQUEST);
                };
                let mut plaintext = sealed[AROUND.0..sealed.len() - AROUND.1].to_vec();
                if mood == Mood::OtherBytes {
                    plaintext.iter_mut().for_each(|byte| *byte ^= 0x5a);
                }
                data(json!({"plaintext": STANDARD.encode(plaintext)}))
            }
            _ => refused(StatusCode::NOT_FOUND),
        }
    }
}

/// A key with this many versions.
fn described(versions: u64) -> Value {
    let dates: BTreeMap<String, u64> = (1..=versions)
        .map(|version| (version.to_string(), 1_700_000_000 + version))
        .collect();
    json!({
        "type": "aes256-gcm96", "derived": false, "convergent_encryption": false, "supports_encryption": true,
        "supports_decryption": true, "latest_version": versions, "min_available_version": 0, "min_decryption_version": 1,
        "soft_deleted": false, "imported_key": false, "keys": dates,
    })
}
