//! One authenticated request as a handler sees it: typed access to its path, query and headers,
//! and the way to admission.

use std::borrow::Cow;
use std::ops::Deref;

use http::header;

use super::header::single;
use super::route::Route;
use super::route_table::PathParams;
use super::types::Name;
use crate::broker::{Authorized, Code, Failure, Names, Operation};
use crate::envelope::{Envelope, ParseError};
use crate::protocols::exchange::Received;
use crate::store::model::Page;

/// The most items on one page.
const MAX_PAGE: u32 = 1000;
/// A page's size where none is asked for.
const PAGE: u32 = 100;

/// What was read from a head.
pub struct RestHead {
    pub(super) params: PathParams,
    pub(super) query: Vec<(String, String)>,
}

/// A request: what the exchange received, and its route.
pub struct ApiRequest {
    /// Boxed: handlers move it several times, and each place for it is part of every request's future.
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
    /// The request that the exchange received.
    pub(super) fn new(received: Received<RestHead>, route: &'static Route) -> Self {
        Self {
            received: Box::new(received),
            route,
        }
    }

    /// A name in the path.
    ///
    /// # Errors
    /// `invalid_request` when it is no name.
    pub fn name(&self, parameter: &str) -> Result<Name, Failure> {
        Name::parse(&self.raw(parameter)).ok_or_else(|| Failure::invalid(format!("path:{parameter}"), "a name: [a-z0-9][a-z0-9._-]{0,62}"))
    }

    /// A path parameter as it stands, for ids.
    pub fn raw(&self, parameter: &str) -> Cow<'_, str> {
        self.checked.params.get(parameter)
    }

    /// Method and path as they were called, for idempotency.
    pub fn route(&self) -> String {
        format!("{} {}", self.head.method, self.head.uri.path())
    }

    /// A query parameter.
    pub fn query(&self, parameter: &str) -> Option<&str> {
        self.checked
            .query
            .iter()
            .find(|(name, _)| name == parameter)
            .map(|(_, value)| value.as_str())
    }

    /// Refuses query parameters that the route does not take, and any that comes twice.
    ///
    /// # Errors
    /// `invalid_request`, naming what the route takes.
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

    /// The page that a list is asked for.
    ///
    /// # Errors
    /// `invalid_request` when size or token cannot be used.
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
                super::page::decode(token).ok_or_else(|| Failure::invalid("query:page_token", "the next_page_token of the page before"))?,
            ),
        };
        Ok(Page { after, size })
    }

    /// The revision in `If-Match`; `None` for `*`.
    ///
    /// # Errors
    /// `invalid_request` when the header is missing, `precondition_failed` when it is no
    /// etag of ours.
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

/// Reads a wrapped key.
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
