//! The envelope: a wrapped data key as callers store it (`docs/format.md`, byte for byte).
//!
//! Used by the protocols (parse, check the seal), the broker (make, open, rewrap) and the offline
//! commands (inspect). It calls no provider and reads no store.
//!
//! Every [`Envelope`] is well-formed: [`Envelope::parse`] refuses what the format refuses, and an
//! envelope made here is decoded again before it is returned. A plaintext is available only from
//! [`Opened`], which exists only after the commitment was verified. Recipients are replaced only
//! through [`Opened`] or [`Attested`], so nothing unverified is ever sealed again.

mod attested;
mod cbor;
mod commitment;
mod context;
mod crypto;
mod draft;
mod errors;
mod header;
mod open;
mod parsed;
mod recipient;
mod rewrap;
mod seal;
mod text;

#[cfg(test)]
mod tests;

pub use attested::{Attested, SealStatus};
pub use context::{
    Context, ContextError, MAX_NAME as MAX_CONTEXT_NAME, MAX_PAIRS as MAX_CONTEXT_PAIRS, MAX_TOTAL as MAX_CONTEXT,
    MAX_VALUE as MAX_CONTEXT_VALUE,
};
pub use draft::{Draft, LengthError, Pending};
pub use errors::{BuildError, ParseError};
pub use header::{DataKeyLength, Header, Origin, Scope, ScopeError, Suite};
pub use open::{Opened, Rejected};
pub use parsed::{Envelope, MAX_BINARY, MAX_TEXT};
pub use recipient::{MAX_RECIPIENTS, Recipient, Role};
pub use seal::{SealKey, SealKeyError};
