//! `tokens`, `principals`, `tenants`.

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::PossibleValuesParser;
use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::{Map, Value, json};

use super::Terminal;
use super::deliver::{Delivery, Kind, Product};
use super::once::Once;
use super::pages::Paging;
use super::print::Column;
use crate::client::{Call, Client, Failure};
use crate::duration;

const TOKENS: [Column; 5] = [
    ("ID", "/id"),
    ("CREATED", "/created"),
    ("EXPIRES", "/expires"),
    ("REVOKED", "/revoked"),
    ("OPERATIONS", "/operations"),
];
const PRINCIPALS: [Column; 4] = [("NAME", "/name"), ("KIND", "/kind"), ("CREATED", "/created"), ("ID", "/id")];
const TENANTS: [Column; 4] = [("NAME", "/name"), ("STATE", "/state"), ("CREATED", "/created"), ("ID", "/id")];

/// What to do with tokens.
#[derive(Debug, Subcommand)]
pub enum Tokens {
    /// Make a token; this is the only time it is shown
    Create(CreateToken),
    /// List a principal's tokens
    List(ListTokens),
    /// Revoke a token, from the next request on
    Revoke(RevokeToken),
}

/// Makes a token.
#[derive(Debug, Args)]
pub struct CreateToken {
    /// Whose token it is
    principal: String,
    /// How long it is valid, such as 90d
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    expires_in: Duration,
    /// An operation it may do, such as Unwrap; again for more
    #[arg(long = "operation", value_name = "ACTION", required = true)]
    operations: Vec<String>,
    /// A key it reaches; again for more. Nothing: every key
    #[arg(long = "key", value_name = "KEY")]
    keys: Vec<String>,
    /// The file for the token (mode 0600); nothing: standard output
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Write the token even to a terminal, and over an existing file
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    once: Once,
}

/// Lists tokens.
#[derive(Debug, Args)]
pub struct ListTokens {
    /// Whose tokens
    principal: String,
    #[command(flatten)]
    paging: Paging,
}

/// Revokes a token.
#[derive(Debug, Args)]
pub struct RevokeToken {
    /// Whose token it is
    principal: String,
    /// The token's id
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
        body.insert("expires_in".to_owned(), duration::text(self.expires_in).into());
        body.insert("operations".to_owned(), self.operations.into());
        if !self.keys.is_empty() {
            body.insert("keys".to_owned(), self.keys.into());
        }
        let call = Call::new(Method::POST, &["principals", &self.principal, "tokens"]).json(body.into());
        delivery.finish(client.send(self.once.apply(call)?).await?.body, terminal)
    }
}

/// What to do with principals.
#[derive(Debug, Subcommand)]
pub enum Principals {
    /// Make a principal
    Create(CreatePrincipal),
    /// List principals
    List(Paging),
    /// Show a principal
    Get(OnePrincipal),
    /// Delete a principal; its tokens end with it, from the next request on
    Delete(OnePrincipal),
}

/// Makes a principal.
#[derive(Debug, Args)]
pub struct CreatePrincipal {
    /// Its name
    name: String,
    /// What it is
    #[arg(long, default_value = "service_account", value_parser = PossibleValuesParser::new(["service_account", "workload", "person"]))]
    kind: String,
    #[command(flatten)]
    once: Once,
}

/// Names a principal.
#[derive(Debug, Args)]
pub struct OnePrincipal {
    /// The principal
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

/// What to do with tenants.
#[derive(Debug, Subcommand)]
pub enum Tenants {
    /// Make a tenant
    Create(CreateTenant),
    /// List tenants
    List(Paging),
}

/// Makes a tenant.
#[derive(Debug, Args)]
pub struct CreateTenant {
    /// Its name
    name: String,
    /// Give it this id, to open blobs of a lost installation
    #[arg(long, value_name = "HEX")]
    id: Option<String>,
    #[command(flatten)]
    once: Once,
}

impl Tenants {
    pub(super) async fn run(self, client: &Client, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
        let call = match self {
            Self::List(paging) => return terminal.list(&paging.fetch(client, &["tenants"], &[]).await?, &TENANTS),
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
