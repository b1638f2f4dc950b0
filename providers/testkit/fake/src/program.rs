//! A fake as a program of its own, by the convention of `tests/backends`: it prints where it
//! is as variables, then `# ready`, and stays until it is ended.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::PathBuf;

use axum::Router;
use clap::Args;
use tokio::signal::unix::{SignalKind, signal};

use crate::{Dialect, Switches, Tls, serve};

/// The arguments of every fake.
#[derive(Debug, Clone, Args)]
pub struct Arguments {
    /// Where to listen, on loopback alone; port 0 takes a free one
    #[arg(long, default_value = "127.0.0.1:0", value_name = "ADDRESS:PORT")]
    pub listen: SocketAddr,
    /// Serve HTTPS, and write the certificate of the authority made for it into this file
    #[arg(long, value_name = "FILE")]
    pub ca_file: Option<PathBuf>,
}

/// What a program is.
pub struct Program<D> {
    /// In the names of the variables: `CLAVIGER_TEST_{variable}_ADDRESS`, and `_CA` for HTTPS.
    pub variable: &'static str,
    /// More names for the server's certificate.
    pub names: &'static [&'static str],
    /// The service.
    pub service: Router,
    /// How its vendor tells what every service may answer.
    pub dialect: D,
    /// Its switches, which the service may have too.
    pub switches: Switches,
}

/// Runs until SIGTERM or SIGINT.
///
/// # Errors
/// When it cannot listen, or its authority cannot be written.
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
