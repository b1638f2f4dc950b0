//! The commands `backup` and `restore`. Both work on the data folder, without the gateway's API.

use std::io::{self, Write};
use std::net::TcpListener;
use std::path::PathBuf;

use serde_json::json;

use super::serve::with_causes;
use super::serving::ConfigFile;
use super::terminal::{Terminal, cannot_write};
use crate::boot::{Manifest, NewestKnown, backup, restore};
use crate::client::Failure;
use crate::config::Config;

/// Arguments of `backup`.
#[derive(Debug, clap::Args)]
pub struct BackupArgs {
    #[command(flatten)]
    config: ConfigFile,
    /// Folder for the copy: a new one, or an empty one
    folder: PathBuf,
}

/// Arguments of `restore`.
#[derive(Debug, clap::Args)]
pub struct RestoreArgs {
    #[command(flatten)]
    config: ConfigFile,
    /// Folder of the backup
    folder: PathBuf,
    /// The newest that is known of this installation from elsewhere: a time (RFC 3339), the header
    /// Claviger-Audit-Index of a response, or `none`. A backup that is older is refused
    #[arg(long, value_name = "TIME|INDEX|none")]
    newest_known: NewestKnown,
    /// Restore although something newer is known: everything since the backup is lost, also revocations
    #[arg(long)]
    accept_rollback: bool,
}

/// What no restore brings back.
const LOST: &str = "\
What this restore cannot bring back:
- Every revocation since then (disable, sever, revoke, suspend, delete a principal): what was revoked is usable again.
  Repeat them before you let callers in.
- Every other change since then: tenants, connections, keys, versions, principals, tokens.
- Keys of the embedded provider that were created or rotated since then, and everything that was wrapped under them.
- The audit records since then. The next records get the same numbers again; compare with what is kept elsewhere.
Next: put the root key in its place if it is not there, then claviger serve.
";

impl BackupArgs {
    pub(super) async fn run(&self, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
        let config = self.config.load().map_err(|errors| Failure::Usage(errors.to_string()))?;
        let made = backup(&config, &self.folder).await.map_err(|error| with_causes(&error))?;
        show(&made, terminal)
    }
}

impl RestoreArgs {
    pub(super) async fn run(&self, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
        let config = self.config.load().map_err(|errors| Failure::Usage(errors.to_string()))?;
        let restored = restore(&config, &self.folder, self.newest_known.clone(), self.accept_rollback);
        let restored = restored.await.map_err(|error| with_causes(&error))?;
        show(&restored, terminal)?;
        // Beside the result, which a program may read.
        let told = io::stderr().write_all([LOST, &still_running(&config)].concat().as_bytes());
        told.map_err(|error| cannot_write(&error))
    }
}

/// Warns of a gateway that runs on the folder that was at this path before. The lock went with that folder, so only
/// its address shows it.
fn still_running(config: &Config) -> String {
    let address = config.server.listen;
    match TcpListener::bind(address) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => format!(
            "warning: another process listens on {address}, the address of this gateway. If the gateway still runs on a data folder that was \
             deleted or moved away, stop it first\n"
        ),
        Ok(_) | Err(_) => String::new(),
    }
}

fn show(manifest: &Manifest, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
    terminal.show(&json!({
        "installation": manifest.installation,
        "node": manifest.node,
        "created": manifest.created,
        "last_record": manifest.last_record,
        "log_bytes": manifest.log_bytes,
        "files": manifest.files.len(),
    }))
}
