//! `wrap-root-key`: from a root key's file to one that only a provider's key opens.

use std::path::PathBuf;

use super::serve::not_started;
use super::serving::ConfigFile;
use super::{Terminal, cannot_write};
use crate::boot::wrap_root_key;
use crate::client::Failure;

/// Wraps a root key that exists, for a configuration with `storage.root_key.wrapped`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    config: ConfigFile,
    /// The file of the root key (mode 0600)
    #[arg(long, value_name = "FILE")]
    from: PathBuf,
}

impl Args {
    pub(super) async fn run(&self, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
        let config = self.config.load().map_err(|errors| Failure::Usage(errors.to_string()))?;
        let made = wrap_root_key(&config, &self.from).await.map_err(|error| not_started(&error))?;
        let text = format!(
            "The root key is wrapped in {} and was seen to open again. Keep {} offline: it opens the store without the provider.\n",
            made.display(),
            self.from.display()
        );
        terminal.out.write_all(text.as_bytes()).map_err(|error| cannot_write(&error))
    }
}
