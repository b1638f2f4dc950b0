//! The commands `data-key`, `wrap`, `unwrap`, `rewrap` and `inspect`.

use std::path::PathBuf;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clap::Args;
use clap::builder::PossibleValuesParser;
use reqwest::Method;
use serde_json::{Map, Value};

use super::deliver::{Delivery, Encoding, Kind, Product};
use super::input::{Context, Input};
use super::print::plain_lines;
use super::terminal::{Output, Terminal};
use crate::client::{Call, Client, Failure};

/// Maximum length of a plaintext, in bytes.
const MAX_PLAINTEXT: u64 = 4096;

/// Options for the destination of the plaintext key.
#[derive(Debug, Args)]
struct KeyOut {
    /// File for the key (mode 0600) [default: standard output]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Encoding of the key
    #[arg(long, value_enum, default_value_t = Encoding::Raw)]
    encoding: Encoding,
    /// Write the key even to a terminal, and replace existing files
    #[arg(long)]
    force: bool,
}

/// Options for the destination of the wrapped key.
#[derive(Debug, Args)]
struct WrappedOut {
    /// File for the wrapped key [default: standard output]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Replace an existing file
    #[arg(long)]
    force: bool,
}

impl WrappedOut {
    fn open(&self, terminal: &Terminal<'_>) -> Result<Delivery, Failure> {
        Delivery::open(&[wrapped(self.out.as_ref())], self.force, terminal)
    }
}

fn wrapped(to: Option<&PathBuf>) -> Product<'_> {
    Product {
        member: "wrapped",
        to: to.map(PathBuf::as_path),
        kind: Kind::Text,
    }
}

impl KeyOut {
    fn plaintext(&self) -> Product<'_> {
        Product {
            member: "plaintext",
            to: self.out.as_deref(),
            kind: Kind::Bytes(self.encoding),
        }
    }
}

/// Arguments of `data-key`.
#[derive(Debug, Args)]
pub struct DataKey {
    /// Key (KEK) to wrap with
    key: String,
    /// Length of the data key, in bytes
    #[arg(long, default_value = "32", value_parser = PossibleValuesParser::new(["16", "24", "32", "48", "64"]))]
    bytes: String,
    /// Scope
    #[arg(long)]
    scope: Option<String>,
    /// Return only the wrapped key
    #[arg(long, conflicts_with = "out")]
    without_plaintext: bool,
    /// File for the wrapped key [default: standard output]
    #[arg(long, value_name = "FILE")]
    wrapped_out: Option<PathBuf>,
    #[command(flatten)]
    context: Context,
    #[command(flatten)]
    out: KeyOut,
}

impl DataKey {
    pub(super) async fn run(self, client: &Client, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
        let mut products = vec![wrapped(self.wrapped_out.as_ref())];
        if !self.without_plaintext {
            products.push(self.out.plaintext());
        }
        let delivery = Delivery::open(&products, self.out.force, terminal)?;
        let mut body = body(&self.context, self.scope.as_deref())?;
        // clap accepts only these lengths.
        body.insert(
            "bytes".to_owned(),
            self.bytes
                .parse::<u32>()
                .map_err(|_| Failure::Usage("invalid length".to_owned()))?
                .into(),
        );
        body.insert("plaintext".to_owned(), (!self.without_plaintext).into());
        let call = Call::new(Method::POST, &["keys", &self.key, "data-keys"]).json(body.into());
        delivery.finish(client.send(call).await?.body, terminal)
    }
}

/// Arguments of `wrap`.
#[derive(Debug, Args)]
pub struct Wrap {
    /// Key (KEK) to wrap with
    key: String,
    /// Scope
    #[arg(long)]
    scope: Option<String>,
    #[command(flatten)]
    input: Input,
    #[command(flatten)]
    context: Context,
    #[command(flatten)]
    out: WrappedOut,
}

impl Wrap {
    pub(super) async fn run(self, client: &Client, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
        let delivery = self.out.open(terminal)?;
        let plaintext = self.input.bytes(MAX_PLAINTEXT)?;
        if plaintext.is_empty() {
            return Err(Failure::Usage("the input is empty".to_owned()));
        }
        let mut body = body(&self.context, self.scope.as_deref())?;
        body.insert("plaintext".to_owned(), STANDARD.encode(plaintext.expose()).into());
        let call = Call::new(Method::POST, &["keys", &self.key, "wrap"]).json(body.into());
        delivery.finish(client.send(call).await?.body, terminal)
    }
}

/// Arguments of `unwrap`.
#[derive(Debug, Args)]
pub struct Unwrap {
    /// Key (KEK) that must have wrapped it [default: the one that the wrapped key names]
    key: Option<String>,
    #[command(flatten)]
    input: Input,
    #[command(flatten)]
    context: Context,
    #[command(flatten)]
    out: KeyOut,
}

impl Unwrap {
    pub(super) async fn run(self, client: &Client, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
        let delivery = Delivery::open(&[self.out.plaintext()], self.out.force, terminal)?;
        let call = unwrap_call(self.key.as_deref(), &self.input.wrapped()?, &self.context)?;
        delivery.finish(client.send(call).await?.body, terminal)
    }
}

/// Arguments of `rewrap`.
#[derive(Debug, Args)]
pub struct Rewrap {
    /// Key (KEK) that wrapped it
    key: String,
    /// Other key to wrap with
    #[arg(long, value_name = "KEY")]
    to: Option<String>,
    #[command(flatten)]
    input: Input,
    #[command(flatten)]
    context: Context,
    #[command(flatten)]
    out: WrappedOut,
}

impl Rewrap {
    pub(super) async fn run(self, client: &Client, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
        let delivery = self.out.open(terminal)?;
        let mut body = with_wrapped(&self.input.wrapped()?, &self.context)?;
        if let Some(to) = &self.to {
            body.insert("to".to_owned(), to.as_str().into());
        }
        let call = Call::new(Method::POST, &["keys", &self.key, "rewrap"]).json(body.into());
        delivery.finish(client.send(call).await?.body, terminal)
    }
}

/// Arguments of `inspect`.
#[derive(Debug, Args)]
pub struct Inspect {
    #[command(flatten)]
    input: Input,
    #[command(flatten)]
    context: Context,
}

impl Inspect {
    pub(super) async fn run(self, client: &Client, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
        let body = with_wrapped(&self.input.wrapped()?, &self.context)?;
        let call = Call::new(Method::POST, &["inspect"]).json(body.into());
        let mut shown = client.send(call).await?.body;
        if terminal.output == Output::Json {
            return terminal.show(&shown);
        }
        // Shell commands do not fit into a table.
        let scripts = [
            ("without Claviger", "without_claviger"),
            ("on another installation", "on_another_installation"),
        ]
        .map(|(heading, name)| (heading, shown.as_object_mut().and_then(|members| members.remove(name))));
        for recipient in shown["recipients"].as_array_mut().into_iter().flatten() {
            recipient.as_object_mut().map(|members| members.remove("commands"));
        }
        terminal.show(&shown)?;
        for (heading, lines) in scripts {
            let lines: Vec<&str> = lines
                .iter()
                .filter_map(Value::as_array)
                .flatten()
                .filter_map(Value::as_str)
                .collect();
            terminal.text(&format!("\n{heading}\n{}\n", plain_lines(&lines.join("\n"))))?;
        }
        Ok(())
    }
}

/// The call that unwraps a wrapped key; with a key, only what this one wrapped.
pub(super) fn unwrap_call(key: Option<&str>, wrapped: &str, context: &Context) -> Result<Call, Failure> {
    let call = match key {
        Some(key) => Call::new(Method::POST, &["keys", key, "unwrap"]),
        None => Call::new(Method::POST, &["unwrap"]),
    };
    Ok(call.json(with_wrapped(wrapped, context)?.into()))
}

/// A body with `wrapped` and the context.
fn with_wrapped(wrapped: &str, context: &Context) -> Result<Map<String, Value>, Failure> {
    let mut body = body(context, None)?;
    body.insert("wrapped".to_owned(), wrapped.into());
    Ok(body)
}

/// A body with the context and the scope.
pub(super) fn body(context: &Context, scope: Option<&str>) -> Result<Map<String, Value>, Failure> {
    let mut body = Map::new();
    context.add_to(&mut body)?;
    if let Some(scope) = scope {
        body.insert("scope".to_owned(), scope.into());
    }
    Ok(body)
}
