//! The `claviger` program.

use std::process::ExitCode;

use claviger::cli::{Cli, Exit};
use claviger_guarded::ZeroOnFree;
use mimalloc::MiMalloc;
use rustix::process::Signal;
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};

/// Zeroes memory when it is freed, so that buffers of HTTP, TLS and SDKs leave no secrets behind.
/// The heap below it has guard pages, and its lists of free blocks are encoded.
#[global_allocator]
static ALLOCATOR: ZeroOnFree<MiMalloc> = ZeroOnFree::new(MiMalloc);

fn main() -> ExitCode {
    let mut cli = match Cli::read() {
        Ok(cli) => cli,
        // clap prints help to standard output and errors to standard error.
        Err(error) => error.exit(),
    };
    // Before the runtime makes threads.
    cli.ignore_proxies();
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
    bear_file_limit(&runtime);
    runtime.block_on(cli.run()).into()
}

/// Has a write beyond the limit of a file's size (`ulimit -f`) fail as on a full disk. Without a handler its
/// signal ends the process.
fn bear_file_limit(runtime: &Runtime) {
    let _context = runtime.enter();
    // The handler stays when its receiver is dropped. Without it all works but at that limit.
    drop(signal(SignalKind::from_raw(Signal::XFSZ.as_raw())));
}
