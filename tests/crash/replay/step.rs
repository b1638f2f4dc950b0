//! A request, what was answered to it, and what can be read over the API.

use std::collections::{BTreeMap, BTreeSet};

use claviger_test_support::{Answer, Client, Started};
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

use crate::load::text;

/// Who sends a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Caller {
    /// The operator.
    Operator,
    /// The operator for the tenant `acme`.
    Acme,
}

/// One request of the script.
#[derive(Debug, Clone)]
pub struct Step {
    pub caller: Caller,
    pub method: Method,
    pub path: String,
    pub body: Option<Value>,
    /// The idempotency key that it is sent with.
    pub once: Option<&'static str>,
    /// The members of the [`World`] that it changes, with their new values.
    pub changes: Vec<(String, String)>,
    /// The status of its answer.
    pub status: u16,
}

/// What was answered to a step.
#[derive(Debug, Clone)]
pub struct Answered {
    pub status: u16,
    pub code: String,
    /// `Claviger-Audit-Index`.
    pub index: String,
    /// The gateway's request id.
    pub request: String,
}

/// The members that can be read over the API, and the value of each.
pub type World = BTreeMap<String, String>;

/// What a client can know: the values that each member may have. One that is not named may have none.
pub type Expected = BTreeMap<String, BTreeSet<String>>;

/// What the answers gave, so that it can be used later.
#[derive(Debug, Clone, Default)]
pub struct Given {
    /// The tokens by name.
    pub tokens: BTreeMap<String, String>,
    /// The ids of tokens by name.
    ids: BTreeMap<String, String>,
    /// The provider key of each key by its name.
    provider_keys: BTreeMap<String, String>,
    /// The body of the successes under each idempotency key.
    once: BTreeMap<&'static str, Value>,
    /// The wrapped keys: key, wrapped, plaintext, and the step that gave them.
    pub wrapped: Vec<Wrapped>,
}

/// A wrapped key whose plaintext is known.
#[derive(Debug, Clone)]
pub struct Wrapped {
    pub key: String,
    pub wrapped: String,
    pub plaintext: String,
    pub step: usize,
}

/// The value of a member that does not exist.
pub const ABSENT: &str = "absent";

impl Step {
    /// Whether it has a record for each of its items, which the answer names in its body.
    pub fn is_batch(&self) -> bool {
        self.path.starts_with("/v1/batch/")
    }

    /// A word for messages.
    pub fn name(&self) -> String {
        format!("{} {}", self.method, self.path)
    }

    /// Sends the request. `None` if the gateway ended instead of answering.
    pub async fn send(&self, number: usize, started: &Started, given: &mut Given) -> Option<Answered> {
        let client = self.client(started, &client_id(number));
        let answer = client.try_send(self.request(&client, given)).await?;
        self.keep(number, &answer, given);
        Some(Answered {
            status: answer.status,
            code: text_or_empty(&answer.body["code"]),
            index: answer.header("claviger-audit-index").to_owned(),
            request: answer.header("x-request-id").to_owned(),
        })
    }

    /// Sends the request again if it succeeded under an idempotency key. It is answered as before.
    pub async fn repeat(&self, number: usize, started: &Started, given: &Given) {
        let Some(before) = self.once.and_then(|once| given.once.get(once)) else {
            return;
        };
        let client = self.client(started, &format!("again-{number:03}"));
        let again = client.send(self.request(&client, given)).await;
        assert_eq!((again.status, &again.body), (self.status, before), "{} again", self.name());
    }

    fn client(&self, started: &Started, id: &str) -> Client {
        let client = match self.caller {
            Caller::Operator => started.operator(),
            Caller::Acme => started.tenant("acme"),
        };
        let client = client.with_header("x-request-id", id);
        match self.once {
            Some(once) => client.with_header("idempotency-key", once),
            None => client,
        }
    }

    fn request(&self, client: &Client, given: &Given) -> RequestBuilder {
        let path = match self.path.strip_prefix("/v1/principals/worker/tokens/") {
            // Without the token's id the request is still one.
            Some(name) => {
                let none = "0".repeat(32);
                let id = given.ids.get(name).unwrap_or(&none);
                format!("/v1/principals/worker/tokens/{id}")
            }
            None => self.path.clone(),
        };
        let mut request = client.request(self.method.clone(), &path);
        if self.method == Method::PATCH {
            request = request.header("if-match", "*");
        }
        let Some(mut body) = self.body.clone() else { return request };
        if let Some(key) = body["wrapped"].as_str() {
            let found = given.wrapped.iter().find(|wrapped| wrapped.key == key);
            body = json!({"wrapped": found.map_or("", |wrapped| wrapped.wrapped.as_str())});
        }
        if let Some(key) = body["provider_key"].as_str() {
            body["provider_key"] = json!(given.provider_keys.get(key).map_or("none", String::as_str));
        }
        request.json(&body)
    }

    fn keep(&self, step: usize, answer: &Answer, given: &mut Given) {
        if answer.status >= 300 {
            return;
        }
        if let Some(once) = self.once {
            let first = given.once.entry(once).or_insert_with(|| answer.body.clone());
            assert_eq!(*first, answer.body, "{} was done again", self.name());
        }
        if let (Some(name), Some(provider_key)) = (answer.body["name"].as_str(), answer.body["provider_key"].as_str()) {
            given.provider_keys.insert(name.to_owned(), provider_key.to_owned());
        }
        if let Some((name, _)) = self
            .changes
            .first()
            .filter(|(name, value)| name.starts_with("token/") && value == "valid")
        {
            let name = name.trim_start_matches("token/").to_owned();
            given.tokens.insert(name.clone(), text(&answer.body["token"]));
            given.ids.insert(name, text(&answer.body["id"]));
        }
        let Some(key) = self.path.strip_prefix("/v1/keys/").and_then(|rest| rest.split('/').next()) else {
            return;
        };
        let Some(wrapped) = answer.body["wrapped"].as_str() else { return };
        let known = |key: &str| {
            given
                .wrapped
                .iter()
                .find(|wrapped| wrapped.key == key)
                .map(|wrapped| wrapped.plaintext.clone())
        };
        let plaintext = match answer.body["plaintext"].as_str() {
            Some(plaintext) => plaintext.to_owned(),
            None if self.path.ends_with("/wrap") => text(&self.body.as_ref().expect("a body")["plaintext"]),
            None => known(key).expect("what is rewrapped is known"),
        };
        given.wrapped.push(Wrapped {
            key: key.to_owned(),
            wrapped: wrapped.to_owned(),
            plaintext,
            step,
        });
    }
}

/// The `X-Request-Id` of a step: its record has it.
pub fn client_id(number: usize) -> String {
    format!("step-{number:03}")
}

fn text_or_empty(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// Allows that a step took effect.
pub fn allow(expected: &mut Expected, step: Option<&Step>) {
    for (name, value) in step.iter().flat_map(|step| &step.changes) {
        let values = expected.entry(name.clone()).or_insert_with(|| BTreeSet::from([ABSENT.to_owned()]));
        values.insert(value.clone());
    }
}

/// Reads all members.
pub async fn read(started: &Started, given: &Given) -> World {
    let mut world = World::new();
    let (operator, acme) = (started.operator(), started.tenant("acme"));
    for tenant in operator.list("/v1/tenants").await {
        world.insert(format!("tenant/{}", text(&tenant["name"])), text(&tenant["state"]));
    }
    if !world.contains_key("tenant/acme") {
        return world;
    }
    for connection in acme.list("/v1/connections").await {
        world.insert(format!("connection/{}", text(&connection["name"])), text(&connection["state"]));
    }
    for key in acme.list("/v1/keys").await {
        let name = text(&key["name"]);
        world.insert(format!("version/{name}"), key["primary_version"].to_string());
        world.insert(format!("through/{name}"), text(&key["connection"]));
        if let Some(note) = key["labels"]["note"].as_str() {
            world.insert(format!("label/{name}"), note.to_owned());
        }
        world.insert(format!("key/{name}"), text(&key["state"]));
    }
    for principal in acme.list("/v1/principals").await {
        world.insert(format!("principal/{}", text(&principal["name"])), "there".to_owned());
    }
    for (name, token) in &given.tokens {
        let answer = operator.with_token(token).get("/v1/whoami").await;
        let value = match answer.status {
            200 => "valid",
            401 => "refused",
            _ => panic!("{}", answer.text),
        };
        world.insert(format!("token/{name}"), value.to_owned());
    }
    world
}

/// Unwraps what the first steps gave. A key that is not in use gives no plaintext, the others the one that
/// was answered.
pub async fn unwrap(client: &Client, given: &Given, answered: usize, world: &World) {
    let wrapped: Vec<_> = given.wrapped.iter().filter(|wrapped| wrapped.step < answered).collect();
    if wrapped.is_empty() {
        return;
    }
    let items: Vec<Value> = wrapped.iter().map(|one| json!({"wrapped": one.wrapped})).collect();
    let body = client.post("/v1/batch/unwrap", &json!({"items": items})).await.expect_status(200);
    let other_is_severed = world.get("connection/other").is_some_and(|state| state == "severed");
    for (item, wrapped) in body["items"].as_array().expect("items").iter().zip(wrapped) {
        let state = world.get(&format!("key/{}", wrapped.key)).map(String::as_str);
        let usable = state == Some("enabled") && !(wrapped.key == "cut" && other_is_severed);
        let expected = if usable { json!(wrapped.plaintext) } else { Value::Null };
        assert_eq!(
            item["plaintext"], expected,
            "a wrapped key of {}, which is {state:?}: {item}",
            wrapped.key
        );
    }
}
