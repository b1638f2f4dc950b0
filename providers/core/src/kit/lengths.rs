//! Bounds on the lengths of data keys.

use crate::error::{Error, ErrorKind};
use crate::ids::ProviderKind;
use crate::{KeySpec, Secret, oaep};

use super::call_error::CallError;

/// The longest data key that the REST API takes, in bytes.
pub const MAX_DATA_KEY: usize = 4096;

/// The most bytes of one wrap under a key of this specification: what RSA-OAEP takes, and
/// `symmetric` for AES.
pub const fn max_plaintext(spec: KeySpec, symmetric: usize) -> usize {
    match oaep::max_plaintext(spec) {
        Some(max) => max,
        None => symmetric,
    }
}

/// Checks the length of a data key before it is sent.
///
/// # Errors
/// `InvalidInput` for an empty one, `TooLarge` for one of more than `max` bytes.
pub fn check_plaintext(provider: ProviderKind, dek: &Secret, max: usize) -> Result<(), Error> {
    if dek.is_empty() {
        return Err(Error::new(ErrorKind::InvalidInput, "an empty data key").provider(provider));
    }
    if dek.len() > max {
        return Err(Error::new(ErrorKind::TooLarge, "a data key over the limit of one wrap").provider(provider));
    }
    Ok(())
}

/// Takes the data key that a provider unwrapped.
///
/// # Errors
/// `MalformedResponse` for none, or for one of more than [`MAX_DATA_KEY`] bytes.
pub fn unwrapped<R>(plaintext: Vec<u8>) -> Result<Secret, CallError<R>> {
    let dek = Secret::new(plaintext);
    match dek.len() {
        1..=MAX_DATA_KEY => Ok(dek),
        _ => Err(CallError::MalformedResponse("plaintext")),
    }
}
