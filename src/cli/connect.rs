//! Options of every client command.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use claviger_provider::Secret;
use reqwest::Url;

use super::input;
use crate::client::{Failure, Settings, Token};
use crate::duration;

/// Variable with a token. A file is safer, because child processes inherit variables.
const TOKEN_VARIABLE: &str = "CLAVIGER_TOKEN";
/// Maximum size of a file of certificate authorities, in bytes.
const MAX_AUTHORITIES: u64 = 4 << 20;

/// Address of the gateway, and the credential.
#[derive(Debug, Args)]
#[command(next_help_heading = "Global options")]
pub struct Connect {
    /// Address of the gateway
    #[arg(
        long,
        global = true,
        env = "CLAVIGER_ADDRESS",
        default_value = "http://127.0.0.1:8420",
        value_name = "URL",
        value_parser = input::url
    )]
    pub address: Url,
    /// File with the API token or JWT
    #[arg(long, global = true, env = "CLAVIGER_TOKEN_FILE", value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// Tenant to act for (platform operators only)
    #[arg(long, global = true, env = "CLAVIGER_TENANT", value_name = "NAME")]
    pub tenant: Option<String>,
    /// Reason for the command, for its audit record: at most 256 printable ASCII characters
    #[arg(long, global = true, value_name = "TEXT")]
    pub justification: Option<String>,
    /// PEM file of certificate authorities to trust instead of the system's
    #[arg(long, global = true, value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// Deadline for the gateway, such as 800ms; can only shorten its own
    #[arg(long, global = true, value_name = "DURATION", value_parser = duration::parse)]
    pub timeout: Option<Duration>,
    /// Allow sending the token over plain HTTP to another host
    #[arg(long, global = true)]
    pub allow_plain_http: bool,
}

impl Connect {
    /// Reads the files and the token variable.
    pub(super) fn client(&self) -> Result<Settings, Failure> {
        let variable = std::env::var_os(TOKEN_VARIABLE).filter(|text| !text.is_empty());
        let token = match (&self.token_file, variable) {
            (Some(path), _) => Some(Token::read(path)),
            (None, Some(text)) => Some(Token::parse(&Secret::new(text.into_encoded_bytes()))),
            (None, None) => None,
        };
        let authorities = self.ca.as_deref().map(|path| input::file(path, MAX_AUTHORITIES)).transpose()?;
        Ok(Settings {
            address: self.address.clone(),
            token: token.transpose().map_err(|error| Failure::Usage(error.to_string()))?,
            tenant: self.tenant.clone(),
            justification: self.justification.clone(),
            authorities: authorities.map(|pem| pem.expose().to_vec()),
            timeout: self.timeout,
            allow_plain_http: self.allow_plain_http,
        })
    }
}
