//! The command line: what each command is called, takes and answers.
//!
//! All but those of the gateway itself are clients of the REST API. Secrets come from files or standard
//! input and go to files or standard output, never to or from arguments, which every user
//! of the host can read. Used by `main` alone.

mod access;
mod arguments;
mod change;
mod check_config;
mod connect;
mod connections;
mod data;
mod declared;
mod deliver;
mod dev;
mod exit;
mod init;
mod input;
mod keys;
mod once;
mod pages;
mod print;
mod providers;
mod serve;
mod serving;
#[cfg(test)]
mod tests;
mod wrap_root_key;

use std::io::{self, IsTerminal, Write};

use clap::{CommandFactory, Parser, Subcommand};
use clap_complete::Shell;

use crate::client::{Client, Failure};
use connect::Connect;

pub use exit::Exit;
pub use print::Output;
pub use serving::{DevArgs, InitArgs, ServeArgs};

/// The command line.
#[derive(Debug, Parser)]
#[command(name = "claviger", version, about = "One REST API over every key-management service", after_help = exit::HELP)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// Where the gateway is.
    #[command(flatten)]
    pub connect: Connect,
    /// How answers are written.
    #[arg(long, global = true, value_enum, default_value_t = Output::Table, help_heading = "Global options")]
    pub output: Output,
}

/// What can be done.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve the API until told to stop (SIGTERM or SIGINT)
    Serve(ServeArgs),
    /// Try it: a gateway on loopback with the embedded provider, walked through once
    Dev(DevArgs),
    /// Make the data folder and the first administrator's token
    Init(InitArgs),
    /// Print the OpenAPI document
    Openapi,
    /// Show what the providers of this build can do
    Providers,
    /// Print a script that completes commands and options in a shell
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Read the configuration and report every mistake in it
    CheckConfig(check_config::Args),
    /// Tell what of the gateway's configuration is not there yet, or differs (for platform operators)
    Plan,
    /// Make what the gateway's configuration declares and is missing (for platform operators)
    Apply,
    /// Wrap a root key that exists with a provider's key, which opens it at each start
    WrapRootKey(wrap_root_key::Args),
    /// Manage connections: how to reach one provider with one set of rights
    #[command(subcommand)]
    Connections(connections::Command),
    /// Manage keys
    #[command(subcommand)]
    Keys(keys::Command),
    /// Make a data key, as plaintext and wrapped
    DataKey(data::DataKey),
    /// Wrap bytes (1 to 4096) from a file or standard input
    Wrap(data::Wrap),
    /// Unwrap a wrapped key
    Unwrap(data::Unwrap),
    /// Wrap a wrapped key again, under the key's primary version or another key
    Rewrap(data::Rewrap),
    /// Show what a wrapped key says about itself
    Inspect(data::Inspect),
    /// Manage API tokens of a principal
    #[command(subcommand)]
    Tokens(access::Tokens),
    /// Manage principals: service accounts, workloads, people
    #[command(subcommand)]
    Principals(access::Principals),
    /// Manage tenants (for platform operators)
    #[command(subcommand)]
    Tenants(access::Tenants),
}

/// What a command writes to and how.
struct Terminal<'t> {
    out: &'t mut dyn Write,
    /// Whether `out` is read by a person: no key is written there.
    is_terminal: bool,
    output: Output,
}

impl Cli {
    /// Whether the command is the gateway itself, which wants every processor.
    pub const fn serves(&self) -> bool {
        matches!(self.command, Command::Serve(_) | Command::Dev(_))
    }

    /// Does what was asked for, and says how it ended. Answers go to standard output, what
    /// went wrong to standard error.
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
                // Nothing is left to be done when standard error is gone, too.
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
        Command::Openapi => openapi(terminal),
        Command::Providers => providers::run(terminal),
        Command::Completions { shell } => completions(shell, terminal),
        Command::CheckConfig(args) => args.run(terminal),
        Command::WrapRootKey(args) => args.run(terminal).await,
        Command::Plan => declared::Which::Plan.run(&client()?, terminal).await,
        Command::Apply => declared::Which::Apply.run(&client()?, terminal).await,
        Command::Connections(command) => command.run(&client()?, terminal).await,
        Command::Keys(command) => command.run(&client()?, terminal).await,
        Command::DataKey(args) => args.run(&client()?, terminal).await,
        Command::Wrap(args) => args.run(&client()?, terminal).await,
        Command::Unwrap(args) => args.run(&client()?, terminal).await,
        Command::Rewrap(args) => args.run(&client()?, terminal).await,
        Command::Inspect(args) => args.run(&client()?, terminal).await,
        Command::Tokens(command) => command.run(&client()?, terminal).await,
        Command::Principals(command) => command.run(&client()?, terminal).await,
        Command::Tenants(command) => command.run(&client()?, terminal).await,
    }
}

fn openapi(terminal: &mut Terminal<'_>) -> Result<(), Failure> {
    terminal
        .out
        .write_all(crate::protocols::rest::document().as_bytes())
        .map_err(|error| cannot_write(&error))
}

fn completions(shell: Shell, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
    // Into memory first: the generator stops the process where it cannot write.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "claviger", &mut script);
    terminal.out.write_all(&script).map_err(|error| cannot_write(&error))
}

fn cannot_write(error: &io::Error) -> Failure {
    Failure::Local(format!("the answer cannot be written ({})", error.kind()))
}
