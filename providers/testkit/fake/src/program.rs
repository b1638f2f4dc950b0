//! A fake as a program, by the convention of `tests/backends`: it prints its address as
//! variables, then `# ready`, and runs until it is terminated.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::PathBuf;

use axum::Router;
use clap::Args;
use tokio::signal::unix::{SignalKind, signal};

use crate::{Dialect, Switches, Tls, serve};

/// The command line arguments of every fake.
#[derive(Debug, Clone, Args)]
pub struct Arguments {
    /// Loopback address to listen on; port 0 selects a free port
    #[arg(long, default_value = "127.0.0.1:0", value_name = "ADDRESS:PORT")]
    pub listen: SocketAddr,
    /// Serve HTTPS, and write the CA certificate created for it to this file
    #[arg(long, value_name = "FILE")]
    pub ca_file: Option<PathBuf>,
}

/// A fake as a program.
pub struct Program<D> {
    /// Part of the printed variables' names: `CLAVIGER_TEST_{variable}_ADDRESS`, and `_CA` for HTTPS.
    pub variable: &'static str,
    /// Additional names in the server's certificate.
    pub names: &'static [&'static str],
    /// The routes of the service.
    pub service: Router,
    /// The vendor's format of throttling and outages.
    pub dialect: D,
    /// Its switches; the service may hold a clone.
    pub switches: Switches,
}

/// Runs until SIGTERM or SIGINT.
///
/// # Errors
/// When the port cannot be opened, or the CA file cannot be written.
pub async fn run(program: Program<impl Dialect>, arguments: &Arguments) -> io::Result<()> {
    let tls = match &arguments.ca_file {
        Some(file) => {
            let tls = Tls::new(program.names)?;
            std::fs::write(file, tls.ca_pem())?;
            Some(tls)
        }
        None => None,
    };
    let (mut terminated, mut interrupted) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let running = serve(program.service, program.dialect, &program.switches, arguments.listen, tls.as_ref()).await?;
    let variable = program.variable;
    let mut out = io::stdout().lock();
    writeln!(out, "CLAVIGER_TEST_{variable}_ADDRESS={}", running.url())?;
    if let Some(file) = &arguments.ca_file {
        writeln!(out, "CLAVIGER_TEST_{variable}_CA={}", std::path::absolute(file)?.display())?;
    }
    writeln!(out, "# ready")?;
    out.flush()?;
    drop(out);
    tokio::select! {
        _ = terminated.recv() => {}
        _ = interrupted.recv() => {}
    }
    Ok(())
}
