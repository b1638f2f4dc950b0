//! The program: reads the command line, and does what it says.

use std::process::ExitCode;

use clap::Parser;
use claviger::cli::{Cli, Exit};

fn main() -> ExitCode {
    let cli = Cli::parse();
    // One TLS and crypto stack for everything in the process. It fails only when another was
    // installed before, and nothing ran before.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else {
        return Exit::Other.into();
    };
    runtime.block_on(cli.run()).into()
}
