//! Assembles the gateway from its parts, and runs and stops it.
//!
//! The commands `serve`, `dev`, `init`, `backup`, `restore`, `wrap-root-key`, `check-config` and `providers` use this module. The start
//! goes in the order of what can fail ([`Starting`]): no request is served before store and audit
//! log are reconciled; until then the listeners report that the gateway is starting.

mod backup;
mod bootstrap_admin;
mod check;
mod declared;
mod descriptors;
mod errors;
mod jobs;
mod keep_log;
mod listeners;
mod log_position;
mod manifest;
mod node;
mod open;
mod options;
mod registry;
mod restore;
mod root_key;
mod serving;
mod starting;
mod unseal;

pub use backup::{BackupError, backup};
pub use bootstrap_admin::init;
pub use check::{Checked, check};
pub use errors::BootError;
pub use manifest::{BackupFile, Manifest, ManifestError};
pub use options::{Accepted, ConfigSource, StartOptions};
pub use registry::capabilities;
#[cfg(feature = "pkcs11")]
pub use registry::{PKCS11_HOST, pkcs11_host};
pub use restore::{NewestKnown, RestoreError, restore};
pub use root_key::wrap_root_key;
pub use serving::Serving;
pub use starting::{Starting, start};
pub use unseal::UnsealError;
