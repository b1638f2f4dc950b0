//! What the log says of the request under way. Events are rare and requests are not, so a request
//! costs the log nothing until an event is written: no span is made.

use std::cell::RefCell;
use std::fmt;

use bytes::Bytes;
use http::HeaderMap;

/// Id, route, method and trace of a request, as its events in the log carry them. Cheap to clone.
#[derive(Clone, Default)]
pub struct RequestLabel(Option<Label>);

#[derive(Clone)]
struct Label {
    id: Bytes,
    route: &'static str,
    method: &'static str,
    trace: Option<[u8; TRACE_LEN]>,
}

/// Hex digits of a trace id.
const TRACE_LEN: usize = 32;

thread_local! {
    static CURRENT: RefCell<RequestLabel> = const { RefCell::new(RequestLabel(None)) };
}

impl RequestLabel {
    /// A request with this id (ASCII), to a route with this name. The trace id comes from a
    /// well-formed `traceparent` header (W3C Trace Context).
    pub fn new(id: Bytes, route: &'static str, method: &'static str, headers: &HeaderMap) -> Self {
        Self(Some(Label {
            id,
            route,
            method,
            trace: trace_id(headers),
        }))
    }

    /// Runs `work`, whose events carry this label.
    pub fn scope<T>(&mut self, work: impl FnOnce() -> T) -> T {
        /// Puts the label back when the work ends or panics.
        struct Scope<'l>(&'l mut RequestLabel);
        impl Drop for Scope<'_> {
            fn drop(&mut self) {
                self.swap();
            }
        }
        impl Scope<'_> {
            fn swap(&mut self) {
                CURRENT.with_borrow_mut(|current| std::mem::swap(current, self.0));
            }
        }
        let mut scope = Scope(self);
        scope.swap();
        work()
    }

    /// Writes the label of the current request, if there is one, with this function.
    pub(super) fn current<T>(write: impl FnOnce(&str, &[(&'static str, &str)]) -> T) -> Option<T> {
        // A clone, so that writing may do anything; nothing is shared but the id.
        let label = CURRENT.with_borrow(|current| current.0.clone())?;
        let id = std::str::from_utf8(&label.id).unwrap_or_default();
        let mut fields = vec![("id", id), ("route", label.route), ("method", label.method)];
        if let Some(trace) = &label.trace {
            fields.push(("trace", std::str::from_utf8(trace).unwrap_or_default()));
        }
        Some(write("request", &fields))
    }
}

impl fmt::Debug for RequestLabel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RequestLabel")
    }
}

/// The trace id of a well-formed `traceparent`.
fn trace_id(headers: &HeaderMap) -> Option<[u8; TRACE_LEN]> {
    let text = headers.get("traceparent")?.to_str().ok()?;
    let mut parts = text.split('-');
    let (version, trace) = (parts.next()?, parts.next()?);
    let hex = |text: &str, len: usize| text.len() == len && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    let valid = hex(version, 2) && version != "ff" && hex(trace, TRACE_LEN) && trace.bytes().any(|b| b != b'0');
    if valid { trace.as_bytes().try_into().ok() } else { None }
}
