//! The record: its members, their canonical form, and how the number gets into it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use claviger_provider::{ConnectionId, DekId, InstallationId, KeyId, PrincipalId, ProviderKind, TenantId, TokenId};

use super::action::{Internal, Operation};
use super::fields::{
    Authn, Cause, ContextHash, Decision, Digest, Ending, Kind, Node, Number, Origin, Outcome, Policy, Position, Rewrap, Shown, Source,
    Text, Timestamp, Version1, Window,
};
use super::frame::MAX_JSON;
use super::state_change::Change;

/// One record: what happened, and to whom. [`super::Log::entry`] makes one; the public
/// members are the caller's to fill, the others are set by whoever writes it, so that a
/// record can be neither of another tenant nor of another kind than it says.
///
/// The fields stand in the order of RFC 8785 (by UTF-16 code units of their names), so
/// that plain `serde_json` output is canonical; a test holds this against a canonicalizer.
/// What is absent is left out and never null. `docs/audit-format.md` fixes each member.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Id of the approval under which it was done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval: Option<Text>,
    /// How the principal authenticated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authn: Option<Authn>,
    /// Whether the answer came from the DEK cache.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cached: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) cause: Option<Cause>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) change: Option<Change>,
    /// The caller's own `X-Request-Id`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_request_id: Option<Text>,
    /// The `request_id` of the request whose provider call served this one too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub coalesced_with: Option<Text>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) code: Option<Text>,
    /// The connection that was used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection: Option<ConnectionId>,
    /// Keyed hash of the context.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context_hash: Option<ContextHash>,
    /// The context pairs that the tenant chose to show.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context_shown: Option<Shown>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) counts: Option<BTreeMap<Text, Number>>,
    /// What access decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision: Option<Decision>,
    /// The data key; on every wrap and unwrap.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dek_id: Option<DekId>,
    /// Whether a rewrap stayed inside the provider.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inside_provider: Option<bool>,
    pub(super) installation: InstallationId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) intent: Option<Number>,
    /// The place in a batch, from 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub item: Option<Number>,
    /// The caller's justification.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub justification: Option<Text>,
    /// The key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<KeyId>,
    /// The key's version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_version: Option<Number>,
    pub(super) kind: Kind,
    /// From the request's arrival to the record, in microseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency_us: Option<Number>,
    pub(super) node: Node,
    pub(super) operation: Operation,
    /// The policy that decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<Policy>,
    /// Who asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub principal: Option<PrincipalId>,
    /// The provider that was called, or would have been.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<ProviderKind>,
    /// Which of its key's materials the provider used, where the ciphertext does not name it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider_key_material: Option<Text>,
    /// The provider's own request id, to match with its log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider_request_id: Option<Text>,
    /// Our request id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<Text>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) result: Option<Ending>,
    /// From which wrapped key to which.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rewrap: Option<Rewrap>,
    pub(super) sequence: Number,
    /// Where the request came from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<Source>,
    pub(super) tenant: TenantId,
    pub(super) time: Timestamp,
    /// The API token that was used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_id: Option<TokenId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) truncated_bytes: Option<Number>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) unrecorded: Option<Number>,
    pub(super) v: Version1,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) window: Option<Window>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) withholds: Option<Number>,
    /// SHA-256 of the wrapped key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wrapped_sha256: Option<Digest>,
}

/// A record without its number could not be made into bytes that a log may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the record is larger than an entry may be, or cannot be written as JSON")]
pub(super) struct Unwritable;

/// What a record means for the intents that are open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// Nothing.
    Plain,
    /// It opens one.
    Opens,
    /// It closes the intent with that sequence of the same tenant; `effective` unless it
    /// says that nothing was changed.
    Closes { intent: u64, effective: bool },
    /// It tells of a change that had no intent (a cut while the log was not healthy).
    Effective,
}

/// A record as bytes, complete but for its number.
#[derive(Debug)]
pub(super) struct Stamped {
    pub(super) json: Vec<u8>,
    /// Where in `json` the single byte `0` stands that the number replaces.
    pub(super) number_at: usize,
    pub(super) tenant: TenantId,
    pub(super) time: Timestamp,
    pub(super) role: Role,
}

impl Stamped {
    /// The length of the JSON with that number in it.
    pub(super) fn len(&self) -> usize {
        self.json.len() + DIGITS - 1
    }
}

/// The most digits that a [`Number`] has.
const DIGITS: usize = 16;

/// What stands before the number; see [`Record::stamp`].
const BEFORE_NUMBER: &[u8] = b",\"sequence\":";
/// Where in it the letter `q` stands.
const Q_IN_BEFORE: usize = 4;

impl Record {
    pub(super) fn new(origin: &Origin, tenant: TenantId, operation: Operation) -> Self {
        Self {
            approval: None,
            authn: None,
            cached: None,
            cause: None,
            change: None,
            client_request_id: None,
            coalesced_with: None,
            code: None,
            connection: None,
            context_hash: None,
            context_shown: None,
            counts: None,
            decision: None,
            dek_id: None,
            inside_provider: None,
            installation: origin.installation,
            intent: None,
            item: None,
            justification: None,
            key: None,
            key_version: None,
            kind: Kind::Outcome,
            latency_us: None,
            node: origin.node.clone(),
            operation,
            policy: None,
            principal: None,
            provider: None,
            provider_key_material: None,
            provider_request_id: None,
            request_id: None,
            result: None,
            rewrap: None,
            sequence: Number::default(),
            source: None,
            tenant,
            time: Timestamp::now(),
            token_id: None,
            truncated_bytes: None,
            unrecorded: None,
            v: Version1,
            window: None,
            withholds: None,
            wrapped_sha256: None,
        }
    }

    pub(super) fn with_outcome(mut self, outcome: Outcome) -> Self {
        self.kind = Kind::Outcome;
        self.result = Some(outcome.ending());
        self.code = outcome.code();
        self
    }

    /// The record of an interruption, for the installation's own log.
    pub(super) fn restarted(origin: &Origin, cause: Cause, window: Window) -> Self {
        let mut record = Self::new(origin, TenantId::INSTALLATION, Operation::Internal(Internal::Start));
        record.kind = Kind::Restarted;
        record.cause = Some(cause);
        record.window = Some(window);
        record
    }

    /// Whose log the record stands in.
    pub fn tenant(&self) -> TenantId {
        self.tenant
    }

    /// The record's number in its tenant's log; 0 before it is written.
    pub fn sequence(&self) -> u64 {
        self.sequence.get()
    }

    /// What the record is.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// What was done.
    pub fn operation(&self) -> Operation {
        self.operation
    }

    /// When it was recorded.
    pub fn time(&self) -> Timestamp {
        self.time
    }

    /// The change of state that it is about.
    pub fn change(&self) -> Option<Change> {
        self.change
    }

    /// How the request ended.
    pub fn ending(&self) -> Option<Ending> {
        self.result
    }

    /// The error code that it was answered with.
    pub fn code(&self) -> Option<&str> {
        self.code.as_ref().map(Text::as_str)
    }

    /// What interrupted the log, in a `restarted` record.
    pub fn cause(&self) -> Option<Cause> {
        self.cause
    }

    /// The time that an aggregate or an interruption spans.
    pub fn window(&self) -> Option<Window> {
        self.window
    }

    /// How many records an interruption is known to have cost.
    pub fn unrecorded(&self) -> Option<u64> {
        self.unrecorded.map(Number::get)
    }

    /// How often each code came, in an aggregate.
    pub fn counts(&self) -> impl Iterator<Item = (&str, u64)> {
        self.counts.iter().flatten().map(|(code, count)| (code.as_str(), count.get()))
    }

    /// Whether what it tells of had its effect, or may have had.
    pub fn took_effect(&self) -> bool {
        took_effect(self.result)
    }

    /// The number of the intent that this outcome belongs to.
    pub fn intent(&self) -> Option<u64> {
        self.intent.map(Number::get)
    }

    /// The number of the outcome whose answer was not handed over.
    pub fn withholds(&self) -> Option<u64> {
        self.withholds.map(Number::get)
    }

    /// Writes the record as canonical JSON with the number 0, on the caller's task; the
    /// writer, which alone knows the number, replaces that one byte.
    ///
    /// The place is found without ambiguity: inside of a JSON string a quotation mark is
    /// always preceded by a backslash, so `,"sequence":` can only be a member's name. The
    /// one other object that could hold such a member, `context_shown`, has strings as
    /// values, so there a quotation mark follows and never `0`; and it comes before the
    /// record's own `sequence`, while the search runs from the end.
    pub(super) fn stamp(mut self) -> Result<Stamped, Unwritable> {
        self.sequence = Number::default();
        self.time = Timestamp::now();
        let mut json = Vec::with_capacity(1024);
        serde_json::to_writer(&mut json, &self).map_err(|_| Unwritable)?;
        // Its rarest letter leads to it.
        let begins = |q: usize| q.checked_sub(Q_IN_BEFORE).filter(|at| json[*at..].starts_with(BEFORE_NUMBER));
        let before = memchr::memrchr_iter(b'q', &json).find_map(begins).ok_or(Unwritable)?;
        let stamped = Stamped {
            number_at: before + BEFORE_NUMBER.len(),
            tenant: self.tenant,
            time: self.time,
            role: self.role(),
            json,
        };
        if stamped.len() > MAX_JSON || stamped.json.get(stamped.number_at) != Some(&b'0') {
            return Err(Unwritable);
        }
        Ok(stamped)
    }

    fn role(&self) -> Role {
        role(self.kind, self.intent, self.result, self.change)
    }
}

/// The few members that recovery needs of every record, read without building the rest.
#[derive(Debug, Deserialize)]
pub(super) struct Peek {
    pub(super) installation: InstallationId,
    pub(super) node: Node,
    pub(super) tenant: TenantId,
    pub(super) time: Timestamp,
    pub(super) sequence: Number,
    kind: Kind,
    #[serde(default)]
    intent: Option<Number>,
    #[serde(default)]
    result: Option<Ending>,
    #[serde(default)]
    pub(super) change: Option<Change>,
}

impl Peek {
    pub(super) fn role(&self) -> Role {
        role(self.kind, self.intent, self.result, self.change)
    }
}

/// An interrupted request may have had its effect, so it counts as one that had.
fn took_effect(result: Option<Ending>) -> bool {
    match result {
        Some(Ending::Success | Ending::Interrupted) => true,
        Some(Ending::Denied | Ending::Failed) | None => false,
    }
}

fn role(kind: Kind, intent: Option<Number>, result: Option<Ending>, change: Option<Change>) -> Role {
    let effective = took_effect(result);
    match (kind, intent) {
        (Kind::Intent, _) => Role::Opens,
        (Kind::Outcome, Some(intent)) => Role::Closes {
            intent: intent.get(),
            effective,
        },
        (Kind::Outcome, None) if effective && change.is_some() => Role::Effective,
        (Kind::Outcome | Kind::Withheld | Kind::Aggregate | Kind::Restarted, _) => Role::Plain,
    }
}

/// A record together with its place in the file.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Placed {
    pub(super) position: Position,
    pub(super) record: Record,
}
