//! The root key: from its configured source, or created.

use std::path::Path;

use super::errors::BootError;
use super::open::{Folder, pipeline};
use super::options::StartOptions;
use super::registry;
use super::unseal::{UnsealError, Unsealer};
use crate::config::Config;
use crate::config::storage::{RootKey as Source, WrappedRootKey};
use crate::store::sealing::RootKey;

/// Returns the root key of the gateway in this folder. If the folder is not initialised and
/// `create` is set, creates the root key and its file where they are missing.
///
/// Without `create`, waits for a provider that is down. With `create`, fails at once, because a
/// person waits for the command.
pub(super) async fn root_key(config: &Config, options: &mut StartOptions, folder: &Folder, create: bool) -> Result<RootKey, BootError> {
    if !folder.initialised && !create {
        return Err(BootError::NotInitialised(folder.display()));
    }
    if let Some(given) = options.root_key.take() {
        return Ok(given);
    }
    match &config.storage.root_key {
        Source::File(path) if !folder.initialised && !path.exists() => Ok(RootKey::generate_to_file(path)?),
        Source::File(path) => Ok(RootKey::from_file(path)?),
        Source::SystemdCredential => Ok(RootKey::from_systemd()?),
        Source::Wrapped(wrapped) => {
            let unsealer = unsealer(config, wrapped)?;
            Ok(match (folder.initialised || wrapped.file.exists(), create) {
                (false, _) => unsealer.generate().await?,
                (true, true) => unsealer.unwrap().await?,
                (true, false) => unsealer.wait().await?,
            })
        }
    }
}

pub(super) fn unsealer<'c>(config: &Config, source: &'c WrappedRootKey) -> Result<Unsealer<'c>, UnsealError> {
    Unsealer::new(
        source,
        registry::remote(&config.providers, &config.egress),
        pipeline(&config.providers, config.server.request_deadline),
        config.server.request_deadline,
    )
}

/// Wraps the root key in the file `from` into the configured `storage.root_key.wrapped`. The gateway
/// may be running. Returns the path of the created file.
///
/// # Errors
/// [`BootError::RootKey`], [`BootError::Unseal`], and [`BootError::NothingToWrapInto`] if the
/// configuration has another source of the root key.
pub async fn wrap_root_key<'c>(config: &'c Config, from: &Path) -> Result<&'c Path, BootError> {
    let Source::Wrapped(wrapped) = &config.storage.root_key else {
        return Err(BootError::NothingToWrapInto);
    };
    unsealer(config, wrapped)?.wrap(&RootKey::from_file(from)?).await?;
    Ok(&wrapped.file)
}
