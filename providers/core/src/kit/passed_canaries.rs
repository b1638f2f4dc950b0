//! The keys whose canaries passed a moment ago.

use std::collections::HashMap;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// How long a passed canary shows that its key works.
const SHOWS: Duration = Duration::from_secs(10);
/// The most keys that are remembered. More are tried each time.
const MOST: usize = 4096;

/// When the canaries of keys passed, by provider key id.
#[derive(Debug, Default)]
pub struct PassedCanaries(Mutex<HashMap<String, Instant>>);

impl PassedCanaries {
    /// Whether the canary of a key passed within [`SHOWS`].
    pub fn has(&self, id: &str) -> bool {
        self.0.lock().get(id).is_some_and(|passed| passed.elapsed() < SHOWS)
    }

    /// Notes that the canary of a key has passed.
    pub fn note(&self, id: &str) {
        let mut passed = self.0.lock();
        passed.retain(|_, passed| passed.elapsed() < SHOWS);
        if passed.len() < MOST {
            passed.insert(id.to_owned(), Instant::now());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::advance;

    use super::PassedCanaries;

    #[tokio::test(start_paused = true)]
    async fn a_passed_canary_shows_for_a_moment_that_its_key_works() {
        let passed = PassedCanaries::default();
        passed.note("1");
        advance(Duration::from_secs(9)).await;
        assert!(passed.has("1") && !passed.has("2"));
        advance(Duration::from_secs(1)).await;
        assert!(!passed.has("1"));
    }
}
