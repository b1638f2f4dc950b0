//! What `check-config` looks at beyond the configuration itself: the files that it names, and what its
//! declared objects refer to. Contacts no provider and changes nothing.

use std::collections::BTreeSet;
use std::path::Path;

use claviger_provider::SettingsOrigin;

use super::errors::with_cause;
use super::registry;
use super::root_key::unsealer;
use super::unseal::settings_errors;
use crate::config::Config;
use crate::config::declared::Declared;
use crate::config::server::{Server, Transport};
use crate::config::storage::RootKey as Source;
use crate::io_reason::IoReason;
use crate::listener::Tls;
use crate::store::sealing::{RootKey, RootKeyError};

/// What was found, one line each.
#[derive(Debug, Default)]
pub struct Checked {
    /// Why the gateway would not start, or would not do what the configuration declares.
    pub faults: Vec<String>,
    /// What can be right, and cannot be decided here.
    pub doubts: Vec<String>,
}

/// Checks the files and objects that a configuration names. Blocks while it reads files.
pub async fn check(config: &Config) -> Checked {
    let mut found = Checked::default();
    match root_key(config, &config.storage.root_key).await {
        Ok(()) => {}
        Err(RootKeyFault::NotChecked) => found
            .doubts
            .push("storage.root_key: systemd passes the credential to the service alone, so it was not checked".to_owned()),
        Err(RootKeyFault::Wrong(wrong)) => found.faults.push(format!("storage.root_key: {wrong}")),
    }
    found.faults.extend(certificates(&config.server));
    found.faults.extend(application_secret(config));
    found.faults.extend(archive(config));
    found.faults.extend(settings(config));
    found.doubts.extend(keys_without_connection(&config.declared));
    found
}

/// What is wrong with the root key's source.
enum RootKeyFault {
    /// This process is not the service, which alone gets the credential.
    NotChecked,
    Wrong(String),
}

async fn root_key(config: &Config, source: &Source) -> Result<(), RootKeyFault> {
    let wrong = match source {
        Source::File(path) => match RootKey::from_file(path) {
            Ok(root) => return opens_store(config, &root).await,
            Err(error) => error.to_string(),
        },
        Source::SystemdCredential => match RootKey::from_systemd() {
            Ok(root) => return opens_store(config, &root).await,
            Err(RootKeyError::NoService) => return Err(RootKeyFault::NotChecked),
            Err(error) => error.to_string(),
        },
        Source::Wrapped(wrapped) => match unsealer(config, wrapped).and_then(|unsealer| unsealer.check()) {
            Ok(()) => return Ok(()),
            Err(error) => with_cause(&error),
        },
    };
    Err(RootKeyFault::Wrong(wrong))
}

/// Whether the root key is that of the store, if there is one that can be read. An error of the store is not the
/// root key's.
async fn opens_store(config: &Config, root: &RootKey) -> Result<(), RootKeyFault> {
    match registry::root_key_fits(&config.storage.data_dir.join(registry::DATABASE), root).await {
        Err(error @ registry::StoreOpenError::WrongRootKey(_)) => Err(RootKeyFault::Wrong(format!(
            "{error}: it is of another installation. Put the root key there that was made with this data folder"
        ))),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn certificates(server: &Server) -> Vec<String> {
    let service = server.service.as_ref().map(|service| ("server.service.tls", &service.transport));
    let operator = server
        .operator
        .as_ref()
        .map(|operator| ("server.operator.tls", &operator.transport));
    let listeners = [Some(("server.tls", &server.transport)), service, operator];
    let check = |(setting, transport): (&'static str, &Transport)| match transport {
        Transport::Plain => None,
        Transport::Tls(files) => {
            let error = Tls::load(setting, files).err()?;
            Some(format!("{setting}: {}", with_cause(&error)))
        }
    };
    listeners.into_iter().flatten().filter_map(check).collect()
}

fn application_secret(config: &Config) -> Option<String> {
    let path = &config.providers.azure.application.as_ref()?.secret_file;
    let wrong = match is_empty(path) {
        Ok(false) => return None,
        Ok(true) => "is empty".to_owned(),
        Err(error) => format!("cannot be read ({})", IoReason(error.kind())),
    };
    Some(format!(
        "providers.azure.application.secret_file: the file {} {wrong}",
        path.display()
    ))
}

fn archive(config: &Config) -> Option<String> {
    let error = config.audit.keep.as_ref()?.check_archive().err()?;
    Some(format!("audit.archive.folder: {error}"))
}

fn is_empty(path: &Path) -> std::io::Result<bool> {
    use std::io::Read;
    Ok(std::fs::File::open(path)?.read(&mut [0])? == 0)
}

/// The settings of declared connections, and the files that they name.
fn settings(config: &Config) -> Vec<String> {
    let factories = registry::remote(&config.providers, &config.egress);
    let check = |connection: &crate::config::declared::Connection| {
        let resolved = match connection.settings.resolve() {
            Ok(resolved) => resolved,
            Err(error) => return Some(error.to_string()),
        };
        // The embedded provider has no settings, and its factory needs the store.
        let factory = factories.iter().find(|factory| factory.kind() == connection.provider)?;
        let text = std::str::from_utf8(resolved.expose()).unwrap_or_default();
        let errors = factory.parse(text, SettingsOrigin::Operator).err()?;
        Some(format!("settings: {}", settings_errors(&errors)))
    };
    let connections = config.declared.connections.iter();
    connections
        .filter_map(|connection| Some(format!("the declared connection `{}`: {}", connection.name, check(connection)?)))
        .collect()
}

fn keys_without_connection(declared: &Declared) -> Vec<String> {
    let connections = declared.connections.iter();
    let known: BTreeSet<(&str, &str)> = connections
        .flat_map(|connection| connection.tenants.iter().map(|tenant| (tenant.as_str(), connection.name.as_str())))
        .collect();
    let keys = declared.keys.iter();
    keys.filter(|key| !known.contains(&(key.tenant.as_str(), key.connection.as_str())))
        .map(|key| {
            format!(
                "the declared key `{}` of the tenant `{}`: no [[connections]] declares a connection `{}` for this tenant, so one of that name must have been \
                 created over the API",
                key.name, key.tenant, key.connection
            )
        })
        .collect()
}
