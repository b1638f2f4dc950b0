//! Why a gateway does not start.

use std::error::Error;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::PathBuf;

use super::node::NodeNameError;
use super::registry::StoreOpenError;
use super::unseal::UnsealError;
use crate::audit;
use crate::broker::{Failure, RecoverError};
use crate::io_reason::IoReason;
use crate::listener::TlsError;
use crate::store::StoreError;
use crate::store::lock::LockError;
use crate::store::sealing::RootKeyError;

/// Why a gateway does not start. Each message says what to do. None contains a secret.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "each variant wraps the error of the step that it names")]
pub enum BootError {
    #[error(transparent)]
    Folder(#[from] LockError),
    #[error(transparent)]
    RootKey(#[from] RootKeyError),
    #[error(transparent)]
    Unseal(#[from] UnsealError),
    #[error("the configuration has no `storage.root_key.wrapped`, the file for the wrapped root key")]
    NothingToWrapInto,
    #[error(
        "{0} is not initialised: if this gateway had data, restore the newest backup (`claviger restore`); for a new gateway run claviger init"
    )]
    NotInitialised(String),
    #[error("{0} is initialised already; claviger init --new-token issues another administrator's token for it")]
    Initialised(String),
    #[error(
        "{} exists, but there is no store beside it: a new store would be another installation's. Restore claviger.db from the \
         newest copy (`claviger restore` into another folder), or name an empty folder",
        .0.display()
    )]
    LogWithoutStore(PathBuf),
    #[error(transparent)]
    Store(#[from] StoreOpenError),
    #[error("the store failed: {0}")]
    Rows(#[from] StoreError),
    #[error(transparent)]
    Log(#[from] audit::OpenError),
    #[error(transparent)]
    KillFile(#[from] audit::KillFileError),
    #[error(transparent)]
    Recover(#[from] RecoverError),
    #[error(transparent)]
    Unavailable(#[from] audit::Unavailable),
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error("cannot listen on {address} ({})", IoReason(*kind))]
    Listen { address: SocketAddr, kind: ErrorKind },
    #[error("{what} ({})", IoReason(*kind))]
    Io { what: &'static str, kind: ErrorKind },
    #[error("a step of the start was aborted")]
    Ended(#[from] tokio::task::JoinError),
    #[error("the declared {what} `{name}` cannot be created: {} {}", failure.detail, failure.hints().collect::<Vec<_>>().join("; "))]
    Declared {
        what: &'static str,
        name: String,
        failure: Box<Failure>,
    },
    #[error(transparent)]
    Node(#[from] NodeNameError),
}

/// An error and its cause, which says more where it is not in the error's own text.
pub(super) fn with_cause(error: &dyn Error) -> String {
    match error.source().map(ToString::to_string) {
        Some(cause) if !error.to_string().contains(&cause) => format!("{error}: {cause}"),
        Some(_) | None => error.to_string(),
    }
}
