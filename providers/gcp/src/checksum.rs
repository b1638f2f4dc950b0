//! CRC32C checksums: Google verifies what it receives and says so, and responses are verified
//! here.

use crate::errors::{CallError, Refusal};

/// The CRC32C of bytes, in the type of the API.
pub(crate) fn crc32c(bytes: &[u8]) -> i64 {
    i64::from(crc32c::crc32c(bytes))
}

/// Verifies bytes of a response.
///
/// # Errors
/// `Corrupt` for another checksum or none.
pub(crate) fn verify(bytes: &[u8], checksum: Option<i64>) -> Result<(), CallError> {
    match checksum {
        Some(checksum) if checksum == crc32c(bytes) => Ok(()),
        Some(_) => Err(corrupt("the response's checksum does not match its data")),
        None => Err(corrupt("the response has no checksum")),
    }
}

/// Fails unless Google verified the checksums of all sent fields.
///
/// # Errors
/// `Corrupt`.
pub(crate) fn verified(fields: &[bool]) -> Result<(), CallError> {
    match fields.iter().all(|verified| *verified) {
        true => Ok(()),
        false => Err(corrupt("Google did not verify the checksums of the request")),
    }
}

fn corrupt(why: &'static str) -> CallError {
    CallError::Refused(Refusal::Corrupt(why))
}
