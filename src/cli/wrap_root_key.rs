//! The command `wrap-root-key`: wraps an existing root key with a provider's key.

use std::path::PathBuf;

use super::serve::not_started;
use super::serving::ConfigFile;
use super::terminal::{Terminal, cannot_write};
use crate::boot::wrap_root_key;
use crate::client::Failure;

/// Arguments of `wrap-root-key`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    config: ConfigFile,
    /// File with the root key (mode 0600)
    #[arg(long, value_name = "FILE")]
    from: PathBuf,
}

impl Args {
    pub(super) async fn run(&self, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
        let config = self.config.load().map_err(|errors| Failure::Usage(errors.to_string()))?;
        let made = wrap_root_key(&config, &self.from).await.map_err(|error| not_started(&error))?;
        let text = format!(
            "The wrapped root key is in {} and was unwrapped again as a check. Keep {} offline: it opens the store without the provider.\n",
            made.display(),
            self.from.display()
        );
        terminal.out.write_all(text.as_bytes()).map_err(|error| cannot_write(&error))
    }
}
