//! Measures the gateway beside what a user would take instead, on one machine in one run:
//! `tests/run load` builds everything and starts it; docs/performance.md holds a result.
//!
//! What is compared is measured in turn, several times over, so that a drift of the machine
//! meets all of it alike; medians over the rounds are told, and ratios within a round.

mod bare;
mod certs;
mod drive;
mod external;
mod hostile;
mod keys;
mod log;
mod report;
mod scenarios;
mod servers;
mod softhsm;
mod usage;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Measures the gateway beside its alternatives.
#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Measures, and prints tables in Markdown.
    Run(Plan),
    /// Serves the bare endpoint that the gateway is held against.
    Bare {
        #[arg(long)]
        listen: SocketAddr,
        #[arg(long)]
        certificate: PathBuf,
        #[arg(long)]
        key: PathBuf,
        /// Bytes of an answer's body.
        #[arg(long)]
        answer: usize,
    },
    /// Calls a PKCS#11 module as the gateway's helper does, and prints the median in microseconds.
    DirectPkcs11 {
        #[arg(long)]
        module: PathBuf,
        #[arg(long)]
        seconds: u64,
    },
}

/// What is measured, and for how long.
#[derive(Args, Clone)]
pub struct Plan {
    /// The gateway's release build.
    #[arg(long)]
    claviger: PathBuf,
    /// KES; left out of the comparison where it is not given.
    #[arg(long)]
    kes: Option<PathBuf>,
    /// OpenBao; left out of the comparison, and no misses measured, where it is not given.
    #[arg(long)]
    openbao: Option<PathBuf>,
    /// Where the logs are synced to: a folder on a disk.
    #[arg(long)]
    disk: PathBuf,
    /// A folder in memory, where a sync takes no time.
    #[arg(long, default_value = "/dev/shm")]
    memory: PathBuf,
    /// How often everything is measured.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=25))]
    rounds: u32,
    /// Seconds of one measurement.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u64).range(1..=60))]
    seconds: u64,
    /// Numbers of connections for the cached unwrap.
    #[arg(long, value_delimiter = ',', default_value = "1,16,64,256")]
    connections: Vec<usize>,
    /// The parts to run.
    #[arg(long, value_delimiter = ',', default_value = "cached,miss,batch,many,hostile,external")]
    parts: Vec<Part>,
    /// The attacks of the part `hostile`; all where none is named.
    #[arg(long, value_delimiter = ',')]
    attacks: Vec<String>,
    #[command(flatten)]
    keys: KeyPlan,
    #[command(flatten)]
    log: LogPlan,
}

/// The size of the part `keys`.
#[derive(Args, Clone, Copy)]
pub struct KeyPlan {
    /// Keys in the database.
    #[arg(long, default_value_t = 1_000_000)]
    keys: usize,
    /// Keys that requests use.
    #[arg(long, default_value_t = 200_000, value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..))]
    used: usize,
}

/// The lengths of the logs that the part `log` starts a gateway on.
#[derive(Args, Clone, Copy)]
pub struct LogPlan {
    /// Real records.
    #[arg(long, default_value_t = 1_000_000)]
    records: u64,
    /// Records with those that closed segments without content stand for.
    #[arg(long, default_value_t = 100_000_000)]
    many_records: u64,
}

/// A part of a run.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// A cached unwrap against the bare endpoint, KES and Transit.
    Cached,
    /// An unwrap that is not cached against the provider call itself.
    Miss,
    /// A batch against single calls.
    Batch,
    /// Many tenants, keys and records against few.
    Many,
    /// Attacks of one tenant: what they cost the others.
    Hostile,
    /// The sever of a connection to an external key manager, under load.
    External,
    /// What the gateway adds to SoftHSM's own call, and its sessions. Runs only where it is named.
    Softhsm,
    /// A million keys against one, none of them cached. Runs only where it is named.
    Keys,
    /// The audit log: its commits, both modes of durability, and starts on a long log. Runs only where it
    /// is named.
    Log,
}

fn main() -> ExitCode {
    rustls::crypto::aws_lc_rs::default_provider()
        .install_default()
        .expect("the first thing that is done");
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let holds = runtime.block_on(async {
        match Cli::parse().command {
            Command::Run(plan) => scenarios::run(&plan).await,
            Command::Bare {
                listen,
                certificate,
                key,
                answer,
            } => {
                bare::serve(listen, &certificate, &key, answer).await;
                true
            }
            Command::DirectPkcs11 { module, seconds } => {
                softhsm::direct(&module, seconds);
                true
            }
        }
    });
    if holds { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
