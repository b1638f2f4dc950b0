//! CRC32C both ways: Google checks what it received and says so, and we check what came back.

use claviger_provider::Error;

use crate::errors::CallError;

/// The checksum of bytes, as requests carry it.
pub(crate) fn crc32c(bytes: &[u8]) -> i64 {
    i64::from(crc32c::crc32c(bytes))
}

/// Holds bytes of an answer against the checksum that came with them.
///
/// # Errors
/// `UpstreamProtocol`, which another attempt may mend, where they differ or none came.
pub(crate) fn same(bytes: &[u8], told: Option<i64>, operation: &'static str) -> Result<(), Error> {
    match told {
        Some(told) if told == crc32c(bytes) => Ok(()),
        Some(_) => Err(CallError::Corrupt("the answer's checksum is not that of its bytes").into_error(operation)),
        None => Err(CallError::Corrupt("the answer has no checksum").into_error(operation)),
    }
}

/// Demands that Google says to have checked what it received.
///
/// # Errors
/// `UpstreamProtocol`, which another attempt may mend, where it does not.
pub(crate) fn verified(all: &[bool], operation: &'static str) -> Result<(), Error> {
    match all.iter().all(|verified| *verified) {
        true => Ok(()),
        false => Err(CallError::Corrupt("what was sent arrived without its checksum").into_error(operation)),
    }
}
