//! The pauses between repeated questions about something that a provider will show in a moment.

use std::time::Duration;

use crate::jitter::jitter;

/// The first pause, and the longest. It doubles each time.
const FIRST: Duration = Duration::from_millis(50);
const LONGEST: Duration = Duration::from_secs(1);

/// Pauses that double from 50 ms to 1 s, each shortened by up to a half at random, so that callers that began
/// together do not ask together.
#[derive(Debug)]
pub struct Pauses {
    next: Duration,
}

impl Pauses {
    /// No pause was made yet.
    pub const fn new() -> Self {
        Self { next: FIRST }
    }

    /// Draws the next pause.
    pub fn draw(&mut self) -> Duration {
        let most = self.next;
        self.next = (most * 2).min(LONGEST);
        most / 2 + jitter(most / 2)
    }
}

impl Default for Pauses {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn pauses_double_to_a_second_and_differ() {
        let mut drawn = HashSet::new();
        for _ in 0..50 {
            let mut pauses = Pauses::new();
            for most in [50, 100, 200, 400, 800, 1000, 1000] {
                let pause = pauses.draw();
                let most = Duration::from_millis(most);
                assert!(pause >= most / 2 && pause <= most, "{pause:?} of {most:?}");
                drawn.insert(pause);
            }
        }
        assert!(drawn.len() > 300, "{}", drawn.len());
    }
}
