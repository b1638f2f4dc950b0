//! `plan`, `apply`: what the gateway's own configuration declares, against what there is.

use reqwest::Method;
use serde_json::Value;

use super::Terminal;
use super::print::{Output, plain_lines};
use crate::client::{Call, Client, Failure};

/// Which of the two.
#[derive(Debug, Clone, Copy)]
pub(super) enum Which {
    Plan,
    Apply,
}

impl Which {
    /// Asks the gateway. Applying that leaves something behind ends as a conflict.
    pub(super) async fn run(self, client: &Client, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
        let word = match self {
            Self::Plan => "plan",
            Self::Apply => "apply",
        };
        let answer = client.send(Call::new(Method::POST, &["declared", word])).await?.body;
        match terminal.output {
            Output::Json => terminal.show(&answer)?,
            Output::Table => terminal.text(&plain_lines(&told(&answer)))?,
        }
        let failed = steps(&answer).filter(|step| step["result"] == "failed").count();
        if failed == 0 {
            return Ok(());
        }
        Err(Failure::Local(format!(
            "{failed} of the declared things failed; the rest stands as told"
        )))
    }
}

fn steps(answer: &Value) -> impl Iterator<Item = &Value> {
    answer["steps"].as_array().into_iter().flatten()
}

/// One line for each step, and a last one with the counts.
fn told(answer: &Value) -> String {
    let mut text = String::new();
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    for step in steps(answer) {
        let result = word(&step["result"]);
        let sign = match result.as_str() {
            "missing" | "made" => '+',
            "new_secrets" | "secrets_replaced" => '~',
            _ => '!',
        };
        let whose = step["tenant"].as_str().map_or_else(String::new, |tenant| format!("{tenant}/"));
        text.push_str(&format!(
            "{sign} {} {whose}{}: {}",
            word(&step["kind"]),
            word(&step["name"]),
            result.replace('_', " ")
        ));
        if let Some(detail) = step["detail"].as_str() {
            text.push_str(&format!(" ({detail})"));
        }
        text.push('\n');
    }
    text.push_str(&format!("{} as declared\n", answer["as_declared"]));
    if answer["not_reached"].as_u64().is_some_and(|count| count > 0) {
        text.push_str(&format!("{} not reached in time: run it again\n", answer["not_reached"]));
    }
    text
}
