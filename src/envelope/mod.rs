//! The envelope: a wrapped data key as callers store it (`docs/format.md`, byte for byte).
//!
//! For the faces (parse, check the seal), the broker (make, open, rewrap) and the offline
//! commands (inspect). It makes no provider call and reads no store.
//!
//! An [`Envelope`] only exists well-formed: [`Envelope::parse`] refuses everything that the
//! page refuses, and what is made here is read back by the same decoder before it is handed
//! out. A plaintext only leaves through [`Opened`], which exists only after the commitment
//! held; recipients are only replaced through [`Opened`] or [`Attested`], so that nothing
//! unproven is ever sealed anew.

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
pub use context::{Context, ContextError};
pub use draft::{Draft, LengthError, Pending};
pub use errors::{BuildError, ParseError};
pub use header::{DataKeyLength, Header, Origin, Scope, ScopeError, Suite};
pub use open::{Opened, Rejected};
pub use parsed::{Envelope, MAX_BINARY, MAX_TEXT};
pub use recipient::{MAX_RECIPIENTS, Recipient, Role};
pub use seal::{SealKey, SealKeyError};
