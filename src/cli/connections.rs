//! `connections`.

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::PossibleValuesParser;
use clap::{Args, Subcommand};
use claviger_provider::ProviderKind;
use reqwest::Method;
use serde_json::{Map, Value, json};

use super::Terminal;
use super::change::{Change, Labels};
use super::input;
use super::once::Once;
use super::pages::Paging;
use super::print::Column;
use crate::client::{Call, Client, Failure};
use crate::duration;

const COLUMNS: [Column; 5] = [
    ("NAME", "/name"),
    ("PROVIDER", "/provider"),
    ("STATE", "/state"),
    ("CREATED", "/created"),
    ("ID", "/id"),
];

/// What to do with connections.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make a connection
    Create(Create),
    /// List connections
    List(Paging),
    /// Show a connection
    Get(One),
    /// Change a connection's labels, secrets or times; never where it leads
    Update(Update),
    /// Delete a connection that no key uses
    Delete(One),
    /// Try each right at the provider and say what to grant or take away
    Check(One),
    /// Show what the provider can do, and how
    Capabilities(One),
    /// Cut every key of the connection off, at once
    Sever(Switch),
    /// End a sever
    Restore(Switch),
}

/// Makes a connection.
#[derive(Debug, Args)]
pub struct Create {
    /// Its name
    name: String,
    /// The provider family
    #[arg(long, value_parser = PossibleValuesParser::new(ProviderKind::ALL.map(ProviderKind::as_str)))]
    provider: String,
    /// A JSON object with the provider's settings, secrets included; `-`: standard input
    #[arg(long, value_name = "FILE")]
    settings: Option<PathBuf>,
    #[command(flatten)]
    labels: Labels,
    #[command(flatten)]
    timeouts: Timeouts,
    #[command(flatten)]
    once: Once,
}

/// A connection's own times.
#[derive(Debug, Args)]
pub struct Timeouts {
    /// The longest that one attempt of a call may take: 100ms to 10s
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

/// Changes a connection.
#[derive(Debug, Args)]
pub struct Update {
    /// The connection
    connection: String,
    #[command(flatten)]
    labels: Labels,
    #[command(flatten)]
    timeouts: Timeouts,
    /// Follow the installation's times again
    #[arg(long, conflicts_with = "attempt_timeout")]
    no_timeouts: bool,
    /// A JSON object with new secrets in place of the kept ones; `-`: standard input
    #[arg(long, value_name = "FILE")]
    secrets: Option<PathBuf>,
    #[command(flatten)]
    change: Change,
}

/// Names a connection.
#[derive(Debug, Args)]
pub struct One {
    /// The connection
    connection: String,
}

/// Severs or restores.
#[derive(Debug, Args)]
pub struct Switch {
    /// The connection
    connection: String,
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
            Self::Check(one) => Call::new(Method::POST, &["connections", &one.connection, "check"]),
            Self::Capabilities(one) => Call::new(Method::GET, &["connections", &one.connection, "capabilities"]),
            Self::Sever(switch) => switch.call("sever")?,
            Self::Restore(switch) => switch.call("restore")?,
        };
        terminal.show(&client.send(call).await?.body)
    }
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
        let path = ["connections", self.connection.as_str()];
        let options = "--label, --no-labels, --attempt-timeout, --no-timeouts or --secrets";
        self.change.call(client, &path, body, options).await
    }
}

impl Switch {
    fn call(&self, action: &str) -> Result<Call, Failure> {
        self.once.apply(Call::new(Method::POST, &["connections", &self.connection, action]))
    }
}
