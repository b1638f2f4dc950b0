//! What is known of one request, and what its record will say.

use std::sync::Arc;
use std::time::{Duration, Instant};

use claviger_provider::{CallTrace, ConnectionId, DekId, KeyId, OpContext, ProviderKind, TenantId, TracedCalls};
use parking_lot::Mutex;

use super::Failure;
use crate::access::{Action, Caller, Operation, Permit, PolicyRef};
use crate::audit::{ContextHash, Digest, EmergencyRevocation, Intent, Rewrap};

/// What every record of one request has in common. A batch's items share it.
#[derive(Debug)]
pub struct RequestInfo {
    /// Ours; 32 hex digits.
    pub request_id: String,
    /// The caller's own, if it was well-formed.
    pub client_request_id: Option<String>,
    /// Why, in the caller's words; at most 256 printable ASCII.
    pub justification: Option<String>,
    /// When the request's head had arrived.
    pub started: Instant,
    /// No answer is of use after this.
    pub deadline: Instant,
}

/// What a record says of an operation, gathered while it runs. Ids only, never names of
/// people, secrets or context values.
#[derive(Debug, Default, Clone)]
#[allow(
    missing_docs,
    reason = "each is the record's member of that name, described in docs/audit-format.md"
)]
pub struct AuditFields {
    pub key: Option<KeyId>,
    pub key_version: Option<u32>,
    pub dek_id: Option<DekId>,
    pub connection: Option<ConnectionId>,
    pub provider: Option<ProviderKind>,
    pub provider_key_material: Option<String>,
    pub provider_request_id: Option<String>,
    pub policy: Option<PolicyRef>,
    pub context_hash: Option<ContextHash>,
    pub wrapped_sha256: Option<Digest>,
    pub rewrap: Option<Rewrap>,
    pub inside_provider: Option<bool>,
    pub cached: Option<bool>,
    pub coalesced_with: Option<String>,
    /// The blob carried no seal of this installation: recorded as `UnwrapUnsealed`.
    pub unsealed: bool,
    /// Which action it turned out to be, where the route allows for several.
    pub action: Option<Action>,
    /// The place in a batch, from 0.
    pub item: Option<u32>,
    /// The calls to providers; absent before the first operation at a provider.
    pub provider_calls: Option<Arc<CallTrace>>,
}

/// One operation under way: who asks for what, and the fields so far. Cloning shares them.
#[derive(Debug, Clone)]
pub struct RequestContext {
    caller: Arc<Caller>,
    action: Action,
    info: Arc<RequestInfo>,
    fields: Arc<Mutex<AuditFields>>,
    effect: Arc<Mutex<Option<Effect>>>,
}

/// The change of state that an operation makes, until its outcome is recorded.
#[derive(Debug)]
pub enum Effect {
    /// Announced in the log.
    Announced(Box<Intent>),
    /// A revocation that took effect although the log could not take its intent.
    Unannounced(EmergencyRevocation),
}

impl RequestContext {
    /// An operation of a request.
    pub fn new(caller: Arc<Caller>, action: Action, info: Arc<RequestInfo>) -> Self {
        Self {
            caller,
            action,
            info,
            fields: Arc::default(),
            effect: Arc::default(),
        }
    }

    /// Another operation of the same request, with fields of its own (an item of a batch).
    #[must_use]
    pub fn item(&self, place: u32) -> Self {
        let fields = AuditFields {
            item: Some(place),
            ..AuditFields::default()
        };
        Self {
            fields: Arc::new(Mutex::new(fields)),
            effect: Arc::default(),
            ..self.clone()
        }
    }

    /// Who asks.
    pub const fn caller(&self) -> &Arc<Caller> {
        &self.caller
    }

    /// In which tenant.
    pub fn tenant(&self) -> TenantId {
        self.caller.tenant()
    }

    /// The action that the route is for.
    pub const fn action(&self) -> Action {
        self.action
    }

    /// Holds keys and connections apart from the installation's own things.
    ///
    /// # Errors
    /// `invalid_request` for an operator who named no tenant.
    pub fn require_tenant(&self) -> Result<(), Failure> {
        if self.tenant() == TenantId::INSTALLATION {
            return Err(Failure::invalid("header:Claviger-Tenant", "the name of the tenant to act for"));
        }
        Ok(())
    }

    pub(super) fn set_effect(&self, effect: Effect) {
        *self.effect.lock() = Some(effect);
    }

    pub(super) fn take_effect(&self) -> Option<Effect> {
        self.effect.lock().take()
    }

    /// The request.
    pub const fn info(&self) -> &Arc<RequestInfo> {
        &self.info
    }

    /// Adds to the fields.
    pub fn note(&self, add: impl FnOnce(&mut AuditFields)) {
        add(&mut self.fields.lock());
    }

    /// Notes the policy that permitted the operation: the record says `allow` from then on.
    pub fn permitted<O: Operation>(&self, permit: &Permit<O>) {
        self.note(|fields| fields.policy = Some(permit.policy().clone()));
    }

    /// The fields so far.
    pub fn fields(&self) -> AuditFields {
        self.fields.lock().clone()
    }

    /// What a provider call carries. The calls of all its operations are in one record.
    pub fn op_context(&self) -> OpContext {
        let actor = self.caller.principal().to_string();
        let trace = Arc::clone(self.fields.lock().provider_calls.get_or_insert_default());
        OpContext::new(self.info.request_id.clone(), self.tenant(), actor, self.info.deadline).with_trace(trace)
    }

    /// Takes the calls to providers so far, for the record.
    pub(super) fn take_calls(&self) -> TracedCalls {
        let trace = self.fields.lock().provider_calls.clone();
        trace.map(|trace| trace.take()).unwrap_or_default()
    }

    /// How long it has been going on.
    pub fn elapsed(&self) -> Duration {
        self.info.started.elapsed()
    }
}
