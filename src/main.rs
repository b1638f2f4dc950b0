//! The `claviger` program.

use std::process::ExitCode;

use claviger::cli::{Cli, Exit};
use claviger_guarded::ZeroOnFree;
use mimalloc::MiMalloc;

/// Zeroes memory when it is freed, so that buffers of HTTP, TLS and SDKs leave no secrets behind.
/// The heap below it has guard pages, and its lists of free blocks are encoded.
#[global_allocator]
static ALLOCATOR: ZeroOnFree<MiMalloc> = ZeroOnFree::new(MiMalloc);

fn main() -> ExitCode {
    let cli = match Cli::read() {
        Ok(cli) => cli,
        // clap prints help to standard output and errors to standard error.
        Err(error) => error.exit(),
    };
    // One TLS and crypto stack for the whole process. Fails only if another was installed before,
    // which cannot be here.
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
