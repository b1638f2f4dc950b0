//! What the fuzz target calls.

use crate::attributes;
use crate::message::{Outcome, RequestIds, Response, parse};
use crate::tags::{Operation, Version};

/// Whether any bytes read as the response to a request, with all that the adapter reads of one. For the fuzz target.
pub fn reads_as_response(bytes: &[u8]) -> bool {
    Version::ALL.into_iter().any(|version| {
        let ids = RequestIds {
            version: version.numbers(),
            operation: Operation::GetAttributes,
            item: *b"01234567",
            correlation: None,
        };
        match parse(bytes, &ids) {
            Ok(Response {
                outcome: Outcome::Done(payload),
                ..
            }) => attributes::read(&payload, version).is_ok(),
            Ok(_) => true,
            Err(_) => false,
        }
    })
}
