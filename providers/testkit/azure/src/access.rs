//! Who may do what: applications that get tokens, and what a token is good for.

use std::collections::{HashMap, HashSet};

use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::Value;

use crate::answers::{Refused, Result};

/// The directory of everything here.
pub const DIRECTORY: &str = "11111111-2222-3333-4444-555555555555";
/// How long a token is good for, in seconds.
const LIFE: i64 = 3600;

/// An application that the directory knows. While it knows none, every one gets a token.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Application {
    /// Its secrets.
    #[serde(default)]
    pub secrets: Vec<String>,
    /// Its certificates as PEM, any of which may sign its assertions.
    #[serde(default)]
    pub certificates: Vec<String>,
    /// Tokens of other issuers that speak for it.
    #[serde(default)]
    pub federated: Vec<String>,
    /// What its tokens are good for; everything, when there is no list.
    #[serde(default)]
    pub permissions: Option<Vec<String>>,
}

/// A token that was given out, or set up.
#[derive(Debug, Clone)]
struct Token {
    resource: Option<String>,
    expires: Option<i64>,
    permissions: Option<HashSet<String>>,
    /// Who has it, for the journal.
    holder: String,
}

#[derive(Debug, Default)]
struct Held {
    applications: HashMap<String, Application>,
    tokens: HashMap<String, Token>,
    revoked: HashSet<String>,
    /// Whether a token that nobody gave out is refused.
    strict: bool,
    /// The inner code of a refusal: role assignments say one thing, access policies another.
    by_policy: bool,
    given: usize,
}

/// Applications, tokens and their rights.
#[derive(Debug, Default)]
pub struct Access(Mutex<Held>);

/// What the control sets up.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Setup {
    #[serde(default)]
    applications: Option<HashMap<String, Application>>,
    /// What tokens are good for, by the token.
    #[serde(default)]
    permissions: HashMap<String, Vec<String>>,
    #[serde(default)]
    revoke_all: bool,
    #[serde(default)]
    strict: Option<bool>,
    #[serde(default)]
    by_policy: Option<bool>,
}

impl Access {
    /// Makes an application known, in place of the one of that id.
    pub fn register(&self, client_id: &str, application: Application) {
        self.0.lock().applications.insert(client_id.to_owned(), application);
    }

    /// Says what a token is good for, whoever gave it out: permissions in the words of access
    /// policies, such as `get` or `wrapKey`.
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

    /// Ends every token that was given out or set up until now.
    pub fn revoke_all(&self) {
        let mut held = self.0.lock();
        let tokens: Vec<String> = held.tokens.drain().map(|(token, _)| token).collect();
        held.revoked.extend(tokens);
    }

    /// Refuses tokens that were neither given out here nor set up.
    pub fn strict(&self, strict: bool) {
        self.0.lock().strict = strict;
    }

    /// Refuses by access policies instead of role assignments.
    pub fn by_policy(&self, by_policy: bool) {
        self.0.lock().by_policy = by_policy;
    }

    /// How many tokens were given out.
    pub fn given(&self) -> usize {
        self.0.lock().given
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
    }

    /// The application of that id: `None` where every one is taken, an error where it is unknown.
    pub(crate) fn application(&self, client_id: &str) -> std::result::Result<Option<Application>, ()> {
        let held = self.0.lock();
        match held.applications.get(client_id) {
            Some(application) => Ok(Some(application.clone())),
            None if held.applications.is_empty() => Ok(None),
            None => Err(()),
        }
    }

    /// Gives out a token; with its life in seconds.
    pub(crate) fn give(&self, client_id: &str, resource: &str, now: i64) -> (String, i64) {
        let token = format!("fake.{}.{}", crate::crypto::random_hex(8), crate::crypto::random_hex(16));
        let mut held = self.0.lock();
        let permissions = held
            .applications
            .get(client_id)
            .and_then(|application| application.permissions.clone());
        let made = Token {
            resource: Some(resource.to_owned()),
            expires: Some(now + LIFE),
            permissions: permissions.map(HashSet::from_iter),
            holder: client_id.to_owned(),
        };
        held.tokens.insert(token.clone(), made);
        held.given += 1;
        (token, LIFE)
    }

    /// Whether a token is taken for a resource; answers who holds it.
    pub(crate) fn holder(&self, token: &str, resource: &str, now: i64) -> Option<String> {
        let held = self.0.lock();
        match held.tokens.get(token) {
            Some(known) => {
                let fits = known.resource.as_deref().is_none_or(|of| of == resource) && known.expires.is_none_or(|end| now < end);
                fits.then(|| known.holder.clone())
            }
            None => (!held.strict && !held.revoked.contains(token)).then(|| "an unknown token".to_owned()),
        }
    }

    /// Whether a token is good for a right.
    pub(crate) fn allows(&self, token: &str, right: &'static str, hsm: bool) -> Result<()> {
        let held = self.0.lock();
        let permissions = held.tokens.get(token).and_then(|token| token.permissions.as_ref());
        match permissions {
            Some(permissions) if !permissions.contains(right) => {
                let inner = match (hsm, held.by_policy) {
                    (true, _) => None,
                    (false, true) => Some("ForbiddenByPolicy"),
                    (false, false) => Some("ForbiddenByRbac"),
                };
                Err(Refused::denied(inner, right))
            }
            Some(_) | None => Ok(()),
        }
    }
}

/// The permission that an operation with a key needs.
pub(crate) fn right_of(operation: &str) -> Option<&'static str> {
    Some(match operation {
        "encrypt" => "encrypt",
        "decrypt" => "decrypt",
        "wrapkey" => "wrapKey",
        "unwrapkey" => "unwrapKey",
        _ => return None,
    })
}

/// A text of a JSON object.
pub(crate) fn text<'v>(value: &'v Value, name: &str) -> Option<&'v str> {
    value.get(name)?.as_str()
}
