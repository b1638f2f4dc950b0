//! The command `check-config`. Works offline.

use serde_json::json;

use super::serving::ConfigFile;
use super::terminal::Terminal;
use crate::boot::check;
use crate::client::Failure;

/// Arguments of `check-config`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    config: ConfigFile,
}

impl Args {
    pub(super) async fn run(&self, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
        let config = self
            .config
            .load()
            .map_err(|errors| Failure::Usage(format!("the configuration has mistakes\n{errors}")))?;
        let found = check(&config).await;
        if !found.faults.is_empty() {
            let lines: Vec<String> = found.faults.into_iter().chain(found.doubts).collect();
            return Err(Failure::Usage(format!(
                "the gateway cannot run with this configuration\n  {}",
                lines.join("\n  ")
            )));
        }
        let tls = match config.server.transport {
            crate::config::server::Transport::Plain => false,
            crate::config::server::Transport::Tls(_) => true,
        };
        terminal.show(&json!({
            "configuration": "good",
            "warnings": found.doubts,
            "listen": config.server.listen.to_string(),
            "tls": tls,
            "service": config.server.service.map(|service| service.listen.to_string()),
            "operator": config.server.operator.map(|operator| operator.listen.to_string()),
            "data_dir": config.storage.data_dir.display().to_string(),
        }))
    }
}
