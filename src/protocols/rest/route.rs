//! One route of the API, for the exchange, the router and the OpenAPI document.

use std::time::Duration;

use http::Method;
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use crate::access::Action;
use crate::protocols::admission::MAX_BODY;

/// Maximum body of a single operation, in bytes.
pub const DATA: usize = 64 << 10;
/// Maximum body of a batch, in bytes.
pub const BATCH: usize = MAX_BODY;
/// What making the answer of a single operation takes, in bytes: two wrapped keys of 22 KiB at most.
const ANSWER: usize = 48 << 10;
/// What making the answer of a revocation takes, in bytes: one object. A key with 64 labels is 20 KiB.
const SHORT_ANSWER: usize = 24 << 10;
/// What making a page or the answer of a batch takes, in bytes.
const LONG_ANSWER: usize = 1 << 20;
/// Deadline of a single operation, unless the configuration sets another one.
pub const REQUEST: Duration = Duration::from_secs(10);
/// Deadline of a batch.
pub const BATCH_TIME: Duration = Duration::from_secs(30);

/// One route of the API. It is defined next to its handler.
pub struct Route {
    /// The HTTP method.
    pub method: Method,
    /// The path, in the form of the OpenAPI document.
    pub path: &'static str,
    /// The operationId. SDKs name their methods after it, so it never changes.
    pub operation_id: &'static str,
    /// The operation's tag in the OpenAPI document.
    pub tag: &'static str,
    /// One sentence about the operation, for the OpenAPI document.
    pub summary: &'static str,
    /// The credential must allow at least one of these actions. Admission decides which one the request
    /// needs. The first one is recorded if the request fails before admission.
    pub needs: &'static [Action],
    /// Whether every credential may call it on its own token, whatever that allows.
    pub own_token: bool,
    /// Maximum body, in bytes.
    pub body: usize,
    /// What making the answer takes, in bytes, beside what the body takes.
    pub answer: usize,
    /// Whether it is a revocation: these have places of their own.
    pub revocation: bool,
    /// Deadline.
    pub time: Duration,
    /// Whether the header `Idempotency-Key` is accepted.
    pub repeatable: bool,
    /// Whether a repeated request has the effect of one, without `Idempotency-Key`.
    pub idempotent: bool,
    /// The query parameters. All others are refused.
    pub query: &'static [QueryParam],
    pub(super) request: Option<RequestDoc>,
    pub(super) responses: [Option<ResponseDoc>; 2],
    pub(super) if_match: bool,
    pub(super) opens_wrapped_keys: bool,
    pub(super) can_lose: bool,
}

/// The body of an operation's requests.
#[derive(Clone, Copy)]
pub struct RequestDoc {
    pub(super) schema: SchemaOf,
    pub(super) required: bool,
}

/// A successful response.
#[derive(Clone, Copy)]
pub struct ResponseDoc {
    pub(super) status: u16,
    pub(super) description: &'static str,
    pub(super) schema: Option<SchemaOf>,
}

/// A query parameter. Repeated ones are refused.
pub struct QueryParam {
    /// The parameter's name.
    pub name: &'static str,
    pub(super) description: &'static str,
    pub(super) schema: fn() -> Value,
    pub(super) example: fn() -> Value,
}

/// The size of a page.
pub(super) const PAGE_SIZE: QueryParam = QueryParam {
    name: "page_size",
    description: "Maximum number of items on the page, 1 to 1000. Default: 100.",
    schema: || json!({"type": "integer", "format": "int32", "minimum": 1, "maximum": 1000}),
    example: || json!(100),
};
/// The token of a page.
pub(super) const PAGE_TOKEN: QueryParam = QueryParam {
    name: "page_token",
    description: "The `next_page_token` of the previous page of the same list: same path, filters and principal.",
    schema: || json!({"type": "string", "pattern": "^[A-Za-z0-9_-]{1,256}$"}),
    example: || json!("AWp8m3Zr0Yc5"),
};

/// Adds the schemas of a type to the document and returns a reference to the type's own schema.
pub(super) type SchemaOf = fn(&mut Map<String, Value>) -> Value;

/// A reference to a schema of the document.
pub(super) fn reference(name: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{name}")})
}

pub(super) fn schema_of<T: ToSchema>(schemas: &mut Map<String, Value>) -> Value {
    let mut all = vec![(T::name().into_owned(), T::schema())];
    T::schemas(&mut all);
    for (name, schema) in all {
        // Serialising a schema cannot fail.
        schemas.insert(name, serde_json::to_value(schema).unwrap_or_default());
    }
    reference(&T::name())
}

impl Route {
    /// An operation with the limits of one operation.
    pub(super) const fn new(
        method: Method,
        path: &'static str,
        operation_id: &'static str,
        tag: &'static str,
        summary: &'static str,
        needs: &'static [Action],
    ) -> Self {
        Self {
            method,
            path,
            operation_id,
            tag,
            summary,
            needs,
            own_token: false,
            body: DATA,
            answer: ANSWER,
            revocation: false,
            time: REQUEST,
            repeatable: false,
            idempotent: false,
            query: &[],
            request: None,
            responses: [None; 2],
            if_match: false,
            opens_wrapped_keys: false,
            can_lose: false,
        }
    }

    /// Applies the limits of a batch.
    pub(super) const fn batch(mut self) -> Self {
        self.body = BATCH;
        self.answer = LONG_ANSWER;
        self.time = BATCH_TIME;
        self
    }

    /// Applies the deadline of a batch.
    pub(super) const fn long(mut self) -> Self {
        self.time = BATCH_TIME;
        self
    }

    /// Accepts the header `Idempotency-Key`.
    pub(super) const fn repeatable(mut self) -> Self {
        self.repeatable = true;
        self
    }

    /// A repeated request has the effect of one: it changes nothing, or leads to the same state. GET and revocations are
    /// without this.
    pub(super) const fn idempotent(mut self) -> Self {
        self.idempotent = true;
        self
    }

    /// Whether a client may send a request again after it lost the response, for the OpenAPI document: `always`, with the
    /// same `Idempotency-Key` (`key`), or `never`.
    pub(super) fn idempotency(&self) -> &'static str {
        match (self.repeatable, self.idempotent || self.revocation || self.method == Method::GET) {
            (true, _) => "key",
            (false, true) => "always",
            (false, false) => "never",
        }
    }

    /// Every credential may call it on its own token, whatever that allows.
    pub(super) const fn own_token(mut self) -> Self {
        self.own_token = true;
        self
    }

    /// Answers with a page of a list, which takes these query parameters.
    pub(super) const fn page(mut self, query: &'static [QueryParam]) -> Self {
        self.answer = LONG_ANSWER;
        self.query = query;
        self
    }

    /// It is a revocation.
    pub(super) const fn revocation(mut self) -> Self {
        self.answer = SHORT_ANSWER;
        self.revocation = true;
        self
    }

    /// Adds a required body.
    pub(super) const fn body<T: ToSchema>(mut self) -> Self {
        self.request = Some(RequestDoc {
            schema: schema_of::<T>,
            required: true,
        });
        self
    }

    /// Adds an optional body.
    pub(super) const fn optional_body<T: ToSchema>(mut self) -> Self {
        self.request = Some(RequestDoc {
            schema: schema_of::<T>,
            required: false,
        });
        self
    }

    /// Requires the header `If-Match`.
    pub(super) const fn if_match(mut self) -> Self {
        self.if_match = true;
        self
    }

    /// Adds a successful response with a body. An operation can have two.
    pub(super) const fn answers<T: ToSchema>(self, status: u16, description: &'static str) -> Self {
        self.answer(status, description, Some(schema_of::<T>))
    }

    /// Adds a successful response without a body.
    pub(super) const fn answers_nothing(self, status: u16, description: &'static str) -> Self {
        self.answer(status, description, None)
    }

    const fn answer(mut self, status: u16, description: &'static str, schema: Option<SchemaOf>) -> Self {
        let next = if self.responses[0].is_none() { 0 } else { 1 };
        self.responses[next] = Some(ResponseDoc {
            status,
            description,
            schema,
        });
        self
    }

    /// Adds the failure 422 of operations that open a wrapped key.
    pub(super) const fn opens_wrapped_keys(mut self) -> Self {
        self.opens_wrapped_keys = true;
        self
    }

    /// It can lose against a change that arrives meanwhile (412).
    pub(super) const fn can_lose(mut self) -> Self {
        self.can_lose = true;
        self
    }

    /// Whether requests have a body, which must be JSON.
    pub(super) fn takes_body(&self) -> bool {
        [Method::POST, Method::PATCH].contains(&self.method)
    }
}
