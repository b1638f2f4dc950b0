//! The provider's errors.

use claviger_provider::{Error, ErrorKind, ProviderKind};

/// An error of this provider.
pub(crate) fn error(kind: ErrorKind, context: &'static str) -> Error {
    Error::new(kind, context).provider(ProviderKind::Local)
}

/// No such key or version.
pub(crate) fn missing() -> Error {
    error(ErrorKind::KeyNotFound, "no such key or version")
}

/// A fault of the gateway or its store.
pub(crate) fn fault(context: &'static str) -> Error {
    error(ErrorKind::Internal, context)
}
