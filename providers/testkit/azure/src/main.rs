//! The fake as a program. The crate's `README.md` shows its use.

use std::io;
use std::sync::Arc;

use clap::Parser;
use claviger_fake::{Arguments, Program, Switches, run};
use claviger_fake_azure::{Access, dialect, service};

/// A fake of Azure Key Vault, Managed HSM and Entra's tokens on loopback, for tests
#[derive(Parser)]
#[command(name = "claviger-fake-azure", version)]
struct Cli {
    #[command(flatten)]
    arguments: Arguments,
}

#[tokio::main]
async fn main() -> io::Result<()> {
    let cli = Cli::parse();
    if cli.arguments.ca_file.is_none() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "set --ca-file to a file for the CA certificate: Azure's clients accept HTTPS only",
        ));
    }
    let switches = Switches::default();
    let program = Program {
        variable: "FAKE_AZURE",
        names: &[],
        service: service(&switches, &Arc::new(Access::default())),
        dialect: dialect(),
        switches,
    };
    run(program, &cli.arguments).await
}
