//! The requests that a fake received, in order.

use std::collections::VecDeque;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The capacity of the journal; the oldest requests are dropped first.
const MAX_REQUESTS: usize = 10_000;

/// A received request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RecordedRequest {
    /// Its number, from 1 at the start of the fake.
    pub number: u64,
    /// The HTTP method.
    pub method: String,
    /// The `Host` header, or the authority of HTTP/2.
    pub host: String,
    /// The path as sent, percent-encoding included.
    pub path: String,
    /// The query as sent, without the question mark.
    pub query: String,
    /// The authenticated caller, if the service reported one; never a credential.
    pub caller: Option<String>,
    /// The body if it was JSON, or the text of a form.
    pub body: Value,
    /// The status of the response; none while it is pending, or when there was none.
    pub status: Option<u16>,
}

/// The authenticated caller. A service adds it to the extensions of its response for the journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller(pub String);

#[derive(Debug, Default)]
struct State {
    last: u64,
    requests: VecDeque<RecordedRequest>,
}

/// The last 10,000 requests.
#[derive(Debug, Default)]
pub struct Journal(Mutex<State>);

impl Journal {
    /// The received requests, oldest first.
    pub fn all(&self) -> Vec<RecordedRequest> {
        self.0.lock().requests.iter().cloned().collect()
    }

    /// The number of requests with this method whose path contains `path`.
    pub fn count(&self, method: &str, path: &str) -> usize {
        let held = self.0.lock();
        held.requests
            .iter()
            .filter(|request| request.method == method && request.path.contains(path))
            .count()
    }

    /// Removes all requests; numbering continues.
    pub fn clear(&self) {
        self.0.lock().requests.clear();
    }

    /// Records a request and returns its number.
    pub(crate) fn begin(&self, mut request: RecordedRequest) -> u64 {
        let mut held = self.0.lock();
        held.last += 1;
        request.number = held.last;
        if held.requests.len() >= MAX_REQUESTS {
            held.requests.pop_front();
        }
        held.requests.push_back(request);
        held.last
    }

    /// Adds the outcome of a request.
    pub(crate) fn end(&self, number: u64, status: u16, caller: Option<Caller>) {
        let mut held = self.0.lock();
        if let Some(request) = held.requests.iter_mut().rev().find(|request| request.number == number) {
            request.status = Some(status);
            request.caller = caller.map(|Caller(name)| name);
        }
    }
}
