//! Arguments of the commands that run or initialise the gateway: `serve`, `dev`, `init`.

use std::path::PathBuf;

use clap::Args;

use super::proxies::IgnoredProxies;
use crate::config::{Config, ConfigErrors, environment};

/// The configuration file.
#[derive(Debug, Args)]
pub struct ConfigFile {
    /// Configuration file [default: only CLAVIGER_* variables and defaults]
    #[arg(long, env = "CLAVIGER_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
}

impl ConfigFile {
    /// Loads the configuration from the file and the process's variables.
    ///
    /// # Errors
    /// All mistakes together.
    pub fn load(&self) -> Result<Config, ConfigErrors> {
        Config::load(self.config.as_deref(), environment())
    }
}

/// Arguments of `serve`.
#[derive(Debug, Args)]
pub struct ServeArgs {
    /// The configuration.
    #[command(flatten)]
    pub config: ConfigFile,
    /// Start although the store was restored from an older copy, without the changes that it lacks
    #[arg(long)]
    pub accept_rollback: bool,
    /// Start although the audit log was removed, restored from an older copy, cut or damaged: with all that is left, and a record of what is lost
    #[arg(long)]
    pub accept_lost_log: bool,
    /// Start with a clock that is earlier than the audit log's last record: tokens that expired in between are valid again
    #[arg(long)]
    pub accept_clock: bool,
    /// What became of proxies in the environment.
    #[arg(skip)]
    pub(super) proxies: IgnoredProxies,
}

/// Arguments of `dev`.
#[derive(Debug, Args)]
pub struct DevArgs {
    /// Loopback port; 0 for any
    #[arg(long, default_value_t = 8420)]
    pub port: u16,
    /// Permanent data folder [default: a temporary one, removed at the end]
    #[arg(long, value_name = "FOLDER")]
    pub data_dir: Option<PathBuf>,
    /// File for the variables that clients read: CLAVIGER_ADDRESS, CLAVIGER_TOKEN_FILE, CLAVIGER_TENANT
    #[arg(long, value_name = "FILE")]
    pub env_file: Option<PathBuf>,
    /// End after the walk, with exit code 0 only if all steps passed
    #[arg(long)]
    pub once: bool,
    /// What became of proxies in the environment.
    #[arg(skip)]
    pub(super) proxies: IgnoredProxies,
}

/// Arguments of `init`.
#[derive(Debug, Args)]
pub struct InitArgs {
    /// The configuration.
    #[command(flatten)]
    pub config: ConfigFile,
    /// File for the administrator's token (mode 0600) [default: the terminal]
    #[arg(long, value_name = "FILE")]
    pub token_out: Option<PathBuf>,
    /// Issue another administrator's token for an existing gateway that is not running
    #[arg(long)]
    pub new_token: bool,
}
