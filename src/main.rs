//! The program: reads the command line, and does what it says.

use std::alloc::System;
use std::process::ExitCode;

use claviger::cli::{Cli, Exit};
use claviger_guarded::ZeroOnFree;

/// What HTTP, TLS and SDK buffers leave behind is zeroed when it is freed.
#[global_allocator]
static ALLOCATOR: ZeroOnFree<System> = ZeroOnFree::new(System);

fn main() -> ExitCode {
    let cli = match Cli::read() {
        Ok(cli) => cli,
        // clap's own way to end: help on standard output, a mistake on standard error.
        Err(error) => error.exit(),
    };
    // One TLS and crypto stack for everything in the process. It fails only when another was
    // installed before, and nothing ran before.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let mut runtime = if cli.serves() {
        tokio::runtime::Builder::new_multi_thread()
    } else {
        tokio::runtime::Builder::new_current_thread()
    };
    let Ok(runtime) = runtime.enable_all().build() else {
        return Exit::Other.into();
    };
    runtime.block_on(cli.run()).into()
}
