//! What a client knows: what it was answered, and what it asked for without an answer.

use std::collections::BTreeMap;

use claviger_test_support::Answer;
use serde_json::Value;

/// A wrapped key whose plaintext is known.
#[derive(Clone)]
pub struct Blob {
    /// The key it stands under.
    pub key: String,
    /// The text.
    pub wrapped: String,
    /// Its context.
    pub context: Value,
    /// What it must open to, base64.
    pub plaintext: String,
}

/// A place in the record that an answer named, and the request that was answered.
pub struct Answered {
    /// `origin#number`.
    pub index: String,
    /// `X-Request-Id`.
    pub request_id: String,
    /// Whether the answer was a success.
    pub success: bool,
}

/// A key that one task disables and enables in turn.
#[derive(Default)]
pub struct Switch {
    /// As it was last answered.
    pub disabled: bool,
    /// Asked for and not answered.
    pub pending: Option<bool>,
}

/// A key that one task rotates.
pub struct Rotated {
    /// The primary version that was last answered.
    pub answered: u64,
    /// A rotate was asked for and not answered.
    pub pending: bool,
}

/// A key that was asked for.
pub struct Created {
    /// The idempotency key of the request.
    pub once: String,
    /// The id, once it was answered.
    pub id: Option<String>,
}

/// A token that was answered.
pub struct Token {
    /// Its id.
    pub id: String,
    /// Its text.
    pub text: String,
    /// Whether it was revoked; `None` where that was asked for and not answered.
    pub revoked: Option<bool>,
}

/// All of it.
#[derive(Default)]
pub struct World {
    /// Keys that nothing happens to.
    pub plain: Vec<String>,
    /// Keys that are rotated.
    pub rotated: BTreeMap<String, Rotated>,
    /// Keys that are disabled and enabled.
    pub switched: BTreeMap<String, Switch>,
    /// Keys that were asked for under load.
    pub created: BTreeMap<String, Created>,
    /// Tokens that were answered under load, since the last look.
    pub tokens: Vec<Token>,
    /// Every wrapped key that was answered.
    pub blobs: Vec<Blob>,
    /// How many of them were opened after a restart.
    pub opened: usize,
    /// Every answer since the last look.
    pub answered: Vec<Answered>,
    /// The kill was sent: from now on a request may go without answer.
    pub killed: bool,
}

impl World {
    /// Notes an answer that has a record of its own.
    pub fn note(&mut self, answer: &Answer) {
        let index = answer.header("claviger-audit-index").to_owned();
        assert!(!index.is_empty(), "an answer without a record: {} {}", answer.status, answer.text);
        self.answered.push(Answered {
            index,
            request_id: answer.header("x-request-id").to_owned(),
            success: answer.status < 300,
        });
    }

    /// Keys that data operations may use: nobody disables them.
    pub fn usable(&self) -> Vec<String> {
        self.plain.iter().chain(self.rotated.keys()).cloned().collect()
    }
}
