//! Rounds of background checks at providers: bounded, so that no tenant and no provider holds up the others.

use std::time::Duration;

use futures::StreamExt;

use super::Code;

/// The most that one round checks, and the most of one tenant: a provider that hangs must not hold up
/// the next round for others.
pub(super) const ROUND: u32 = 1000;
pub(super) const ROUND_OF_TENANT: u32 = 4;
/// How many are checked at once.
pub(super) const AT_ONCE: usize = 32;
/// Timeout of one check.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// The time so much later, in Unix microseconds.
pub(super) fn later(at: i64, by: Duration) -> i64 {
    at.saturating_add(i64::try_from(by.as_micros()).unwrap_or(i64::MAX))
}

/// Whether another look can end otherwise.
pub(super) const fn passes(code: Code) -> bool {
    is_own(code)
        || matches!(
            code,
            Code::DeadlineExceeded
                | Code::InProgress
                | Code::ConnectionSevered
                | Code::ProviderUnavailable
                | Code::ProviderProtocol
                | Code::CircuitOpen
                | Code::RateLimited
        )
}

/// Whether the gateway itself failed, and no provider, which is a tenant's affair.
pub(super) const fn is_own(code: Code) -> bool {
    matches!(code, Code::Internal | Code::AuditUnavailable | Code::NotReady)
}

/// Runs the checks of a round. Returns the code of a failure.
pub(super) async fn check_all(checks: impl Iterator<Item = impl Future<Output = Result<(), Code>>>) -> Result<(), Code> {
    futures::stream::iter(checks)
        .buffer_unordered(AT_ONCE)
        .fold(Ok(()), async |all, one| all.and(one))
        .await
}
