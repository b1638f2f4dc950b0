//! The command line: names, arguments and output of the commands.
//!
//! All commands are clients of the REST API, except those that run the gateway or work offline.
//! Secrets are read from files or standard input and written to files or standard output. They are
//! never arguments, which every user of the host can read. Only `main` uses this module.

mod access;
mod arguments;
mod backup;
mod check_config;
mod connect;
mod connections;
mod data;
mod declared;
mod deliver;
mod dev;
mod env_file;
mod exit;
mod files;
mod init;
mod input;
mod keys;
mod once;
mod pages;
mod print;
mod providers;
mod proxies;
mod serve;
mod serving;
mod terminal;
#[cfg(test)]
mod tests;
mod update;
mod wrap_root_key;

use std::io::{self, IsTerminal, Write};

use clap::{CommandFactory, Parser, Subcommand};
use clap_complete::Shell;
use reqwest::Method;

use crate::client::{Call, Client, Failure};
use crate::protocols::rest::{document, document_3_0};
use connect::Connect;
use proxies::IgnoredProxies;
use terminal::{Terminal, cannot_write};

pub use exit::Exit;
pub use serving::{DevArgs, InitArgs, ServeArgs};
pub use terminal::Output;

/// The command line.
#[derive(Debug, Parser)]
#[command(name = "claviger", version, about = "A gateway to key-management services", after_help = exit::HELP)]
pub struct Cli {
    /// The command.
    #[command(subcommand)]
    pub command: Command,
    /// Address of the gateway, and the credential.
    #[command(flatten)]
    pub connect: Connect,
    /// Form of the output
    #[arg(long, global = true, value_enum, default_value_t = Output::Table, help_heading = "Global options")]
    pub output: Output,
}

/// All commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the gateway until SIGTERM or SIGINT
    Serve(ServeArgs),
    /// Try Claviger: run a gateway on loopback and walk through its API once
    Dev(DevArgs),
    /// Create the data folder and the first administrator's token
    Init(InitArgs),
    /// Copy the data folder of a gateway, which may be running, to an empty folder
    Backup(backup::BackupArgs),
    /// Put a backup into an empty data folder
    Restore(backup::RestoreArgs),
    /// Print the OpenAPI document
    Openapi {
        /// The version of OpenAPI: 3.0 is for tools that do not read 3.1
        #[arg(long, value_enum, default_value_t = OpenapiVersion::V3_1)]
        version: OpenapiVersion,
    },
    /// Show the capabilities of this build's providers
    Providers,
    /// Print a completion script for a shell
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Check the configuration and report every mistake
    CheckConfig(check_config::Args),
    /// Show differences between the configuration file and the running gateway (for platform operators)
    Plan,
    /// Create what the configuration file declares and the gateway lacks (for platform operators)
    Apply,
    /// Give a connection or key that is no longer declared to its tenant (for platform operators)
    Release(declared::Release),
    /// Wrap an existing root key with a provider's key, which unwraps it at each startup
    WrapRootKey(wrap_root_key::Args),
    /// Call a PKCS#11 module for the gateway that starts this process
    #[cfg(feature = "pkcs11")]
    #[command(name = crate::boot::PKCS11_HOST, hide = true)]
    Pkcs11Host,
    /// Manage connections: the credentials and settings to reach a provider
    #[command(subcommand)]
    Connections(connections::Command),
    /// Manage keys
    #[command(subcommand)]
    Keys(keys::Command),
    /// Generate a data key, as plaintext and wrapped
    DataKey(data::DataKey),
    /// Wrap bytes (1 to 4096) from a file or standard input
    Wrap(data::Wrap),
    /// Unwrap a wrapped key
    Unwrap(data::Unwrap),
    /// Wrap a wrapped key again, with the key's primary version or with another key
    Rewrap(data::Rewrap),
    /// Encrypt a file with a data key of its own
    Encrypt(files::Encrypt),
    /// Decrypt an encrypted file
    Decrypt(files::Decrypt),
    /// Show the content of a wrapped key, and how to open it without Claviger
    Inspect(data::Inspect),
    /// Manage the API tokens of a principal
    #[command(subcommand)]
    Tokens(access::Tokens),
    /// Show the credential: who it is, what it allows, when it ends
    Whoami,
    /// Manage principals: service accounts, workloads, people
    #[command(subcommand)]
    Principals(access::Principals),
    /// Manage tenants (for platform operators)
    #[command(subcommand)]
    Tenants(access::Tenants),
}

/// A version of OpenAPI.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
pub enum OpenapiVersion {
    /// OpenAPI 3.1, in which the document is written
    #[value(name = "3.1")]
    V3_1,
    /// OpenAPI 3.0.3
    #[value(name = "3.0")]
    V3_0,
}

impl Cli {
    /// Whether the command runs the gateway, which needs all processors.
    pub const fn serves(&self) -> bool {
        matches!(self.command, Command::Serve(_) | Command::Dev(_))
    }

    /// Removes proxies from the environment of a command that calls providers itself. Called before the process has
    /// another thread.
    pub fn ignore_proxies(&mut self) {
        if let Command::Serve(args) = &mut self.command {
            args.proxies = IgnoredProxies::remove();
        } else if let Command::Dev(args) = &mut self.command {
            args.proxies = IgnoredProxies::remove();
        } else if matches!(self.command, Command::Init(_) | Command::WrapRootKey(_)) {
            // Their provider unwraps the root key.
            IgnoredProxies::remove().print();
        }
    }

    /// Runs the command and returns its exit code. Output goes to standard output, error messages
    /// to standard error.
    pub async fn run(self) -> Exit {
        let stdout = io::stdout();
        let is_terminal = stdout.is_terminal();
        let mut terminal = Terminal {
            out: &mut stdout.lock(),
            is_terminal,
            output: self.output,
        };
        let done = dispatch(self.command, self.connect, &mut terminal).await;
        let done = done.and_then(|()| terminal.out.flush().map_err(|error| cannot_write(&error)));
        match done {
            Ok(()) => Exit::Ok,
            Err(failure) => {
                // If standard error fails, too, there is nowhere to report it.
                let _ = writeln!(io::stderr(), "error: {}", print::plain_lines(&failure.to_string()));
                Exit::of(&failure)
            }
        }
    }
}

async fn dispatch(command: Command, connect: Connect, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
    let client = || connect.client().and_then(Client::new);
    match command {
        Command::Serve(args) => serve::run(&args).await,
        Command::Dev(args) => dev::run(&args, terminal).await,
        Command::Init(args) => init::run(&args, terminal).await,
        Command::Backup(args) => args.run(terminal).await,
        Command::Restore(args) => args.run(terminal).await,
        Command::Openapi { version } => openapi(version, terminal),
        Command::Providers => providers::run(terminal),
        Command::Completions { shell } => completions(shell, terminal),
        Command::CheckConfig(args) => args.run(terminal).await,
        Command::WrapRootKey(args) => args.run(terminal).await,
        #[cfg(feature = "pkcs11")]
        Command::Pkcs11Host => pkcs11_host(),
        Command::Plan => declared::DeclaredCommand::Plan.run(&client()?, terminal).await,
        Command::Apply => declared::DeclaredCommand::Apply.run(&client()?, terminal).await,
        Command::Release(args) => args.run(&client()?, terminal).await,
        Command::Connections(command) => command.run(&client()?, terminal).await,
        Command::Keys(command) => command.run(&client()?, terminal).await,
        Command::DataKey(args) => args.run(&client()?, terminal).await,
        Command::Wrap(args) => args.run(&client()?, terminal).await,
        Command::Unwrap(args) => args.run(&client()?, terminal).await,
        Command::Rewrap(args) => args.run(&client()?, terminal).await,
        Command::Encrypt(args) => args.run(&client()?, terminal).await,
        Command::Decrypt(args) => args.run(&client()?, terminal).await,
        Command::Inspect(args) => args.run(&client()?, terminal).await,
        Command::Tokens(command) => command.run(&client()?, terminal).await,
        Command::Whoami => terminal.show(&client()?.send(Call::new(Method::GET, &["whoami"])).await?.body),
        Command::Principals(command) => command.run(&client()?, terminal).await,
        Command::Tenants(command) => command.run(&client()?, terminal).await,
    }
}

/// Blocks: the process serves nothing else.
#[cfg(feature = "pkcs11")]
fn pkcs11_host() -> Result<(), Failure> {
    crate::boot::pkcs11_host().map_err(|error| Failure::Usage(format!("the gateway alone starts this command: {error}")))
}

fn openapi(version: OpenapiVersion, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
    let document = match version {
        OpenapiVersion::V3_1 => document().to_owned(),
        OpenapiVersion::V3_0 => document_3_0(),
    };
    terminal.out.write_all(document.as_bytes()).map_err(|error| cannot_write(&error))
}

fn completions(shell: Shell, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
    // Generate into memory first, because the generator ends the process if it cannot write.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "claviger", &mut script);
    terminal.out.write_all(&script).map_err(|error| cannot_write(&error))
}
