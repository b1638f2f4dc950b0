//! The arguments of the commands that are the gateway: `serve`, `dev`, `init`.

use std::path::PathBuf;

use clap::Args;

use crate::config::{Config, ConfigErrors, environment};

/// The configuration's file.
#[derive(Debug, Args)]
pub struct ConfigFile {
    /// The configuration file; nothing: CLAVIGER_* variables and defaults alone
    #[arg(long, env = "CLAVIGER_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
}

impl ConfigFile {
    /// Reads the file and the process's variables.
    ///
    /// # Errors
    /// Every mistake at once.
    pub fn load(&self) -> Result<Config, ConfigErrors> {
        Config::load(self.config.as_deref(), environment())
    }
}

/// Serves the API until it is told to stop.
#[derive(Debug, Args)]
pub struct ServeArgs {
    /// Which configuration.
    #[command(flatten)]
    pub config: ConfigFile,
    /// Start although the store or the audit log was put back to an older copy: go on without what it lacks
    #[arg(long)]
    pub accept_rollback: bool,
}

/// Serves on loopback with the embedded provider and walks once through the whole way.
#[derive(Debug, Args)]
pub struct DevArgs {
    /// The loopback port; 0: any
    #[arg(long, default_value_t = 8420)]
    pub port: u16,
    /// The folder to keep; nothing: a temporary one that goes with the process
    #[arg(long, value_name = "FOLDER")]
    pub data_dir: Option<PathBuf>,
    /// End after the walk, with 0 only if all of it held
    #[arg(long)]
    pub once: bool,
}

/// Makes the data folder and the first administrator's token.
#[derive(Debug, Args)]
pub struct InitArgs {
    /// Which configuration.
    #[command(flatten)]
    pub config: ConfigFile,
    /// The file for the first administrator's token (mode 0600); nothing: a terminal only
    #[arg(long, value_name = "FILE")]
    pub token_out: Option<PathBuf>,
    /// Issue another administrator's token for a gateway that exists and is not running
    #[arg(long)]
    pub new_token: bool,
}
