//! A fake of Google Cloud KMS as a program, for tests in any language.

use std::io;

use clap::Parser;
use claviger_fake::Arguments;

/// A fake of Google Cloud KMS (REST, v1) on loopback, for tests
#[derive(Parser)]
#[command(name = "claviger-fake-google", version)]
struct Command {
    #[command(flatten)]
    arguments: Arguments,
}

#[tokio::main]
async fn main() -> io::Result<()> {
    claviger_fake_google::run(&Command::parse().arguments).await
}
