//! The commands `tokens`, `principals` and `tenants`.

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::PossibleValuesParser;
use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::{Map, Value, json};

use super::deliver::{Delivery, Kind, Product};
use super::once::Once;
use super::pages::Paging;
use super::print::Column;
use super::terminal::Terminal;
use crate::client::{Call, Client, Failure};
use crate::duration;

const TOKENS: [Column; 7] = [
    ("ID", "/id"),
    ("KIND", "/kind"),
    ("PARENT", "/parent"),
    ("CREATED", "/created"),
    ("EXPIRES", "/expires"),
    ("REVOKED", "/revoked"),
    ("OPERATIONS", "/operations"),
];
const PRINCIPALS: [Column; 4] = [("NAME", "/name"), ("KIND", "/kind"), ("CREATED", "/created"), ("ID", "/id")];
const TENANTS: [Column; 4] = [("NAME", "/name"), ("STATE", "/state"), ("CREATED", "/created"), ("ID", "/id")];

/// Subcommands of `tokens`.
#[derive(Debug, Subcommand)]
pub enum Tokens {
    /// Issue a token; its text is shown only this once
    Create(CreateToken),
    /// List a principal's tokens
    List(ListTokens),
    /// Revoke a token with all tokens below it, effective at the next request
    Revoke(RevokeToken),
}

/// Arguments of `tokens create`.
#[derive(Debug, Args)]
pub struct CreateToken {
    /// Principal of the token
    principal: String,
    /// How long the token is valid, at most 366d [default: 90d; delegated: no longer than the token that issues it]
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    expires_in: Option<Duration>,
    /// standing: survives the token that issues it. delegated: ends with it, and no later
    #[arg(long, default_value = "delegated", value_parser = PossibleValuesParser::new(["standing", "delegated"]))]
    kind: String,
    /// Operations that the token allows, such as Unwrap: separated by commas, or repeated
    #[arg(long = "operation", value_name = "ACTION", required = true, value_delimiter = ',')]
    operations: Vec<String>,
    /// Keys that the token may use: separated by commas, or repeated [default: every key]
    #[arg(long = "key", value_name = "KEY", value_delimiter = ',')]
    keys: Vec<String>,
    /// File for the token (mode 0600) [default: standard output]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Write the token even to a terminal, and over an existing file
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    once: Once,
}

/// Arguments of `tokens list`.
#[derive(Debug, Args)]
pub struct ListTokens {
    /// Principal of the tokens
    principal: String,
    #[command(flatten)]
    paging: Paging,
}

/// Arguments of `tokens revoke`.
#[derive(Debug, Args)]
pub struct RevokeToken {
    /// Principal of the token
    principal: String,
    /// Id of the token
    token: String,
}

impl Tokens {
    pub(super) async fn run(self, client: &Client, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
        match self {
            Self::Create(create) => create.run(client, terminal).await,
            Self::List(ListTokens { principal, paging }) => {
                terminal.list(&paging.fetch(client, &["principals", &principal, "tokens"], &[]).await?, &TOKENS)
            }
            Self::Revoke(RevokeToken { principal, token }) => {
                let call = Call::new(Method::DELETE, &["principals", &principal, "tokens", &token]);
                terminal.show(&client.send(call).await?.body)
            }
        }
    }
}

impl CreateToken {
    async fn run(self, client: &Client, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
        let token = Product {
            member: "token",
            to: self.out.as_deref(),
            kind: Kind::SecretText,
        };
        let delivery = Delivery::open(&[token], self.force, terminal)?;
        let mut body = Map::new();
        if let Some(life) = self.expires_in {
            body.insert("expires_in".to_owned(), duration::text(life).into());
        }
        body.insert("kind".to_owned(), self.kind.into());
        body.insert("operations".to_owned(), self.operations.into());
        if !self.keys.is_empty() {
            body.insert("keys".to_owned(), self.keys.into());
        }
        let call = Call::new(Method::POST, &["principals", &self.principal, "tokens"]).json(body.into());
        delivery.finish(client.send(self.once.apply(call)?).await?.body, terminal)
    }
}

/// Subcommands of `principals`.
#[derive(Debug, Subcommand)]
pub enum Principals {
    /// Create a principal
    Create(CreatePrincipal),
    /// List principals
    List(Paging),
    /// Show a principal
    Get(OnePrincipal),
    /// Delete a principal; its tokens and all tokens below them end at the next request
    Delete(OnePrincipal),
}

/// Arguments of `principals create`.
#[derive(Debug, Args)]
pub struct CreatePrincipal {
    /// Name
    name: String,
    /// Kind of principal
    #[arg(long, default_value = "service_account", value_parser = PossibleValuesParser::new(["service_account", "workload", "person"]))]
    kind: String,
    #[command(flatten)]
    once: Once,
}

/// The argument of commands on one principal.
#[derive(Debug, Args)]
pub struct OnePrincipal {
    /// Name of the principal
    principal: String,
}

impl Principals {
    pub(super) async fn run(self, client: &Client, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
        let call = match self {
            Self::List(paging) => return terminal.list(&paging.fetch(client, &["principals"], &[]).await?, &PRINCIPALS),
            Self::Create(CreatePrincipal { name, kind, once }) => {
                once.apply(Call::new(Method::POST, &["principals"]).json(json!({"name": name, "kind": kind})))?
            }
            Self::Get(OnePrincipal { principal }) => Call::new(Method::GET, &["principals", &principal]),
            Self::Delete(OnePrincipal { principal }) => Call::new(Method::DELETE, &["principals", &principal]),
        };
        terminal.show(&client.send(call).await?.body)
    }
}

/// Subcommands of `tenants`.
#[derive(Debug, Subcommand)]
pub enum Tenants {
    /// Create a tenant
    Create(CreateTenant),
    /// List tenants
    List(Paging),
    /// Show a tenant
    Get(OneTenant),
    /// Refuse every request of a tenant, effective at the next request
    Suspend(OneTenant),
    /// Undo a suspend
    Resume(ResumeTenant),
}

/// The argument of commands on one tenant.
#[derive(Debug, Args)]
pub struct OneTenant {
    /// Name of the tenant
    // Not `tenant`, which is the global option: clap would send this name as the tenant to act for.
    #[arg(value_name = "TENANT")]
    name: String,
}

/// Arguments of `tenants resume`.
#[derive(Debug, Args)]
pub struct ResumeTenant {
    #[command(flatten)]
    one: OneTenant,
    #[command(flatten)]
    once: Once,
}

/// Arguments of `tenants create`.
#[derive(Debug, Args)]
pub struct CreateTenant {
    /// Name
    name: String,
    /// Fixed id, to open wrapped keys of a lost installation
    #[arg(long, value_name = "HEX")]
    id: Option<String>,
    #[command(flatten)]
    once: Once,
}

impl Tenants {
    pub(super) async fn run(self, client: &Client, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
        let call = match self {
            Self::List(paging) => return terminal.list(&paging.fetch(client, &["tenants"], &[]).await?, &TENANTS),
            Self::Get(OneTenant { name }) => Call::new(Method::GET, &["tenants", &name]),
            // A revocation is carried out each time, so it takes no idempotency key.
            Self::Suspend(OneTenant { name }) => Call::new(Method::POST, &["tenants", &name, "suspend"]),
            Self::Resume(ResumeTenant { one, once }) => once.apply(Call::new(Method::POST, &["tenants", &one.name, "resume"]))?,
            Self::Create(CreateTenant { name, id, once }) => {
                let mut body = Map::from_iter([("name".to_owned(), Value::from(name))]);
                if let Some(id) = id {
                    body.insert("id".to_owned(), id.into());
                }
                once.apply(Call::new(Method::POST, &["tenants"]).json(body.into()))?
            }
        };
        terminal.show(&client.send(call).await?.body)
    }
}
