//! The command `connections`.

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::PossibleValuesParser;
use clap::{Args, Subcommand};
use claviger_provider::ProviderKind;
use reqwest::Method;
use serde_json::{Map, Value, json};

use super::input;
use super::once::Once;
use super::pages::Paging;
use super::print::{Column, plain_lines};
use super::terminal::{Output, Terminal};
use super::update::{Labels, UpdateArgs};
use crate::client::{Call, Client, Failure};
use crate::duration;

const COLUMNS: [Column; 5] = [
    ("NAME", "/name"),
    ("PROVIDER", "/provider"),
    ("STATE", "/state"),
    ("CREATED", "/created"),
    ("ID", "/id"),
];

/// Subcommands of `connections`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Create a connection
    Create(Create),
    /// List connections
    List(Paging),
    /// Show a connection
    Get(One),
    /// Change a connection's labels, secrets, timeouts or network settings
    Update(Update),
    /// Delete a connection that no key uses
    Delete(One),
    /// Test each right at the provider, and show what to grant or remove; exits with 0 only if all is well
    Check(One),
    /// Show what the provider supports, and how
    Capabilities(One),
    /// Block the versions of keys that use the connection, effective at the next request
    Sever(One),
    /// Undo a sever
    Restore(Restore),
}

/// Arguments of `connections create`.
#[derive(Debug, Args)]
pub struct Create {
    /// Name
    name: String,
    /// Provider
    #[arg(long, value_parser = PossibleValuesParser::new(ProviderKind::ALL.map(ProviderKind::as_str)))]
    provider: String,
    /// JSON file with the provider's settings, secrets included; `-` for standard input
    #[arg(long, value_name = "FILE")]
    settings: Option<PathBuf>,
    #[command(flatten)]
    labels: Labels,
    #[command(flatten)]
    timeouts: Timeouts,
    #[command(flatten)]
    once: Once,
}

/// Timeouts of a connection.
#[derive(Debug, Args)]
pub struct Timeouts {
    /// Timeout of one attempt of a call: 100ms to 10s
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    attempt_timeout: Option<Duration>,
}

impl Timeouts {
    fn add_to(&self, body: &mut Map<String, Value>) {
        if let Some(attempt) = self.attempt_timeout {
            body.insert("timeouts".to_owned(), json!({"attempt": duration::text(attempt)}));
        }
    }
}

/// Arguments of `connections update`.
#[derive(Debug, Args)]
pub struct Update {
    /// Name of the connection
    connection: String,
    #[command(flatten)]
    labels: Labels,
    #[command(flatten)]
    timeouts: Timeouts,
    /// Use the timeouts of the gateway's configuration again
    #[arg(long, conflicts_with = "attempt_timeout")]
    no_timeouts: bool,
    /// JSON file with secrets that replace the stored ones; `-` for standard input
    #[arg(long, value_name = "FILE")]
    secrets: Option<PathBuf>,
    /// JSON file with new network settings (some of ca, proxy and address; null removes one), which need
    /// all secrets again; `-` for standard input
    #[arg(long, value_name = "FILE", requires = "secrets")]
    settings: Option<PathBuf>,
    #[command(flatten)]
    update: UpdateArgs,
}

/// The argument of commands on one connection.
#[derive(Debug, Args)]
pub struct One {
    /// Name of the connection
    connection: String,
}

/// Arguments of `connections restore`.
#[derive(Debug, Args)]
pub struct Restore {
    #[command(flatten)]
    one: One,
    #[command(flatten)]
    once: Once,
}

impl Command {
    pub(super) async fn run(self, client: &Client, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
        let call = match self {
            Self::List(paging) => return terminal.list(&paging.fetch(client, &["connections"], &[]).await?, &COLUMNS),
            Self::Create(create) => create.call()?,
            Self::Update(update) => update.call(client).await?,
            Self::Get(one) => Call::new(Method::GET, &["connections", &one.connection]),
            Self::Delete(one) => Call::new(Method::DELETE, &["connections", &one.connection]),
            Self::Check(one) => return one.check(client, terminal).await,
            Self::Capabilities(one) => Call::new(Method::GET, &["connections", &one.connection, "capabilities"]),
            // A revocation is carried out each time, so it takes no idempotency key.
            Self::Sever(one) => Call::new(Method::POST, &["connections", &one.connection, "sever"]),
            Self::Restore(Restore { one, once }) => once.apply(Call::new(Method::POST, &["connections", &one.connection, "restore"]))?,
        };
        terminal.show(&client.send(call).await?.body)
    }
}

impl One {
    async fn check(&self, client: &Client, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
        let call = Call::new(Method::POST, &["connections", &self.connection, "check"]);
        let mut shown = client.send(call).await?.body;
        let verdict = verdict(&shown);
        // A policy has lines, which do not fit into a table.
        let policy = match terminal.output {
            Output::Json => None,
            Output::Table => shown.as_object_mut().and_then(|members| members.remove("policy")),
        };
        terminal.show(&shown)?;
        if let Some(policy) = policy.as_ref().and_then(Value::as_str) {
            terminal.text(&format!("\npolicy\n{}\n", plain_lines(policy.trim_end())))?;
        }
        verdict
    }
}

/// Whether a check found that all is well. What cannot be tested counts as well.
///
/// # Errors
/// What is not: the connection cannot be used, or a right is missing, too much, or could not be tried.
fn verdict(report: &Value) -> Result<(), Failure> {
    let not_well = |result: &str, text: String| {
        let result = result.to_owned();
        Err(Failure::Partly { result, text })
    };
    if report["reachable"] != true {
        let code = report["code"].as_str().unwrap_or_default();
        let result = match code {
            "provider_denied" | "external_denied" => "denied",
            "connection_misconfigured" => "unsupported",
            _ => "unavailable",
        };
        return not_well(
            result,
            format!("the connection cannot be used: {}", report["detail"].as_str().unwrap_or(code)),
        );
    }
    let rights = report["rights"].as_array().map_or(&[][..], Vec::as_slice);
    for (finding, result, text) in [
        ("denied", "denied", "rights are missing"),
        ("failed", "unavailable", "rights could not be tried"),
        ("excessive", "unsupported", "rights are more than the connection needs"),
    ] {
        let found = rights.iter().filter(|right| right["finding"] == finding);
        let operations = counted(found.filter_map(|right| right["operation"].as_str()));
        if !operations.is_empty() {
            return not_well(result, format!("{text}: {operations}"));
        }
    }
    Ok(())
}

/// The words in their order, each once, with the number of rows that have it if there are several: a right is
/// tried with each key.
fn counted<'a>(words: impl Iterator<Item = &'a str>) -> String {
    let mut counts: Vec<(&str, usize)> = Vec::new();
    for word in words {
        match counts.iter_mut().find(|(known, _)| *known == word) {
            Some((_, count)) => *count += 1,
            None => counts.push((word, 1)),
        }
    }
    let text = |(word, count): &(&str, usize)| match count {
        1 => (*word).to_owned(),
        count => format!("{word} ({count} rows)"),
    };
    counts.iter().map(text).collect::<Vec<_>>().join(", ")
}

impl Create {
    fn call(&self) -> Result<Call, Failure> {
        let settings = self.settings.as_deref().map(input::json_object).transpose()?.unwrap_or_default();
        let mut body = Map::from_iter([
            ("name".to_owned(), self.name.as_str().into()),
            ("provider".to_owned(), self.provider.as_str().into()),
            ("settings".to_owned(), Value::Object(settings)),
        ]);
        self.labels.add_to(&mut body)?;
        self.timeouts.add_to(&mut body);
        self.once.apply(Call::new(Method::POST, &["connections"]).json(body.into()))
    }
}

impl Update {
    async fn call(&self, client: &Client) -> Result<Call, Failure> {
        let mut body = Map::new();
        self.labels.add_to(&mut body)?;
        self.timeouts.add_to(&mut body);
        if self.no_timeouts {
            body.insert("timeouts".to_owned(), json!({}));
        }
        if let Some(path) = &self.secrets {
            body.insert("secrets".to_owned(), Value::Object(input::json_object(path)?));
        }
        if let Some(path) = &self.settings {
            body.insert("settings".to_owned(), Value::Object(input::json_object(path)?));
        }
        let path = ["connections", self.connection.as_str()];
        let options = "--label, --no-labels, --attempt-timeout, --no-timeouts, --secrets or --settings";
        self.update.call(client, &path, body, options).await
    }
}

#[cfg(test)]
mod tests {
    use super::counted;

    #[test]
    fn each_right_is_told_once() {
        let words = ["wrap_key", "unwrap_key", "wrap_key", "canary", "wrap_key"];
        assert_eq!(counted(words.into_iter()), "wrap_key (3 rows), unwrap_key, canary");
        assert_eq!(counted(std::iter::empty()), "");
    }
}
