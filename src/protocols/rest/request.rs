//! One authenticated request, for a handler: typed access to path, query and headers, and admission.

use std::sync::Arc;

use bytes::Bytes;
use http::header;
use http::request::Parts;

use super::header::single;
use super::route::Route;
use super::route_table::DecodedParams;
use super::types::Name;
use crate::broker::{Authorized, Broker, Code, Failure, Names, Operation, RequestContext};
use crate::envelope::{Envelope, ParseError};
use crate::protocols::exchange::Received;
use crate::store::model::Page;

/// Maximum of `page_size`.
const MAX_PAGE: u32 = 1000;
/// Default of `page_size`.
const PAGE: u32 = 100;

/// Path parameters and query of a request, decoded.
pub struct RestHead {
    pub(super) params: DecodedParams,
    pub(super) query: Arc<[(String, String)]>,
}

/// An authenticated request.
#[derive(Clone)]
pub struct ApiRequest {
    /// The broker, which has all use cases.
    pub broker: Arc<Broker>,
    /// The caller, the operation and the deadline.
    pub cx: RequestContext,
    route: &'static Route,
    pub(super) head: Arc<Parts>,
    pub(super) params: DecodedParams,
    pub(super) query: Arc<[(String, String)]>,
    pub(super) body: Bytes,
}

impl ApiRequest {
    /// Wraps the request that the exchange received for this route.
    pub(super) fn new(received: Received<RestHead>, route: &'static Route) -> Self {
        Self {
            route,
            broker: received.broker,
            cx: received.cx,
            head: Arc::new(received.head),
            params: received.checked.params,
            query: received.checked.query,
            body: received.body,
        }
    }

    /// A path parameter that is a name.
    ///
    /// # Errors
    /// `invalid_request` if it is not a valid name.
    pub fn name(&self, parameter: &str) -> Result<Name, Failure> {
        Name::parse(self.raw(parameter)).ok_or_else(|| Failure::invalid(format!("path:{parameter}"), "a name: [a-z0-9][a-z0-9._-]{0,62}"))
    }

    /// A path parameter without any check.
    pub fn raw(&self, parameter: &str) -> &str {
        self.params.get(parameter)
    }

    /// Method and path as received, to which an idempotency key is bound.
    pub fn route(&self) -> String {
        format!("{} {}", self.head.method, self.head.uri.path())
    }

    /// A query parameter.
    pub fn query(&self, parameter: &str) -> Option<&str> {
        self.query
            .iter()
            .find(|(name, _)| name == parameter)
            .map(|(_, value)| value.as_str())
    }

    /// Refuses query parameters that the route does not have, and repeated ones.
    ///
    /// # Errors
    /// `invalid_request` with the route's parameters.
    pub(super) fn check_query(&self) -> Result<(), Failure> {
        for (at, (name, _)) in self.query.iter().enumerate() {
            let known = self.route.query.iter().any(|param| param.name == name);
            if !known || self.query[..at].iter().any(|(before, _)| before == name) {
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
                super::page::decode(token).ok_or_else(|| Failure::invalid("query:page_token", "the next_page_token of the page before"))?,
            ),
        };
        Ok(Page { after, size })
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

    /// The request of one item of a batch, with the item's context.
    #[must_use]
    pub fn for_item(&self, cx: RequestContext) -> Self {
        Self { cx, ..self.clone() }
    }
}

/// Parses a wrapped key.
///
/// # Errors
/// `invalid_envelope`, `envelope_version_unsupported`, `too_large`.
pub fn envelope(text: &str) -> Result<Envelope, Failure> {
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
