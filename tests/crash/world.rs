//! What a client knows: the answers it got, and the requests that had none.

use std::collections::BTreeMap;

use claviger_test_support::Answer;
use serde_json::Value;

/// A wrapped key whose plaintext is known.
#[derive(Clone)]
pub struct Blob {
    /// The name of its key.
    pub key: String,
    /// The wrapped key.
    pub wrapped: String,
    /// Its context.
    pub context: Value,
    /// The plaintext, base64.
    pub plaintext: String,
}

/// The record that an answer named, and the request.
pub struct Answered {
    /// `origin#number`.
    pub index: String,
    /// `X-Request-Id`.
    pub request_id: String,
    /// Whether the request succeeded.
    pub success: bool,
}

/// A key that one task disables and enables in turn.
#[derive(Default)]
pub struct Switch {
    /// The state in the last answer.
    pub disabled: bool,
    /// The state that was requested without an answer.
    pub pending: Option<bool>,
}

/// A key that one task rotates.
pub struct Rotated {
    /// The primary version in the last answer.
    pub answered: u64,
    /// Whether a rotate was requested without an answer.
    pub pending: bool,
}

/// A key whose creation was requested.
pub struct Created {
    /// The idempotency key of the request.
    pub once: String,
    /// The id, once the creation was answered.
    pub id: Option<String>,
}

/// A token that was issued.
pub struct Token {
    /// Its id.
    pub id: String,
    /// The token.
    pub text: String,
    /// Whether it was revoked; `None` if the revocation had no answer.
    pub revoked: Option<bool>,
}

/// Everything that the client knows.
#[derive(Default)]
pub struct World {
    /// Keys that are not changed.
    pub plain: Vec<String>,
    /// Keys that are rotated.
    pub rotated: BTreeMap<String, Rotated>,
    /// Keys that are disabled and enabled.
    pub switched: BTreeMap<String, Switch>,
    /// Keys whose creation was requested under load.
    pub created: BTreeMap<String, Created>,
    /// Tokens that were issued under load since the last check.
    pub tokens: Vec<Token>,
    /// Every wrapped key of an answer.
    pub blobs: Vec<Blob>,
    /// How many of them were unwrapped after a restart.
    pub opened: usize,
    /// Every answer since the last check.
    pub answered: Vec<Answered>,
    /// Whether the kill was sent: from then on a request may have no answer.
    pub killed: bool,
}

impl World {
    /// Notes an answer that names a record.
    pub fn note(&mut self, answer: &Answer) {
        let index = answer.header("claviger-audit-index").to_owned();
        assert!(!index.is_empty(), "an answer without a record: {} {}", answer.status, answer.text);
        self.answered.push(Answered {
            index,
            request_id: answer.header("x-request-id").to_owned(),
            success: answer.status < 300,
        });
    }

    /// Keys for data operations: they are never disabled.
    pub fn usable(&self) -> Vec<String> {
        self.plain.iter().chain(self.rotated.keys()).cloned().collect()
    }
}
