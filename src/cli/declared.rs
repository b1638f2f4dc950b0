//! The commands `plan`, `apply` and `release`: compare the gateway's configuration with its store.

use clap::{Args, ValueEnum};
use reqwest::Method;
use serde_json::{Value, json};

use super::print::plain_lines;
use super::terminal::{Output, Terminal};
use crate::client::{Call, Client, Failure};

/// The subcommands `plan` and `apply`.
#[derive(Debug, Clone, Copy)]
pub(super) enum DeclaredCommand {
    Plan,
    Apply,
}

impl DeclaredCommand {
    /// Calls the gateway and prints the steps.
    ///
    /// # Errors
    /// Also if a step failed.
    pub(super) async fn run(self, client: &Client, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
        let action = match self {
            Self::Plan => "plan",
            Self::Apply => "apply",
        };
        let response = client.send(Call::new(Method::POST, &["declared", action])).await?.body;
        match terminal.output {
            Output::Json => terminal.show(&response)?,
            Output::Table => terminal.text(&plain_lines(&report(&response)))?,
        }
        let failed = steps(&response).filter(|step| step["result"] == "failed").count();
        if failed == 0 {
            return Ok(());
        }
        Err(Failure::Local(format!("{failed} declared objects failed; the others are as shown")))
    }
}

/// The kind of an object that can be released.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Kind {
    Connection,
    Key,
}

/// Arguments of `release`.
#[derive(Debug, Args)]
pub struct Release {
    /// Kind of the object
    kind: Kind,
    /// Name of its tenant
    #[arg(value_name = "TENANT")]
    owner: String,
    /// Name of the object
    name: String,
}

impl Release {
    pub(super) async fn run(self, client: &Client, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
        let kind = match self.kind {
            Kind::Connection => "connection",
            Kind::Key => "key",
        };
        let body = json!({"kind": kind, "tenant": self.owner, "name": self.name});
        let call = Call::new(Method::POST, &["declared", "release"]).json(body);
        terminal.show(&client.send(call).await?.body)
    }
}

fn steps(response: &Value) -> impl Iterator<Item = &Value> {
    response["steps"].as_array().into_iter().flatten()
}

/// One line for each step, and a last line with the counts.
fn report(response: &Value) -> String {
    let mut text = String::new();
    let text_of = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    for step in steps(response) {
        let result = text_of(&step["result"]);
        let sign = match result.as_str() {
            "missing" | "made" => '+',
            "new_secrets" | "secrets_replaced" | "new_settings" | "settings_changed" => '~',
            "not_declared" => '-',
            _ => '!',
        };
        let tenant = step["tenant"].as_str().map_or_else(String::new, |tenant| format!("{tenant}/"));
        text.push_str(&format!(
            "{sign} {} {tenant}{}: {}",
            text_of(&step["kind"]),
            text_of(&step["name"]),
            result.replace('_', " ")
        ));
        if let Some(detail) = step["detail"].as_str() {
            text.push_str(&format!(" ({detail})"));
        }
        text.push('\n');
    }
    text.push_str(&format!("{} as declared\n", response["as_declared"]));
    if response["not_reached"].as_u64().is_some_and(|count| count > 0) {
        text.push_str(&format!("{} not reached in time: run it again\n", response["not_reached"]));
    }
    text
}
