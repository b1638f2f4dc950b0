//! Which states are checked, and all of them at once.

use futures::StreamExt;

use super::history::History;
use super::states::{self, Form, State};
use crate::random::{Random, seed};

/// How many gateways run at once.
const AT_ONCE: usize = 2;
/// How many failures are shown.
const SHOWN: usize = 5;

/// All states of a record, or those that the short form chooses: those with nothing but what had to be
/// there, and some others.
pub fn chosen(history: &History, lines: &[usize], form: Form, name: &str, wanted: usize) -> Vec<State> {
    let seed = seed(name);
    let all = states::all(history, lines, form, seed);
    let made = all.len();
    let (mut chosen, mut rest): (Vec<_>, Vec<_>) = all.into_iter().partition(|state| state.strict || form == Form::Long);
    let mut random = Random::new(seed, u64::MAX);
    while chosen.len() < wanted && !rest.is_empty() {
        chosen.push(rest.swap_remove(random.below(rest.len() as u64) as usize));
    }
    println!(
        "{name}: {} changes, {} syncs, {} responses; {made} states, of which {} are checked",
        history.events.len(),
        history.syncs.len(),
        lines.len(),
        chosen.len()
    );
    chosen
}

/// Checks states, several at once. Panics with the stories of some that do not hold.
pub async fn check_all<F: Future<Output = ()> + Send + 'static>(states: Vec<State>, check: impl Fn(usize, State) -> F) {
    let many = states.len();
    let checks = states.into_iter().enumerate().map(|(number, state)| {
        let story = state.story.clone();
        let check = tokio::spawn(check(number, state));
        async move { check.await.err().map(|error| format!("{story}: {}", said(error))) }
    });
    let failed: Vec<String> = futures::stream::iter(checks)
        .buffer_unordered(AT_ONCE)
        .filter_map(std::future::ready)
        .collect()
        .await;
    assert!(
        failed.is_empty(),
        "{} of {many} states do not hold, such as:\n{}",
        failed.len(),
        failed.iter().take(SHOWN).cloned().collect::<Vec<_>>().join("\n")
    );
}

/// What a task that panicked said.
fn said(error: tokio::task::JoinError) -> String {
    let panic = error.into_panic();
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
        .unwrap_or_default()
}
