//! Pauses and keys by chance.

use std::time::Duration;

use aws_lc_rs::rand;

use crate::error::{Error, Result};

/// A random pause, at most this long. Full jitter: callers that failed together do not come back together.
pub(crate) fn jitter(longest: Duration) -> Duration {
    let mut random = [0; 4];
    match rand::fill(&mut random) {
        Ok(()) => longest.mul_f64(f64::from(u32::from_ne_bytes(random)) / f64::from(u32::MAX)),
        Err(_) => longest,
    }
}

/// A key of 128 random bits.
pub(crate) fn random_key() -> Result<String> {
    let mut random = [0; 16];
    rand::fill(&mut random).map_err(|_| Error::io("A random number was not made", std::io::Error::other("the system has none")))?;
    Ok(format!("{:032x}", u128::from_ne_bytes(random)))
}
