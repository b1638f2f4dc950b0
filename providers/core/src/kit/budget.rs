//! The setting `budget_ms` of connections to external key managers: the time of one call.

use std::ops::RangeInclusive;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::fields::Fields;

/// As long as AWS KMS waits for an external key manager.
const USUAL_MS: u64 = 250;
/// The budgets that a connection can have, in milliseconds.
const POSSIBLE_MS: RangeInclusive<u64> = 50..=10_000;

/// The longest time of one call, connecting and TLS included. Stored as milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Budget(u64);

impl Default for Budget {
    fn default() -> Self {
        Self(USUAL_MS)
    }
}

impl Budget {
    /// The time.
    pub const fn time(self) -> Duration {
        Duration::from_millis(self.0)
    }

    /// Whether it is the default, which is not stored.
    pub const fn is_usual(&self) -> bool {
        self.0 == USUAL_MS
    }

    /// Reads the setting. `None` for a mistake, which is reported.
    pub fn setting(fields: &mut Fields<'_>) -> Option<Self> {
        let Some(value) = fields.take("budget_ms") else {
            return Some(Self::default());
        };
        let budget = value.as_u64().filter(|budget| POSSIBLE_MS.contains(budget)).map(Self);
        if budget.is_none() {
            fields.report("budget_ms", "the time of one call in milliseconds, 50 to 10000; 250 if left out");
        }
        budget
    }
}
