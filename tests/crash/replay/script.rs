//! Changes of every kind, and what holds after each.

use std::collections::{BTreeMap, BTreeSet};

use claviger_test_support::{Answer, Client, Started};
use reqwest::Method;
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
    caller: Caller,
    method: Method,
    path: String,
    body: Option<Value>,
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

fn post(caller: Caller, path: &str, body: Option<Value>, status: u16, changes: &[(&str, &str)]) -> Step {
    Step {
        caller,
        method: Method::POST,
        path: path.to_owned(),
        body,
        changes: changes
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect(),
        status,
    }
}

fn delete(path: &str, changes: &[(&str, &str)]) -> Step {
    Step {
        method: Method::DELETE,
        ..post(Caller::Acme, path, None, 204, changes)
    }
}

fn key(name: &str, connection: &str) -> Step {
    let body = json!({"name": name, "connection": connection});
    let (state, version) = (format!("key/{name}"), format!("version/{name}"));
    post(Caller::Acme, "/v1/keys", Some(body), 201, &[(&state, "enabled"), (&version, "1")])
}

/// Makes a data key.
pub fn data_key(name: &str) -> Step {
    post(Caller::Acme, &format!("/v1/keys/{name}/data-keys"), Some(json!({})), 200, &[])
}

/// Makes a thousand data keys, whose records take half of the log's first file.
pub fn data_keys(name: &str) -> Step {
    let items = vec![json!({"key": name, "plaintext": false}); 1000];
    post(Caller::Acme, "/v1/batch/data-keys", Some(json!({"items": items})), 200, &[])
}

fn key_state(name: &str, verb: &str, state: &str) -> Step {
    post(
        Caller::Acme,
        &format!("/v1/keys/{name}/{verb}"),
        None,
        200,
        &[(&format!("key/{name}"), state)],
    )
}

fn connection_state(verb: &str, state: &str) -> Step {
    post(
        Caller::Acme,
        &format!("/v1/connections/other/{verb}"),
        None,
        200,
        &[("connection/other", state)],
    )
}

fn tenant_state(verb: &str, state: &str) -> Step {
    post(
        Caller::Operator,
        &format!("/v1/tenants/globex/{verb}"),
        None,
        200,
        &[("tenant/globex", state)],
    )
}

fn rotate(version: &str) -> Step {
    post(Caller::Acme, "/v1/keys/turned/rotate", None, 200, &[("version/turned", version)])
}

fn token(principal: &str, name: &str) -> Step {
    let body = json!({"operations": ["ReadKey"], "expires_in": "1h"});
    let path = format!("/v1/principals/{principal}/tokens");
    post(Caller::Acme, &path, Some(body), 201, &[(&format!("token/{name}"), "valid")])
}

fn principal(name: &str) -> Step {
    let body = json!({"name": name});
    post(
        Caller::Acme,
        "/v1/principals",
        Some(body),
        201,
        &[(&format!("principal/{name}"), "there")],
    )
}

/// The objects that the changes are made to.
pub fn furnish() -> Vec<Step> {
    use Caller::{Acme, Operator};
    let mut steps = Vec::new();
    for name in ["acme", "globex"] {
        let body = json!({"name": name});
        steps.push(post(
            Operator,
            "/v1/tenants",
            Some(body),
            201,
            &[(&format!("tenant/{name}"), "active")],
        ));
    }
    for name in ["embedded", "other"] {
        let body = json!({"name": name, "provider": "local", "settings": {}});
        let change = (&*format!("connection/{name}"), "active");
        steps.push(post(Acme, "/v1/connections", Some(body), 201, &[change]));
    }
    steps.extend([key("steady", "embedded"), key("turned", "embedded"), key("switched", "embedded")]);
    steps.extend([key("cut", "other"), key("gone", "embedded")]);
    steps.extend(["steady", "turned", "switched", "cut"].map(data_key));
    steps.extend([principal("worker"), principal("leaver")]);
    steps.extend([token("worker", "kept"), token("worker", "revoked"), token("leaver", "left")]);
    steps
}

/// A change of each kind, some data operations, and requests that are refused.
pub fn change() -> Vec<Step> {
    use Caller::Acme;
    let rewrapped = post(Acme, "/v1/keys/turned/rewrap", Some(json!({"wrapped": "turned"})), 200, &[]);
    let unwrapped = post(Acme, "/v1/unwrap", Some(json!({"wrapped": "steady"})), 200, &[]);
    let wrapped = json!({"plaintext": "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="});
    vec![
        key_state("switched", "disable", "disabled"),
        key_state("switched", "enable", "enabled"),
        key_state("switched", "disable", "disabled"),
        rotate("2"),
        rewrapped,
        unwrapped,
        post(Acme, "/v1/keys/steady/wrap", Some(wrapped), 200, &[]),
        // Refused.
        post(
            Acme,
            "/v1/keys",
            Some(json!({"name": "steady", "connection": "embedded"})),
            409,
            &[],
        ),
        post(Acme, "/v1/keys/switched/data-keys", Some(json!({})), 409, &[]),
        connection_state("sever", "severed"),
        connection_state("restore", "active"),
        connection_state("sever", "severed"),
        post(Acme, "/v1/keys", Some(json!({"name": "never", "connection": "other"})), 409, &[]),
        delete("/v1/principals/worker/tokens/revoked", &[("token/revoked", "refused")]),
        delete("/v1/principals/leaver", &[("token/left", "refused"), ("principal/leaver", ABSENT)]),
        tenant_state("suspend", "suspended"),
        tenant_state("resume", "active"),
        tenant_state("suspend", "suspended"),
        delete("/v1/keys/gone", &[("key/gone", ABSENT), ("version/gone", ABSENT)]),
        key("late", "embedded"),
        data_key("late"),
        rotate("3"),
    ]
}

/// Some changes after a restart.
pub fn go_on() -> Vec<Step> {
    vec![
        key("second", "embedded"),
        key_state("switched", "enable", "enabled"),
        key_state("steady", "disable", "disabled"),
        data_key("second"),
        connection_state("restore", "active"),
    ]
}

/// Some changes after a stop in good order.
pub fn end() -> Vec<Step> {
    vec![key_state("steady", "enable", "enabled"), data_key("steady"), rotate("4")]
}

/// Disables a key, and nothing else.
pub fn disable(name: &str) -> Step {
    key_state(name, "disable", "disabled")
}

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
        let client = match self.caller {
            Caller::Operator => started.operator(),
            Caller::Acme => started.tenant("acme"),
        };
        let path = match self.path.strip_prefix("/v1/principals/worker/tokens/") {
            // Without the token's id the request is still one.
            Some(name) => {
                let none = "0".repeat(32);
                let id = given.ids.get(name).unwrap_or(&none);
                format!("/v1/principals/worker/tokens/{id}")
            }
            None => self.path.clone(),
        };
        let client = client.with_header("x-request-id", &client_id(number));
        let mut request = client.request(self.method.clone(), &path);
        if let Some(mut body) = self.body.clone() {
            if let Some(key) = body["wrapped"].as_str() {
                let found = given.wrapped.iter().find(|wrapped| wrapped.key == key);
                body = json!({"wrapped": found.map_or("", |wrapped| wrapped.wrapped.as_str())});
            }
            request = request.json(&body);
        }
        let answer = client.try_send(request).await?;
        self.keep(number, &answer, given);
        Some(Answered {
            status: answer.status,
            code: text_or_empty(&answer.body["code"]),
            index: answer.header("claviger-audit-index").to_owned(),
            request: answer.header("x-request-id").to_owned(),
        })
    }

    fn keep(&self, step: usize, answer: &Answer, given: &mut Given) {
        if answer.status >= 300 {
            return;
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
