//! Random pauses.

use std::time::Duration;

use crate::secret::fill_random;

/// A uniformly random pause from zero to `most` ("full jitter"), so that callers that failed together do
/// not retry together.
pub(crate) fn jitter(most: Duration) -> Duration {
    let mut draw = [0; 8];
    fill_random(&mut draw);
    let most = u64::try_from(most.as_nanos()).unwrap_or(u64::MAX);
    // The high 64 bits of the product are the random number scaled to 0..most.
    let scaled = (u128::from(u64::from_le_bytes(draw)) * u128::from(most)) >> 64;
    Duration::from_nanos(u64::try_from(scaled).unwrap_or(most))
}
