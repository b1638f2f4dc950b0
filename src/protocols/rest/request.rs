//! One authenticated request as a handler sees it: typed looks at its path, query and
//! headers, and the permits it may have.

use std::sync::Arc;

use bytes::Bytes;
use http::header;
use http::request::Parts;

use super::header::single;
use super::protocol::RestHead;
use super::route_table::DecodedParams;
use super::types::Name;
use crate::access::{AccessError, Operation, Permit, Target, decide, op};
use crate::broker::{Broker, Code, Failure, RequestContext};
use crate::envelope::{Envelope, ParseError};
use crate::keys::KeyEntry;
use crate::protocols::exchange::Received;
use crate::store::model::Page;

/// The most items on one page.
const MAX_PAGE: u32 = 1000;
/// A page's size where none is asked for.
const PAGE: u32 = 100;

/// A request.
#[derive(Clone)]
pub struct ApiRequest {
    /// The use cases.
    pub broker: Arc<Broker>,
    /// Who asks for what.
    pub cx: RequestContext,
    pub(super) head: Arc<Parts>,
    pub(super) params: DecodedParams,
    pub(super) query: Arc<[(String, String)]>,
    pub(super) body: Bytes,
}

impl ApiRequest {
    /// The request that the exchange received.
    pub(super) fn new(received: Received<RestHead>) -> Self {
        Self {
            broker: received.broker,
            cx: received.cx,
            head: Arc::new(received.head),
            params: received.checked.params,
            query: received.checked.query,
            body: received.body,
        }
    }

    /// A name in the path.
    ///
    /// # Errors
    /// `invalid_request` when it is no name.
    pub fn name(&self, parameter: &str) -> Result<Name, Failure> {
        Name::parse(self.raw(parameter)).ok_or_else(|| Failure::invalid(format!("path:{parameter}"), "a name: [a-z0-9][a-z0-9._-]{0,62}"))
    }

    /// A path parameter as it stands, for ids.
    pub fn raw(&self, parameter: &str) -> &str {
        self.params.get(parameter)
    }

    /// Method and path as they were called, for idempotency.
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

    /// Refuses query parameters that the route does not know, and any that come twice.
    ///
    /// # Errors
    /// `invalid_request`, naming what the route knows.
    pub fn only_query(&self, known: &[&str]) -> Result<(), Failure> {
        let mut seen = Vec::new();
        for (name, _) in self.query.iter() {
            if !known.contains(&name.as_str()) || seen.contains(&name) {
                let list = if known.is_empty() {
                    "no query parameters".to_owned()
                } else {
                    format!("each at most once: {}", known.join(", "))
                };
                return Err(Failure::invalid("query", list));
            }
            seen.push(name);
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

    /// Leave to act on the tenant as a whole.
    ///
    /// # Errors
    /// `permission_denied`.
    pub fn permit<O: Operation>(&self) -> Result<Permit<O>, Failure> {
        self.cx.require_tenant()?;
        Ok(decide(self.cx.caller(), Target::Tenant)?)
    }

    /// Leave to act on the installation.
    ///
    /// # Errors
    /// `permission_denied`.
    pub fn permit_installation<O: Operation>(&self) -> Result<Permit<O>, Failure> {
        Ok(decide(self.cx.caller(), Target::Installation)?)
    }

    /// A key by name, with leave to do `O` on it.
    ///
    /// # Errors
    /// `permission_denied` or, for one who would be permitted, `not_found`.
    pub async fn key<O: Operation>(&self, name: &Name) -> Result<(Permit<O>, Arc<KeyEntry>), Failure> {
        self.cx.require_tenant()?;
        // Who lacks the operation is refused before anything is looked up.
        if !self.cx.caller().grants().operations().contains(O::ACTION) {
            return Err(AccessError::Denied.into());
        }
        let entry = self.broker.directory().key_by_name(self.cx.tenant(), name.as_str()).await?;
        self.permitted(entry)
    }

    /// The key that an envelope names, with leave to do `O` on it. A blob of an unknown key,
    /// or of another tenant, is a rejected ciphertext and not a missing key.
    ///
    /// # Errors
    /// `permission_denied`, `ciphertext_rejected`.
    pub async fn key_of<O: Operation>(&self, envelope: &Envelope) -> Result<(Permit<O>, Arc<KeyEntry>), Failure> {
        self.cx.require_tenant()?;
        let header = envelope.header();
        let entry = if header.tenant() == self.cx.tenant() {
            self.broker.directory().key(self.cx.tenant(), header.key()).await?
        } else {
            None
        };
        self.permitted(entry).map_err(|failure| {
            if failure.code == Code::NotFound {
                Failure::ciphertext_rejected()
            } else {
                failure
            }
        })
    }

    fn permitted<O: Operation>(&self, entry: Option<Arc<KeyEntry>>) -> Result<(Permit<O>, Arc<KeyEntry>), Failure> {
        let permit = decide(self.cx.caller(), Target::Key(entry.as_ref().map(|entry| entry.id())))?;
        match entry {
            Some(entry) => Ok((permit, entry)),
            None => Err(AccessError::NotFound.into()),
        }
    }

    /// Leave to use unsealed blobs of this key, if the caller has it.
    pub fn unsealed_leave(&self, key: &KeyEntry) -> Option<Permit<op::UnwrapUnsealed>> {
        decide(self.cx.caller(), Target::Key(Some(key.id()))).ok()
    }

    /// A connection by name, with leave to do `O` on it.
    ///
    /// # Errors
    /// `permission_denied` or, for one who would be permitted, `not_found`.
    pub async fn connection<O: Operation>(&self, name: &Name) -> Result<(Permit<O>, Arc<crate::keys::ConnectionEntry>), Failure> {
        self.cx.require_tenant()?;
        let entry = self.broker.connection_by_name(self.cx.tenant(), name.as_str()).await?;
        let permit = decide(self.cx.caller(), Target::Connection(entry.as_ref().map(|entry| entry.id())))?;
        entry.map(|entry| (permit, entry)).ok_or_else(|| AccessError::NotFound.into())
    }
}

/// Reads a wrapped key.
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
