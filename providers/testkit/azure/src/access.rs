//! Applications, their tokens and permissions.

use std::collections::{HashMap, HashSet};

use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::Value;

use crate::responses::{Refusal, Result};

/// The only directory (Entra tenant) of the fake.
pub const DIRECTORY: &str = "11111111-2222-3333-4444-555555555555";
/// The lifetime of a token, in seconds.
const LIFETIME: i64 = 3600;

/// A registered application. While none is registered, any application gets a token.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Application {
    /// Its client secrets.
    #[serde(default)]
    pub secrets: Vec<String>,
    /// Its certificates as PEM, whose keys may sign assertions.
    #[serde(default)]
    pub certificates: Vec<String>,
    /// Tokens of other issuers that it accepts as assertions.
    #[serde(default)]
    pub federated: Vec<String>,
    /// The permissions of its tokens; all, when there is no list.
    #[serde(default)]
    pub permissions: Option<Vec<String>>,
}

/// An issued or configured token.
#[derive(Debug, Clone)]
struct Token {
    resource: Option<String>,
    expires: Option<i64>,
    permissions: Option<HashSet<String>>,
    /// Who holds it, for the journal.
    holder: String,
}

#[derive(Debug, Default)]
struct AccessState {
    applications: HashMap<String, Application>,
    tokens: HashMap<String, Token>,
    revoked: HashSet<String>,
    /// Whether tokens that were neither issued nor configured are refused.
    strict: bool,
    /// Whether refusals carry the inner code of access policies instead of role assignments.
    by_policy: bool,
    /// Whether a disabled version is not described.
    hides_disabled: bool,
    /// The resource that challenges name, instead of the public cloud's.
    resource: Option<String>,
    issued: usize,
}

/// Applications, tokens and their permissions.
#[derive(Debug, Default)]
pub struct Access(Mutex<AccessState>);

/// The body of `PUT /_fake/azure`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Setup {
    #[serde(default)]
    applications: Option<HashMap<String, Application>>,
    /// Permissions by token.
    #[serde(default)]
    permissions: HashMap<String, Vec<String>>,
    #[serde(default)]
    revoke_all: bool,
    #[serde(default)]
    strict: Option<bool>,
    #[serde(default)]
    by_policy: Option<bool>,
    #[serde(default)]
    hide_disabled: Option<bool>,
    #[serde(default)]
    resource: Option<String>,
}

impl Access {
    /// Registers an application, in place of the one with this id.
    pub fn register(&self, client_id: &str, application: Application) {
        self.0.lock().applications.insert(client_id.to_owned(), application);
    }

    /// Sets the permissions of a token, whoever issued it, named as in access policies, such
    /// as `get` or `wrapKey`.
    pub fn permit(&self, token: &str, permissions: &[&str]) {
        let permissions = permissions.iter().map(ToString::to_string).collect();
        self.0.lock().tokens.insert(
            token.to_owned(),
            Token {
                resource: None,
                expires: None,
                permissions: Some(permissions),
                holder: "a given token".to_owned(),
            },
        );
    }

    /// Revokes all tokens issued or configured so far.
    pub fn revoke_all(&self) {
        let mut state = self.0.lock();
        let tokens: Vec<String> = state.tokens.drain().map(|(token, _)| token).collect();
        state.revoked.extend(tokens);
    }

    /// Whether to refuse tokens that were neither issued nor configured here.
    pub fn strict(&self, strict: bool) {
        self.0.lock().strict = strict;
    }

    /// Whether refusals are those of access policies instead of role assignments.
    pub fn by_policy(&self, by_policy: bool) {
        self.0.lock().by_policy = by_policy;
    }

    /// Whether to refuse the description of a disabled version, which lists still have.
    pub fn hide_disabled(&self, hide: bool) {
        self.0.lock().hides_disabled = hide;
    }

    pub(crate) fn hides_disabled(&self) -> bool {
        self.0.lock().hides_disabled
    }

    /// Makes both services ask for tokens for this resource, as those of a private cloud do.
    pub fn ask_for(&self, resource: &str) {
        self.0.lock().resource = Some(resource.to_owned());
    }

    /// The resource that the challenges of a service name.
    pub(crate) fn resource(&self, hsm: bool) -> String {
        let clouds_own = if hsm {
            "https://managedhsm.azure.net"
        } else {
            "https://vault.azure.net"
        };
        self.0.lock().resource.clone().unwrap_or_else(|| clouds_own.to_owned())
    }

    /// How many tokens were issued.
    pub fn issued(&self) -> usize {
        self.0.lock().issued
    }

    pub(crate) fn set_up(&self, setup: Setup) {
        if let Some(applications) = setup.applications {
            self.0.lock().applications = applications;
        }
        for (token, permissions) in &setup.permissions {
            let permissions: Vec<&str> = permissions.iter().map(String::as_str).collect();
            self.permit(token, &permissions);
        }
        if setup.revoke_all {
            self.revoke_all();
        }
        if let Some(strict) = setup.strict {
            self.strict(strict);
        }
        if let Some(by_policy) = setup.by_policy {
            self.by_policy(by_policy);
        }
        if let Some(hide) = setup.hide_disabled {
            self.hide_disabled(hide);
        }
        if let Some(resource) = &setup.resource {
            self.ask_for(resource);
        }
    }

    /// The application with this id; `None` while any application is accepted.
    ///
    /// # Errors
    /// For an unknown application.
    pub(crate) fn application(&self, client_id: &str) -> std::result::Result<Option<Application>, ()> {
        let state = self.0.lock();
        match state.applications.get(client_id) {
            Some(application) => Ok(Some(application.clone())),
            None if state.applications.is_empty() => Ok(None),
            None => Err(()),
        }
    }

    /// Issues a token, with its lifetime in seconds.
    pub(crate) fn issue(&self, client_id: &str, resource: &str, now: i64) -> (String, i64) {
        let token = format!("fake.{}.{}", crate::crypto::random_hex(8), crate::crypto::random_hex(16));
        let mut state = self.0.lock();
        let permissions = state
            .applications
            .get(client_id)
            .and_then(|application| application.permissions.clone());
        let issued = Token {
            resource: Some(resource.to_owned()),
            expires: Some(now + LIFETIME),
            permissions: permissions.map(HashSet::from_iter),
            holder: client_id.to_owned(),
        };
        state.tokens.insert(token.clone(), issued);
        state.issued += 1;
        (token, LIFETIME)
    }

    /// Who holds a token; `None` for one that is not accepted for this resource now.
    pub(crate) fn holder(&self, token: &str, resource: &str, now: i64) -> Option<String> {
        let state = self.0.lock();
        match state.tokens.get(token) {
            Some(known) => {
                let fits = known.resource.as_deref().is_none_or(|of| of == resource) && known.expires.is_none_or(|end| now < end);
                fits.then(|| known.holder.clone())
            }
            None => (!state.strict && !state.revoked.contains(token)).then(|| "an unknown token".to_owned()),
        }
    }

    /// Fails unless a token has this permission.
    pub(crate) fn allows(&self, token: &str, permission: &'static str, hsm: bool) -> Result<()> {
        let state = self.0.lock();
        let permissions = state.tokens.get(token).and_then(|token| token.permissions.as_ref());
        match permissions {
            Some(permissions) if !permissions.contains(permission) => {
                let inner = match (hsm, state.by_policy) {
                    (true, _) => None,
                    (false, true) => Some("ForbiddenByPolicy"),
                    (false, false) => Some("ForbiddenByRbac"),
                };
                Err(Refusal::denied(inner, permission))
            }
            Some(_) | None => Ok(()),
        }
    }
}

/// The permission that an operation with a key requires.
pub(crate) fn permission_of(operation: &str) -> Option<&'static str> {
    Some(match operation {
        "encrypt" => "encrypt",
        "decrypt" => "decrypt",
        "wrapkey" => "wrapKey",
        "unwrapkey" => "unwrapKey",
        _ => return None,
    })
}

/// A string field of a JSON object.
pub(crate) fn text<'v>(value: &'v Value, name: &str) -> Option<&'v str> {
    value.get(name)?.as_str()
}
