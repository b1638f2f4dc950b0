//! One authenticated request, for a handler: typed access to path, query and headers, and admission.

use std::borrow::Cow;
use std::ops::Deref;

use bytes::Bytes;
use http::header;
use percent_encoding::percent_decode_str;

use super::header::single;
use super::route::{PAGE_SIZE, PAGE_TOKEN, Route};
use super::route_table::PathParams;
use super::types::Name;
use crate::broker::{Authorized, Code, CursorScope, Failure, Names, Operation, Position};
use crate::envelope::{Envelope, ParseError};
use crate::protocols::exchange::Received;
use crate::store::model::Page;

/// Maximum of `page_size`.
const MAX_PAGE: u32 = 1000;
/// Default of `page_size`.
const PAGE: u32 = 100;

/// Path parameters and query of a request, decoded.
pub struct RestHead {
    pub(super) params: PathParams,
    pub(super) query: Vec<(String, String)>,
}

/// A request: what the exchange received, and its route.
pub struct ApiRequest {
    /// Boxed, because handlers move it several times, and each place for it is part of every
    /// request's future.
    received: Box<Received<RestHead>>,
    route: &'static Route,
}

impl Deref for ApiRequest {
    type Target = Received<RestHead>;

    fn deref(&self) -> &Self::Target {
        &self.received
    }
}

impl ApiRequest {
    /// Wraps the request that the exchange received for this route.
    pub(super) fn new(received: Received<RestHead>, route: &'static Route) -> Self {
        Self {
            received: Box::new(received),
            route,
        }
    }

    /// Drops the body, which was parsed: with a batch's, memory would have each item twice. An idempotency
    /// key is bound to the body, so it stays where one can be sent.
    pub(super) fn drop_body(&mut self) {
        if !self.route.repeatable {
            self.received.body = Bytes::new();
        }
    }

    /// A path parameter that is a name.
    ///
    /// # Errors
    /// `invalid_request` if it is not a valid name.
    pub fn name(&self, parameter: &str) -> Result<Name, Failure> {
        Name::parse(&self.raw(parameter)).ok_or_else(|| Failure::invalid(format!("path:{parameter}"), "a name: [a-z0-9][a-z0-9._-]{0,62}"))
    }

    /// A path parameter without any check, for ids.
    pub fn raw(&self, parameter: &str) -> Cow<'_, str> {
        self.checked.params.get(parameter)
    }

    /// Method and path, percent-decoded, to which an idempotency key and a cursor are bound: `%6b` and `k`
    /// name the same object.
    pub fn route(&self) -> String {
        let path = percent_decode_str(self.head.uri.path()).decode_utf8_lossy();
        format!("{} {path}", self.head.method)
    }

    /// A query parameter.
    pub fn query(&self, parameter: &str) -> Option<&str> {
        self.checked
            .query
            .iter()
            .find(|(name, _)| name == parameter)
            .map(|(_, value)| value.as_str())
    }

    /// Refuses query parameters that the route does not have, and repeated ones.
    ///
    /// # Errors
    /// `invalid_request` with the route's parameters.
    pub(super) fn check_query(&self) -> Result<(), Failure> {
        let query = &self.checked.query;
        for (at, (name, _)) in query.iter().enumerate() {
            let known = self.route.query.iter().any(|param| param.name == name);
            if !known || query[..at].iter().any(|(before, _)| before == name) {
                let names: Vec<&str> = self.route.query.iter().map(|param| param.name).collect();
                let expected = match names.as_slice() {
                    [] => "no query parameters".to_owned(),
                    names => format!("each at most once: {}", names.join(", ")),
                };
                return Err(Failure::invalid("query", expected));
            }
        }
        Ok(())
    }

    /// The page that `page_size` and `page_token` request.
    ///
    /// # Errors
    /// `invalid_request` if one of them is not valid.
    pub fn page(&self) -> Result<Page, Failure> {
        let size = match self.query("page_size") {
            None => PAGE,
            Some(text) => text
                .parse()
                .ok()
                .filter(|size| (1..=MAX_PAGE).contains(size))
                .ok_or_else(|| Failure::invalid("query:page_size", "a whole number from 1 to 1000"))?,
        };
        let after = match self.query("page_token") {
            None => None,
            Some(token) => Some(
                self.in_list(|scope| self.broker.open_cursor(&self.cx, scope, token))
                    .ok_or_else(wrong_token)?,
            ),
        };
        Ok(Page { after, size })
    }

    /// The `next_page_token` for a position in the list of this request.
    ///
    /// # Errors
    /// `internal`.
    pub(super) fn page_token(&self, next: &Position) -> Result<String, Failure> {
        self.in_list(|scope| self.broker.seal_cursor(&self.cx, scope, next))
    }

    /// The list of this request: its path, and every query parameter that does not select the page.
    fn in_list<T>(&self, with: impl FnOnce(CursorScope<'_>) -> T) -> T {
        let filters: Vec<(&str, &str)> = self
            .checked
            .query
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .filter(|(name, _)| ![PAGE_SIZE.name, PAGE_TOKEN.name].contains(name))
            .collect();
        with(CursorScope {
            route: &self.route(),
            filters: &filters,
        })
    }

    /// The revision in `If-Match`; `None` for `*`.
    ///
    /// # Errors
    /// `invalid_request` if the header is missing or repeated; `precondition_failed` if it does not have
    /// the form of this API's etags.
    pub fn if_match(&self) -> Result<Option<u64>, Failure> {
        let Ok(Some(text)) = single(&self.head.headers, header::IF_MATCH) else {
            return Err(Failure::invalid("header:If-Match", "the object's etag, or *, once"));
        };
        if text == "*" {
            return Ok(None);
        }
        let revision = text
            .strip_prefix('"')
            .and_then(|text| text.strip_suffix('"'))
            .and_then(|text| text.parse().ok());
        revision.map(Some).ok_or_else(|| {
            Failure::new(Code::PreconditionFailed, "The etag is none of this object.").at("header:If-Match", "the object's etag")
        })
    }

    /// Finds the object that the request names and decides the operation on it.
    ///
    /// # Errors
    /// As [`Broker::admit`].
    pub async fn admit<O: Operation>(&self, named: impl Names<O::Object>) -> Result<Authorized<O>, Failure> {
        self.broker.admit(&self.cx, named).await
    }
}

/// The one failure for every token that does not open, so that it says nothing of the token.
pub(super) fn wrong_token() -> Failure {
    Failure::invalid("query:page_token", "the next_page_token of the previous page of the same list")
}

/// Parses a wrapped key.
///
/// # Errors
/// `invalid_envelope`, `envelope_version_unsupported`, `too_large`.
pub fn envelope(text: String) -> Result<Envelope, Failure> {
    Envelope::parse(text).map_err(|error| match error {
        ParseError::Invalid => {
            Failure::new(Code::InvalidEnvelope, "The wrapped key is damaged or incomplete.").at("/wrapped", "clv1. and base64url")
        }
        ParseError::VersionUnsupported => Failure::new(
            Code::EnvelopeVersionUnsupported,
            "The wrapped key is of a version or suite that this release does not know.",
        )
        .at("/wrapped", "clv1. and base64url"),
        ParseError::TooLarge => Failure::new(Code::TooLarge, "A wrapped key has at most 22 KiB."),
    })
}
