//! The time by which credentials expire: it never goes back, also not when the system's clock does.

use std::sync::atomic::{AtomicI64, Ordering};

use chrono::Utc;

/// No time before this one is returned. A process has one clock.
static FLOOR: AtomicI64 = AtomicI64::new(i64::MIN);
/// The floor follows the clock in steps of one second, in microseconds, so that most callers only read it.
const STEP: i64 = 1_000_000;

/// Now, in Unix microseconds. While the system's clock is earlier than a time that it had before, or that
/// [`never_before`] named, this is at most one second before that time.
pub fn now() -> i64 {
    let (now, floor) = (Utc::now().timestamp_micros(), FLOOR.load(Ordering::Relaxed));
    if now.saturating_sub(floor) > STEP {
        FLOOR.fetch_max(now, Ordering::Relaxed);
    }
    now.max(floor)
}

/// Sets the earliest time that [`now`] returns, in Unix microseconds. An earlier one changes nothing.
pub fn never_before(time: i64) {
    FLOOR.fetch_max(time, Ordering::Relaxed);
}
