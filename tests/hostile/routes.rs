//! One valid call of every route of the API, for the attacks that go through all of them.

use std::collections::BTreeSet;

use claviger::protocols::rest::endpoints::routes;
use claviger_test_support::{Answer, Client};
use reqwest::Method;
use serde_json::{Value, json};

use crate::world::HOSTILE;

/// The route that restores a connection.
pub const RESTORE: &str = "/v1/connections/{connection}/restore";

/// The objects that the calls name.
pub struct Names<'n> {
    pub tenant: &'n str,
    pub connection: &'n str,
    pub key: &'n str,
    pub principal: &'n str,
    pub token: &'n str,
    /// A wrapped data key.
    pub wrapped: &'n Value,
    /// The name of what a call creates.
    pub new: &'n str,
}

impl<'n> Names<'n> {
    /// Objects of the tenant that attacks: its connection to the embedded provider, principal `admin`
    /// with this token, and this key with something that it wrapped.
    pub const fn of_evil(key: &'n str, token: &'n str, wrapped: &'n Value) -> Self {
        Self {
            tenant: HOSTILE,
            connection: "embedded",
            key,
            principal: "admin",
            token,
            wrapped,
            new: "fresh",
        }
    }
}

/// A call of a route.
#[derive(Clone)]
pub struct Call {
    pub method: Method,
    /// The route's path, as the OpenAPI document has it.
    pub route: &'static str,
    /// The path with the names in it.
    pub path: String,
    /// Null for none.
    pub body: Value,
}

impl Call {
    pub async fn send(&self, client: &Client) -> Answer {
        let request = client.request(self.method.clone(), &self.path).header("if-match", "*");
        client
            .send(if self.body.is_null() { request } else { request.json(&self.body) })
            .await
    }

    /// Its body as bytes; empty for none.
    pub fn body_text(&self) -> Vec<u8> {
        if self.body.is_null() {
            Vec::new()
        } else {
            self.body.to_string().into_bytes()
        }
    }

    /// Whether it disables, severs, revokes, suspends or deletes a principal.
    pub fn is_cut(&self) -> bool {
        match self.method {
            Method::POST => ["/disable", "/sever", "/suspend"].iter().any(|end| self.route.ends_with(end)),
            Method::DELETE => self.route.starts_with("/v1/principals/"),
            _ => false,
        }
    }

    /// Whether it restores a connection.
    pub fn restores(&self) -> bool {
        self.route == RESTORE
    }

    /// Whether only a platform operator may call it.
    pub fn is_operators(&self) -> bool {
        self.route.starts_with("/v1/tenants") || self.route.starts_with("/v1/declared/")
    }

    /// Whether the gateway asks a key service for it, or can.
    pub fn asks_key_service(&self) -> bool {
        match (self.method.as_str(), self.route) {
            ("PATCH", "/v1/connections/{connection}") => true,
            // Where the keys are in external custody, a restore tries the connection first.
            ("POST", "/v1/connections/{connection}/check" | "/v1/connections/{connection}/restore") => true,
            ("POST", "/v1/keys" | "/v1/unwrap" | "/v1/declared/apply") => true,
            ("POST", route) => {
                let of_key = ["data-keys", "wrap", "unwrap", "rewrap", "rotate", "disable", "enable"];
                let end = route.strip_prefix("/v1/keys/{key}/").or_else(|| route.strip_prefix("/v1/batch/"));
                end.is_some_and(|end| of_key.contains(&end))
            }
            _ => false,
        }
    }

    /// How a failure names it.
    pub fn name(&self) -> String {
        format!("{} {}", self.method, self.route)
    }
}

/// A call of every route. Those that end an object come last.
///
/// # Panics
/// When a route of the API is missing here.
pub fn calls(names: &Names<'_>) -> Vec<Call> {
    let (get, post, patch, delete) = (Method::GET, Method::POST, Method::PATCH, Method::DELETE);
    let none = Value::Null;
    let new = names.new;
    let wrapped = json!({"wrapped": names.wrapped});
    let plaintext = json!({"plaintext": "AAAA"});
    let labels = json!({"labels": {"seen": "yes"}});
    let new_key = json!({"name": new, "connection": names.connection});
    let item = |more: &Value| {
        let mut item = json!({"key": names.key});
        item.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({"items": [item]})
    };
    let rows = [
        (&get, "/v1/whoami", none.clone()),
        (&get, "/v1/tenants", none.clone()),
        (&get, "/v1/tenants/{tenant}", none.clone()),
        (&get, "/v1/connections", none.clone()),
        (&get, "/v1/connections/{connection}", none.clone()),
        (&get, "/v1/connections/{connection}/capabilities", none.clone()),
        (&get, "/v1/keys", none.clone()),
        (&get, "/v1/keys/{key}", none.clone()),
        (&get, "/v1/keys/{key}/versions", none.clone()),
        (&get, "/v1/principals", none.clone()),
        (&get, "/v1/principals/{principal}", none.clone()),
        (&get, "/v1/principals/{principal}/tokens", none.clone()),
        (&post, "/v1/keys/{key}/data-keys", json!({})),
        (&post, "/v1/keys/{key}/wrap", plaintext.clone()),
        (&post, "/v1/keys/{key}/unwrap", wrapped.clone()),
        (&post, "/v1/keys/{key}/rewrap", wrapped.clone()),
        (&post, "/v1/unwrap", wrapped.clone()),
        (&post, "/v1/inspect", wrapped.clone()),
        (&post, "/v1/batch/data-keys", item(&json!({}))),
        (&post, "/v1/batch/wrap", item(&plaintext)),
        (&post, "/v1/batch/unwrap", item(&wrapped)),
        (&post, "/v1/batch/rewrap", item(&wrapped)),
        (&post, "/v1/declared/plan", none.clone()),
        (&post, "/v1/declared/apply", none.clone()),
        (
            &post,
            "/v1/declared/release",
            json!({"kind": "connection", "tenant": names.tenant, "name": names.connection}),
        ),
        (&post, "/v1/tenants", json!({"name": new})),
        (&post, "/v1/connections", json!({"name": new, "provider": "local", "settings": {}})),
        (&post, "/v1/connections/{connection}/check", none.clone()),
        (&patch, "/v1/connections/{connection}", labels.clone()),
        (&post, "/v1/keys", new_key),
        (&patch, "/v1/keys/{key}", labels),
        (&post, "/v1/keys/{key}/rotate", none.clone()),
        (&post, "/v1/principals", json!({"name": new})),
        (&post, "/v1/principals/{principal}/tokens", json!({"operations": ["Wrap"]})),
        (&post, "/v1/keys/{key}/disable", none.clone()),
        (&post, "/v1/keys/{key}/enable", none.clone()),
        (&post, "/v1/connections/{connection}/sever", none.clone()),
        (&post, "/v1/connections/{connection}/restore", none.clone()),
        (&post, "/v1/tenants/{tenant}/suspend", none.clone()),
        (&post, "/v1/tenants/{tenant}/resume", none.clone()),
        (&delete, "/v1/keys/{key}", none.clone()),
        (&delete, "/v1/connections/{connection}", none.clone()),
        (&delete, "/v1/principals/{principal}/tokens/{token}", none.clone()),
        (&delete, "/v1/principals/{principal}", none),
    ];
    let calls: Vec<Call> = rows.map(|(method, route, body)| call(names, method, route, body)).into();
    let here: BTreeSet<_> = calls.iter().map(|call| (call.method.to_string(), call.route)).collect();
    let all: BTreeSet<_> = routes().iter().map(|route| (route.method.to_string(), route.path)).collect();
    assert_eq!(here, all);
    calls
}

fn call(names: &Names<'_>, method: &Method, route: &'static str, body: Value) -> Call {
    let path = route
        .replace("{tenant}", names.tenant)
        .replace("{connection}", names.connection)
        .replace("{key}", names.key)
        .replace("{principal}", names.principal)
        .replace("{token}", names.token);
    let method = method.clone();
    Call { method, route, path, body }
}
