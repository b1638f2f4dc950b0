//! The command `keys`.

use clap::builder::PossibleValuesParser;
use clap::{ArgAction, Args, Subcommand};
use reqwest::Method;
use serde_json::{Map, Value, json};

use super::input;
use super::once::Once;
use super::pages::Paging;
use super::print::Column;
use super::terminal::Terminal;
use super::update::{Labels, UpdateArgs};
use crate::client::{Call, Client, Failure};

const SPECS: [&str; 3] = ["aes-256", "rsa-3072", "rsa-4096"];
const COLUMNS: [Column; 7] = [
    ("NAME", "/name"),
    ("PROVIDER", "/provider"),
    ("CONNECTION", "/connection"),
    ("SPEC", "/spec"),
    ("STATE", "/state"),
    ("VERSION", "/primary_version"),
    ("ID", "/id"),
];
/// Of a detached key: what `keys create` needs to bring it back comes last.
const DETACHED: [Column; 7] = [
    ("DETACHED", "/detached_at"),
    ("STATE", "/state"),
    ("ID", "/id"),
    ("NAME", "/reattach/name"),
    ("CONNECTION", "/reattach/connection"),
    ("PROVIDER KEY", "/reattach/provider_key"),
    ("SPEC", "/reattach/spec"),
];
const VERSIONS: [Column; 9] = [
    ("VERSION", "/number"),
    ("PROVIDER", "/provider"),
    ("CONNECTION", "/connection"),
    ("STATE", "/state"),
    ("AT PROVIDER", "/provider_state"),
    ("CREATED", "/created"),
    ("PROVIDER KEY", "/provider_key"),
    ("PROVIDER VERSION", "/provider_version"),
    ("WARNINGS", "/warnings"),
];

/// Subcommands of `keys`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Create a key at the provider, or adopt an existing one
    Create(Create),
    /// List keys
    List(List),
    /// Show a key
    Get(One),
    /// Change a key's name, labels, cache rules, or whether it may leave external custody
    Update(Update),
    /// Detach a key; nothing changes at the provider, and adopting its provider key brings it back
    Delete(One),
    /// List a key's versions
    Versions(Versions),
    /// Create a new primary version; older versions still unwrap
    Rotate(Rotate),
    /// Enable a key
    Enable(Enable),
    /// Disable a key, effective at the next request
    Disable(Switch),
}

/// Arguments of `keys create`.
#[derive(Debug, Args)]
pub struct Create {
    /// Name
    name: String,
    /// Connection to the provider
    #[arg(long)]
    connection: String,
    /// Algorithm and length [default: the provider's]
    #[arg(long, value_parser = PossibleValuesParser::new(SPECS))]
    spec: Option<String>,
    /// Adopt this key of the provider instead of creating one
    #[arg(long, value_name = "ID")]
    provider_key: Option<String>,
    /// Fixed id, to open wrapped keys of a lost installation (platform operators only)
    #[arg(long, value_name = "HEX")]
    id: Option<String>,
    #[command(flatten)]
    properties: Properties,
    #[command(flatten)]
    once: Once,
}

/// Properties that can be set at creation and changed later.
#[derive(Debug, Args)]
pub struct Properties {
    #[command(flatten)]
    labels: Labels,
    /// Cache rules, such as {"max_age":"30s"}
    #[arg(long, value_name = "JSON", value_parser = input::object)]
    cache: Option<Map<String, Value>>,
}

/// Arguments of `keys list`.
#[derive(Debug, Args)]
pub struct List {
    /// Only keys whose primary version uses this connection
    #[arg(long)]
    connection: Option<String>,
    /// Only keys in this state; `detached` lists the detached keys and what brings each one back
    #[arg(long, value_parser = PossibleValuesParser::new(["enabled", "disabled", "detached"]))]
    state: Option<String>,
    /// Only keys with this label
    #[arg(long, value_name = "NAME=VALUE")]
    label: Option<String>,
    #[command(flatten)]
    paging: Paging,
}

/// The argument of commands on one key.
#[derive(Debug, Args)]
pub struct One {
    /// Name of the key
    key: String,
}

/// Arguments of `keys update`.
#[derive(Debug, Args)]
pub struct Update {
    /// Name of the key
    key: String,
    /// New name
    #[arg(long)]
    name: Option<String>,
    #[command(flatten)]
    properties: Properties,
    /// Whether data keys may leave external custody; true needs --justification and a tenant's own credential
    #[arg(long, value_name = "BOOLEAN", action = ArgAction::Set)]
    allow_export: Option<bool>,
    #[command(flatten)]
    update: UpdateArgs,
}

/// Arguments of `keys versions`.
#[derive(Debug, Args)]
pub struct Versions {
    /// Name of the key
    key: String,
    #[command(flatten)]
    paging: Paging,
}

/// Arguments of `keys rotate`.
#[derive(Debug, Args)]
pub struct Rotate {
    /// Name of the key
    key: String,
    /// Connection of the new primary version: another one moves the key
    #[arg(long)]
    connection: Option<String>,
    /// Algorithm and length of the new primary version
    #[arg(long, value_parser = PossibleValuesParser::new(SPECS))]
    spec: Option<String>,
    /// Adopt this key of the provider instead of creating one
    #[arg(long, value_name = "ID")]
    provider_key: Option<String>,
    #[command(flatten)]
    once: Once,
}

/// Arguments of `keys disable`, and with [`Once`] of `keys enable`.
#[derive(Debug, Args)]
pub struct Switch {
    /// Name of the key
    key: String,
    /// At the provider, too
    #[arg(long)]
    at_provider: bool,
}

/// Arguments of `keys enable`.
#[derive(Debug, Args)]
pub struct Enable {
    #[command(flatten)]
    switch: Switch,
    #[command(flatten)]
    once: Once,
}

impl Command {
    pub(super) async fn run(self, client: &Client, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
        let call = match self {
            Self::List(list) => {
                let columns: &[Column] = if list.state.as_deref() == Some("detached") {
                    &DETACHED
                } else {
                    &COLUMNS
                };
                return terminal.list(&list.fetch(client).await?, columns);
            }
            Self::Versions(Versions { key, paging }) => {
                return terminal.list(&paging.fetch(client, &["keys", &key, "versions"], &[]).await?, &VERSIONS);
            }
            Self::Create(create) => create.call()?,
            Self::Get(one) => Call::new(Method::GET, &["keys", &one.key]),
            Self::Update(update) => update.call(client).await?,
            Self::Delete(one) => Call::new(Method::DELETE, &["keys", &one.key]),
            Self::Rotate(rotate) => rotate.call()?,
            Self::Enable(enable) => {
                let call = enable.once.apply(enable.switch.call("enable"))?;
                return show_switched(&client.send(call).await?.body, "enable", terminal);
            }
            // A revocation is carried out each time, so it takes no idempotency key.
            Self::Disable(switch) => return show_switched(&client.send(switch.call("disable")).await?.body, "disable", terminal),
        };
        terminal.show(&client.send(call).await?.body)
    }
}

impl Properties {
    fn add_to(&self, body: &mut Map<String, Value>) -> Result<(), Failure> {
        self.labels.add_to(body)?;
        if let Some(cache) = &self.cache {
            body.insert("cache".to_owned(), cache.clone().into());
        }
        Ok(())
    }
}

impl Create {
    fn call(&self) -> Result<Call, Failure> {
        let mut body = Map::new();
        body.insert("name".to_owned(), self.name.as_str().into());
        body.insert("connection".to_owned(), self.connection.as_str().into());
        for (member, value) in [("spec", &self.spec), ("provider_key", &self.provider_key), ("id", &self.id)] {
            if let Some(value) = value {
                body.insert(member.to_owned(), value.as_str().into());
            }
        }
        self.properties.add_to(&mut body)?;
        self.once.apply(Call::new(Method::POST, &["keys"]).json(body.into()))
    }
}

impl Rotate {
    fn call(&self) -> Result<Call, Failure> {
        let mut body = Map::new();
        for (member, value) in [
            ("connection", &self.connection),
            ("provider_key", &self.provider_key),
            ("spec", &self.spec),
        ] {
            if let Some(value) = value {
                body.insert(member.to_owned(), value.as_str().into());
            }
        }
        let call = Call::new(Method::POST, &["keys", &self.key, "rotate"]);
        self.once.apply(if body.is_empty() { call } else { call.json(body.into()) })
    }
}

impl List {
    async fn fetch(&self, client: &Client) -> Result<Value, Failure> {
        let filters = [("connection", &self.connection), ("state", &self.state), ("label", &self.label)];
        let query: Vec<(&'static str, &str)> = filters
            .iter()
            .filter_map(|(name, value)| Some((*name, value.as_deref()?)))
            .collect();
        self.paging.fetch(client, &["keys"], &query).await
    }
}

impl Update {
    async fn call(&self, client: &Client) -> Result<Call, Failure> {
        let mut body = Map::new();
        if let Some(name) = &self.name {
            body.insert("name".to_owned(), name.as_str().into());
        }
        self.properties.add_to(&mut body)?;
        if let Some(allow_export) = self.allow_export {
            body.insert("allow_export".to_owned(), allow_export.into());
        }
        let path = ["keys", self.key.as_str()];
        let options = "--name, --label, --no-labels, --cache or --allow-export";
        self.update.call(client, &path, body, options).await
    }
}

/// Shows a key that was enabled or disabled. If a provider was asked to do it too and did not, the command fails.
fn show_switched(key: &Value, action: &str, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
    terminal.show(key)?;
    let at_provider = &key["at_provider"];
    match at_provider["result"].as_str() {
        None | Some("done") => Ok(()),
        Some(result) => Err(Failure::Partly {
            result: result.to_owned(),
            text: format!(
                "the key is {action}d in Claviger, but not at every provider of its versions ({result}): {}\n  \
                 what to do: repeat the command if the result is pending; otherwise {action} the key with the provider's own tools",
                at_provider["detail"].as_str().unwrap_or_default()
            ),
        }),
    }
}

impl Switch {
    fn call(&self, action: &str) -> Call {
        let call = Call::new(Method::POST, &["keys", &self.key, action]);
        if self.at_provider {
            call.json(json!({"at_provider": true}))
        } else {
            call
        }
    }
}
