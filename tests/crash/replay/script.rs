//! Changes of every kind, and what holds after each.

use reqwest::Method;
use serde_json::{Value, json};

use super::step::{ABSENT, Caller, Step};

fn post(caller: Caller, path: &str, body: Option<Value>, status: u16, changes: &[(&str, &str)]) -> Step {
    Step {
        caller,
        method: Method::POST,
        path: path.to_owned(),
        body,
        once: None,
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

/// The same step under an idempotency key.
fn once(step: Step, key: &'static str) -> Step {
    Step { once: Some(key), ..step }
}

fn key(name: &str, connection: &str) -> Step {
    new_key(name, connection, json!({"name": name, "connection": connection}))
}

/// Brings a key back that was deleted here.
fn adopt(name: &str, connection: &str) -> Step {
    // The step is sent with the key's provider key.
    new_key(
        name,
        connection,
        json!({"name": name, "connection": connection, "provider_key": name}),
    )
}

fn new_key(name: &str, connection: &str, body: Value) -> Step {
    let [state, version, through] = ["key", "version", "through"].map(|member| format!("{member}/{name}"));
    let changes = [(&*state, "enabled"), (&*version, "1"), (&*through, connection)];
    post(Caller::Acme, "/v1/keys", Some(body), 201, &changes)
}

fn deleted_key(name: &str) -> Step {
    let [state, version, through] = ["key", "version", "through"].map(|member| format!("{member}/{name}"));
    delete(
        &format!("/v1/keys/{name}"),
        &[(&state, ABSENT), (&version, ABSENT), (&through, ABSENT)],
    )
}

fn move_key(name: &str, connection: &str, version: &str) -> Step {
    let changes = [(&*format!("through/{name}"), connection), (&*format!("version/{name}"), version)];
    let body = json!({"connection": connection});
    post(Caller::Acme, &format!("/v1/keys/{name}/rotate"), Some(body), 200, &changes)
}

/// Gives a key a label.
fn label(name: &str, note: &str) -> Step {
    let body = json!({"labels": {"note": note}});
    let change = (&*format!("label/{name}"), note);
    Step {
        method: Method::PATCH,
        ..post(Caller::Acme, &format!("/v1/keys/{name}"), Some(body), 200, &[change])
    }
}

fn tenant(name: &str) -> Step {
    let change = (&*format!("tenant/{name}"), "active");
    post(Caller::Operator, "/v1/tenants", Some(json!({"name": name})), 201, &[change])
}

fn connection(name: &str) -> Step {
    let body = json!({"name": name, "provider": "local", "settings": {}});
    let change = (&*format!("connection/{name}"), "active");
    post(Caller::Acme, "/v1/connections", Some(body), 201, &[change])
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

fn connection_state(name: &str, verb: &str, state: &str) -> Step {
    post(
        Caller::Acme,
        &format!("/v1/connections/{name}/{verb}"),
        None,
        200,
        &[(&format!("connection/{name}"), state)],
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

fn rotate(name: &str, version: &str) -> Step {
    let change = (&*format!("version/{name}"), version);
    post(Caller::Acme, &format!("/v1/keys/{name}/rotate"), None, 200, &[change])
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
    let mut steps = vec![tenant("acme"), tenant("globex")];
    steps.extend(["embedded", "other", "there"].map(connection));
    steps.extend(["steady", "turned", "switched", "gone", "moved"].map(|name| key(name, "embedded")));
    steps.push(key("cut", "other"));
    steps.extend(["steady", "turned", "switched", "cut", "gone", "moved"].map(data_key));
    steps.extend([principal("worker"), principal("leaver")]);
    steps.extend([token("worker", "kept"), token("worker", "revoked"), token("leaver", "left")]);
    steps
}

/// A change of each kind, some data operations, and requests that are repeated or refused.
pub fn change() -> Vec<Step> {
    use Caller::Acme;
    let rewrapped = post(Acme, "/v1/keys/turned/rewrap", Some(json!({"wrapped": "turned"})), 200, &[]);
    let unwrapped = post(Acme, "/v1/unwrap", Some(json!({"wrapped": "steady"})), 200, &[]);
    let wrapped = json!({"plaintext": "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="});
    vec![
        key_state("switched", "disable", "disabled"),
        key_state("switched", "enable", "enabled"),
        key_state("switched", "disable", "disabled"),
        once(rotate("turned", "2"), "turn"),
        once(rotate("turned", "2"), "turn"),
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
        label("steady", "new"),
        move_key("moved", "there", "2"),
        data_key("moved"),
        connection_state("other", "sever", "severed"),
        connection_state("other", "restore", "active"),
        connection_state("other", "sever", "severed"),
        post(Acme, "/v1/keys", Some(json!({"name": "never", "connection": "other"})), 409, &[]),
        connection("spare"),
        delete("/v1/connections/spare", &[("connection/spare", ABSENT)]),
        delete("/v1/principals/worker/tokens/revoked", &[("token/revoked", "refused")]),
        delete("/v1/principals/leaver", &[("token/left", "refused"), ("principal/leaver", ABSENT)]),
        tenant_state("suspend", "suspended"),
        tenant_state("resume", "active"),
        tenant_state("suspend", "suspended"),
        deleted_key("gone"),
        adopt("gone", "embedded"),
        once(key("late", "embedded"), "late"),
        once(key("late", "embedded"), "late"),
        data_key("late"),
        rotate("turned", "3"),
    ]
}

/// Some changes to what `tests/upgrade` keeps of an earlier release.
pub fn change_older() -> Vec<Step> {
    vec![
        key_state("k2", "disable", "disabled"),
        once(rotate("k0", "3"), "turn"),
        once(rotate("k0", "3"), "turn"),
        data_key("k0"),
        label("k4", "new"),
        connection_state("cut", "restore", "active"),
        connection("there"),
        move_key("orders", "there", "2"),
        data_key("orders"),
        key("gone", "embedded"),
        deleted_key("gone"),
        adopt("gone", "embedded"),
        principal("worker"),
        token("worker", "kept"),
        connection_state("cut", "sever", "severed"),
    ]
}

/// Some changes after a restart.
pub fn go_on() -> Vec<Step> {
    vec![
        key("second", "embedded"),
        key_state("switched", "enable", "enabled"),
        key_state("steady", "disable", "disabled"),
        data_key("second"),
        connection_state("other", "restore", "active"),
    ]
}

/// Some changes after a stop in good order.
pub fn end() -> Vec<Step> {
    vec![key_state("steady", "enable", "enabled"), data_key("steady"), rotate("turned", "4")]
}

/// Disables a key, and nothing else.
pub fn disable(name: &str) -> Step {
    key_state(name, "disable", "disabled")
}
