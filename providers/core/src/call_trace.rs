//! The calls that an adapter makes to its provider, as the audit log shows them: the owner of a key
//! matches their provider's log with ours by the provider's own request ids.
//!
//! A call that serves one operation is kept in that operation's [`crate::OpContext`]. A call that
//! serves no single operation (a login, a renewal, a poll) goes to the connection's
//! [`BackgroundCalls`]. Either way the adapter reports it in one place, through a [`CallSink`].

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use parking_lot::Mutex;

use crate::{ConnectionId, ErrorKind, TenantId};

/// The most calls of one operation that are kept; further ones are counted.
pub const MAX_TRACED_CALLS: usize = 8;
/// The longest provider request id, in bytes. A longer one is dropped.
pub const MAX_REQUEST_ID: usize = 256;

/// The result of one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallResult {
    /// The provider did what was asked.
    Ok,
    /// The call failed with an error of this kind.
    Error(ErrorKind),
    /// The call failed with an error of this kind and certainly changed nothing: the provider refused it, or
    /// never received it.
    WithoutEffect(ErrorKind),
    /// Nobody waited for the response any more, because the attempt's time was over or the connection was
    /// severed.
    Abandoned,
}

impl CallResult {
    /// The result of a call whose error means what `failed` returns.
    pub fn of<T, E>(result: &Result<T, E>, failed: impl FnOnce(&E) -> Self) -> Self {
        match result {
            Ok(_) => Self::Ok,
            Err(error) => failed(error),
        }
    }

    /// The word in the audit record: `ok`, `abandoned` or that of the error's kind.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Error(kind) | Self::WithoutEffect(kind) => kind.as_str(),
            Self::Abandoned => "abandoned",
        }
    }

    /// Whether the provider cannot have done what was asked: it refused, or never received the call.
    pub const fn rules_out_effect(self) -> bool {
        match self {
            Self::Ok | Self::Abandoned => false,
            Self::WithoutEffect(_) => true,
            Self::Error(kind) => match kind {
                // No response, one that says nothing, or a failure of the service, which may come after its work.
                ErrorKind::UpstreamUnavailable
                | ErrorKind::UpstreamProtocol
                | ErrorKind::UpstreamTimeout
                | ErrorKind::Crowded
                | ErrorKind::Severed
                | ErrorKind::Internal => false,
                ErrorKind::InvalidInput
                | ErrorKind::KeyNotFound
                | ErrorKind::Conflict
                | ErrorKind::KeyState
                | ErrorKind::TooLarge
                | ErrorKind::CiphertextRejected
                | ErrorKind::RateLimited
                | ErrorKind::ProviderDenied
                | ErrorKind::ExternalDenied
                | ErrorKind::CircuitOpen
                | ErrorKind::Unsupported
                | ErrorKind::Misconfigured => true,
            },
        }
    }
}

/// One call to a provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProviderCall {
    /// The provider's name of the operation, such as `Decrypt` or `transit/decrypt`.
    pub operation: &'static str,
    /// The provider's own id of the call, where its response carries one: at most
    /// [`MAX_REQUEST_ID`] bytes of printable ASCII. Of a health check without one, the id that the gateway sent.
    pub request_id: Option<String>,
    /// The result.
    pub result: CallResult,
}

impl ProviderCall {
    /// A call as the record takes it. A request id that is no printable ASCII or too long is
    /// dropped, because the provider chose the text. A call that a sever ended is [`CallResult::Abandoned`].
    pub fn new(operation: &'static str, request_id: Option<&str>, result: CallResult) -> Self {
        let result = match result {
            CallResult::Error(ErrorKind::Severed) => CallResult::Abandoned,
            CallResult::WithoutEffect(kind) => CallResult::Error(kind),
            result => result,
        };
        let printable = |id: &&str| (1..=MAX_REQUEST_ID).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic());
        Self {
            operation,
            request_id: request_id.filter(printable).map(str::to_owned),
            result,
        }
    }
}

/// The calls of one operation.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct TracedCalls {
    /// The first [`MAX_TRACED_CALLS`], in the order in which they ended; retries included.
    pub calls: Vec<ProviderCall>,
    /// Number of further calls that are not listed.
    pub omitted: u32,
}

/// Collects the calls of one operation, and whether they changed something at the provider. Allocates
/// nothing until the first call.
#[derive(Debug, Default)]
pub struct CallTrace {
    calls: Mutex<TracedCalls>,
    /// The calls of [`Attempt::changing`] whose outcome is not known.
    unclear: AtomicU32,
    /// Those that the provider carried out.
    done: AtomicU32,
}

impl CallTrace {
    /// Adds a call, or counts it where there are [`MAX_TRACED_CALLS`] already.
    pub fn record(&self, call: ProviderCall) {
        let mut traced = self.calls.lock();
        if traced.calls.len() < MAX_TRACED_CALLS {
            traced.calls.push(call);
        } else {
            traced.omitted = traced.omitted.saturating_add(1);
        }
    }

    /// How many calls were added so far.
    pub fn made(&self) -> u64 {
        let traced = self.calls.lock();
        traced.calls.len() as u64 + u64::from(traced.omitted)
    }

    /// Takes the calls out, for the record; the trace is empty afterwards.
    pub fn take(&self) -> TracedCalls {
        std::mem::take(&mut *self.calls.lock())
    }

    /// Whether it is not known if the provider carried out a change: it was asked and neither confirmed
    /// nor refused, or it did a part of an operation that failed.
    pub fn is_unclear(&self) -> bool {
        self.unclear.load(Ordering::Relaxed) > 0
    }

    /// The changes that the provider confirmed.
    pub fn confirmed(&self) -> u32 {
        self.done.load(Ordering::Relaxed)
    }

    /// Notes that an operation failed after the provider had carried out a part of it.
    pub fn set_unclear(&self) {
        self.unclear.fetch_add(1, Ordering::Relaxed);
    }
}

/// Receives the calls that serve no single operation. The gateway implements it and gives it to each
/// connection in [`crate::ConnectionParts`].
pub trait BackgroundCalls: Send + Sync + 'static {
    /// A call of the tenant's connection has ended. Must not block.
    fn called(&self, tenant: TenantId, connection: ConnectionId, call: ProviderCall);
}

/// Reports the background calls of one connection.
#[derive(Clone)]
pub struct BackgroundTrace {
    tenant: TenantId,
    connection: ConnectionId,
    observer: Option<Arc<dyn BackgroundCalls>>,
}

impl BackgroundTrace {
    /// Reports calls of this connection to `observer`; to nobody where it is `None`.
    pub fn new(tenant: TenantId, connection: ConnectionId, observer: Option<Arc<dyn BackgroundCalls>>) -> Self {
        Self {
            tenant,
            connection,
            observer,
        }
    }

    /// The connection's owner.
    pub(crate) const fn tenant(&self) -> TenantId {
        self.tenant
    }

    /// Reports a call.
    pub fn record(&self, call: ProviderCall) {
        if let Some(observer) = &self.observer {
            observer.called(self.tenant, self.connection, call);
        }
    }
}

impl std::fmt::Debug for BackgroundTrace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BackgroundTrace")
            .field("tenant", &self.tenant)
            .field("connection", &self.connection)
            .finish_non_exhaustive()
    }
}

/// Receives the reports of calls.
#[derive(Debug, Clone, Copy)]
pub enum CallSink<'a> {
    /// The operation that the calls serve.
    Operation(&'a CallTrace),
    /// The connection's observer, for calls that serve no single operation.
    Background(&'a BackgroundTrace),
}

impl<'a> CallSink<'a> {
    /// Begins one attempt of a call. Its [`Attempt::finish`] reports it.
    pub fn begin(self, operation: &'static str) -> Attempt<'a> {
        Attempt {
            sink: self,
            operation,
            changing: false,
            finished: false,
        }
    }

    fn record(self, call: ProviderCall) {
        match self {
            Self::Operation(trace) => trace.record(call),
            Self::Background(trace) => trace.record(call),
        }
    }
}

impl<'a> From<&'a BackgroundTrace> for CallSink<'a> {
    fn from(trace: &'a BackgroundTrace) -> Self {
        Self::Background(trace)
    }
}

/// One attempt of a call under way. Dropped without [`Attempt::finish`], as when the pipeline
/// ends an attempt that takes too long, it is reported as [`CallResult::Abandoned`].
#[derive(Debug)]
pub struct Attempt<'a> {
    sink: CallSink<'a>,
    operation: &'static str,
    changing: bool,
    finished: bool,
}

impl Attempt<'_> {
    /// The call changes something at the provider. Until it is refused, its outcome is unclear.
    #[must_use]
    pub fn changing(mut self) -> Self {
        self.changing = true;
        if let CallSink::Operation(trace) = self.sink {
            trace.unclear.fetch_add(1, Ordering::Relaxed);
        }
        self
    }

    /// Reports the attempt with the provider's request id, where the response carries one.
    pub fn finish(mut self, request_id: Option<&str>, result: CallResult) {
        self.finished = true;
        if let (CallSink::Operation(trace), true) = (self.sink, self.changing) {
            if result == CallResult::Ok {
                trace.done.fetch_add(1, Ordering::Relaxed);
            }
            if result == CallResult::Ok || result.rules_out_effect() {
                trace.unclear.fetch_sub(1, Ordering::Relaxed);
            }
        }
        self.sink.record(ProviderCall::new(self.operation, request_id, result));
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        if !self.finished {
            self.sink.record(ProviderCall::new(self.operation, None, CallResult::Abandoned));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use parking_lot::Mutex;

    use super::{BackgroundCalls, BackgroundTrace, CallResult, CallSink, CallTrace, MAX_TRACED_CALLS, ProviderCall};
    use crate::{ConnectionId, ErrorKind, TenantId};

    #[test]
    fn keeps_the_first_calls_and_counts_the_rest() {
        let trace = CallTrace::default();
        for number in 0..MAX_TRACED_CALLS + 3 {
            CallSink::Operation(&trace)
                .begin("Decrypt")
                .finish(Some(&number.to_string()), CallResult::Ok);
        }
        let traced = trace.take();
        let ids: Vec<_> = traced.calls.iter().filter_map(|call| call.request_id.as_deref()).collect();
        assert_eq!((ids, traced.omitted), (vec!["0", "1", "2", "3", "4", "5", "6", "7"], 3));
        assert_eq!(trace.take().calls, []);
    }

    #[test]
    fn an_attempt_that_is_dropped_is_reported_as_abandoned() {
        let trace = CallTrace::default();
        drop(CallSink::Operation(&trace).begin("Encrypt"));
        assert_eq!(trace.take().calls, [ProviderCall::new("Encrypt", None, CallResult::Abandoned)]);
    }

    #[test]
    fn a_change_is_unclear_until_it_is_confirmed_or_refused() {
        for (result, unclear, confirmed) in [
            (Some(CallResult::Ok), false, 1),
            (Some(CallResult::Error(ErrorKind::ProviderDenied)), false, 0),
            (Some(CallResult::WithoutEffect(ErrorKind::UpstreamUnavailable)), false, 0),
            (Some(CallResult::Error(ErrorKind::UpstreamUnavailable)), true, 0),
            (Some(CallResult::Error(ErrorKind::UpstreamTimeout)), true, 0),
            (Some(CallResult::Error(ErrorKind::UpstreamProtocol)), true, 0),
            (None, true, 0),
        ] {
            let trace = CallTrace::default();
            CallSink::Operation(&trace).begin("Describe").finish(None, CallResult::Abandoned);
            assert!(!trace.is_unclear(), "a read changes nothing");
            let attempt = CallSink::Operation(&trace).begin("Rotate").changing();
            assert!(trace.is_unclear());
            match result {
                Some(result) => attempt.finish(None, result),
                None => drop(attempt),
            }
            assert_eq!((trace.is_unclear(), trace.confirmed()), (unclear, confirmed), "{result:?}");
        }
    }

    #[test]
    fn a_request_id_that_is_no_printable_text_is_dropped() {
        for id in ["", "a b", "a\nb", "\u{e4}", &"a".repeat(257)] {
            assert_eq!(ProviderCall::new("Decrypt", Some(id), CallResult::Ok).request_id, None, "{id:?}");
        }
    }

    #[derive(Default)]
    struct Seen(Mutex<Vec<(TenantId, ConnectionId, ProviderCall)>>);

    impl BackgroundCalls for Seen {
        fn called(&self, tenant: TenantId, connection: ConnectionId, call: ProviderCall) {
            self.0.lock().push((tenant, connection, call));
        }
    }

    #[test]
    fn a_background_call_names_its_connection() {
        let (tenant, connection, seen) = (TenantId::random(), ConnectionId::random(), Arc::new(Seen::default()));
        let trace = BackgroundTrace::new(tenant, connection, Some(Arc::clone(&seen) as Arc<dyn BackgroundCalls>));
        let refused = CallResult::Error(ErrorKind::ProviderDenied);
        CallSink::from(&trace).begin("AssumeRole").finish(Some("id-1"), refused);
        let call = ProviderCall::new("AssumeRole", Some("id-1"), refused);
        assert_eq!(*seen.0.lock(), [(tenant, connection, call)]);
    }
}
