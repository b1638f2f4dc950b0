//! One operation under way: the request, the caller, and what the audit record will say.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use claviger_provider::{CallTrace, ConnectionId, DekId, OpContext, Purpose, TenantId, TracedCalls};
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::admit::Subject;
use super::turns::{Turn, Turns};
use super::{Code, Failure};
use crate::access::{Action, Caller};
use crate::audit::{ContextHash, Digest, Intent, JournaledRevocation, NetworkChange, Rewrap, Text};

/// What all records of one request have in common: the items of a batch share it.
#[derive(Debug)]
pub struct RequestInfo {
    /// The gateway's id of the request: 32 hex digits.
    pub request_id: Text,
    /// The caller's own id of the request, if it was well-formed.
    pub client_request_id: Option<Text>,
    /// The reason that the caller stated; at most 256 printable ASCII characters.
    pub justification: Option<Text>,
    /// When the request's head arrived.
    pub started: Instant,
    /// The caller waits no longer than until this time.
    pub deadline: Instant,
}

/// What a record says of how an operation went, gathered while it runs; its object and the
/// decision are in the [`Subject`]. Ids only, never names of people, secrets or context values.
#[derive(Debug, Default, Clone)]
#[allow(
    missing_docs,
    reason = "each is the record's member of that name, described in docs/audit-format.md"
)]
pub struct AuditFields {
    pub key_version: Option<u32>,
    pub dek_id: Option<DekId>,
    pub provider_key_material: Option<String>,
    pub provider_request_id: Option<String>,
    pub context_hash: Option<ContextHash>,
    pub wrapped_sha256: Option<Digest>,
    pub rewrap: Option<Rewrap>,
    pub inside_provider: Option<bool>,
    pub cached: Option<bool>,
    pub coalesced_with: Option<String>,
    pub network: Option<Box<NetworkChange>>,
    /// The item's place in a batch, from 0.
    pub item: Option<u32>,
    /// The calls to providers; absent before the first operation at a provider.
    pub provider_calls: Option<Arc<CallTrace>>,
}

/// Everything that is known for the record so far.
#[derive(Debug, Clone)]
pub(super) struct Noted {
    /// The action, the object and the decision.
    pub subject: Subject,
    /// How the operation went.
    pub fields: AuditFields,
}

/// One operation under way: who asks for what, and what its record will say. Clones share it.
#[derive(Debug, Clone)]
pub struct RequestContext {
    request: Arc<Request>,
    operation: Arc<OperationState>,
}

/// What all operations of a request have in common.
#[derive(Debug)]
struct Request {
    caller: Caller,
    action: Action,
    info: RequestInfo,
}

/// What one operation has of its own.
#[derive(Debug)]
struct OperationState {
    noted: Mutex<Noted>,
    effect: Mutex<Option<Effect>>,
    /// Whether it is a revocation that ends the caller's own credential.
    ended_itself: AtomicBool,
    /// The id of what it has revoked; `None` of what an earlier request has revoked.
    revoked: OnceLock<Option<[u8; 16]>>,
    unfinished: OnceLock<Code>,
    /// Whether the store has noted what is to be found out at a provider.
    noted_at_provider: AtomicBool,
    turns: Option<Arc<Turns>>,
}

/// The change of state that an operation makes, until its outcome is recorded.
#[derive(Debug)]
pub enum Effect {
    /// Announced in the log.
    Announced(Box<Intent>),
    /// A revocation that took effect although the log could not take its intent; and who waits for the store to have it.
    Unannounced(JournaledRevocation, Option<oneshot::Sender<()>>),
    /// A revocation that is in force already, and stored.
    Repeated,
}

/// On whose behalf a provider is called.
#[derive(Debug, Clone, Copy)]
pub(super) enum Behalf<'a> {
    /// Of the caller of a request.
    Request(&'a RequestContext),
    /// Of nobody but the gateway, which does what this names.
    Gateway(&'a str),
}

impl RequestContext {
    /// An operation of a request. `action` is recorded unless admission names another one.
    pub fn new(caller: Caller, action: Action, info: RequestInfo) -> Self {
        let request = Arc::new(Request { caller, action, info });
        Self::of(request, AuditFields::default(), None)
    }

    /// An item of a batch: an operation of the same request with a record of its own.
    pub(super) fn item(&self, place: u32, turns: Arc<Turns>) -> Self {
        let fields = AuditFields {
            item: Some(place),
            ..AuditFields::default()
        };
        Self::of(Arc::clone(&self.request), fields, Some(turns))
    }

    fn of(request: Arc<Request>, fields: AuditFields, turns: Option<Arc<Turns>>) -> Self {
        let subject = Subject::undecided(request.action);
        let operation = OperationState {
            noted: Mutex::new(Noted { subject, fields }),
            effect: Mutex::new(None),
            ended_itself: AtomicBool::new(false),
            revoked: OnceLock::new(),
            unfinished: OnceLock::new(),
            noted_at_provider: AtomicBool::new(false),
            turns,
        };
        Self {
            request,
            operation: Arc::new(operation),
        }
    }

    /// Who asks.
    pub fn caller(&self) -> &Caller {
        &self.request.caller
    }

    /// The tenant that the request acts for.
    pub fn tenant(&self) -> TenantId {
        self.caller().tenant()
    }

    /// Refuses a request that acts for no tenant, because only tenants have keys and connections.
    ///
    /// # Errors
    /// `invalid_request` for an operator who named no tenant.
    pub(super) fn require_tenant(&self) -> Result<(), Failure> {
        if self.tenant() == TenantId::INSTALLATION {
            return Err(Failure::invalid(
                "header:Claviger-Tenant",
                "the name of the tenant to act for (in the CLI: --tenant or CLAVIGER_TENANT)",
            ));
        }
        Ok(())
    }

    pub(super) fn set_effect(&self, effect: Effect) {
        *self.operation.effect.lock() = Some(effect);
    }

    /// Notes that the store has the revocation that the operation makes.
    pub(super) fn note_stored(&self) {
        if let Some(Effect::Unannounced(_, waiting)) = &mut *self.operation.effect.lock()
            && let Some(waiting) = waiting.take()
        {
            // Nobody waits if the log took no intent.
            let _ = waiting.send(());
        }
    }

    /// Whether the operation has announced a change, or made one.
    pub(super) fn has_effect(&self) -> bool {
        self.operation.effect.lock().is_some()
    }

    pub(super) fn set_ended_itself(&self) {
        self.operation.ended_itself.store(true, Ordering::Relaxed);
    }

    /// Whether it was a revocation that ended the caller's own credential.
    pub(super) fn ended_itself(&self) -> bool {
        self.operation.ended_itself.load(Ordering::Relaxed)
    }

    /// Notes what the operation has revoked: it is answered once no response arrives any more that depends on it.
    pub(super) fn set_revoked(&self, id: [u8; 16]) {
        self.operation.revoked.get_or_init(|| Some(id));
    }

    /// The same for what an earlier request has revoked, which may not be answered yet.
    pub(super) fn set_revoked_earlier(&self) {
        self.operation.revoked.get_or_init(|| None);
    }

    /// What the operation has revoked.
    pub(super) fn revoked(&self) -> Option<Option<[u8; 16]>> {
        self.operation.revoked.get().copied()
    }

    /// Whether its answer may be handed over while the tenant that an operator acts for is suspended.
    pub(super) fn may_answer_suspended(&self) -> bool {
        self.operation.noted.lock().subject.while_suspended()
    }

    pub(super) fn take_effect(&self) -> Option<Effect> {
        self.operation.effect.lock().take()
    }

    /// Notes why a part was not done of what is answered nevertheless: the outcome is recorded as failed.
    pub(super) fn set_unfinished(&self, code: Code) {
        self.operation.unfinished.get_or_init(|| code);
    }

    /// Why a part was not done, if so.
    pub(super) fn unfinished(&self) -> Option<Code> {
        self.operation.unfinished.get().copied()
    }

    /// Notes that the store has what is to be found out at a provider after an interrupted change, or that there is
    /// nothing. Without it, the next start finds the change in the log.
    pub(super) fn set_noted(&self) {
        self.operation.noted_at_provider.store(true, Ordering::Relaxed);
    }

    /// Whether nothing but the store is needed to find out what became of a change at a provider.
    pub(super) fn is_noted(&self) -> bool {
        self.operation.noted_at_provider.load(Ordering::Relaxed)
    }

    /// The request.
    pub fn info(&self) -> &RequestInfo {
        &self.request.info
    }

    /// Whether the caller waits no longer.
    pub(super) fn is_late(&self) -> bool {
        Instant::now() >= self.info().deadline
    }

    /// Adds to what the record will say of how the operation went.
    pub(super) fn note(&self, add: impl FnOnce(&mut AuditFields)) {
        add(&mut self.operation.noted.lock().fields);
    }

    /// Looks at the record's subject. Only admission can change it.
    pub(super) fn subject<R>(&self, look: impl FnOnce(&mut Subject) -> R) -> R {
        look(&mut self.operation.noted.lock().subject)
    }

    /// What the record says so far.
    pub(super) fn noted(&self) -> Noted {
        self.operation.noted.lock().clone()
    }

    /// Waits, in a batch, until fewer than the allowed number of its items use this connection.
    /// The connection counts as used until the turn is dropped. A single operation never waits.
    ///
    /// # Errors
    /// `deadline_exceeded`.
    pub(super) async fn turn(&self, connection: ConnectionId) -> Result<Turn, Failure> {
        match &self.operation.turns {
            None => Ok(Turn::default()),
            Some(turns) => turns.take(connection, self.info().deadline).await,
        }
    }

    /// What a provider call needs to know of the request. The calls of all its operations are in
    /// one record.
    pub fn op_context(&self) -> OpContext {
        let (info, actor) = (self.info(), self.caller().principal().to_string());
        let trace = Arc::clone(self.operation.noted.lock().fields.provider_calls.get_or_insert_default());
        OpContext::new(info.request_id.as_str().to_owned(), self.tenant(), actor, info.deadline)
            .serving(purpose(self.request.action))
            .justified_by(info.justification.as_ref().map(|text| text.as_str().to_owned()))
            .with_trace(trace)
    }

    /// Whether a provider may have carried out a change that it did not confirm.
    pub(super) fn provider_outcome_unknown(&self) -> bool {
        self.trace().is_some_and(|trace| trace.is_unclear())
    }

    /// Whether a provider has carried out a change, or may have.
    pub(super) fn provider_may_have_changed(&self) -> bool {
        self.trace().is_some_and(|trace| trace.is_unclear() || trace.confirmed() > 0)
    }

    fn trace(&self) -> Option<Arc<CallTrace>> {
        self.operation.noted.lock().fields.provider_calls.clone()
    }

    /// Takes the calls to providers so far, for the record.
    pub(super) fn take_calls(&self) -> TracedCalls {
        self.trace().map(|trace| trace.take()).unwrap_or_default()
    }

    /// The time since the request's head arrived.
    pub fn elapsed(&self) -> Duration {
        self.info().started.elapsed()
    }
}

/// What a request is for, as external key managers see it; `None` where it handles no data key.
const fn purpose(action: Action) -> Option<Purpose> {
    match action {
        Action::GenerateDataKey | Action::GenerateDataKeyWithoutPlaintext => Some(Purpose::GenerateDataKey),
        Action::Wrap => Some(Purpose::Wrap),
        Action::Unwrap | Action::UnwrapUnsealed => Some(Purpose::Unwrap),
        Action::Rewrap | Action::RewrapFrom | Action::RewrapTo => Some(Purpose::Rewrap),
        Action::CreateConnection
        | Action::ReadConnection
        | Action::UpdateConnection
        | Action::DeleteConnection
        | Action::CreateKey
        | Action::ReadKey
        | Action::UpdateKey
        | Action::DeleteKey
        | Action::CheckConnection
        | Action::Sever
        | Action::Restore
        | Action::Rotate
        | Action::Enable
        | Action::Disable
        | Action::Inspect
        | Action::BindScope
        | Action::ManageTenants
        | Action::ManagePrincipals
        | Action::ManageTokens
        | Action::ManageIssuers
        | Action::ManagePolicies
        | Action::ManageLimits
        | Action::Explain
        | Action::ReadAudit => None,
    }
}
