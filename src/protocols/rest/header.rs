//! The gateway's own request headers. Each may be present at most once, so that no two readers of a
//! request can use different values.

use http::{HeaderMap, HeaderName, HeaderValue, header};

use super::response::REQUEST_ID;
use crate::protocols::RequestId;

/// The header is repeated, or contains other characters than visible ASCII.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unusable;

/// The value of a header that may be present at most once.
///
/// # Errors
/// [`Unusable`].
pub fn single(headers: &HeaderMap, name: impl Into<HeaderName>) -> Result<Option<&str>, Unusable> {
    let mut values = headers.get_all(name.into()).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => value.to_str().map(Some).map_err(|_| Unusable),
        (Some(_), Some(_)) => Err(Unusable),
    }
}

/// Adds the headers that every answer of the API carries.
pub fn finish(headers: &mut HeaderMap, request_id: &RequestId) {
    headers.insert(REQUEST_ID, request_id.header());
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
}
