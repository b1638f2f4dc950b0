//! The only way to a response. An [`AuditedResponse`] is made from an outcome that was recorded or
//! counted, from the log's own report that it cannot record, or before the log is open. A handler can
//! make none of these.

use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, header};

use crate::audit::{Receipt, Recorded};
use crate::broker::Unrecorded;
use crate::listener::{Body, Held, Unwritten};

/// A response that may be sent.
pub struct AuditedResponse(Response<Body>);

impl AuditedResponse {
    /// An outcome that was recorded or counted. `finish` adds the headers that every response has.
    /// Its argument is the receipt of the outcome's record; `None` if the outcome has no record of
    /// its own.
    pub fn recorded(recorded: Recorded<Response<Body>>, finish: impl FnOnce(&mut HeaderMap, Option<&Receipt>)) -> Self {
        let receipt = recorded.receipt().cloned();
        let mut response = recorded.into_value();
        finish(response.headers_mut(), receipt.as_ref());
        Self(response)
    }

    /// The log could not record: `response` is rendered from its failure.
    pub fn unrecorded(unrecorded: &Unrecorded, render: impl FnOnce(&crate::broker::Failure) -> Response<Body>) -> Self {
        Self(render(unrecorded.failure()))
    }

    /// A response before the log is open: nothing was done that it could record.
    pub(in crate::protocols) const fn before_the_log(response: Response<Body>) -> Self {
        Self(response)
    }

    /// Sets a header.
    #[must_use]
    pub fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.0.headers_mut().insert(name, value);
        self
    }

    /// The answer to a request with this method: a `HEAD` gets no body, but its length.
    #[must_use]
    pub fn to_method(mut self, method: &Method) -> Self {
        if method == Method::HEAD {
            let length = HeaderValue::from(self.0.body_mut().cut());
            self.0.headers_mut().insert(header::CONTENT_LENGTH, length);
        }
        self
    }

    /// The budget has these bytes, which become those of the answer, until it is written or dropped.
    #[must_use]
    pub fn holding(mut self, held: Held) -> Self {
        self.0.body_mut().hold(held);
        self
    }

    /// It was handed over as this one of its connection's responses.
    #[must_use]
    pub fn handed_over(mut self, unwritten: Option<Unwritten>) -> Self {
        if let Some(unwritten) = unwritten {
            self.0.body_mut().of_handed_over(unwritten);
        }
        self
    }

    /// The answer alone: status and headers.
    #[must_use]
    pub fn without_body(mut self) -> Self {
        *self.0.body_mut() = Body::default();
        self.0.headers_mut().remove(header::CONTENT_TYPE);
        self
    }

    /// What it takes of the budget, in bytes.
    pub fn cost(&self) -> usize {
        self.0.body().cost()
    }

    /// The status.
    pub fn status(&self) -> StatusCode {
        self.0.status()
    }
}

impl From<AuditedResponse> for Response<Body> {
    fn from(answer: AuditedResponse) -> Self {
        answer.0
    }
}

/// The most headers of an answer, those that the exchange adds included: a map of this size never
/// grows.
const HEADERS: usize = 8;

/// A response without headers, which has room for all that an answer can have.
pub fn new_response(status: StatusCode, body: Vec<u8>) -> Response<Body> {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    *response.headers_mut() = HeaderMap::with_capacity(HEADERS);
    response
}
