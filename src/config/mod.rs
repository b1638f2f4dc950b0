//! The operator's configuration: a TOML file overlaid with `CLAVIGER_*` variables, read once at
//! startup into types that contain only checked values.
//!
//! Each section has its own file. [`Config::load`] reports all mistakes, each with its place,
//! and never repeats a value. `boot` and the command line use this module; the listener uses
//! the types of its section.

pub mod audit;
pub mod cache;
pub mod declared;
mod document;
mod egress;
mod errors;
pub mod memory;
pub mod providers;
pub mod quotas;
mod reader;
pub mod server;
pub mod storage;
pub mod telemetry;
#[cfg(test)]
mod tests;
mod values;
mod variables;

use std::collections::BTreeSet;
use std::io::Read;
use std::path::Path;

use claviger_provider::egress::EgressPolicy;
use document::PREFIX;
use errors::Journal;
use reader::Section;

use crate::io_reason::IoReason;

pub use errors::{ConfigErrors, Mistake, Place};
pub use variables::COMMAND_LINE;

/// Maximum size of a configuration file, in bytes.
const MAX_FILE: u64 = 1 << 20;

/// All settings. Contains paths of secrets; only settings of connections may contain a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Listeners and their limits.
    pub server: server::Server,
    /// Data folder and root key.
    pub storage: storage::Storage,
    /// The audit log.
    pub audit: audit::Audit,
    /// The data-key cache.
    pub cache: cache::Cache,
    /// Numbers of entries that stay in memory.
    pub memory: memory::Memory,
    /// Numbers of objects that one tenant may have.
    pub quotas: quotas::Quotas,
    /// Defaults of the provider pipeline.
    pub providers: providers::Providers,
    /// Which hosts the gateway may connect to on behalf of a tenant.
    pub egress: EgressPolicy,
    /// Tenants, connections and keys that a startup creates.
    pub declared: declared::Declared,
    /// Logs and metrics.
    pub telemetry: telemetry::Telemetry,
}

impl Config {
    /// Reads the file, if one is given, and overlays the variables (see [`environment`]).
    ///
    /// # Errors
    /// All mistakes together: an unreadable file, invalid TOML, unknown settings, wrong types,
    /// formats and ranges, missing settings, and contradictions.
    pub fn load(path: Option<&Path>, variables: impl Iterator<Item = (String, String)>) -> Result<Self, ConfigErrors> {
        let file = path.map(|path| path.display().to_string());
        let journal = Journal::default();
        let text = match path.map(read_file) {
            None => None,
            Some(Ok(text)) => Some(text),
            Some(Err(wrong)) => {
                journal.report(Place::Whole, wrong, "a readable file of UTF-8 text, at most 1 MiB");
                return Err(ConfigErrors::new(file, journal.into_mistakes()));
            }
        };
        let config = Self::read(text.as_deref(), variables, &journal);
        match config {
            Some(config) if journal.count() == 0 => Ok(config),
            Some(_) | None => Err(ConfigErrors::new(file, journal.into_mistakes())),
        }
    }

    /// Reads the text and the variables. The result is valid only if no mistake was reported.
    fn read(text: Option<&str>, variables: impl Iterator<Item = (String, String)>, journal: &Journal) -> Option<Self> {
        let (place, mut table) = match text {
            Some(text) => (Place::File { line: 1, column: 1 }, document::parse(text, journal)),
            None => (Place::Whole, document::Table::new()),
        };
        // Sorted, so that the result does not depend on the order of the environment.
        let variables: BTreeSet<(String, String)> = variables.collect();
        let others = document::overlay(&mut table, variables.into_iter(), journal);
        let config = reader::document(table, place, journal, Self::sections);
        variables::report_unknown(&others, journal);
        config
    }

    fn sections(document: &mut Section<'_>) -> Option<Self> {
        let server = document.table("server", server::Server::read);
        let storage = document.table("storage", storage::Storage::read);
        let audit = document.table("audit", audit::Audit::read);
        let cache = document.table("cache", cache::Cache::read);
        let memory = document.table("memory", memory::Memory::read);
        let quotas = document.table("quotas", quotas::Quotas::read);
        let providers = document.table("providers", |section| providers::Providers::read(section, server.request_deadline));
        let egress = document.table("egress", egress::read);
        let declared = declared::Declared::read(document);
        let telemetry = document.table("telemetry", telemetry::Telemetry::read);
        Some(Self {
            server,
            storage: storage?,
            audit,
            cache,
            memory,
            quotas,
            providers,
            egress,
            declared,
            telemetry,
        })
    }
}

/// The process's `CLAVIGER_*` variables for [`Config::load`]. Bytes that are not UTF-8 become
/// replacement characters, which no setting accepts.
pub fn environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os()
        .map(|(name, value)| (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned()))
        .filter(|(name, _)| name.starts_with(PREFIX))
}

fn read_file(path: &Path) -> Result<String, String> {
    let cannot = |error: std::io::Error| format!("the file cannot be read ({})", IoReason(error.kind()));
    let mut text = String::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(MAX_FILE + 1).read_to_string(&mut text))
        .map_err(cannot)?;
    if text.len() as u64 > MAX_FILE {
        Err("the file is too large".to_owned())
    } else {
        Ok(text)
    }
}
