//! The fake as a program. The crate's `README.md` shows its use.

use std::io;
use std::sync::Arc;

use clap::Parser;
use claviger_fake::{Arguments, Program, Switches, run};
use claviger_fake_xks::{Access, Key, Keys, dialect, service};

/// A fake XKS proxy on loopback, for tests
#[derive(Parser)]
#[command(name = "claviger-fake-xks", version)]
struct Cli {
    #[command(flatten)]
    arguments: Arguments,
    /// The part of the path before /kms/xks/v1
    #[arg(long, default_value = "", value_name = "PATH")]
    prefix: String,
}

#[tokio::main]
async fn main() -> io::Result<()> {
    let cli = Cli::parse();
    let (switches, access, keys) = (Switches::default(), Arc::new(Access::default()), Arc::new(Keys::default()));
    // The keys that AWS's own test client asks for.
    keys.make("foo");
    for (id, usage) in [
        ("encrypt_only_key", &["ENCRYPT"][..]),
        ("decrypt_only_key", &["DECRYPT"]),
        ("impotent_key", &["SIGN"]),
    ] {
        keys.put(id, Key::new(usage));
    }
    let program = Program {
        variable: "FAKE_XKS",
        names: &[],
        service: service(&switches, &access, &keys, &cli.prefix),
        dialect: dialect(),
        switches,
    };
    run(program, &cli.arguments).await
}
