//! The audit record and its members.

use std::collections::BTreeMap;

use serde::Deserialize;
#[cfg(test)]
use serde::Serialize;

use claviger_provider::{ConnectionId, DekId, InstallationId, KeyId, MAX_TRACED_CALLS, Node, PrincipalId, ProviderKind, TenantId, TokenId};

use super::action::{Internal, Operation};
use super::durability::Durability;
use super::fields::{
    Authn, Cause, ContextHash, Decision, Ending, Kind, Lost, NetworkChange, Outcome, Policy, ProviderCall, Rewrap, Source, VisibleContext,
    Window,
};
use super::origin::{Origin, Position};
use super::removed::Removed;
use super::role::took_effect;
use super::scalar::{Digest, Number, Text, Timestamp, Version1};
use super::state_change::StateChange;

/// One audit record. [`super::Log::entry`] makes one.
///
/// The caller fills the public members. The log alone sets the others, so that a record is
/// always of the tenant and kind that it names.
///
/// The fields are declared in the order of RFC 8785 (by UTF-16 code units of their names), and
/// `encode` writes them so. An absent member is left out, never `null`. `docs/audit-format.md`
/// defines each member.
#[derive(Debug, Clone, PartialEq, Deserialize)]
// The tests compare what `encode` writes with what serde writes.
#[cfg_attr(test, derive(Serialize))]
pub struct Record {
    /// The id of the approval.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval: Option<Text>,
    /// How the caller was authenticated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authn: Option<Authn>,
    /// Whether the answer came from the DEK cache.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cached: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) cause: Option<Cause>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) change: Option<StateChange>,
    /// The caller's own `X-Request-Id`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_request_id: Option<Text>,
    /// The `request_id` of the request whose provider call served this one too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub coalesced_with: Option<Text>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) code: Option<Text>,
    /// The connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection: Option<ConnectionId>,
    /// Keyed hash of the context.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context_hash: Option<ContextHash>,
    /// The context pairs that the tenant chose to show.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context_shown: Option<VisibleContext>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) counts: Option<BTreeMap<Text, Number>>,
    /// The decision of access control.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision: Option<Decision>,
    /// The data key, on every wrap and unwrap.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dek_id: Option<DekId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) durability: Option<Durability>,
    /// Whether the provider rewrapped without returning the plaintext.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inside_provider: Option<bool>,
    pub(super) installation: InstallationId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) intent: Option<Number>,
    /// The item's index in a batch, from 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub item: Option<Number>,
    /// The caller's justification.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub justification: Option<Text>,
    /// Id of the key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<KeyId>,
    /// The key's version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_version: Option<Number>,
    pub(super) kind: Kind,
    /// The time from the request's arrival to the record, in microseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency_us: Option<Number>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) lost: Option<Lost>,
    /// The network settings of a connection before and after a change of them. Boxed, since it is rare.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<Box<NetworkChange>>,
    pub(super) node: Node,
    pub(super) operation: Operation,
    /// The policy that decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<Policy>,
    /// The caller.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub principal: Option<PrincipalId>,
    /// The provider of the key or connection, whether it was called or not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<ProviderKind>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) provider_calls: Option<Vec<ProviderCall>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) provider_calls_omitted: Option<Number>,
    /// Which key material the provider used, if the ciphertext does not name it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider_key_material: Option<Text>,
    /// The provider's request id of the call that wrapped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider_request_id: Option<Text>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) removed: Option<Box<Removed>>,
    /// The gateway's request id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<Text>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) result: Option<Ending>,
    /// The wrapped keys of a rewrap.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rewrap: Option<Rewrap>,
    pub(super) sequence: Number,
    /// The network origin of the request.
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
            durability: None,
            inside_provider: None,
            installation: origin.installation,
            intent: None,
            item: None,
            justification: None,
            key: None,
            key_version: None,
            kind: Kind::Outcome,
            latency_us: None,
            lost: None,
            network: None,
            node: origin.node.clone(),
            operation,
            policy: None,
            principal: None,
            provider: None,
            provider_calls: None,
            provider_calls_omitted: None,
            provider_key_material: None,
            provider_request_id: None,
            removed: None,
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

    /// Sets the calls to the provider. The record has the first [`MAX_TRACED_CALLS`] of them;
    /// `omitted` counts those that the caller left out.
    pub fn set_provider_calls(&mut self, mut calls: Vec<claviger_provider::ProviderCall>, omitted: u64) {
        let beyond = calls.len().saturating_sub(MAX_TRACED_CALLS) as u64;
        calls.truncate(MAX_TRACED_CALLS);
        let omitted = omitted.saturating_add(beyond);
        self.provider_calls = (!calls.is_empty()).then(|| calls.into_iter().map(ProviderCall::from).collect());
        self.provider_calls_omitted = (omitted > 0).then(|| Number::saturating(omitted));
    }

    /// The record of an interruption, for the installation's own log.
    pub(super) fn restarted(origin: &Origin, durability: Durability, cause: Cause, window: Window) -> Self {
        let mut record = Self::new(origin, TenantId::INSTALLATION, Operation::Internal(Internal::Start));
        record.kind = Kind::Restarted;
        record.cause = Some(cause);
        record.durability = Some(durability);
        record.window = Some(window);
        record
    }

    /// The record of a part of the file that was lost in that time span.
    pub(super) fn log_lost(origin: &Origin, durability: Durability, lost: Lost, window: Window) -> Self {
        let mut record = Self::restarted(origin, durability, Cause::LogLost, window);
        record.lost = Some(lost);
        record
    }

    /// A record of the removal of the log's oldest files, whose records are of that time span.
    pub(super) fn removed(origin: &Origin, removed: Removed, window: Option<Window>) -> Self {
        let mut record = Self::new(origin, TenantId::INSTALLATION, Operation::Internal(Internal::RemoveSegment));
        record.authn = Some(Authn::Gateway);
        record.removed = Some(Box::new(removed));
        record.window = window;
        record.with_outcome(Outcome::Success)
    }

    /// The tenant whose log the record is part of.
    pub fn tenant(&self) -> TenantId {
        self.tenant
    }

    /// The record's number in the tenant's log; 0 before the record is written.
    pub fn sequence(&self) -> u64 {
        self.sequence.get()
    }

    /// The kind of record.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The operation.
    pub fn operation(&self) -> Operation {
        self.operation
    }

    /// The time of recording.
    pub fn time(&self) -> Timestamp {
        self.time
    }

    /// The change of state, if the operation makes one.
    pub fn change(&self) -> Option<StateChange> {
        self.change
    }

    /// The result of the request.
    pub fn ending(&self) -> Option<Ending> {
        self.result
    }

    /// The error code of the response.
    pub fn code(&self) -> Option<&str> {
        self.code.as_ref().map(Text::as_str)
    }

    /// What interrupted the log, in a `restarted` record.
    pub fn cause(&self) -> Option<Cause> {
        self.cause
    }

    /// What records survived that were written under the settings of this start, in a `restarted`
    /// record.
    pub fn durability(&self) -> Option<Durability> {
        self.durability
    }

    /// The time span of an aggregate or an interruption.
    pub fn window(&self) -> Option<Window> {
        self.window
    }

    /// The part of the log's file that is gone, in a `restarted` record.
    pub fn lost(&self) -> Option<Lost> {
        self.lost
    }

    /// How many records an interruption is known to have lost.
    pub fn unrecorded(&self) -> Option<u64> {
        self.unrecorded.map(Number::get)
    }

    /// How often each code was answered, in an aggregate.
    pub fn counts(&self) -> impl Iterator<Item = (&str, u64)> {
        self.counts.iter().flatten().map(|(code, count)| (code.as_str(), count.get()))
    }

    /// The calls to the provider.
    pub fn provider_calls(&self) -> &[ProviderCall] {
        self.provider_calls.as_deref().unwrap_or_default()
    }

    /// How many calls to the provider the record leaves out.
    pub fn provider_calls_omitted(&self) -> u64 {
        self.provider_calls_omitted.map_or(0, Number::get)
    }

    /// Whether the recorded operation had its effect, or may have had.
    pub fn took_effect(&self) -> bool {
        took_effect(self.result)
    }

    /// The sequence number of the intent that this outcome closes.
    pub fn intent(&self) -> Option<u64> {
        self.intent.map(Number::get)
    }

    /// The sequence number of the outcome whose response was not sent.
    pub fn withholds(&self) -> Option<u64> {
        self.withholds.map(Number::get)
    }
}

/// A record and its offset in the file.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Placed {
    pub(super) position: Position,
    pub(super) record: Record,
}
