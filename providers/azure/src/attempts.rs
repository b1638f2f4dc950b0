//! Reports each HTTP request that the SDK sends during one call.
//!
//! The SDK's transport learns nothing of the operation that it serves, and one call may send
//! several requests. So [`traced`] runs the call with a task-local list, the transport adds its
//! requests to it, and the list is reported at the end of the call.

use std::sync::Arc;

use claviger_provider::{CallResult, CallSink, LoginWait, OpContext};
use parking_lot::Mutex;

struct Attempt {
    request_id: Option<String>,
    result: CallResult,
}

type Attempts = Arc<Mutex<Vec<Attempt>>>;

tokio::task_local! {
    static ATTEMPTS: Attempts;
    static LOGIN: LoginWait;
}

/// Reports the attempts when it is dropped: also when the pipeline abandons the call.
struct Reporter<'a> {
    sink: CallSink<'a>,
    operation: &'static str,
    attempts: Attempts,
}

/// The calls that change something in the vault.
const CHANGING: [&str; 3] = ["KeyCreate", "KeyRotate", "KeyUpdate"];

impl Drop for Reporter<'_> {
    fn drop(&mut self) {
        for attempt in self.attempts.lock().drain(..) {
            let begun = self.sink.begin(self.operation);
            let begun = if CHANGING.contains(&self.operation) {
                begun.changing()
            } else {
                begun
            };
            begun.finish(attempt.request_id.as_deref(), attempt.result);
        }
    }
}

/// Runs a call of the SDK and reports its requests under the name `operation`.
pub(crate) async fn traced<T>(cx: &OpContext, operation: &'static str, call: impl Future<Output = T>) -> T {
    let reporter = Reporter {
        sink: cx.into(),
        operation,
        attempts: Attempts::default(),
    };
    let traced = ATTEMPTS.scope(Arc::clone(&reporter.attempts), call);
    LOGIN.scope(cx.login().clone(), traced).await
}

/// The waits for logins of the operation that is under way.
pub(crate) fn login() -> LoginWait {
    // Outside of a traced call there is no operation.
    LOGIN.try_with(LoginWait::clone).unwrap_or_default()
}

/// The index of a request in the list of its call.
pub(crate) struct Begun(Option<usize>);

/// Adds a request, as abandoned until [`finish`] says otherwise.
pub(crate) fn begin() -> Begun {
    let index = ATTEMPTS.try_with(|attempts| {
        let mut attempts = attempts.lock();
        attempts.push(Attempt {
            request_id: None,
            result: CallResult::Abandoned,
        });
        attempts.len() - 1
    });
    // Outside of a traced call there is nothing to report to.
    Begun(index.ok())
}

/// Sets the outcome of a request.
pub(crate) fn finish(begun: &Begun, request_id: Option<String>, result: CallResult) {
    let Some(index) = begun.0 else { return };
    // Outside of a traced call there is nothing to report to.
    let _reported = ATTEMPTS.try_with(|attempts| {
        if let Some(attempt) = attempts.lock().get_mut(index) {
            *attempt = Attempt { request_id, result };
        }
    });
}
