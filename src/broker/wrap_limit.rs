//! The limit of wraps under one version of a key whose provider draws random nonces of 96 bits.
//!
//! Every wrap is reserved in the store before it is sent ([`crate::keys::ReservedWraps`]). Unwraps are not
//! limited. Wraps that others send to the same provider key are not seen.

use std::time::Instant;

use super::{Broker, Code, Failure};
use crate::keys::{KeyEntry, TakenWrap};

impl Broker {
    /// Counts a wrap under a version whose nonces are random. It may then be sent.
    ///
    /// # Errors
    /// `key_state` when the version has reached its limit, `deadline_exceeded`, and what the store fails with.
    pub(super) async fn count_wrap(&self, deadline: Instant, key: &KeyEntry, version: u32) -> Result<(), Failure> {
        match key.wraps().take(version) {
            TakenWrap::Reserved => Ok(()),
            // Boxed, since it is rare and would be part of every wrap's future.
            TakenWrap::NeedsMore(_) | TakenWrap::LimitReached => Box::pin(self.reserve_wraps(deadline, key, version)).await,
        }
    }

    /// Reserves wraps in the store, and takes one of them.
    async fn reserve_wraps(&self, deadline: Instant, key: &KeyEntry, version: u32) -> Result<(), Failure> {
        let reserving = tokio::time::timeout_at(deadline.into(), key.wraps().reserving().lock());
        let _one_at_a_time = reserving.await.map_err(|_| Failure::deadline())?;
        loop {
            // Another request may have reserved some meanwhile.
            let asked = match key.wraps().take(version) {
                TakenWrap::Reserved => return Ok(()),
                TakenWrap::LimitReached => return Err(limit_reached(version)),
                TakenWrap::NeedsMore(count) => count,
            };
            let reserved = self.store.reserve_wraps(key.tenant(), key.id(), version, asked).await?;
            key.wraps().add(version, asked, reserved.granted);
            self.wrap_warnings.note(key, version, reserved);
        }
    }
}

/// The failure for a version that has wrapped as often as it may.
fn limit_reached(version: u32) -> Failure {
    Failure::new(
        Code::KeyState,
        format!("Version {version} of the key has reached its limit of 2^32 wraps: beyond it, its random nonces may repeat."),
    )
    .advice("Rotate the key (`claviger keys rotate`), then repeat the request. What the version wrapped can still be unwrapped.")
}
